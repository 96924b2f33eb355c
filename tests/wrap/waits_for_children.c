/* SPDX-License-Identifier: MIT */
/* Children that the last generation made: the program's waits do not meet them, and no zombie of theirs stays. */
#include "../support/processes.h"
#include "../support/sockets.h"

#include <pthread.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/*
 * Ends when it is killed, or, told so by SIGUSR1, with 7. It is exec'ed: no worker, but a helper of the old program.
 * Back when it is there.
 */
static int helper(void)
{
	int ready[2], pid;
	char byte;

	MUST(pipe2(ready, O_CLOEXEC));
	pid = MUST(fork());
	if (!pid) {
		unsetenv("LD_PRELOAD");
		dup2(ready[1], STDOUT_FILENO);
		execlp("sh", "sh", "-c", "trap 'exit 7' USR1; echo; exec >&-; while :; do sleep 0.01; done",
		       (char *)NULL);
		_exit(1);
	}
	close(ready[1]);
	CHECK_INT(read(ready[0], &byte, 1), 1);
	close(ready[0]);
	return pid;
}

/* Of this generation: ends with a status at once. */
static int own(int status)
{
	int pid = MUST(fork());

	if (!pid)
		_exit(status);
	return pid;
}

static bool is_dead(int pid)
{
	return state_of(pid) == 'Z' || !state_of(pid);
}

/* Generation 2 with the living helper of the first. */
static int inherited(void)
{
	listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);
	if (generation() == 1) {
		put("helper", helper());
		next_generation();
	}
	return (int)get("helper");
}

static void kill_now(int pid)
{
	kill(pid, SIGKILL);
	CHECK(AWAIT(is_dead(pid), 5000));
}

TEST(no_wait_meets_a_child_of_the_last_generation, BELL)
{
	int old = inherited(), status, mine;
	struct rusage usage;
	siginfo_t info;

	kill_now(old);
	mine = own(3);
	CHECK_INT(wait(&status), mine);
	CHECK_INT(status, 3 << 8);
	CHECK_FAILS(wait(&status), ECHILD);
	CHECK_FAILS(waitpid(-1, &status, WNOHANG), ECHILD);
	CHECK_FAILS(wait3(&status, 0, &usage), ECHILD);
	CHECK_FAILS(wait4(0, &status, 0, &usage), ECHILD);
	CHECK_FAILS(waitid(P_ALL, 0, &info, WEXITED), ECHILD);
	CHECK_FAILS(syscall(SYS_wait4, -1, &status, 0, NULL), ECHILD);
	CHECK_FAILS(syscall(SYS_waitid, P_ALL, 0, &info, WEXITED, NULL), ECHILD);
	CHECK_INT(state_of(old), 0);
}

/* It lives: the kernel would have the program wait for it, or say that there is nothing yet. */
TEST(a_living_child_of_the_last_generation_is_no_child, BELL)
{
	int old = inherited(), status = 77, mine;
	siginfo_t info;

	CHECK_FAILS(wait(&status), ECHILD);
	CHECK_FAILS(waitpid(-1, &status, WNOHANG), ECHILD);
	CHECK_FAILS(waitid(P_ALL, 0, &info, WEXITED), ECHILD);
	mine = own(0);
	CHECK_INT(waitpid(-1, &status, 0), mine);
	CHECK_INT(waitpid(0, &status, WNOHANG), 0); /* by group: the kernel's answer */
	kill_now(old);
}

static void *kill_later(void *arg)
{
	sleep_through(100);
	kill(*(int *)arg, SIGKILL);
	return NULL;
}

/* Its end comes while the program waits: it goes on waiting, and gets its own. */
TEST(a_wait_goes_on_past_it, BELL)
{
	int old = inherited(), mine = MUST(fork()), status;
	pthread_t thread;
	struct rusage usage;

	if (!mine) {
		sleep_through(400);
		_exit(5);
	}
	CHECK_INT(pthread_create(&thread, NULL, kill_later, &old), 0);
	CHECK_INT(wait4(-1, &status, 0, &usage), mine);
	CHECK_INT(status, 5 << 8);
	CHECK_INT(state_of(old), 0);
	pthread_join(thread, NULL);
}

TEST(waitid_goes_on_past_it, BELL)
{
	int old = inherited(), mine = MUST(fork());
	pthread_t thread;
	siginfo_t info;

	if (!mine) {
		sleep_through(400);
		_exit(5);
	}
	CHECK_INT(pthread_create(&thread, NULL, kill_later, &old), 0);
	CHECK_INT(waitid(P_ALL, 0, &info, WEXITED | WNOWAIT), 0);
	CHECK_INT(info.si_pid, mine);
	CHECK_INT(waitid(P_PGID, (id_t)getpgrp(), &info, WEXITED), 0);
	CHECK_INT(info.si_pid, mine);
	CHECK_INT(info.si_status, 5);
	CHECK_INT(state_of(old), 0);
	pthread_join(thread, NULL);
}

/* A stop of it does not concern the program either; its end, later, is not forgotten for it. */
TEST(its_stops_are_swallowed, BELL)
{
	int old = inherited(), mine = MUST(fork()), status;
	siginfo_t info;

	while (!mine)
		pause();
	kill(old, SIGSTOP);
	CHECK(AWAIT(state_of(old) == 'T', 5000));
	CHECK_INT(waitpid(-1, &status, WNOHANG | WUNTRACED), 0);
	kill(old, SIGCONT);
	CHECK_INT(waitid(P_ALL, 0, &info, WNOHANG | WCONTINUED | WNOWAIT), 0);
	CHECK_INT(info.si_pid, 0);
	kill_now(old);
	CHECK_INT(waitpid(-1, &status, WNOHANG), 0);
	kill(mine, SIGKILL);
	CHECK_INT(wait(&status), mine);
	CHECK_INT(state_of(old), 0);
}

TEST(a_call_that_asks_for_it_by_number_is_answered, BELL)
{
	int old = inherited(), status;

	CHECK_INT(waitpid(old, &status, WNOHANG), 0);
	kill(old, SIGUSR1);
	CHECK_INT(waitpid(old, &status, 0), old);
	CHECK_INT(status, 7 << 8);
}

/* The library's own look may come between its end and the question. */
TEST(a_call_that_asks_for_it_a_moment_later_is_answered, BELL)
{
	int old = inherited(), status;

	kill(old, SIGUSR1);
	CHECK(AWAIT(is_dead(old), 5000));
	CHECK(strstr(ask("status"), "generation=2")); /* which has the task look at everything */
	sleep_through(200);
	CHECK_INT(waitpid(old, &status, 0), old);
	CHECK_INT(status, 7 << 8);
}

/* The program never waits: no zombie stays all the same. */
TEST(a_program_that_never_waits_gets_no_zombie, BELL)
{
	int old = inherited();

	kill(old, SIGKILL);
	CHECK(AWAIT(!state_of(old), 9000));
}

/* A dead one that the first generation had not waited for is no zombie for ever. */
TEST(a_zombie_of_the_last_generation_goes, BELL)
{
	listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);
	if (generation() == 1) {
		put("helper", own(1));
		CHECK(AWAIT(is_dead((int)get("helper")), 5000));
		next_generation();
	}
	CHECK(AWAIT(!state_of((int)get("helper")), 9000));
}

/* One that outlives two restarts is no child of the third generation either. */
TEST(it_is_no_child_two_generations_later, BELL)
{
	int status;

	listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);
	if (generation() == 1)
		put("helper", helper());
	if (generation() < 3)
		next_generation();
	CHECK_FAILS(wait(&status), ECHILD);
	kill_now((int)get("helper"));
}

/*
 * The program's own exec: the next image is the same program, and may know by its environment what it has made (nginx,
 * haproxy).
 */
TEST(after_an_own_exec_children_are_known, EXEC)
{
	int status;

	if (generation() == 1)
		put("helper", helper());
	if (generation() < 3)
		next_generation();
	kill((int)get("helper"), SIGKILL);
	CHECK_INT(waitpid(-1, &status, 0), get("helper"));
	CHECK_INT(status, SIGKILL);
}

static int in_child(void)
{
	int mine = own(9), status;

	return wait(&status) == mine && status == 9 << 8 && wait(&status) < 0 && errno == ECHILD ? 0 : 1;
}

/* A worker of this generation has none of them. */
TEST(a_forked_child_waits_as_ever, BELL)
{
	int old = inherited(), status, mine = MUST(fork());

	if (!mine)
		_exit(in_child());
	CHECK_INT(waitpid(-1, &status, 0), mine);
	CHECK_INT(status, 0);
	kill_now(old);
}

static void count(int sig)
{
	(void)sig;
}

TEST(a_signal_ends_a_wait_as_ever, BELL)
{
	int old = inherited(), mine = MUST(fork()), status = 77;
	struct sigaction action = {.sa_handler = count};

	while (!mine)
		pause();
	CHECK_INT(sigaction(SIGUSR2, &action, NULL), 0);
	ask("signal SIGUSR2 20 50");
	CHECK_FAILS(wait(&status), EINTR);
	CHECK_INT(status, 77);
	kill_now(old);
	kill(mine, SIGKILL);
	CHECK_INT(waitpid(mine, &status, 0), mine);
}
