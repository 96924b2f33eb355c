/* SPDX-License-Identifier: MIT */
/*
 * Children, by every way that there is to make one. A child with a copy of our memory is a worker. One on its parent's
 * memory, or with another program's, is left alone.
 */
#include "../support/api.h"
#include "../support/sockets.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static void wait_for_good(void)
{
	for (;;)
		poll(NULL, 0, -1);
}

static bool has_workers(int n)
{
	char text[32];

	snprintf(text, sizeof(text), "workers=%d", n);
	return strstr(ask("status"), text);
}

static int by_fork(void)
{
	return fork();
}

static int by_Fork(void)
{
	return _Fork();
}

static int by_clone(void)
{
	return (int)syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0);
}

/* None of them asks for anything of ours, before or after. */
static void silent_child(int (*birth)(void))
{
	listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);
	if (generation() == 1) {
		int pid = MUST(birth());

		if (!pid)
			wait_for_good();
		put("child", pid);
		next_generation();
	}
	CHECK(AWAIT(kill((int)get("child"), 0) && errno == ESRCH, 5000));
}

TEST(a_silent_child_of_fork_is_found, BELL)
{
	silent_child(by_fork);
}

TEST(a_silent_child_of__Fork_is_found, BELL)
{
	silent_child(by_Fork);
}

TEST(a_silent_child_of_clone_is_found, BELL)
{
	silent_child(by_clone);
}

/* What a child binds is its own: the parent's table does not know it. */
static void child_binds(int (*birth)(void))
{
	listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);
	if (generation() == 1) {
		int ready[2], pid;
		char byte;

		MUST(pipe(ready));
		pid = MUST(birth());
		if (!pid) {
			listening(inet4("127.0.0.1", port(1)), SOCK_STREAM);
			CHECK_INT(table_size(), 2);
			MUST(write(ready[1], "", 1));
			wait_for_good();
		}
		MUST(read(ready[0], &byte, 1));
		CHECK_INT(table_size(), 1);
		CHECK(AWAIT(has_workers(1), 5000));
		MUST(kill(pid, SIGKILL));
		MUST(waitpid(pid, NULL, 0));
		CHECK(has_workers(0));
	}
}

TEST(a_child_of_fork_has_a_table_of_its_own, BELL)
{
	child_binds(by_fork);
}

TEST(a_child_of__Fork_has_a_table_of_its_own, BELL)
{
	child_binds(by_Fork);
}

TEST(a_child_of_clone_has_a_table_of_its_own, BELL)
{
	child_binds(by_clone);
}

/* No process in between has asked for anything, either. */
TEST(a_silent_childs_silent_child_is_found, BELL)
{
	listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);
	if (generation() == 1) {
		int told[2], pid;

		MUST(pipe(told));
		IN_CHILD {
			pid = fork();
			if (!pid)
				wait_for_good();
			syscall(SYS_write, told[1], &pid, sizeof(pid));
			wait_for_good();
		}
		MUST(read(told[0], &pid, sizeof(pid)));
		put("child", pid);
		next_generation();
	}
	CHECK(AWAIT(kill((int)get("child"), 0) && errno == ESRCH, 5000));
}

/* ---- other programs: a ring would end them ---- */

static void goes_on(void)
{
	CHECK(!kill((int)get("other"), 0));
	CHECK(poll(&(struct pollfd){STDIN_FILENO, POLLIN, 0}, 1, 50) == 0);
	CHECK(!kill((int)get("other"), 0));
	kill((int)get("other"), SIGKILL);
}

TEST(what_is_spawned_is_not_rung, BELL)
{
	char *argv[] = {(char *)"sleep", (char *)"20", NULL};
	int pid;

	listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);
	if (generation() == 1) {
		IN_CHILD wait_for_good(); /* there is a process to ring */
		CHECK_INT(posix_spawnp(&pid, "sleep", NULL, NULL, argv, (char *[]){(char *)"PATH=/bin:/usr/bin", NULL}),
			  0);
		put("other", pid);
		next_generation();
	}
	goes_on();
}

TEST(what_popen_and_system_start_is_not_rung, BELL)
{
	listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);
	if (generation() == 1) {
		char line[32];
		FILE *from;

		unsetenv("LD_PRELOAD");
		IN_CHILD wait_for_good();
		CHECK_INT(system("true"), 0);
		from = popen("sleep 20 >/dev/null 2>&1 & echo $!", "r");
		CHECK(from && fgets(line, sizeof(line), from));
		put("other", atol(line));
		CHECK_INT(pclose(from), 0);
		next_generation();
	}
	goes_on();
}

TEST(a_child_that_has_execed_is_not_rung, BELL)
{
	listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);
	if (generation() == 1) {
		int pid;

		IN_CHILD wait_for_good();
		pid = MUST(fork());
		if (!pid) {
			execle("/bin/sleep", "sleep", "20", NULL, (char *[]){NULL});
			_exit(127);
		}
		put("other", pid);
		next_generation(); /* maybe in the middle of its exec */
	}
	goes_on();
}

/*
 * It lives on its parent's memory for a while. It must neither be taken for a worker nor be rung in the moment of its
 * exec.
 */
static int listener;

static void *vfork_slowly(void *arg)
{
	struct timespec while_ = {0, 300000000};
	volatile int *pid = arg;
	int child = vfork();

	if (!child) {
		*pid = (int)syscall(SYS_getpid);
		syscall(SYS_close, listener); /* else it is told to leave, as any process that listens */
		syscall(SYS_nanosleep, &while_, NULL);
		execle("/bin/sleep", "sleep", "20", NULL, (char *[]){NULL});
		_exit(127);
	}
	return NULL;
}

TEST(a_vfork_child_is_not_rung, BELL)
{
	listener = listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);
	if (generation() == 1) {
		static volatile int pid;
		pthread_t thread;

		IN_CHILD wait_for_good();
		CHECK_INT(pthread_create(&thread, NULL, vfork_slowly, (void *)&pid), 0);
		CHECK(AWAIT(pid, 5000));
		put("other", pid);
		next_generation();
	}
	sleep_through(400);
	goes_on();
}

/* ---- threads: another one may hold the lock when one forks ---- */

static void *bind_and_close(void *stop)
{
	while (!*(volatile bool *)stop)
		close(listening(inet4("127.0.0.1", 0), SOCK_STREAM));
	return NULL;
}

TEST(a_child_of_a_thread_can_use_its_table, ONCE)
{
	static volatile bool stop;
	pthread_t thread;

	CHECK_INT(pthread_create(&thread, NULL, bind_and_close, (void *)&stop), 0);
	for (int i = 0; i < 100; i++) {
		int status, pid = MUST(fork());

		if (!pid) {
			int fd = MUST(memfd_create("x", 0));

			_exit(API(cpr_save_fd)("mine", i, fd) || API(cpr_find_fd)("mine", i) != fd ||
			      API(cpr_delete_fd)("mine", i));
		}
		MUST(waitpid(pid, &status, 0));
		CHECK_INT(status, 0);
		CHECK_INT(API(cpr_find_fd)("mine", i), -1);
	}
	stop = true;
	CHECK_INT(pthread_join(thread, NULL), 0);
}

/* In the child, the thread that forked asks for nothing: another one does, or several at once. */
static void *use_table(void *arg)
{
	long i = (long)arg;
	int fd = memfd_create("x", 0);
	bool fine = fd >= 0 && !API(cpr_save_fd)("mine", (int)i, fd) && API(cpr_find_fd)("mine", (int)i) == fd &&
		    !API(cpr_delete_fd)("mine", (int)i);

	return (void *)(long)!fine;
}

static int use_table_in_threads(int threads)
{
	pthread_t thread[4];
	void *wrong = NULL, *w;

	for (long i = 0; i < threads; i++)
		if (pthread_create(&thread[i], NULL, use_table, (void *)i))
			return 2;
	for (int i = 0; i < threads; i++) {
		pthread_join(thread[i], &w);
		wrong = wrong ? wrong : w;
	}
	return wrong != NULL;
}

static void other_thread_asks_first(int (*birth)(void), int threads, int rounds)
{
	static volatile bool stop;
	pthread_t thread;

	CHECK_INT(pthread_create(&thread, NULL, bind_and_close, (void *)&stop), 0);
	for (int i = 0; i < rounds; i++) {
		int status, pid = MUST(birth());

		if (!pid)
			_exit(use_table_in_threads(threads));
		MUST(waitpid(pid, &status, 0));
		CHECK_INT(status, 0);
	}
	stop = true;
	CHECK_INT(pthread_join(thread, NULL), 0);
}

TEST(a_childs_other_thread_asks_first, ONCE)
{
	other_thread_asks_first(by_fork, 1, 20);
}

TEST(a_childs_threads_ask_first_at_once, ONCE)
{
	other_thread_asks_first(by_fork, 4, 50);
}

/* ---- a worker that starts programs before it asks for anything ---- */

static void run_by_vfork(void)
{
	int status, pid = vfork();

	if (!pid) {
		execl("/bin/true", "true", NULL);
		_exit(127);
	}
	while (waitpid(pid, &status, 0) < 0)
		;
}

static void run_by_spawn(void)
{
	char *argv[] = {(char *)"true", NULL};
	int status, pid;

	if (!posix_spawn(&pid, "/bin/true", NULL, NULL, argv, environ))
		waitpid(pid, &status, 0);
}

/* Rung, it is no worker to the process that made it if it takes itself for a vfork child. */
static void spawner_is_heard(int (*birth)(void), void (*run)(void))
{
	char owner[64];
	int ready[2], pid;
	const char *answer;
	char byte;

	listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);
	MUST(pipe(ready));
	pid = MUST(birth());
	if (!pid) {
		run();
		syscall(SYS_write, ready[1], "", 1);
		wait_for_good();
	}
	MUST(read(ready[0], &byte, 1));
	snprintf(owner, sizeof(owner), "owner=%d", getpid());
	answer = ask("restart_of %d", pid);
	CHECK(strstr(answer, "result=worker") && strstr(answer, owner));
	kill(pid, SIGKILL);
	waitpid(pid, NULL, 0);
}

TEST(a_worker_that_ran_a_program_by_vfork_is_heard, ONCE)
{
	spawner_is_heard(by_fork, run_by_vfork);
}

TEST(a_worker_of_clone_that_ran_a_program_by_vfork_is_heard, ONCE)
{
	spawner_is_heard(by_clone, run_by_vfork);
}

TEST(a_worker_that_ran_a_program_by_posix_spawn_is_heard, ONCE)
{
	spawner_is_heard(by_fork, run_by_spawn);
}

/* ---- what a program must not notice ---- */

static unsigned long open_numbers(void)
{
	unsigned long sum = 0;

	for (int fd = 3; fd < 127; fd++)
		if (fcntl(fd, F_GETFD) >= 0)
			sum = sum * 131 + (unsigned long)fd;
	return sum;
}

/* bash counts down from 63 for <(...), and a shell's saved descriptors begin at 10. */
TEST(a_fork_takes_no_number_that_a_shell_uses, ONCE)
{
	unsigned long before = open_numbers();
	int status, pid = MUST(fork());

	if (!pid)
		_exit(open_numbers() != before);
	MUST(waitpid(pid, &status, 0));
	CHECK_INT(status, 0);
	CHECK(open_numbers() == before);
}

static void limit_file_sizes(rlim_t soft, rlim_t hard)
{
	MUST(setrlimit(RLIMIT_FSIZE, &(struct rlimit){soft, hard}));
}

/* A program that starts under cpr, a first fork, and a child that asks: none may be ended by SIGXFSZ. */
static void small_files(rlim_t soft, rlim_t hard)
{
	int status, pid = MUST(fork());

	if (!pid) {
		char *argv[] = {(char *)"sh", (char *)"-c", (char *)"(true); (true)", NULL};

		limit_file_sizes(soft, hard);
		execv("/bin/sh", argv);
		_exit(127);
	}
	MUST(waitpid(pid, &status, 0));
	CHECK_INT(status, 0);
}

TEST(a_soft_limit_of_file_sizes_ends_nothing, ONCE)
{
	small_files(4096, RLIM_INFINITY);
	small_files(0, RLIM_INFINITY);
}

TEST(a_hard_limit_of_file_sizes_ends_nothing, ONCE)
{
	small_files(4096, 4096);
	small_files(0, 0);
}

TEST(a_soft_limit_of_file_sizes_is_no_reason_not_to_restart, BELL)
{
	listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);
	if (generation() == 3)
		return;
	IN_CHILD wait_for_good();
	limit_file_sizes(0, RLIM_INFINITY);
	next_generation();
}

TEST(a_first_fork_with_a_hard_limit_of_file_sizes_goes_on, ONCE)
{
	int status, pid;

	limit_file_sizes(0, 0);
	pid = MUST(fork());
	if (!pid)
		_exit(use_table_in_threads(1));
	MUST(waitpid(pid, &status, 0));
	CHECK_INT(status, 0);
}
