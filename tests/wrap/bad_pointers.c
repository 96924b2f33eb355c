/* SPDX-License-Identifier: MIT */
/*
 * Pointers to nothing: each function of base/next.def does with one what libc does, with our records in its way and
 * without.
 */
#include "../support/sockets.h"

#include <link.h>
#include <sys/epoll.h>
#include <sys/ipc.h>
#include <sys/mman.h>
#include <sys/msg.h>
#include <sys/sem.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

enum { ARGS = 7, ROOM = 256 };

/* ---- every row that takes a pointer ---- */

static const struct row {
	const char *ret, *name, *params;
} rows[] = {
#define ROW(ret, name, params, args) {#ret, #name, #params},
#include "../../shim/base/next.def"
#undef ROW
};

static const struct probe {
	const char *name, *args;
	long nr;
} probes[] = {
#include "bad_pointers.def"
};

/* What libc itself looks at before it asks the kernel. */
static const char *const of_libc[] = {"fopen", "fopen64", "freopen", "freopen64", "fclose", "fdopen", "dprintf",
				      "vdprintf", "__dprintf_chk", "__vdprintf_chk", "sem_timedwait", "sem_clockwait",
				      "signal", "bsd_signal", "ssignal", "sysv_signal", "__sysv_signal", "sigset",
				      /* handed on as they are, before and after: wrap/credentials.c */
				      "setgroups", "initgroups", "capset"};

/* ---- the scene ---- */

static int semaphore, queue;
static char *nothing; /* a page that cannot be looked at, behind one that can */

static int connected(bool accepted)
{
	struct address a = inet4("127.0.0.1", 0);
	int listener = listening(a, SOCK_STREAM), client = MUST(socket(AF_INET, SOCK_STREAM, 0));

	MUST(getsockname(listener, &a.any, &a.len));
	MUST(connect(client, &a.any, a.len));
	MUST(write(client, "abcdef", 6));
	return accepted ? MUST(accept(listener, NULL, NULL)) : listener;
}

static int pair_with_bytes(void)
{
	int pair[2];

	MUST(socketpair(AF_UNIX, SOCK_STREAM, 0, pair));
	MUST(write(pair[1], "abcdef", 6));
	return pair[0];
}

static int some_pipe(void)
{
	int ends[2];

	MUST(pipe(ends));
	MUST(write(ends[1], "a", 1));
	return ends[0];
}

static int epoll_with(int fd)
{
	int epfd = MUST(epoll_create1(0));

	MUST(epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &(struct epoll_event){.events = EPOLLIN}));
	return epfd;
}

static int ended_child(void)
{
	int pid = MUST(fork());
	siginfo_t info;

	if (!pid)
		_exit(0);
	MUST(waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT));
	return pid;
}

static void do_nothing(int sig)
{
	(void)sig;
}

/* A sleep that a signal of the program's ends: only then is what is left told. */
static void interrupted_soon(void)
{
	struct sigaction action = {.sa_handler = do_nothing};
	timer_t timer;
	struct sigevent event = {.sigev_notify = SIGEV_SIGNAL, .sigev_signo = SIGUSR2};

	MUST(sigaction(SIGUSR2, &action, NULL));
	MUST(timer_create(CLOCK_MONOTONIC, &event, &timer));
	MUST(timer_settime(timer, 0, &(struct itimerspec){.it_value = {0, 30000000}, .it_interval = {0, 30000000}},
			   NULL));
}

static int conn_of_scene = -1;

static int conn(void)
{
	if (conn_of_scene < 0)
		conn_of_scene = connected(true);
	return conn_of_scene;
}

static long number(const char *word)
{
	if (!strcmp(word, "null"))
		return 0;
	if (!strcmp(word, "cwd"))
		return AT_FDCWD;
	if (!strcmp(word, "ours"))
		return SIGRTMAX - 5;
	if (!strcmp(word, "conn"))
		return conn();
	if (!strcmp(word, "listener"))
		return connected(false);
	if (!strcmp(word, "pair"))
		return pair_with_bytes();
	if (!strcmp(word, "pipe"))
		return some_pipe();
	if (!strcmp(word, "tcp"))
		return MUST(socket(AF_INET, SOCK_STREAM, 0));
	if (!strcmp(word, "unix"))
		return MUST(socket(AF_UNIX, SOCK_STREAM, 0));
	if (!strcmp(word, "file"))
		return MUST(open("/etc/passwd", O_RDONLY));
	if (!strcmp(word, "epfd"))
		return epoll_with(conn());
	if (!strcmp(word, "semaphore"))
		return semaphore;
	if (!strcmp(word, "queue"))
		return queue;
	if (!strcmp(word, "child"))
		return ended_child();
	return strtol(word, NULL, 0);
}

/* Good memory for a word, and what it begins with. */
static void *pointer(const char *word)
{
	static char rooms[16][ROOM] __attribute__((aligned(16)));
	static int turn;
	char *room = rooms[turn++ % 16];
	struct iovec iov = {room + 128, 3};
	static char *const argv[] = {"true", NULL};

	memset(room, 0, ROOM);
	if (!strcmp(word, "path") || !strcmp(word, "new"))
		snprintf(room, ROOM, "/nonexistent/%s", word);
	else if (!strcmp(word, "true"))
		strcpy(room, "/bin/true");
	else if (!strcmp(word, "addr"))
		*(struct sockaddr_in *)room = inet4("127.0.0.1", 0).in;
	else if (!strcmp(word, "unaddr"))
		*(struct sockaddr_un *)room = local("/nonexistent/socket").un;
	else if (!strcmp(word, "len"))
		*(int *)room = 16;
	else if (!strcmp(word, "ms"))
		*(struct timespec *)room = (struct timespec){0, 1000000};
	else if (!strcmp(word, "usr1"))
		sigaddset((sigset_t *)room, SIGUSR1);
	else if (!strcmp(word, "iov"))
		*(struct iovec *)room = iov;
	else if (!strcmp(word, "msg") || !strcmp(word, "mmsg")) {
		memcpy(room + 64, &iov, sizeof(iov));
		((struct msghdr *)room)->msg_iov = (struct iovec *)(room + 64);
		((struct msghdr *)room)->msg_iovlen = 1;
	} else if (!strcmp(word, "pollfds"))
		*(struct pollfd *)room = (struct pollfd){conn(), POLLIN, 0};
	else if (!strcmp(word, "event"))
		*(struct epoll_event *)room = (struct epoll_event){.events = EPOLLIN};
	else if (!strcmp(word, "message"))
		*(long *)room = 1;
	else if (!strcmp(word, "argv") || !strcmp(word, "envp"))
		memcpy(room, argv, sizeof(argv));
	else if (!strcmp(word, "mask-and-size"))
		((size_t *)room)[1] = 8;
	return room;
}

/* A structure that is there, and points to nothing. */
static void *pointing(const char *word)
{
	bool many = strstr(word, "mmsg") != NULL;
	char *room = pointer(many ? "mmsg" : strstr(word, "msg") ? "msg" : word);
	struct msghdr *message = (struct msghdr *)room;

	if (!strcmp(word, "iov"))
		((struct iovec *)room)->iov_base = nothing;
	else if (!strcmp(word, "argv") || !strcmp(word, "envp"))
		*(char **)room = nothing;
	else if (!strcmp(word, "mask-and-size"))
		*(char **)room = nothing;
	else if (!strncmp(word, "iov-", 4))
		message->msg_iov = (struct iovec *)nothing;
	else if (!strncmp(word, "base-", 5))
		message->msg_iov->iov_base = nothing;
	else if (!strncmp(word, "name-", 5))
		message->msg_name = nothing, message->msg_namelen = 16;
	else if (!strncmp(word, "control-", 8))
		message->msg_control = nothing, message->msg_controllen = 64;
	else if (!strncmp(word, "long-control-", 13))
		message->msg_control = room, message->msg_controllen = (size_t)1 << 40;
	else if (!strcmp(word, "second-mmsg"))
		return memcpy(nothing - sizeof(struct mmsghdr), room, sizeof(struct mmsghdr));
	else
		fail_at(__FILE__, __LINE__, word);
	return room;
}

/* ---- one call ---- */

/* Makes the arguments; the `bad`th pointer among them is `where`. How many pointers there are. */
static int make(const struct probe *probe, int bad, char *where, long args[ARGS])
{
	char words[128], *rest = words, *word;
	int at = 0, pointers = 0;

	snprintf(words, sizeof(words), "%s", probe->args);
	if (probe->nr || !strcmp(probe->name, "syscall"))
		args[at++] = probe->nr;
	while ((word = strsep(&rest, " "))) {
		CHECK(at < ARGS);
		if (!strcmp(word, "interrupted")) {
			interrupted_soon();
			args[at++] = (long)memcpy(pointer("zero"), &(struct timespec){5, 0}, sizeof(struct timespec));
		} else if (*word == '*') {
			void *good = pointer(word + 1);

			args[at++] = (long)(pointers++ == bad ? where : good);
		} else {
			args[at++] = *word == '!' ? (long)pointing(word + 1) : number(word);
		}
	}
	return pointers;
}

struct outcome {
	long result;
	int error, status;
};

typedef long function(long, long, long, long, long, long, long);

static const char *returns(const char *name)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (!strcmp(rows[i].name, name))
			return rows[i].ret;
	fail_at(__FILE__, __LINE__, name);
}

static struct outcome outcome_of(const struct probe *probe, function *call, int bad, char *where)
{
	struct outcome outcome = {0};
	long a[ARGS] = {0};
	int ends[2], pid;

	MUST(pipe(ends));
	pid = MUST(fork());
	if (!pid) {
		alarm(2);
		MUST(ends[1] == 63 ? 0 : dup2(ends[1], 100));
		if (strstr(probe->name, "wait") || (probe->nr == SYS_waitid))
			ended_child();
		raise(strstr(probe->args, "usr1") ? (sigprocmask(SIG_BLOCK, pointer("usr1"), NULL), SIGUSR1) : SIGCONT);
		make(probe, bad, where, a);
		errno = 0;
		outcome.result = call(a[0], a[1], a[2], a[3], a[4], a[5], a[6]);
		outcome.error = errno;
		if (!strcmp(returns(probe->name), "int") || strstr(returns(probe->name), "pid_t"))
			outcome.result = (int)outcome.result;
		if (outcome.result > 0) /* a pid or the like */
			outcome.result = 1;
		syscall(SYS_write, 100, &outcome, sizeof(outcome));
		syscall(SYS_exit_group, 0);
	}
	close(ends[1]);
	while (read(ends[0], &outcome, sizeof(outcome)) < 0)
		CHECK_INT(errno, EINTR);
	close(ends[0]);
	CHECK_INT(waitpid(pid, &outcome.status, 0), pid);
	return outcome;
}

static void *libc(void)
{
	void *handle = dlopen("libc.so.6", RTLD_NOW | RTLD_NOLOAD);

	CHECK(handle);
	return handle;
}

/* By its own name: a sanitizer's runtime stands before it, with functions that look at the arguments themselves. */
static void *library(void)
{
	Dl_info info;
	void *handle;

	CHECK(dladdr(dlsym(RTLD_DEFAULT, "cpr_generation"), &info));
	handle = dlopen(info.dli_fname, RTLD_NOW | RTLD_NOLOAD);
	CHECK(handle);
	return handle;
}

static int differing;

static void compare(const struct probe *probe, int bad, char *where, const char *what)
{
	function *ours = (function *)dlsym(library(), probe->name), *theirs = (function *)dlsym(libc(), probe->name);
	struct outcome is, wanted;

	if (!theirs) /* not in this libc */
		return;
	CHECK(ours && ours != theirs);
	is = outcome_of(probe, ours, bad, where);
	wanted = outcome_of(probe, theirs, bad, where);
	if (is.result == wanted.result && is.error == wanted.error && is.status == wanted.status)
		return;
	differing++;
	fprintf(stderr, "%s %ld (%s), pointer %d %s: %ld, errno %d, status %d; libc: %ld, errno %d, status %d\n",
		probe->name, probe->nr, probe->args, bad, what, is.result, is.error, is.status, wanted.result,
		wanted.error, wanted.status);
}

static void make_nothing(void)
{
	char *pages = mmap(NULL, 8192, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(pages != MAP_FAILED);
	nothing = pages + 4096;
	MUST(mprotect(nothing, 4096, PROT_NONE));
}

/*
 * In the second generation there is an orphan that stays unclaimed: then paths and addresses are looked at before the
 * kernel does.
 */
static bool is_of_interest(const struct probe *probe)
{
	return generation() == 1 || strstr(probe->args, "*path") || strstr(probe->args, "*addr") ||
	       strstr(probe->args, "*unaddr");
}

static void compare_pointers(const struct probe *probe)
{
	int pointers = 0;

	for (const char *at = probe->args; (at = strchr(at, '*')); at++)
		pointers++;
	for (int bad = 0; bad < pointers; bad++) {
		compare(probe, bad, nothing, "to nothing");
		compare(probe, bad, nothing - 2, "to two bytes before nothing");
	}
	if (!pointers || strchr(probe->args, '!'))
		compare(probe, -1, NULL, "within");
}

/* One of four parts. */
static void compare_all(size_t part)
{
	size_t n = sizeof(probes) / sizeof(probes[0]);

	semaphore = MUST(semget(IPC_PRIVATE, 1, 0600));
	queue = MUST(msgget(IPC_PRIVATE, 0600));
	make_nothing();
	for (size_t i = part * n / 4; i < (part + 1) * n / 4; i++)
		if (is_of_interest(&probes[i]))
			compare_pointers(&probes[i]);
	semctl(semaphore, 0, IPC_RMID);
	msgctl(queue, IPC_RMID, NULL);
	CHECK_INT(differing, 0);
	if (generation() > 1)
		return;
	listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);
	next_generation();
}

static bool has_pointer(const char *params)
{
	return strchr(params, '*') || strchr(params, '[') || strstr(params, "va_list");
}

static bool is_judged(const char *name)
{
	for (size_t i = 0; i < sizeof(probes) / sizeof(probes[0]); i++)
		if (!strcmp(probes[i].name, name))
			return true;
	for (size_t i = 0; i < sizeof(of_libc) / sizeof(of_libc[0]); i++)
		if (!strcmp(of_libc[i], name))
			return true;
	return false;
}

TEST(every_row_with_a_pointer_is_probed, ONCE)
{
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		if (has_pointer(rows[i].params) && !is_judged(rows[i].name))
			fail_at(__FILE__, __LINE__, rows[i].name);
}

TEST(bad_pointers_are_the_kernels_to_refuse_1, EXEC)
{
	compare_all(0);
}

TEST(bad_pointers_are_the_kernels_to_refuse_2, EXEC)
{
	compare_all(1);
}

TEST(bad_pointers_are_the_kernels_to_refuse_3, EXEC)
{
	compare_all(2);
}

TEST(bad_pointers_are_the_kernels_to_refuse_4, EXEC)
{
	compare_all(3);
}

/* The owner's own exec, which is not the kernel's from the beginning. */
TEST(bad_arguments_of_its_own_exec_are_refused, ONCE)
{
	char *with_bad[] = {arguments[0], NULL, NULL};

	make_nothing();
	with_bad[1] = nothing;
	CHECK_FAILS(execve(arguments[0], arguments, (char **)nothing), EFAULT);
	CHECK_FAILS(execve(arguments[0], (char **)nothing, environ), EFAULT);
	CHECK_FAILS(execve(arguments[0], with_bad, environ), EFAULT);
	CHECK_FAILS(execve(arguments[0], arguments, with_bad), EFAULT);
	CHECK_FAILS(syscall(SYS_execve, arguments[0], arguments, nothing), EFAULT);
	CHECK_FAILS(execve(nothing, arguments, environ), EFAULT);
}
