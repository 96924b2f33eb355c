/* SPDX-License-Identifier: MIT */
/*
 * The public API where it takes no lock: found, and claimed, whatever other threads, handlers and children do
 * meanwhile.
 */
#include "../support/api.h"
#include "../support/sockets.h"

#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/eventfd.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>

#define save API(cpr_save_fd)
#define find API(cpr_find_fd)
#define forget API(cpr_delete_fd)

/* ---- found without the lock ---- */

/* Strict mode leaves read, write and exit; any other call ends the child by SIGKILL. */
TEST(finding_what_is_ours_makes_no_system_call, ONCE)
{
	int fd = null_fd(), status, pid;

	CHECK_INT(save("mine", 7, fd), 0);
	pid = fork();
	if (!pid) {
		bool well = find("mine", 7) == fd; /* a child's first call finds out what it is */

		if (prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT))
			_exit(2);
		for (int i = 0; i < 1000; i++)
			well = well && find("mine", 7) == fd && find("mine", i + 8) == -1 && find("other", 7) == -1;
		syscall(SYS_exit, well ? 0 : 1);
	}
	CHECK_INT(waitpid(pid, &status, 0), pid);
	CHECK_INT(status, 0);
}

static _Atomic bool ended;
static int stable_fd[100];

static void *find_stable(void *arg)
{
	long *found = arg;

	for (int i = 0; !ended; i = (i + 1) % 100, ++*found)
		CHECK_INT(find("stable", i), stable_fd[i]);
	return NULL;
}

static void *change_others(void *arg)
{
	int fd = null_fd();

	while (!ended) {
		for (int i = 0; i < 300; i++) {
			CHECK_INT(save(arg, i, fd), 0);
			CHECK_INT(find(arg, i), fd);
			CHECK_INT(forget(arg, i), 0);
			CHECK_FAILS(find(arg, i), ENOENT);
		}
	}
	return NULL;
}

static void save_stable(void)
{
	for (int i = 0; i < 100; i++) {
		stable_fd[i] = null_fd();
		CHECK_INT(save("stable", i, stable_fd[i]), 0);
	}
}

TEST(a_tag_is_found_whatever_other_threads_change, ONCE)
{
	pthread_t thread[4];
	long found[2] = {0};

	save_stable();
	for (int i = 0; i < 2; i++) {
		CHECK_INT(pthread_create(&thread[i], NULL, find_stable, &found[i]), 0);
		CHECK_INT(pthread_create(&thread[2 + i], NULL, change_others, i ? "some" : "others"), 0);
	}
	/* children, too, born between any two steps of a change */
	for (long until = now_ms() + 1000; now_ms() < until;) {
		int status, pid = fork();

		if (!pid)
			_exit(find("stable", 3) == stable_fd[3] && find("stable", 4) == stable_fd[4] ? 0 : 1);
		CHECK_INT(waitpid(pid, &status, 0), pid);
		CHECK_INT(status, 0);
	}
	ended = true;
	for (int i = 0; i < 4; i++)
		pthread_join(thread[i], NULL);
	CHECK(found[0] > 1000 && found[1] > 1000);
}

static volatile sig_atomic_t handled, mistaken;
static int (*found_function)(const char *, int); /* dlsym is not for handlers */

static void find_in_handler(int sig)
{
	(void)sig;
	mistaken += found_function("stable", handled % 100) != stable_fd[handled % 100];
	handled++;
}

TEST(a_handler_finds_between_any_two_steps, ONCE)
{
	struct itimerval often = {{0, 200}, {0, 200}};
	int fd = null_fd();

	save_stable();
	found_function = find;
	signal(SIGALRM, find_in_handler);
	setitimer(ITIMER_REAL, &often, NULL);
	for (long until = now_ms() + 10000; handled < 1000 && now_ms() < until;)
		for (int i = 0; i < 100; i++) {
			CHECK_INT(save("other", i, fd), 0);
			CHECK_INT(forget("other", i), 0);
		}
	signal(SIGALRM, SIG_IGN);
	CHECK(handled >= 1000);
	CHECK_INT(mistaken, 0);
}

TEST(what_was_loaded_is_hidden_until_it_is_found, ONCE)
{
	int fd = null_fd(), state;

	CHECK_INT(save("mine", 5, fd), 0);
	state = MUST(API(cpr_state_save)());
	CHECK_INT(forget("mine", 5), 0);
	CHECK_INT(API(cpr_state_load)(state), 0);
	CHECK_FAILS(close(fd), EBADF);       /* hidden */
	CHECK_FAILS(find("mine", 4), ENOENT); /* which claims nothing */
	CHECK_FAILS(close(fd), EBADF);
	CHECK_INT(find("mine", 5), fd);
	CHECK_INT(close(fd), 0);
	CHECK_FAILS(find("mine", 5), ENOENT);
}

/* ---- claimed without the lock ---- */

enum { ORPHANS = 2000 };

static int (*cheap_find)(const char *, int), orphan_fd[ORPHANS];
static pthread_barrier_t together;

/* As the next generation: ORPHANS of them, "orphan" from 0 on, whose numbers follow each other. */
static void leave_orphans(void)
{
	if (generation() == 1) {
		for (int i = 0; i < ORPHANS; i++) {
			int fd = MUST(eventfd(0, EFD_CLOEXEC));

			CHECK_INT(save("orphan", i, fd), 0);
			if (!i)
				put("first", fd);
			CHECK_INT(fd, get("first") + i);
		}
		next_generation();
	}
	cheap_find = find;
}

static void allow_many(void)
{
	struct rlimit limit;

	CHECK_INT(getrlimit(RLIMIT_NOFILE, &limit), 0);
	limit.rlim_cur = limit.rlim_max;
	CHECK_INT(setrlimit(RLIMIT_NOFILE, &limit), 0);
}

static void *find_every_orphan(void *arg)
{
	int *fds = arg;

	pthread_barrier_wait(&together);
	for (int i = 0; i < ORPHANS; i++)
		fds[i] = cheap_find("orphan", i);
	return NULL;
}

TEST(threads_that_find_the_same_at_once_get_the_same, BOTH)
{
	static int fds[4][ORPHANS];
	pthread_t thread[4];

	allow_many();
	leave_orphans();
	pthread_barrier_init(&together, NULL, 4);
	for (int i = 0; i < 4; i++)
		CHECK_INT(pthread_create(&thread[i], NULL, find_every_orphan, fds[i]), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(thread[i], NULL);
	for (int i = 0; i < ORPHANS; i++)
		for (int j = 0; j < 4; j++)
			CHECK_INT(fds[j][i], get("first") + i);
	CHECK(strstr(ask("status"), "orphans=0"));
	CHECK_INT(table_size(), ORPHANS);
}

static void *delete_every_other_orphan(void *arg)
{
	int (*delete)(const char *, int) = forget;

	pthread_barrier_wait(&together);
	for (int i = 0; i < ORPHANS; i += 2)
		CHECK_INT(delete("orphan", i), 0);
	return arg;
}

TEST(a_find_while_another_deletes_gets_it_or_does_not, BOTH)
{
	static int fds[2][ORPHANS];
	pthread_t thread[3];

	allow_many();
	leave_orphans();
	pthread_barrier_init(&together, NULL, 3);
	for (int i = 0; i < 2; i++)
		CHECK_INT(pthread_create(&thread[i], NULL, find_every_orphan, fds[i]), 0);
	CHECK_INT(pthread_create(&thread[2], NULL, delete_every_other_orphan, NULL), 0);
	for (int i = 0; i < 3; i++)
		pthread_join(thread[i], NULL);
	for (int i = 0; i < ORPHANS; i++)
		for (int j = 0; j < 2; j++)
			CHECK(fds[j][i] == get("first") + i || (i % 2 == 0 && fds[j][i] == -1));
	CHECK_INT(table_size(), ORPHANS / 2);
	CHECK(strstr(ask("status"), "orphans=0"));
}

static volatile sig_atomic_t at_orphan, asked_in_handler;

/* The one that is being found, and those around it. */
static void find_orphans_in_handler(int sig)
{
	(void)sig;
	for (int i = at_orphan; i < at_orphan + 3 && i < ORPHANS; i++)
		mistaken += cheap_find("orphan", i) != orphan_fd[i];
	asked_in_handler++;
}

TEST(a_handler_finds_what_it_interrupts_the_finding_of, BOTH)
{
	struct itimerval often = {{0, 50}, {0, 50}}, never = {{0, 0}, {0, 0}};

	allow_many();
	leave_orphans();
	for (int i = 0; i < ORPHANS; i++)
		orphan_fd[i] = (int)get("first") + i;
	signal(SIGALRM, find_orphans_in_handler);
	setitimer(ITIMER_REAL, &often, NULL);
	for (int i = 0; i < ORPHANS; i++) {
		at_orphan = i;
		mistaken += cheap_find("orphan", i) != orphan_fd[i];
	}
	setitimer(ITIMER_REAL, &never, NULL);
	signal(SIGALRM, SIG_IGN);
	CHECK_INT(mistaken, 0);
	raise(SIGALRM);
	CHECK(strstr(ask("status"), "orphans=0"));
}

TEST(a_vfork_child_claims_nothing, BOTH)
{
	int fd = kept_by_the_last("mine", 0), pid, status;

	cheap_find = find;
	pid = vfork();
	if (!pid)
		_exit(cheap_find("mine", 0) == -1 && errno == EPERM ? 0 : 1);
	CHECK_INT(waitpid(pid, &status, 0), pid);
	CHECK_INT(status, 0);
	CHECK_FAILS(close(fd), EBADF); /* still hidden */
	CHECK_INT(find("mine", 0), fd);
}

TEST(a_forked_child_claims_for_itself, BOTH)
{
	int fd = kept_by_the_last("mine", 0), pid, status;

	cheap_find = find;
	pid = fork();
	if (!pid)
		_exit(cheap_find("mine", 0) == fd && close(fd) == 0 ? 0 : 1);
	CHECK_INT(waitpid(pid, &status, 0), pid);
	CHECK_INT(status, 0);
	CHECK_FAILS(close(fd), EBADF);
	CHECK_INT(find("mine", 0), fd);
}

/* A name that a wrapper could have made may be asked for by two doors: that one is not claimed without the lock. */
TEST(a_tag_with_a_colon_is_found_as_well, BOTH)
{
	int fd = kept_by_the_last("vfio:3", 3);

	CHECK_INT(find("vfio:3", 3), fd);
	CHECK(is_cloexec(fd));
}

TEST(a_failed_exec_in_place_leaves_the_flags, ONCE)
{
	int fd[6];

	for (int i = 0; i < 6; i++) {
		fd[i] = MUST(open("/dev/null", O_RDONLY | (i % 3 ? O_CLOEXEC : 0)));
		if (i != 4)
			CHECK_INT(save("mine", i, fd[i]), 0);
	}
	MUST(chmod(arguments[0], 0600));
	CHECK_FAILS(execv(arguments[0], arguments), EACCES);
	for (int i = 0; i < 6; i++)
		CHECK_INT(is_cloexec(fd[i]), i % 3 != 0);
	CHECK_INT(find("mine", 5), fd[5]);
}
