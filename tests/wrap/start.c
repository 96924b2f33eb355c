/* SPDX-License-Identifier: MIT */
/* After a restart from outside everything is as it was at the start, although the program changed it all. */
#include "../support/api.h"
#include "../support/sockets.h"

#include <sched.h>
#include <signal.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/time.h>

TEST(umask_is_as_at_start, BELL)
{
	mode_t now = umask(0077);

	CHECK_INT(now, 0027); /* scenes.py starts us with it */
	if (generation() < 3)
		next_generation();
}

static const char *directory(void)
{
	static char room[4096];

	CHECK(getcwd(room, sizeof(room)));
	return room;
}

TEST(directory_is_as_at_start, BELL)
{
	CHECK(!strcmp(directory(), in_room("start")));
	MUST(chdir("/"));
	if (generation() < 3)
		next_generation();
}

/* `current ->` moves between generations: the path counts, not the inode. */
TEST(directory_is_followed_by_its_path, BELL)
{
	char here[512] = "";

	CHECK(readlink(in_room("current"), here, sizeof(here) - 1) > 0);
	CHECK(!strcmp(directory(), in_room(here)));
	if (generation() == 1) {
		MUST(unlink(in_room("current")));
		MUST(symlink("v2", in_room("current")));
		next_generation();
	}
	CHECK(!strcmp(here, "v2"));
}

TEST(a_deleted_directory_does_not_stop_a_restart, BELL, "WARNS=1")
{
	if (generation() == 1) {
		MUST(rmdir(in_room("start")));
		next_generation();
	}
	CHECK_INT(generation(), 2);
}

TEST(a_directory_made_anew_is_found, BELL)
{
	if (generation() == 1) {
		MUST(rmdir(in_room("start")));
		MUST(mkdir(in_room("start"), 0755));
		next_generation();
	}
	CHECK(!strcmp(directory(), in_room("start")));
}

TEST(signal_mask_is_as_at_start, BELL)
{
	sigset_t mask, all;

	MUST(sigprocmask(SIG_SETMASK, NULL, &mask));
	for (int sig = 1; sig <= SIGRTMAX; sig++)
		CHECK_INT(sigismember(&mask, sig) == 1, sig == SIGUSR2); /* scenes.py blocks it */
	sigfillset(&all);
	sigdelset(&all, SIGUSR2);
	MUST(sigprocmask(SIG_SETMASK, &all, NULL));
	if (generation() < 3)
		next_generation();
}

static void loops(int sig)
{
	put(sig == SIGCHLD ? "handled" : "hung up", sig);
	for (;;)
		pause();
}

static bool is_pending(int sig)
{
	sigset_t set;

	MUST(sigpending(&set));
	return sigismember(&set, sig) == 1;
}

/*
 * A CGI starter blocks SIGCHLD wherever it does not wait. The restart let it through in the task that execs, and the
 * handler ran there. Nor may what waits end the next image, which has no handler yet.
 */
TEST(a_pending_signal_runs_no_handler_in_the_task, BELL)
{
	sigset_t set;

	CHECK(!is_pending(SIGCHLD) && !is_pending(SIGHUP) && !is_pending(SIGRTMIN));
	CHECK(access(in_room("handled"), F_OK) && access(in_room("hung up"), F_OK));
	MUST(sigprocmask(SIG_SETMASK, NULL, &set));
	CHECK(!sigismember(&set, SIGCHLD) && !sigismember(&set, SIGHUP));
	signal(SIGCHLD, loops);
	signal(SIGHUP, loops);
	signal(SIGRTMIN, loops);
	sigaddset(&set, SIGCHLD);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGRTMIN);
	MUST(sigprocmask(SIG_SETMASK, &set, NULL));
	for (int i = 0; i < 3; i++)
		MUST(kill(getpid(), i == 0 ? SIGCHLD : i == 1 ? SIGHUP : SIGRTMIN));
	MUST(kill(getpid(), SIGRTMIN)); /* a realtime signal is queued */
	CHECK(is_pending(SIGCHLD));
	if (generation() < 3)
		next_generation();
}

static void handler(int sig)
{
	(void)sig;
}

TEST(ignored_signals_are_as_at_start, BELL)
{
	struct sigaction action;

	for (int sig = 1; sig < SIGRTMIN; sig++) {
		if (sigaction(sig, NULL, &action))
			continue;
		CHECK_INT(action.sa_handler == SIG_IGN, sig == SIGHUP); /* scenes.py ignores it, as nohup does */
		CHECK(sig == SIGHUP || action.sa_handler == SIG_DFL);
		if (sig != SIGKILL && sig != SIGSTOP)
			signal(sig, sig == SIGHUP ? handler : sig == SIGPIPE || sig == SIGINT ? SIG_IGN : handler);
	}
	if (generation() < 3)
		next_generation();
}

TEST(alarms_and_timers_are_off, BELL)
{
	struct itimerval timer = {{0, 200000}, {0, 200000}}, now;

	for (int which = ITIMER_REAL; which <= ITIMER_PROF; which++) {
		MUST(getitimer(which, &now));
		CHECK(!now.it_value.tv_sec && !now.it_value.tv_usec);
	}
	signal(SIGALRM, generation() == 1 ? handler : SIG_DFL);
	if (generation() == 1) {
		setitimer(ITIMER_REAL, &timer, NULL);
		next_generation();
	}
	sleep_through(400); /* a timer that went along would kill */
}

TEST(soft_limits_are_as_at_start, BELL)
{
	struct rlimit files, stack;

	getrlimit(RLIMIT_NOFILE, &files);
	getrlimit(RLIMIT_CORE, &stack);
	CHECK_INT(files.rlim_cur, 400); /* scenes.py */
	files.rlim_cur = 300;
	MUST(setrlimit(RLIMIT_NOFILE, &files));
	if (generation() < 3)
		next_generation();
}

TEST(processors_are_as_at_start, BELL)
{
	cpu_set_t all, one;
	int first = 0;

	MUST(sched_getaffinity(0, sizeof(all), &all));
	if (generation() == 1)
		put("processors", CPU_COUNT(&all));
	CHECK_INT(CPU_COUNT(&all), get("processors"));
	while (!CPU_ISSET(first, &all))
		first++;
	CPU_ZERO(&one);
	CPU_SET(first, &one);
	MUST(sched_setaffinity(0, sizeof(one), &one));
	if (generation() == 1)
		next_generation();
}

/* nice(2) adds: what piles up would be served last after a few restarts. */
TEST(nice_is_as_at_start, BELL)
{
	int now = getpriority(PRIO_PROCESS, 0);

	if (generation() == 1)
		put("nice", now);
	CHECK_INT(now, get("nice"));
	CHECK(nice(2) >= now);
	if (generation() < 3 && geteuid() == 0)
		next_generation();
}

TEST(a_relative_path_is_the_starts, BELL)
{
	CHECK(!strncmp(arguments[0], "./", 2));
	MUST(chdir("/"));
	if (generation() < 3)
		next_generation();
}

TEST(environment_is_as_at_start, BELL)
{
	CHECK(!strcmp(getenv("WRAP_GIVEN"), "by the start"));
	CHECK(!getenv("WRAP_MADE"));
	CHECK(!getenv("CPR_STATE_FD"));
	for (char **at = environ; *at; at++)
		CHECK(strncmp(*at, "CPR_STATE_FD", 12) != 0);
	setenv("WRAP_MADE", "by the program", 1);
	setenv("WRAP_GIVEN", "by the program", 1);
	if (generation() < 3) {
		memset(getenv("PATH"), 'x', strlen(getenv("PATH"))); /* as setproctitle writes over all of it */
		next_generation();
	}
}

TEST(arguments_are_as_at_start, BELL)
{
	CHECK(!strcmp(arguments[1], "arguments_are_as_at_start"));
	CHECK(arguments[2] && !strcmp(arguments[2], "--an option") && !*arguments[3] && !arguments[4]);
	memset(arguments[2], 'x', strlen(arguments[2]));
	arguments[3] = NULL;
	if (generation() < 3)
		next_generation();
}

TEST(the_new_image_on_disk_is_what_runs, BELL)
{
	long inode = inode_at("/proc/self/exe");

	if (generation() == 1) {
		char command[1200];

		put("image", inode);
		snprintf(command, sizeof(command), "cp '%s' '%s.new' && mv '%s.new' '%s'", arguments[0], arguments[0],
			 arguments[0], arguments[0]);
		CHECK_INT(system(command), 0);
		next_generation();
	}
	CHECK(inode != get("image"));
	CHECK_INT(inode, inode_at(arguments[0]));
}

/* ---- heirlooms ---- */

TEST(a_pipe_given_at_the_start_is_given_again, BELL)
{
	char text[32];

	CHECK(!is_cloexec(5));
	snprintf(text, sizeof(text), "generation %d", generation());
	write_text(5, text);
	check_text(6, text);
	MUST(fcntl(5, F_SETFD, FD_CLOEXEC)); /* as node does to all that it finds */
	if (generation() < 4)
		next_generation();
}

TEST(a_heirloom_that_was_closed_is_not_given_again, BELL)
{
	if (generation() == 1) {
		CHECK_INT(close(6), 0);
		CHECK_INT(open("/dev/null", O_RDONLY), 3);
		CHECK_INT(dup2(3, 6), 6);
		next_generation();
	}
	CHECK(really_open(5));
	CHECK(!really_open(6));
	CHECK(!really_open(3));
}

/* Its log was opened as its standard error: the next generation may write to that, and its children, too. */
TEST(a_kept_standard_descriptor_is_standard, BELL)
{
	if (generation() == 1) {
		int fd;

		MUST(mkfifo(in_room("log"), 0600));
		fd = MUST(open(in_room("log"), O_RDWR));
		MUST(dup2(fd, STDERR_FILENO));
		close(fd);
		next_generation();
	}
	CHECK(really_open(STDERR_FILENO));
	CHECK_INT(fcntl(STDERR_FILENO, F_GETFD), 0);
	CHECK_INT(system("echo text >&2"), 0);
}

/*
 * Pid files are locked as long as a descriptor is open anywhere: one that leaks makes the next generation a second
 * copy.
 */
TEST(a_lock_does_not_outlive_its_generation, BELL)
{
	int fd = MUST(open(in_room("pid"), O_RDWR | O_CREAT, 0600)), other = MUST(open(in_room("pid"), O_RDWR));

	CHECK_INT(flock(fd, LOCK_EX | LOCK_NB), 0);
	CHECK_FAILS(flock(other, LOCK_EX | LOCK_NB), EWOULDBLOCK);
	if (generation() < 4)
		next_generation();
}

TEST(nothing_piles_up, BELL)
{
	int fd = listening(inet4("127.0.0.1", port(0)), SOCK_STREAM), open_now = 0;

	MUST(open("/dev/null", O_RDONLY)); /* without close-on-exec: it must not pass either */
	for (int i = 0; i < 1024; i++)
		open_now += really_open(i);
	CHECK(fd >= 0);
	CHECK_INT(open_now, 5);
	if (generation() < 5)
		next_generation();
}

TEST(a_standard_descriptor_that_is_a_connection_is_not_passed_on, BELL)
{
	struct stat st;

	if (generation() == 1) {
		int fd = listening(inet4("127.0.0.1", port(0)), SOCK_STREAM), peer;

		ask("connect tcp 127.0.0.1 %d", port(0));
		peer = MUST(accept(fd, NULL, NULL));
		MUST(dup2(peer, STDERR_FILENO));
		next_generation();
	}
	MUST(fstat(STDERR_FILENO, &st)); /* open, or the next socket would be our standard error */
	CHECK(!S_ISSOCK(st.st_mode));
	listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);
}
