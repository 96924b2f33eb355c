/* SPDX-License-Identifier: MIT */
/* Exec'ed children that hold a kept listener accept beside the next generation, until they are told to leave. */
#include "../support/processes.h"
#include "../support/sockets.h"

#include <sys/wait.h>

static void become_sleep(void)
{
	unsetenv("LD_PRELOAD");
	execlp("sleep", "sleep", "60", (char *)NULL);
	_exit(1);
}

/* One that has all descriptors that are not close-on-exec. */
static int sleeper(void)
{
	int pid = MUST(fork());

	if (!pid)
		become_sleep();
	CHECK(AWAIT(is_sleep(pid), 5000));
	return pid;
}

static int shared_listener(void)
{
	int fd = listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);

	MUST(fcntl(fd, F_SETFD, 0));
	return fd;
}

TEST(a_process_that_shares_a_listener_is_told_to_leave, BELL, "WARNS=1")
{
	shared_listener();
	if (generation() == 1) {
		put("sharer", sleeper());
		next_generation();
	}
	CHECK(is_sleep((int)get("sharer"))); /* until this generation is ready */
	CHECK(AWAIT(!state_of((int)get("sharer")), 5000));
}

/* Its parent, a shell or the like, has closed the listener. */
TEST(a_childs_child_that_shares_a_listener_is_told_to_leave, BELL, "WARNS=1")
{
	int fd = shared_listener();

	if (generation() == 1) {
		int pid = MUST(fork());

		if (!pid) {
			pid = MUST(fork());
			if (!pid)
				become_sleep();
			put("sharer", pid);
			MUST(fcntl(fd, F_SETFD, FD_CLOEXEC));
			become_sleep();
		}
		put("between", pid);
		CHECK(AWAIT(is_sleep(pid) && is_sleep((int)get("sharer")), 5000));
		next_generation();
	}
	CHECK(AWAIT(state_of((int)get("sharer")) == 'Z', 5000)); /* whose parent does not wait */
	CHECK(is_sleep((int)get("between")));
	kill((int)get("between"), SIGKILL);
	CHECK(AWAIT(!state_of((int)get("between")), 9000));
}

TEST(a_process_that_shares_none_is_left_alone, BELL)
{
	listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);
	if (generation() == 1) {
		put("helper", sleeper());
		next_generation();
	}
	sleep_through(1200); /* it would be told when this generation is ready, which is after 500 ms */
	CHECK(is_sleep((int)get("helper")));
	kill((int)get("helper"), SIGKILL);
}

/* It would block in its accept() else, which its epoll has told it to call. */
TEST(a_process_that_shares_a_listener_finds_it_nonblocking_as_it_was, BELL, "WARNS=1")
{
	int fd = shared_listener();

	if (generation() == 1) {
		put("sharer", sleeper());
		/* the sharer did, for the open file description */
		MUST(fcntl(fd, F_SETFL, MUST(fcntl(fd, F_GETFL)) | O_NONBLOCK));
		next_generation();
	}
	CHECK(is_sleep((int)get("sharer")));
	CHECK(fcntl(fd, F_GETFL) & O_NONBLOCK);
	CHECK(AWAIT(!state_of((int)get("sharer")), 5000));
}
