/* SPDX-License-Identifier: MIT */
/*
 * Several processes: workers that retire, daemons, threads that leave; and what a restart refuses because exec could
 * not bring it back.
 */
#include "../support/api.h"
#include "../support/sockets.h"

#include <grp.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/wait.h>

static void wait_for_good(void)
{
	for (;;)
		poll(NULL, 0, -1);
}

static void keep_listener(void)
{
	int fd = listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);

	if (generation() == 1)
		put("inode", inode_of(fd));
	CHECK_INT(inode_of(fd), get("inode"));
}

/* ---- workers ---- */

static void retire(int workers, bool known)
{
	char text[32];

	keep_listener();
	if (generation() == 1) {
		for (int i = 0; i < workers; i++)
			IN_CHILD wait_for_good();
		snprintf(text, sizeof(text), "workers=%d", workers);
		CHECK(!known || AWAIT(strstr(ask("status"), text), 5000));
		next_generation();
	}
	/* ready first: they go on until the next generation serves */
	CHECK(poll(&(struct pollfd){STDIN_FILENO, POLLIN, 0}, 1, 50) == 0);
	CHECK(AWAIT(!strcmp(ask("children"), "0"), 5000));
}

TEST(workers_are_told_to_retire, BELL)
{
	retire(3, true);
}

/* Forked, and not yet run when the restart comes. */
TEST(workers_of_the_last_moment_are_told_to_retire, BELL)
{
	retire(3, false);
}

enum { BINDERS = 3 };

static long bound_by(int generation, int worker)
{
	char name[32];

	snprintf(name, sizeof(name), "bound-%d-%d", generation, worker);
	return access(in_room(name), F_OK) ? 0 : get(name);
}

static bool all_have_bound(void)
{
	int n = 0;

	for (int i = 0; i < BINDERS; i++)
		n += bound_by(generation(), i) > 0;
	return n == BINDERS;
}

/*
 * Each has a listener of its own that its owner does not know. The next generation's workers get all of them, and each
 * another one.
 */
TEST(listeners_that_workers_bind_are_taken_over_one_each, BELL)
{
	for (int i = 0; i < BINDERS; i++)
		IN_CHILD
		{
			struct address a = inet4("127.0.0.1", port(0));
			int fd = socket_for(&a, SOCK_STREAM);
			char name[32], fresh[32];

			set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1);
			MUST(bind(fd, &a.any, a.len));
			MUST(listen(fd, 16));
			snprintf(name, sizeof(name), "bound-%d-%d", generation(), i);
			snprintf(fresh, sizeof(fresh), "fresh-%d-%d", generation(), i);
			put(fresh, inode_of(fd));
			MUST(rename(in_room(fresh), in_room(name)));
			wait_for_good();
		}
	CHECK(AWAIT(all_have_bound(), 5000));
	for (int i = 0; generation() > 1 && i < BINDERS; i++) {
		int same = 0;

		for (int k = 0; k < BINDERS; k++) {
			CHECK(k == i || bound_by(generation(), i) != bound_by(generation(), k));
			same += bound_by(generation(), i) == bound_by(1, k);
		}
		CHECK_INT(same, 1);
	}
	if (generation() < 3)
		next_generation();
}

TEST(a_worker_that_would_not_go_is_killed, BELL, "CPR_DRAIN=1;WARNS=1")
{
	keep_listener();
	if (generation() == 1) {
		IN_CHILD
		{
			signal(SIGTERM, SIG_IGN);
			put("worker", getpid());
			wait_for_good();
		}
		CHECK(AWAIT(!access(in_room("worker"), F_OK) && get("worker") > 0, 5000));
		next_generation();
	}
	CHECK(poll(&(struct pollfd){STDIN_FILENO, POLLIN, 0}, 1, 50) == 0);
	CHECK(AWAIT(kill((pid_t)get("worker"), 0) && errno == ESRCH, 5000));
}

TEST(a_retire_signal_of_the_users_choice, BELL, "CPR_RETIRE_SIGNAL=12")
{
	keep_listener();
	if (generation() == 1) {
		int pid = MUST(fork());

		if (!pid) {
			signal(SIGTERM, SIG_IGN);
			signal(SIGUSR2, _exit);
			put("worker", getpid());
			wait_for_good();
		}
		CHECK(AWAIT(!access(in_room("worker"), F_OK) && get("worker") > 0, 5000));
		next_generation();
	}
	CHECK(poll(&(struct pollfd){STDIN_FILENO, POLLIN, 0}, 1, 50) == 0);
	CHECK(AWAIT(kill((pid_t)get("worker"), 0) && errno == ESRCH, 3000));
}

TEST(a_worker_names_its_owner, ONCE)
{
	char owner[64];
	const char *answer;
	int pid;

	keep_listener();
	pid = MUST(fork());
	if (!pid)
		wait_for_good();
	snprintf(owner, sizeof(owner), "owner=%d", getpid());
	answer = ask("restart_of %d", pid);
	CHECK(strstr(answer, "result=worker") && strstr(answer, owner));
	CHECK(strstr(ask("status"), "workers=1"));
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
	CHECK(strstr(ask("status"), "workers=0"));
}

/* ---- daemons ---- */

static void daemonize(bool twice)
{
	int pid = MUST(fork());

	if (pid)
		_exit(0);
	MUST(setsid());
	if (twice && MUST(fork()))
		_exit(0);
	CHECK(!strcmp(ask("adopt %d", getpid()), "ok"));
}

static void daemon_restarts(bool twice)
{
	if (generation() > 1) { /* it daemonizes each time: restarted it is started anew */
		keep_listener();
		daemonize(twice);
		return;
	}
	keep_listener();
	daemonize(twice);
	next_generation();
}

TEST(a_daemon_that_forks_once_is_restarted, BELL)
{
	daemon_restarts(false);
}

TEST(a_daemon_that_forks_twice_is_restarted, BELL)
{
	daemon_restarts(true);
}

TEST(daemon_3_is_restarted, BELL)
{
	keep_listener();
	if (generation() == 1) {
		CHECK_INT(daemon(1, 1), 0);
		CHECK(!strcmp(ask("adopt %d", getpid()), "ok"));
		next_generation();
	}
}

/* As many do: fork, leave the terminal, close all that may be open, and only then ask for what is theirs. */
TEST(a_daemon_that_closes_everything_first_is_restarted, BELL)
{
	int pid = MUST(fork());

	if (pid)
		_exit(0);
	MUST(setsid());
	for (int fd = 3; fd < 1024; fd++)
		close(fd);
	closefrom(3);
	keep_listener();
	CHECK(!strcmp(ask("adopt %d", getpid()), "ok"));
	if (generation() < 3)
		next_generation();
}

/* ---- threads ---- */

static void *exec_in_thread(void *arg)
{
	next_generation();
	return arg;
}

TEST(any_thread_may_exec_the_next_generation, EXEC)
{
	pthread_t thread;

	keep_listener();
	if (generation() == 4)
		return;
	CHECK_INT(pthread_create(&thread, NULL, exec_in_thread, NULL), 0);
	pthread_join(thread, NULL);
}

static pthread_barrier_t together;

static void *exec_together(void *arg)
{
	pthread_barrier_wait(&together);
	next_generation();
	return arg;
}

/* One of them leaves; none may go without the state. */
TEST(threads_that_exec_at_once, EXEC)
{
	pthread_t thread;

	keep_listener();
	if (generation() == 10)
		return;
	CHECK_INT(generation() > 1, access(in_room("second"), F_OK) == 0);
	put("second", 1);
	pthread_barrier_init(&together, NULL, 4);
	for (int i = 0; i < 4; i++)
		CHECK_INT(pthread_create(&thread, NULL, exec_together, NULL), 0);
	wait_for_good();
}

static void exec_in_handler(int sig)
{
	(void)sig;
	next_generation();
}

TEST(a_handler_may_exec_the_next_generation, EXEC)
{
	sigset_t mask;

	keep_listener();
	if (generation() == 1) {
		signal(SIGHUP, exec_in_handler);
		raise(SIGHUP);
	}
	sigprocmask(SIG_SETMASK, NULL, &mask);
	CHECK(sigismember(&mask, SIGHUP)); /* as exec leaves it */
	CHECK(strstr(ask("status"), "generation=2"));
}

static void *serve_in_thread(void *arg)
{
	wait_for_good();
	return arg;
}

TEST(a_restart_ends_every_thread, BELL)
{
	pthread_t thread;

	keep_listener();
	for (int i = 0; i < 20; i++)
		CHECK_INT(pthread_create(&thread, NULL, serve_in_thread, NULL), 0);
	if (generation() < 4)
		next_generation();
}

/* All threads but one block every signal in a way that no wrapper sees, the main thread for one. */
TEST(a_ring_finds_the_thread_that_listens, BELL)
{
	uint64_t all = ~0ULL;
	pthread_t thread;

	keep_listener();
	if (generation() == 3)
		return;
	CHECK_INT(pthread_create(&thread, NULL, serve_in_thread, NULL), 0);
#if defined(__x86_64__)
	long r;
	register long size __asm__("r10") = 8;

	__asm__ volatile("syscall"
			 : "=a"(r)
			 : "0"(14L), "D"((long)SIG_BLOCK), "S"(&all), "d"(0L), "r"(size)
			 : "rcx", "r11", "memory");
	CHECK_INT(r, 0);
#endif
	next_generation();
}

/* ---- what exec cannot bring back ---- */

static void is_refused(const char *word)
{
	const char *answer = ask("try-restart");

	CHECK(strstr(answer, "result=refused"));
	CHECK(strstr(answer, word));
	CHECK(strstr(ask("status"), "generation=1"));
}

#define ROOT_ONLY                                                                                                      \
	do {                                                                                                           \
		keep_listener();                                                                                       \
		if (geteuid())                                                                                         \
			return;                                                                                        \
	} while (0)

TEST(another_user_is_refused, ONCE, "WARNS=1")
{
	ROOT_ONLY;
	MUST(setgid(65534));
	MUST(setuid(65534));
	is_refused("user 65534");
}

TEST(another_root_is_refused, ONCE, "WARNS=1")
{
	ROOT_ONLY;
	MUST(chroot(getenv("WRAP_ROOM")));
	is_refused("root directory");
}

TEST(another_namespace_is_refused, ONCE, "WARNS=1")
{
	ROOT_ONLY;
	if (!unshare(CLONE_NEWUTS)) /* a container may not */
		is_refused("uts namespace");
}

/*
 * Nothing answers from within a sandbox: its filter might end the program for a call that it does not know. The tools
 * see it, and do not ring.
 */
TEST(a_program_in_a_sandbox_is_left_alone, ONCE)
{
	struct sock_filter allow = BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	struct sock_fprog program = {1, &allow};

	keep_listener();
	MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	MUST(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
	CHECK(!strcmp(ask("rings 1 0 0.5"), "ok"));
	CHECK_INT(atoi(ask("rung")), 0);
	CHECK_INT(generation(), 1);
}

TEST(a_self_exec_as_another_user_keeps_its_own, EXEC)
{
	keep_listener();
	if (geteuid() == 0 && generation() == 1) {
		MUST(chmod(getenv("WRAP_ROOM"), 0777));
		MUST(chmod(arguments[0], 0755));
		MUST(setgid(65534));
		MUST(setuid(65534));
		next_generation();
	}
}

/* ---- states that are none ---- */

TEST(a_word_for_a_state_does_not_stop_a_start, ONCE, "CPR_STATE_FD=nonsense;WARNS=1")
{
	CHECK_INT(generation(), 1);
	CHECK(!getenv("CPR_STATE_FD"));
	keep_listener();
}

TEST(a_closed_descriptor_for_a_state_does_not_stop_a_start, ONCE, "CPR_STATE_FD=1000;WARNS=1")
{
	CHECK_INT(generation(), 1);
	keep_listener();
}

TEST(standard_input_for_a_state_is_left_alone, ONCE, "CPR_STATE_FD=0;WARNS=1")
{
	CHECK_INT(generation(), 1);
	CHECK(really_open(STDIN_FILENO));
	CHECK(strstr(ask("status"), "result=ok"));
}

TEST(an_empty_state_does_not_stop_a_start, ONCE, "CPR_STATE_FD=;WARNS=1")
{
	CHECK_INT(generation(), 1);
	CHECK(really_open(STDIN_FILENO));
	keep_listener();
}
