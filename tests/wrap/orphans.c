/* SPDX-License-Identifier: MIT */
/*
 * Orphans: hidden from a program that closes everything, out of the way when asked for, and closed with a warning when
 * not asked for in time.
 */
#include "../support/api.h"
#include "../support/sockets.h"

#include <limits.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/syscall.h>

/*
 * Generation 1 leaves a listener, and goes. What follows is generation 2: the orphan's number, and the same address to
 * ask for.
 */
static int orphan(void)
{
	if (generation() == 1) {
		int fd = listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);

		put("inode", inode_of(fd));
		put("fd", fd);
		next_generation();
	}
	CHECK(really_open((int)get("fd")));
	return (int)get("fd");
}

static void lives_on(void)
{
	int fd = listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);

	CHECK_INT(inode_of(fd), get("inode"));
	CHECK(is_connection(ask("connect tcp 127.0.0.1 %d", port(0))));
	close(MUST(accept4(fd, NULL, NULL, SOCK_CLOEXEC)));
	put("fd", fd);
}

/* Restarts that follow each other within grace. */
TEST(what_two_generations_do_not_ask_for_goes_no_further, BELL)
{
	listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);
	if (generation() < 3) { /* each leaves one that no other asks for */
		CHECK_INT(API(cpr_save_fd)("left", (int)generation(), MUST(memfd_create("left", MFD_CLOEXEC))), 0);
		next_generation();
	}
	if (generation() < 5)
		next_generation();
	CHECK(strstr(ask("status"), "orphans=0 "));
}

/* ---- hidden ---- */

TEST(close_of_an_orphan_says_ebadf, BOTH)
{
	CHECK_FAILS(close(orphan()), EBADF);
	lives_on();
}

TEST(dup_of_an_orphan_says_ebadf, BOTH)
{
	int fd = orphan();

	CHECK_FAILS(dup(fd), EBADF);
	CHECK_FAILS(dup2(fd, 100), EBADF);
	CHECK_FAILS(dup3(fd, 100, O_CLOEXEC), EBADF);
	CHECK_FAILS(dup2(fd, fd), EBADF);
	CHECK(!really_open(100));
	lives_on();
}

TEST(fcntl_and_ioctl_of_an_orphan_say_ebadf, BOTH)
{
	int fd = orphan(), on = 1;

	CHECK_FAILS(fcntl(fd, F_GETFD), EBADF);
	CHECK_FAILS(fcntl(fd, F_SETFD, 0), EBADF);
	CHECK_FAILS(fcntl64(fd, F_GETFL), EBADF);
	CHECK_FAILS(fcntl(fd, F_DUPFD, 0), EBADF);
	CHECK_FAILS(ioctl(fd, FIOCLEX), EBADF);
	CHECK_FAILS(ioctl(fd, FIONBIO, &on), EBADF);
	lives_on();
}

TEST(bind_of_an_orphan_says_ebadf, BOTH)
{
	struct address other = inet4("127.0.0.1", port(1));
	int fd = orphan();

	CHECK_FAILS(bind(fd, &other.any, other.len), EBADF);
	lives_on();
}

TEST(raw_numbers_do_not_reach_an_orphan, BOTH)
{
	int fd = orphan();

	CHECK_FAILS(syscall(SYS_close, fd), EBADF);
	CHECK_FAILS(syscall(SYS_dup, fd), EBADF);
	CHECK_FAILS(syscall(SYS_fcntl, fd, F_SETFD, 0), EBADF);
	lives_on();
}

/* ---- programs that close everything ---- */

TEST(a_loop_of_close_leaves_orphans, BOTH)
{
	orphan();
	for (int fd = 3; fd < 1024; fd++)
		CHECK_FAILS(close(fd), EBADF);
	lives_on();
}

TEST(close_range_leaves_orphans, BOTH)
{
	int low, high;

	orphan();
	low = MUST(open("/dev/null", O_RDONLY));
	high = MUST(fcntl(low, F_DUPFD_CLOEXEC, 200));
	CHECK_INT(close_range(3, ~0U, 0), 0);
	CHECK(!really_open(low));
	CHECK(!really_open(high));
	lives_on();
}

TEST(close_range_by_number_leaves_orphans, BOTH)
{
	orphan();
	CHECK_INT(syscall(SYS_close_range, 3, ~0U, 0), 0);
	lives_on();
}

TEST(closefrom_leaves_orphans, BOTH)
{
	int high;

	orphan();
	high = MUST(fcntl(STDIN_FILENO, F_DUPFD, 300));
	closefrom(3);
	CHECK(!really_open(high));
	lives_on();
}

TEST(the_state_and_the_doorbell_survive_a_close_loop, BOTH)
{
	orphan();
	for (int fd = 3; fd < 4096; fd++)
		close(fd);
	CHECK(strstr(ask("status"), "result=ok"));
	lives_on();
	if (generation() == 2)
		next_generation();
}

/* Nothing of ours stays open: what a generation without orphans has is what it opened. */
TEST(nothing_of_ours_is_left_open, BOTH)
{
	orphan();
	lives_on();
	closefrom(6);
	for (int fd = 6; fd < 1024; fd++)
		CHECK(!really_open(fd));
}

/* What the library has open for a moment goes as well: the caller hears of the next generation all the same. */
TEST(a_program_that_closes_everything_again_and_again_is_ready, BELL)
{
	orphan();
	lives_on();
	for (long until = now_ms() + 300; now_ms() < until;)
		closefrom(6);
	if (generation() < 4)
		next_generation();
}

/* ---- the number is wanted ---- */

TEST(dup2_onto_an_orphans_number_moves_it, BOTH)
{
	int fd = orphan(), null = MUST(open("/dev/null", O_RDWR | O_CLOEXEC));

	CHECK_INT(dup2(null, fd), fd);
	CHECK_INT(inode_of(fd), inode_of(null));
	CHECK(really_holds(get("inode")));
	CHECK_INT(close(fd), 0);
	lives_on();
}

TEST(dup3_onto_an_orphans_number_moves_it, BOTH)
{
	int fd = orphan(), null = MUST(open("/dev/null", O_RDWR | O_CLOEXEC));

	CHECK_INT(dup3(null, fd, O_CLOEXEC), fd);
	for (int next = fd + 2; next < fd + 6; next++) { /* wherever it is now */
		CHECK_INT(syscall(SYS_dup3, null, next, 0), next);
		CHECK_INT(inode_of(next), inode_of(null));
	}
	CHECK_INT(inode_of(fd), inode_of(null));
	lives_on();
}

TEST(a_failing_dup2_leaves_the_orphan, BOTH)
{
	int fd = orphan();

	CHECK_FAILS(dup2(999, fd), EBADF);
	CHECK(really_holds(get("inode")));
	lives_on();
}

/* ---- another address on the port ---- */

TEST(a_narrower_bind_releases_the_wildcard_orphan, BOTH, "WARNS=1")
{
	struct address a = inet4(generation() == 1 ? "0.0.0.0" : "127.0.0.1", port(0));
	int fd;

	if (generation() == 1) {
		put("inode", inode_of(listening(a, SOCK_STREAM)));
		next_generation();
	}
	fd = listening(a, SOCK_STREAM);
	CHECK(inode_of(fd) != get("inode"));
	CHECK(!really_holds(get("inode")));
	CHECK(is_connection(ask("connect tcp 127.0.0.1 %d", port(0))));
}

TEST(a_taken_port_is_still_taken, BOTH)
{
	struct address a = inet4("0.0.0.0", port(1));
	int fd;

	orphan();
	fd = socket_for(&a, SOCK_STREAM);
	MUST(bind(fd, &a.any, a.len)); /* another port: releases nothing */
	CHECK(really_holds(get("inode")));
	close(fd);
	lives_on();
	a = inet4("127.0.0.1", port(0));
	fd = socket_for(&a, SOCK_STREAM);
	CHECK_FAILS(bind(fd, &a.any, a.len), EADDRINUSE); /* claimed: the program's own */
}

/* ---- grace ---- */

static bool log_says(const char *text)
{
	char bytes[4096] = "";
	int fd = MUST(open(in_room("cpr.log"), O_RDONLY | O_CREAT | O_CLOEXEC, 0644));
	ssize_t n = read(fd, bytes, sizeof(bytes) - 1);

	close(fd);
	return n > 0 && strstr(bytes, text);
}

TEST(an_orphan_is_closed_when_grace_is_over, BOTH, "CPR_GRACE=1;WARNS=1")
{
	long began = now_ms();
	char expected[64];

	orphan();
	CHECK(is_connection(ask("connect tcp 127.0.0.1 %d", port(0)))); /* the kernel still queues for it */
	CHECK(AWAIT(!really_holds(get("inode")), 5000));
	CHECK(now_ms() - began > 500);
	snprintf(expected, sizeof(expected), "tcp:127.0.0.1:%d/0 was kept for this generation", port(0));
	CHECK(AWAIT(log_says(expected), 1000));
	CHECK(!strcmp(ask("connect tcp 127.0.0.1 %d", port(0)), "ConnectionRefusedError"));
	CHECK_INT(table_size(), 0);
	CHECK(inode_of(listening(inet4("127.0.0.1", port(0)), SOCK_STREAM)) != get("inode"));
}

TEST(grace_is_over_for_a_program_that_sleeps, BOTH, "CPR_GRACE=1;WARNS=1")
{
	orphan();
	nanosleep(&(struct timespec){1, 500000000}, NULL); /* no other call, no event: the tick alone must do it */
	CHECK(!really_holds(get("inode")));
}

TEST(an_ephemeral_datagram_socket_ends_without_a_warning, BOTH, "CPR_GRACE=1")
{
	if (generation() == 1) {
		put("inode", inode_of(bound(inet4("127.0.0.1", 0), SOCK_DGRAM)));
		next_generation();
	}
	CHECK(AWAIT(!really_holds(get("inode")), 5000));
}

TEST(claimed_in_time_is_not_closed, BOTH, "CPR_GRACE=1")
{
	orphan();
	lives_on();
	sleep_through(1300); /* past the grace: there is no event for what does not happen */
	CHECK(really_holds(get("inode")));
}

/* An orphan that is still one when the program restarts again waits for the generation after. */
TEST(an_unclaimed_orphan_passes_through_a_generation, EXEC)
{
	if (generation() <= 2) {
		orphan();
		next_generation();
	}
	CHECK_INT(generation(), 3);
	lives_on();
}

/* ---- inherited: open across the program's own exec anyway ---- */

static int inherited(void)
{
	struct address a = inet4("127.0.0.1", port(0));

	if (generation() == 1) {
		int fd = listening(a, SOCK_STREAM);

		MUST(fcntl(fd, F_SETFD, 0));
		put("inode", inode_of(fd));
		put("fd", fd);
		next_generation();
	}
	return (int)get("fd");
}

TEST(an_inherited_listener_is_usable_by_its_number, EXEC, "CPR_GRACE=1")
{
	int fd = inherited();

	CHECK_INT(inode_of(fd), get("inode"));
	CHECK(!is_cloexec(fd));
	CHECK_INT(fcntl(fd, F_SETFL, O_NONBLOCK), 0);
	CHECK(is_connection(ask("connect tcp 127.0.0.1 %d", port(0))));
	MUST(accept4(fd, NULL, NULL, SOCK_CLOEXEC));
	sleep_through(1300); /* past the grace */
	CHECK_INT(inode_of(fd), get("inode"));
	CHECK(strstr(ask("status"), "orphans=0"));
	if (generation() < 3)
		next_generation();
}

TEST(an_inherited_listener_may_be_closed, EXEC)
{
	int fd = inherited();

	CHECK_INT(close(fd), 0);
	CHECK(!really_open(fd));
	CHECK(!strcmp(ask("connect tcp 127.0.0.1 %d", port(0)), "ConnectionRefusedError"));
	CHECK_INT(table_size(), 0);
}

TEST(an_inherited_listener_may_be_bound_anew, EXEC)
{
	int old = inherited(), fd = listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);

	CHECK_INT(inode_of(fd), get("inode"));
	(void)old;
	CHECK(is_connection(ask("connect tcp 127.0.0.1 %d", port(0))));
	MUST(accept4(fd, NULL, NULL, SOCK_CLOEXEC));
}

/* Restarted from outside it is as at the start: nothing passes a number on. */
TEST(after_a_restart_nothing_is_inherited_by_number, BELL)
{
	struct address a = inet4("127.0.0.1", port(0));

	if (generation() == 1)
		inherited();
	CHECK_FAILS(fcntl((int)get("fd"), F_GETFD), EBADF);
	CHECK_INT(inode_of(listening(a, SOCK_STREAM)), get("inode"));
}
