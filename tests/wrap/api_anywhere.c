/* SPDX-License-Identifier: MIT */
/* The public API: states that a program writes itself, and calls from handlers, threads and children. */
#include "../support/api.h"
#include "../support/sockets.h"

#include <pthread.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define save API(cpr_save_fd)
#define find API(cpr_find_fd)
#define forget API(cpr_delete_fd)

/* ---- a state that the program writes itself ---- */

TEST(state_save_and_load, ONCE)
{
	int fd = null_fd(), state;
	char byte = 'x';

	CHECK_INT(save("mine", 5, fd), 0);
	state = MUST(API(cpr_state_save)());
	CHECK(is_cloexec(state));
	CHECK_FAILS(write(state, &byte, 1), EPERM);
	CHECK_INT(fcntl(state, F_GET_SEALS), F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE);
	CHECK_FAILS(API(cpr_state_load)(state), EEXIST);
	CHECK_INT(forget("mine", 5), 0);
	CHECK_INT(API(cpr_state_load)(state), 0);
	CHECK(really_open(state));
	CHECK_FAILS(close(fd), EBADF); /* handed over, not claimed */
	CHECK_INT(find("mine", 5), fd);
	CHECK_INT(close(state), 0);
}

TEST(a_state_of_closed_descriptors_says_ebadf, ONCE)
{
	int fd = null_fd(), state;

	CHECK_INT(save("mine", 5, fd), 0);
	state = MUST(API(cpr_state_save)());
	close(fd);
	CHECK_FAILS(API(cpr_state_load)(state), EBADF);
	CHECK_INT(table_size(), 0);
}

TEST(what_is_no_state_is_refused, ONCE)
{
	int state = MUST(memfd_create("no state", MFD_CLOEXEC | MFD_ALLOW_SEALING));

	write_text(state, "something else altogether, that is long enough to be a header of any kind");
	CHECK_FAILS(API(cpr_state_load)(state), EPERM); /* not sealed */
	MUST(fcntl(state, F_ADD_SEALS, F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE));
	CHECK_FAILS(API(cpr_state_load)(state), EBADMSG);
	CHECK_FAILS(API(cpr_state_load)(null_fd()), EPERM);
	CHECK_INT(API(cpr_state_load)(-1), -1);
	CHECK_INT(table_size(), 0);
}

/* ---- from anywhere ---- */

static volatile sig_atomic_t found_in_handler;
static int handlers_fd;

static void use_in_handler(int sig)
{
	(void)sig;
	found_in_handler =
		save("handler", 0, handlers_fd) == 0 && find("handler", 0) == handlers_fd && forget("handler", 0) == 0;
}

TEST(a_handler_may_call_it, ONCE)
{
	handlers_fd = null_fd();
	use_in_handler(0); /* dlsym is not for handlers: here it has looked all of them up */
	found_in_handler = 0;
	signal(SIGUSR1, use_in_handler);
	raise(SIGUSR1);
	CHECK(found_in_handler);
}

static void *save_many(void *arg)
{
	int first = *(int *)arg;

	for (int i = first; i < first + 100; i++) {
		CHECK_INT(save("threads", i, null_fd()), 0);
		CHECK(find("threads", i) >= 0);
		if (i % 3 == 0)
			CHECK_INT(forget("threads", i), 0);
	}
	return NULL;
}

TEST(any_thread_may_call_it, ONCE)
{
	pthread_t thread[8];
	int first[8];

	for (int i = 0; i < 8; i++) {
		first[i] = i * 100;
		CHECK_INT(pthread_create(&thread[i], NULL, save_many, &first[i]), 0);
	}
	for (int i = 0; i < 8; i++)
		pthread_join(thread[i], NULL);
	CHECK_INT(table_size(), 800 - 267);
}
