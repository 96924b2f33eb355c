/* SPDX-License-Identifier: MIT */
/* The way back: an exec that fails leaves everything as it was, and an exec of another program passes nothing on. */
#include "../support/api.h"
#include "../support/sockets.h"

#include <signal.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>

static char *const nothing[] = {NULL};

/* ---- failed ---- */

struct all {
	int listener, inherited, datagrams, flags[64];
	long inode;
	char directory[512];
	sigset_t mask;
};

static struct all before(void)
{
	struct all all = {0};

	all.listener = listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);
	all.inherited = listening(inet4("127.0.0.1", port(1)), SOCK_STREAM);
	all.datagrams = bound(inet4("127.0.0.1", port(0)), SOCK_DGRAM);
	all.inode = inode_of(all.listener);
	MUST(fcntl(all.inherited, F_SETFD, 0));
	MUST(chdir(getenv("WRAP_ROOM")));
	CHECK(getcwd(all.directory, sizeof(all.directory)));
	signal(SIGPIPE, SIG_IGN);
	signal(SIGUSR1, exit);
	umask(0027);
	sigprocmask(SIG_SETMASK, NULL, &all.mask);
	for (int fd = 0; fd < 64; fd++)
		all.flags[fd] = fcntl(fd, F_GETFD);
	return all;
}

static void as_before(const struct all *all)
{
	struct sigaction action;
	char directory[512];
	sigset_t mask;

	for (int fd = 0; fd < 64; fd++) /* the task uses a number now and then, for a moment */
		CHECK(AWAIT(fcntl(fd, F_GETFD) == all->flags[fd], 5000));
	CHECK_INT(inode_of(all->listener), all->inode);
	CHECK(getcwd(directory, sizeof(directory)) && !strcmp(directory, all->directory));
	CHECK_INT(umask(0027), 0027);
	sigprocmask(SIG_SETMASK, NULL, &mask);
	CHECK(!memcmp(&mask, &all->mask, _NSIG / 8)); /* all that the kernel fills in */
	MUST(sigaction(SIGPIPE, NULL, &action));
	CHECK(action.sa_handler == SIG_IGN);
	MUST(sigaction(SIGUSR1, NULL, &action));
	CHECK(action.sa_handler == exit);
	CHECK_INT(table_size(), 3);
	CHECK(is_connection(ask("connect tcp 127.0.0.1 %d", port(0))));
	close(MUST(accept4(all->listener, NULL, NULL, SOCK_CLOEXEC)));
	CHECK(!getenv("CPR_STATE_FD"));
	CHECK(strstr(ask("status"), "generation=1"));
}

TEST(a_failed_self_exec_changes_nothing, ONCE)
{
	struct all all = before();

	MUST(chmod(arguments[0], 0600));
	for (int i = 0; i < 100; i++)
		CHECK_FAILS(execv(arguments[0], arguments), EACCES);
	as_before(&all);
}

TEST(a_failed_restart_changes_nothing, ONCE, "WARNS=1")
{
	struct all all = before();
	struct itimerval timer = {{100, 0}, {100, 0}}, now;
	const char *answer;

	setitimer(ITIMER_REAL, &timer, NULL);
	MUST(chmod(arguments[0], 0600));
	for (int i = 0; i < 10; i++) {
		answer = ask("try-restart");
		CHECK(strstr(answer, "result=refused"));
		CHECK(strstr(answer, "ermission denied"));
	}
	getitimer(ITIMER_REAL, &now);
	CHECK(now.it_value.tv_sec > 50 && now.it_interval.tv_sec == 100);
	as_before(&all);
}

TEST(a_program_that_is_gone_is_a_refused_restart, ONCE, "WARNS=1")
{
	struct all all = before();

	MUST(unlink(arguments[0]));
	CHECK(strstr(ask("try-restart"), "result=refused"));
	as_before(&all);
}

TEST(a_restart_goes_well_after_one_that_failed, BELL, "WARNS=1")
{
	int fd = listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);

	if (generation() == 1) {
		put("inode", inode_of(fd));
		MUST(chmod(arguments[0], 0600));
		CHECK(strstr(ask("try-restart"), "result=refused"));
		MUST(chmod(arguments[0], 0700));
		next_generation();
	}
	CHECK_INT(inode_of(fd), get("inode"));
}

TEST(an_argument_list_that_is_too_long_is_a_failed_exec, ONCE)
{
	struct all all = before();
	size_t n = 8 * 1024 * 1024;
	char *long_one = malloc(n);
	char *argv[] = {arguments[0], arguments[1], long_one, NULL};

	memset(long_one, 'x', n - 1);
	long_one[n - 1] = '\0';
	CHECK_FAILS(execv(arguments[0], argv), E2BIG);
	as_before(&all);
}

/* ---- of its own, by every door ---- */

static void door(int number)
{
	char *path = arguments[0], *test = arguments[1], link[64];
	int fd;

	switch (number) {
	case 1:
		execv(path, arguments);
		break;
	case 2:
		execve(path, arguments, environ);
		break;
	case 3:
		MUST(setenv("PATH", getenv("WRAP_ROOM"), 1));
		execvp(test, arguments); /* the copy is called as the case */
		break;
	case 4:
		execvpe(test, arguments, environ);
		break;
	case 5:
		execl(path, path, test, (char *)NULL);
		break;
	case 6:
		execlp(test, path, test, (char *)NULL);
		break;
	case 7:
		execle(path, path, test, (char *)NULL, environ);
		break;
	case 8:
		fd = MUST(open(path, O_RDONLY | O_CLOEXEC));
		fexecve(fd, arguments, environ);
		break;
	case 9:
		execveat(AT_FDCWD, path, arguments, environ, 0);
		break;
	case 10:
		fd = MUST(open(path, O_PATH | O_CLOEXEC));
		execveat(fd, "", arguments, environ, AT_EMPTY_PATH);
		break;
	case 11:
		syscall(SYS_execve, path, arguments, environ);
		break;
	case 12:
		syscall(SYS_execveat, AT_FDCWD, path, arguments, environ, 0);
		break;
	case 13:
		execv("/proc/self/exe", arguments);
		break;
	default:
		snprintf(link, sizeof(link), "/proc/%d/exe", getpid());
		execv(link, arguments);
	}
	CHECK(!"exec came back");
}

TEST(every_exec_of_itself_is_the_next_generation, EXEC)
{
	int fd = listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);

	if (generation() == 1)
		put("inode", inode_of(fd));
	CHECK_INT(inode_of(fd), get("inode"));
	if (generation() < 15)
		door(generation());
}

/* nginx clears its environment, and passes on a few words that it made itself. */
TEST(a_cleared_environment_loses_nothing_of_ours, EXEC)
{
	char room[600], way[] = "WRAP_WAY=exec", at[32], *env[] = {room, way, at, NULL};
	int fd = listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);

	snprintf(room, sizeof(room), "WRAP_ROOM=%s", getenv("WRAP_ROOM"));
	snprintf(at, sizeof(at), "WRAP_PORT=%d", port(0));
	if (generation() == 1) {
		put("inode", inode_of(fd));
		clearenv();
		execve(arguments[0], arguments, env);
	}
	CHECK_INT(inode_of(fd), get("inode"));
	CHECK(getenv("LD_PRELOAD"));
	CHECK(getenv("CPR_LOG"));
	CHECK(!getenv("CPR_STATE_FD"));
	CHECK(!getenv("HOME"));
	if (generation() == 2)
		execve(arguments[0], arguments, env);
}

TEST(its_own_arguments_and_environment_are_passed_on, EXEC)
{
	char *argv[] = {arguments[0], arguments[1], "more", NULL};

	if (generation() == 1) {
		setenv("WRAP_NEW", "value", 1);
		execv(arguments[0], argv);
	}
	CHECK(arguments[2] && !strcmp(arguments[2], "more"));
	CHECK(!strcmp(getenv("WRAP_NEW"), "value"));
}

/* What the program set before its own exec is what exec keeps: we only put the doorbell back. */
TEST(a_self_exec_keeps_what_exec_keeps, EXEC)
{
	struct sigaction action;
	sigset_t mask;

	if (generation() == 1) {
		sigemptyset(&mask);
		sigaddset(&mask, SIGUSR2);
		sigprocmask(SIG_SETMASK, &mask, NULL);
		signal(SIGHUP, SIG_IGN);
		umask(0011);
		MUST(chdir("/"));
		next_generation();
	}
	sigprocmask(SIG_SETMASK, NULL, &mask);
	CHECK(sigismember(&mask, SIGUSR2));
	CHECK(!sigismember(&mask, SIGUSR1));
	CHECK(!sigismember(&mask, SIGRTMAX - 5));
	MUST(sigaction(SIGHUP, NULL, &action));
	CHECK(action.sa_handler == SIG_IGN);
	CHECK_INT(umask(0), 0011);
	CHECK(getcwd((char[512]){0}, 512)[1] == '\0');
	CHECK(strstr(ask("status"), "generation=2"));
}

/* ---- of another ---- */

/* The process becomes a shell: what that sees is what a stranger gets. Its own "end" is the last word. */
static void becomes_a_stranger(const char *path)
{
	char script[512], *argv[] = {(char *)path, "-c", script, NULL};
	int fd = listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);

	snprintf(script, sizeof(script),
		 "[ -z \"$CPR_STATE_FD\" ] && ! readlink /proc/$$/fd/* | grep -q -e 'socket:\\[%ld]' -e "
		 "memfd:cpr.state && echo end && read answer",
		 inode_of(fd));
	execv(path, argv);
	CHECK(!"exec came back");
}

TEST(a_foreign_exec_passes_nothing_on, ONCE)
{
	becomes_a_stranger("/bin/sh");
}

TEST(a_foreign_exec_after_a_failed_one_passes_nothing_on, ONCE)
{
	MUST(chmod(arguments[0], 0600));
	CHECK_FAILS(execve(arguments[0], arguments, nothing), EACCES);
	becomes_a_stranger("/bin/sh");
}
