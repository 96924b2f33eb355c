/* SPDX-License-Identifier: MIT */
/* What a restart would lose for certain is refused before anything is touched. */
#include "../support/processes.h"
#include "../support/sockets.h"

#include <pthread.h>
#include <signal.h>
#include <sys/shm.h>
#include <sys/wait.h>

static int pids[2];

/* A child that waits to be told, and knows nothing of cpr if it is exec'ed. */
static int child(bool exec)
{
	int pid = MUST(fork());

	if (!pid && exec) {
		unsetenv("LD_PRELOAD");
		execlp("sleep", "sleep", "60", (char *)NULL);
		_exit(1);
	}
	while (!pid)
		pause();
	return pid;
}

static void end(int pid)
{
	kill(pid, SIGKILL);
	CHECK_INT(waitpid(pid, NULL, 0), pid);
}

static void is_refused(const char *word)
{
	const char *answer = ask("try-restart");

	if (!strstr(answer, "result=refused") || !strstr(answer, word))
		fail_at(__FILE__, __LINE__, answer);
}

TEST(a_parent_that_holds_nothing_is_refused, ONCE, "WARNS=1")
{
	char name[64];

	pids[0] = child(true);
	CHECK(AWAIT(is_sleep(pids[0]), 5000));
	snprintf(name, sizeof(name), "has 1 child process (first: %d sleep)", pids[0]);
	is_refused(name);
	pids[1] = child(true);
	CHECK(AWAIT(is_sleep(pids[1]), 5000));
	is_refused("has 2 child processes");
	end(pids[0]);
	end(pids[1]);
}

static void *wait_in_thread(void *arg)
{
	pids[0] = child(true);
	*(_Atomic bool *)arg = true;
	pause();
	return NULL;
}

/* The kernel lists a child under the thread that forked it. */
TEST(a_child_of_another_thread_is_seen, ONCE, "WARNS=1")
{
	static _Atomic bool forked;
	pthread_t thread;

	CHECK_INT(pthread_create(&thread, NULL, wait_in_thread, &forked), 0);
	CHECK(AWAIT(forked && is_sleep(pids[0]), 5000));
	is_refused("has 1 child process");
	end(pids[0]);
}

TEST(a_parent_with_a_listener_is_restarted, BELL)
{
	listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);
	if (generation() == 1) {
		put("child", child(true));
		CHECK(AWAIT(is_sleep((int)get("child")), 5000));
		next_generation();
	}
	kill((int)get("child"), SIGKILL);
}

/* A child that is dead does no work, whether or not it is waited for. */
TEST(a_parent_of_the_dead_is_restarted, BELL)
{
	if (generation() == 1) {
		siginfo_t info;
		int pid = child(true);

		kill(pid, SIGKILL);
		CHECK_INT(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT), 0);
		next_generation();
	}
}

TEST(shared_sysv_memory_is_refused_while_there_are_workers, ONCE, "WARNS=1")
{
	int id = MUST(shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600));
	void *at = shmat(id, NULL, 0);

	CHECK(at != (void *)-1);
	MUST(shmctl(id, IPC_RMID, NULL)); /* it ends with its last process */
	listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);
	pids[0] = child(false);
	is_refused("System V memory");
	end(pids[0]);
}

TEST(sysv_memory_of_its_own_is_no_matter, BELL)
{
	int id = MUST(shmget(IPC_PRIVATE, 4096, IPC_CREAT | 0600));

	CHECK(shmat(id, NULL, 0) != (void *)-1);
	MUST(shmctl(id, IPC_RMID, NULL));
	listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);
	if (generation() == 1)
		next_generation();
}
