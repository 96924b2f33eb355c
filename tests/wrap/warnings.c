/* SPDX-License-Identifier: MIT */
/*
 * What we have to say goes to standard error, if that is one. It ends no program whose reader is gone, and no client
 * gets it.
 */
#include "../support/failing.h"
#include "../support/sockets.h"

#include <signal.h>

static bool is_pending(int sig)
{
	sigset_t pending;

	sigemptyset(&pending);
	MUST(sigpending(&pending));
	return sigismember(&pending, sig);
}

static void warn_into_a_pipe(void)
{
	const char *busy = busy_program();
	char said[1024] = "";
	int ends[2];

	MUST(pipe2(ends, O_CLOEXEC));
	MUST(dup2(ends[1], STDERR_FILENO));
	close(ends[1]);
	restart_is_called_off(busy);
	CHECK(read(ends[0], said, sizeof(said) - 1) > 0);
	CHECK(strstr(said, "called off")); /* so it is said, while there is a reader */
	close(ends[0]);
	for (int i = 0; i < 3; i++)
		restart_is_called_off(busy);
	CHECK(!is_pending(SIGPIPE));
}

TEST(a_warning_to_a_reader_that_is_gone_ends_no_program, ONCE, "CPR_LOG=warn;WARNS=1")
{
	warn_into_a_pipe();
}

/* It neither comes when the signal is let in again, nor takes the place of one that was pending before. */
TEST(a_warning_to_a_reader_that_is_gone_leaves_a_blocked_sigpipe_as_it_was, ONCE, "CPR_LOG=warn;WARNS=1")
{
	sigset_t pipe_only;

	sigemptyset(&pipe_only);
	sigaddset(&pipe_only, SIGPIPE);
	MUST(sigprocmask(SIG_BLOCK, &pipe_only, NULL));
	warn_into_a_pipe();
	raise(SIGPIPE);
	restart_is_called_off(in_room("busy"));
	CHECK(is_pending(SIGPIPE));
}

/* A full pipe: the handler that has something to say waits for no reader. */
TEST(a_warning_to_a_slow_reader_is_not_waited_for, ONCE, "CPR_LOG=warn;WARNS=1")
{
	char filling[4096] = "";
	int ends[2];

	MUST(pipe2(ends, O_CLOEXEC | O_NONBLOCK));
	while (write(ends[1], filling, sizeof(filling)) > 0)
		;
	MUST(fcntl(ends[1], F_SETFL, 0));
	MUST(dup2(ends[1], STDERR_FILENO));
	restart_is_called_off(busy_program());
}

TEST(a_client_that_has_the_number_of_standard_error_gets_no_warning, ONCE, "CPR_LOG=warn;WARNS=1")
{
	int fd = listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);
	const char *busy = busy_program();

	close(STDERR_FILENO);
	CHECK(is_connection(ask("connect tcp 127.0.0.1 %d", port(0))));
	CHECK_INT(accept4(fd, NULL, NULL, SOCK_CLOEXEC), STDERR_FILENO);
	restart_is_called_off(busy);
	write_text(STDERR_FILENO, "an answer");
	CHECK(!strcmp(ask("recv 0"), "an answer"));
}
