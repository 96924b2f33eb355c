/* SPDX-License-Identifier: MIT */
/*
 * Unix sockets behind the gate whose paths the program moves, and doors that it closes and asks for again. Generation 1
 * serves in a thread, and asks the runner, which is the supervisor. Generation 2 serves until it is asked to end.
 */
#include "../support/gates.h"

#include <sys/prctl.h>
#include <sys/wait.h>

static const char *place(const char *name)
{
	static char where[512];

	snprintf(where, sizeof(where), "unix %s", in_room(name));
	return where;
}

/* As haproxy does: bound under a passing name, and moved to its own. */
static int moved(const char *name, bool listens_first)
{
	char passing[64], backup[64];
	int fd;

	MUST(chdir(getenv("WRAP_ROOM")));
	snprintf(passing, sizeof(passing), "%s.%d", name, getpid());
	snprintf(backup, sizeof(backup), "%s.bak", name);
	if (!access(in_room(name), F_OK))
		MUST(link(name, backup));
	fd = bound(local(in_room(passing)), SOCK_STREAM);
	if (listens_first)
		MUST(listen(fd, 16));
	MUST(rename(passing, name));
	if (!listens_first)
		MUST(listen(fd, 16));
	unlink(backup);
	CHECK_INT(access(passing, F_OK), -1);
	CHECK_INT(access(backup, F_OK), -1);
	return fd;
}

static void serve_beside(void)
{
	level();
	MUST(-pthread_create(&(pthread_t){0}, NULL, serve_in_thread, serve_by_epoll));
}

static void is_handed_over(int (*make)(void))
{
	listener = make();
	if (generation() == 2) {
		level();
		serve_in_thread(serve_by_epoll);
		return;
	}
	serve_beside();
	check_serves(place("s"), "1");
	check_serves(place_of_door(ask("next")), "2");
	check_serves(place("s"), "1");
	CHECK(!strcmp(ask("hand-over"), "ok"));
	check_serves(place("s"), "2");
	CHECK(!strcmp(ask("hand-back"), "ok"));
	check_serves(place("s"), "1");
	CHECK(!strcmp(ask("hand-over"), "ok"));
	CHECK(!strcmp(ask("wish FORGET"), "ok"));
	end_at(place("s"));
	CHECK(!strcmp(ask("end-of-next"), "0"));
}

static int moved_before_listen(void)
{
	return moved("s", false);
}

TEST(gate_swaps_a_socket_that_is_moved_to_its_path, ONCE)
{
	is_handed_over(moved_before_listen);
}

static int moved_after_listen(void)
{
	return moved("s", true);
}

TEST(gate_swaps_a_socket_that_listens_and_is_then_moved_to_its_path, ONCE)
{
	is_handed_over(moved_after_listen);
}

/* haproxy's master closes what it listens at and execs itself, with its worker there; its next image asks anew. */
static int closed_and_asked_for_again(void)
{
	int fd = moved("s", false), worker = MUST(fork());

	if (!worker) {
		MUST(prctl(PR_SET_PDEATHSIG, SIGKILL));
		pause();
		_exit(0);
	}
	close(fd);
	return moved("s", false);
}

TEST(gate_gives_a_closed_door_back_to_what_is_moved_to_its_path, ONCE)
{
	is_handed_over(closed_and_asked_for_again);
}

/* The next generation's own: nothing is handed over for it. */
static void is_its_own(int (*make)(void))
{
	listener = listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);
	if (generation() == 2) {
		listener = make();
		level();
		serve_in_thread(serve_by_epoll);
		return;
	}
	serve_beside();
	ask("next");
	CHECK(!strcmp(ask("hand-over"), "ok"));
	check_serves(place("s"), "2");
	end_at(place("s"));
	CHECK(!strcmp(ask("end-of-next"), "0"));
}

TEST(gate_opens_for_a_socket_of_its_own_that_was_moved, ONCE)
{
	is_its_own(moved_after_listen);
}
