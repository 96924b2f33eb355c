/* SPDX-License-Identifier: MIT */
/*
 * A program that was merely started by one under cpr pays next to nothing, until it does something that matters. Then
 * nothing of its start is lost.
 */
#include "../support/api.h"
#include "../support/sockets.h"

#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define LIGHT "CPR_PID=1" /* cpr-exec started another program */

enum { MORE_CALLS = 40, HIGH = 150 };

/* Has the library made the page by which tools know a process? */
static bool is_served(pid_t pid)
{
	char path[64], line[512];
	bool served = false;
	FILE *maps;

	snprintf(path, sizeof(path), "/proc/%d/maps", (int)pid);
	maps = fopen(path, "re");
	CHECK(maps);
	while (fgets(line, sizeof(line), maps))
		served |= strstr(line, "/memfd:cpr.") != NULL;
	fclose(maps);
	return served;
}

TEST(a_light_start_ends_at_bind, BELL, LIGHT)
{
	if (generation() == 1)
		CHECK(!is_served(getpid()));
	listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);
	CHECK(is_served(getpid()));
	if (generation() < 3)
		next_generation();
}

TEST(a_light_start_ends_at_fork, ONCE, LIGHT)
{
	pid_t pid = fork();

	if (!pid)
		_exit(is_served(getppid()) ? 0 : 1);
	CHECK_INT(waitpid(pid, &(int){0}, 0), pid);
	CHECK(is_served(getpid()));
}

TEST(a_light_start_ends_at_a_fifo, BELL, LIGHT)
{
	int fd;

	if (generation() == 1)
		MUST(mkfifo(in_room("fifo"), 0600));
	fd = open(in_room("fifo"), O_RDWR);
	CHECK(fd >= 0 && is_served(getpid()));
	if (generation() == 1) {
		CHECK_INT(write(fd, "x", 1), 1);
		next_generation();
	}
	CHECK_INT(read(fd, (char[1]){0}, 1), 1); /* a FIFO that is opened anew is empty */
}

static void ignore(int sig)
{
	(void)sig;
}

TEST(a_light_start_ends_when_the_doorbells_signal_is_asked_for, ONCE, LIGHT)
{
	struct sigaction action = {.sa_handler = ignore}, now;

	MUST(sigaction(SIGUSR1, &action, NULL));
	CHECK(!is_served(getpid()));
	MUST(sigaction(SIGRTMAX - 5, &action, NULL));
	CHECK(is_served(getpid()));
	MUST(sigaction(SIGRTMAX - 5, NULL, &now));
	CHECK(now.sa_handler == ignore);
}

static rlim_t soft_limit(void)
{
	struct rlimit limit;

	MUST(getrlimit(RLIMIT_NOFILE, &limit));
	return limit.rlim_cur;
}

/* Everything is changed while nothing looks. */
static void change_all(void)
{
	struct rlimit limit;
	int fd = open(in_room("other"), O_RDWR | O_CREAT, 0600);

	CHECK(fd >= 0);
	CHECK_INT(dup2(fd, HIGH), HIGH);
	MUST(getrlimit(RLIMIT_NOFILE, &limit));
	limit.rlim_cur--;
	MUST(setrlimit(RLIMIT_NOFILE, &limit));
	umask(0);
	MUST(chdir("/"));
	CHECK(signal(SIGUSR1, SIG_IGN) == SIG_DFL);
	CHECK(signal(SIGHUP, SIG_DFL) == SIG_IGN);
	MUST(sigprocmask(SIG_SETMASK, &(sigset_t){{0}}, NULL));
	memset(arguments[0], 'x', strlen(arguments[0]));
	memset(getenv("PWD"), 'x', strlen(getenv("PWD")));
}

TEST(a_light_start_forgets_nothing_of_the_start, BELL, LIGHT)
{
	char room[4096], limit[32], text[32] = "";
	struct sigaction now;
	sigset_t mask;
	int fd;

	snprintf(limit, sizeof(limit), "%ju", (uintmax_t)soft_limit());
	CHECK(getcwd(room, sizeof(room)) && !strcmp(room, in_room("start")));
	CHECK_INT(umask(0027), 0027);
	MUST(sigaction(SIGUSR1, NULL, &now));
	CHECK(now.sa_handler == SIG_DFL);
	MUST(sigaction(SIGHUP, NULL, &now));
	CHECK(now.sa_handler == SIG_IGN);
	MUST(sigprocmask(SIG_SETMASK, NULL, &mask));
	CHECK_INT(sigismember(&mask, SIGUSR2), 1); /* scenes.py blocks it */
	CHECK(arguments[0][0] != 'x');
	CHECK(fcntl(HIGH, F_GETFD) < 0);
	if (generation() == 1) {
		fd = open(in_room("limit"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
		CHECK_INT(write(fd, limit, strlen(limit)), (int)strlen(limit));
		close(fd);
		change_all();
	} else {
		fd = open(in_room("limit"), O_RDONLY | O_CLOEXEC);
		CHECK(read(fd, text, sizeof(text) - 1) > 0 && !strcmp(text, limit));
		close(fd);
	}
	listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);
	if (generation() < 3)
		next_generation();
}

/* How many system calls a program makes from its first instruction on. */
static int calls_of(char *const envp[])
{
	pid_t pid = fork();
	int status, stops = 0;

	if (!pid) {
		if (ptrace(PTRACE_TRACEME, 0, NULL, NULL))
			_exit(1);
		execve("/bin/true", (char *[]){"true", NULL}, envp);
		_exit(1);
	}
	for (;;) {
		CHECK_INT(waitpid(pid, &status, 0), pid);
		if (!WIFSTOPPED(status))
			break;
		stops++;
		MUST(ptrace(PTRACE_SYSCALL, pid, NULL, NULL));
	}
	CHECK(WIFEXITED(status) && !WEXITSTATUS(status));
	return stops / 2; /* one as each begins, and one as it ends */
}

TEST(a_program_that_does_nothing_pays_at_most_40_calls, ONCE, LIGHT)
{
	const char *preload = getenv("LD_PRELOAD");
	char with[4096];
	int bare = calls_of((char *[]){NULL}), ours;

	CHECK(preload); /* cpr-exec sets it as well */
	snprintf(with, sizeof(with), "LD_PRELOAD=%s", preload);
	ours = calls_of((char *[]){with, LIGHT, NULL});
	printf("/bin/true: %d system calls, and under the preload %d\n", bare, ours);
	CHECK(bare > 0 && ours > bare && ours <= bare + MORE_CALLS);
	ours = calls_of((char *[]){with, NULL});
	CHECK(ours <= bare + MORE_CALLS);
}

static void *bind_on_a_small_stack(void *arg)
{
	(void)arg;
	listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);
	return NULL;
}

#ifdef __x86_64__
/* By no function of libc's, at which the light start would end. */
static long seccomp_unseen(long mode, const struct sock_fprog *program)
{
	register long no_flags __asm__("rsi") = 0;
	long r;

	__asm__ volatile("syscall"
			 : "=a"(r)
			 : "a"(SYS_seccomp), "D"(mode), "r"(no_flags), "d"(program)
			 : "rcx", "r11", "memory");
	return r;
}

/* A filter that it was started under may end a program for a call that it does not know. */
TEST(a_light_start_asks_the_kernel_nothing_at_recvmsg, ONCE, LIGHT)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_gettid, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_KILL_PROCESS),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog program = {sizeof(code) / sizeof(*code), code};
	struct msghdr message = {.msg_iov = &(struct iovec){(char[1]){0}, 1}, .msg_iovlen = 1};
	int pair[2];

	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	CHECK_INT(write(pair[0], "x", 1), 1);
	CHECK_INT(seccomp_unseen(SECCOMP_SET_MODE_FILTER, &program), 0);
	CHECK_INT(recvmsg(pair[1], &message, 0), 1);
	CHECK(!is_served(getpid()));
}
#endif

TEST(a_light_start_ends_on_the_smallest_stack, ONCE, LIGHT)
{
	pthread_attr_t attr;
	pthread_t thread;

	MUST(pthread_attr_init(&attr));
	MUST(pthread_attr_setstacksize(&attr, PTHREAD_STACK_MIN));
	MUST(pthread_create(&thread, &attr, bind_on_a_small_stack, NULL));
	MUST(pthread_join(thread, NULL));
	CHECK(is_served(getpid()));
}
