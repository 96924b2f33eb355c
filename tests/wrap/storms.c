/* SPDX-License-Identifier: MIT */
/*
 * Many things at once: handlers in the middle of malloc, threads that open and close, descriptors closed behind our
 * back.
 */
#include "../support/api.h"
#include "../support/sockets.h"

#include <pthread.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <sys/wait.h>

enum { STORM_MS = 2500, THREADS = 8 };

/* ---- a handler that may do what POSIX says a handler may ---- */

static volatile sig_atomic_t handled;

static void churn_in_handler(int sig)
{
	struct address a = inet4("127.0.0.1", 0);
	int saved_errno = errno, fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0), copy;

	(void)sig;
	if (fd >= 0 && bind(fd, &a.any, a.len) == 0) {
		copy = dup(fd);
		close(fd);
		close(copy);
	}
	handled++;
	errno = saved_errno;
}

TEST(bind_and_close_in_a_handler_amid_malloc, ONCE)
{
	struct sigaction action = {.sa_handler = churn_in_handler, .sa_flags = SA_RESTART};
	struct itimerval timer = {{0, 300}, {0, 300}};
	void *held[64] = {0};
	unsigned seed = 1;

	MUST(sigaction(SIGALRM, &action, NULL));
	CHECK(!strcmp(ask("rings 200 5"), "ok"));
	setitimer(ITIMER_REAL, &timer, NULL);
	for (long until = now_ms() + STORM_MS; now_ms() < until;)
		for (int i = 0; i < 1000; i++) {
			size_t at = (size_t)rand_r(&seed) % 64;

			free(held[at]);
			held[at] = malloc((size_t)rand_r(&seed) % 5000);
		}
	timer = (struct itimerval){0};
	setitimer(ITIMER_REAL, &timer, NULL);
	CHECK(handled > 500);
	CHECK_INT(atoi(ask("rung")), 200);
	CHECK_INT(table_size(), 0);
}

/* The handler interrupts bind and close themselves, in the middle of the table's own changes. */
TEST(bind_and_close_in_a_handler_amid_bind_and_close, ONCE)
{
	struct sigaction action = {.sa_handler = churn_in_handler, .sa_flags = SA_RESTART};
	struct itimerval timer = {{0, 200}, {0, 200}};
	struct address a = inet4("127.0.0.1", 0);

	MUST(sigaction(SIGALRM, &action, NULL));
	CHECK(!strcmp(ask("rings 200 5"), "ok"));
	setitimer(ITIMER_REAL, &timer, NULL);
	for (long until = now_ms() + STORM_MS; now_ms() < until;)
		close(bound(a, SOCK_DGRAM));
	timer = (struct itimerval){0};
	setitimer(ITIMER_REAL, &timer, NULL);
	CHECK_INT(atoi(ask("rung")), 200);
	CHECK_INT(table_size(), 0);
}

TEST(bind_and_close_in_a_handler_amid_failing_execs, ONCE)
{
	struct sigaction action = {.sa_handler = churn_in_handler, .sa_flags = SA_RESTART};
	struct itimerval timer = {{0, 200}, {0, 200}};

	MUST(sigaction(SIGALRM, &action, NULL));
	MUST(chmod(arguments[0], 0600));
	setitimer(ITIMER_REAL, &timer, NULL);
	for (long until = now_ms() + STORM_MS; now_ms() < until;)
		CHECK_FAILS(execv(arguments[0], arguments), EACCES);
	timer = (struct itimerval){0};
	setitimer(ITIMER_REAL, &timer, NULL);
	CHECK(handled > 100);
	CHECK_INT(table_size(), 0);
}

/* ---- threads ---- */

static _Atomic bool over;

static void *churn(void *arg)
{
	struct address a = inet4("127.0.0.1", 0);
	long *rounds = arg;

	while (!over) {
		int tcp = listening(a, SOCK_STREAM), udp = bound(a, SOCK_DGRAM), copy = MUST(dup(tcp));

		MUST(fcntl(copy, F_SETFD, FD_CLOEXEC));
		close(tcp);
		close(udp);
		close(copy);
		++*rounds;
	}
	return NULL;
}

static void *churn_thread(pthread_t *thread, long *rounds)
{
	CHECK_INT(pthread_create(thread, NULL, churn, rounds), 0);
	return NULL;
}

TEST(threads_that_bind_and_close_under_rings, ONCE)
{
	pthread_t thread[THREADS];
	long rounds[THREADS] = {0};

	CHECK(!strcmp(ask("rings 300 2"), "ok"));
	for (int i = 0; i < THREADS; i++)
		churn_thread(&thread[i], &rounds[i]);
	CHECK_INT(atoi(ask("rung")), 300);
	over = true;
	for (int i = 0; i < THREADS; i++) {
		pthread_join(thread[i], NULL);
		CHECK(rounds[i] > 10);
	}
	CHECK_INT(table_size(), 0);
}

TEST(a_restart_amid_threads_that_bind_and_close, BELL, "WARNS=1;CPR_GRACE=2")
{
	pthread_t thread[THREADS];
	static long rounds[THREADS];
	int fd = listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);

	if (generation() == 1)
		put("inode", inode_of(fd));
	CHECK_INT(inode_of(fd), get("inode"));
	if (generation() == 4)
		return;
	for (int i = 0; i < THREADS; i++)
		churn_thread(&thread[i], &rounds[i]);
	next_generation();
}

TEST(forks_amid_threads_that_bind_and_close, ONCE)
{
	pthread_t thread[4];
	static long rounds[4];
	int children = 0;

	for (int i = 0; i < 4; i++)
		churn_thread(&thread[i], &rounds[i]);
	for (long until = now_ms() + 1500, at_last = until + 10000;
	     now_ms() < until || (children <= 20 && now_ms() < at_last); children++) {
		int pid = MUST(fork()), status;

		if (!pid) {
			int fd = listening(inet4("127.0.0.1", 0), SOCK_STREAM);

			_exit(in_table(fd) ? 0 : 1);
		}
		CHECK_INT(waitpid(pid, &status, 0), pid);
		CHECK_INT(status, 0);
	}
	over = true;
	for (int i = 0; i < 4; i++)
		pthread_join(thread[i], NULL);
	CHECK(children > 20);
	CHECK_INT(table_size(), 0);
}

/* ---- behind our back ---- */

static void close_past_us(int fd)
{
#if defined(__x86_64__)
	long r;

	__asm__ volatile("syscall" : "=a"(r) : "0"(SYS_close), "D"((long)fd) : "rcx", "r11", "memory");
	CHECK_INT(r, 0);
#elif defined(__aarch64__)
	register long x8 __asm__("x8") = SYS_close;
	register long x0 __asm__("x0") = fd;

	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8) : "memory");
	CHECK_INT(x0, 0);
#endif
}

static int open_past_us(const char *path, int flags)
{
#if defined(__x86_64__)
	register long r10 __asm__("r10") = 0600;
	long r;

	__asm__ volatile("syscall"
			 : "=a"(r)
			 : "0"(SYS_openat), "D"((long)AT_FDCWD), "S"(path), "d"((long)flags), "r"(r10)
			 : "rcx", "r11", "memory");
	return (int)r;
#elif defined(__aarch64__)
	register long x8 __asm__("x8") = SYS_openat;
	register long x0 __asm__("x0") = AT_FDCWD;
	register const char *x1 __asm__("x1") = path;
	register long x2 __asm__("x2") = flags;
	register long x3 __asm__("x3") = 0600;

	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3) : "memory");
	return (int)x0;
#endif
}

TEST(what_was_closed_past_us_is_not_handed_over, BOTH)
{
	struct address a = inet4("127.0.0.1", port(0));

	if (generation() == 1) {
		int fd = listening(a, SOCK_STREAM);

		put("inode", inode_of(fd));
		close_past_us(fd);
		/* and given away again: this must not arrive as a listener */
		CHECK_INT(open("/dev/null", O_RDONLY), fd);
		next_generation();
	}
	CHECK_INT(table_size(), 0);
	CHECK(inode_of(listening(a, SOCK_STREAM)) != get("inode"));
}

/*
 * What the API saved is looked at only when it has arrived. Whatever is found at its number then came over the exec
 * because of us.
 */
TEST(a_tag_closed_past_us_is_not_found_by_the_next_generation, BOTH, "WARNS=1")
{
	int (*save)(const char *, int, int) = API(cpr_save_fd), (*find)(const char *, int) = API(cpr_find_fd);

	if (generation() == 1) {
		int shut = MUST(open("/dev/null", O_RDONLY | O_CLOEXEC)), fd[3];

		for (int i = 0; i < 3; i++) {
			fd[i] = MUST(open("/dev/null", O_RDONLY | O_CLOEXEC));
			CHECK_INT(save("a", i, fd[i]), 0);
		}
		CHECK_INT(save("shut", 0, shut), 0);
		close_past_us(shut);
		close_past_us(fd[1]);
		CHECK_INT(open_past_us(in_room("other"), O_RDWR | O_CREAT | O_CLOEXEC), shut);
		CHECK_INT(open_past_us(in_room("other"), O_RDWR | O_CREAT | O_CLOEXEC), fd[1]);
		close_past_us(shut);
		put("kept", fd[2]);
		put("other", fd[1]);
		put("shut", shut);
		next_generation();
	}
	CHECK(!really_open((int)get("other"))); /* it was close-on-exec */
	CHECK(!really_open((int)get("shut")));
	CHECK_FAILS(find("a", 1), ENOENT);
	CHECK_FAILS(find("shut", 0), ENOENT);
	CHECK_INT(find("a", 2), get("kept"));
	CHECK(find("a", 0) >= 0);
	CHECK_INT(table_size(), 2);
}

TEST(what_the_program_hands_on_at_the_number_of_a_tag_is_left_alone, EXEC, "WARNS=1")
{
	if (generation() == 1) {
		int fd = MUST(open("/dev/null", O_RDONLY | O_CLOEXEC));

		CHECK_INT(API(cpr_save_fd)("a", 0, fd), 0);
		close_past_us(fd);
		CHECK_INT(open_past_us(in_room("other"), O_RDWR | O_CREAT), fd);
		put("fd", fd);
		put("inode", inode_of(fd));
		next_generation();
	}
	CHECK_FAILS(API(cpr_find_fd)("a", 0), ENOENT);
	CHECK_INT(inode_of((int)get("fd")), get("inode"));
}

static void *idle(void *arg)
{
	for (;;)
		pause();
	return arg;
}

/* With other threads it is looked at on both sides, and the exec is not made in place. */
TEST(a_tag_closed_past_us_beside_other_threads, BOTH)
{
	int (*find)(const char *, int) = API(cpr_find_fd);
	pthread_t thread;

	if (generation() == 1) {
		int fd = MUST(open("/dev/null", O_RDONLY | O_CLOEXEC)),
		    kept = MUST(open("/dev/null", O_RDONLY | O_CLOEXEC));

		CHECK_INT(API(cpr_save_fd)("a", 0, fd), 0);
		CHECK_INT(API(cpr_save_fd)("a", 1, kept), 0);
		CHECK_INT(pthread_create(&thread, NULL, idle, NULL), 0);
		close_past_us(fd);
		CHECK_INT(open_past_us(in_room("other"), O_RDWR | O_CREAT | O_CLOEXEC), fd);
		put("kept", kept);
		put("other", fd);
		next_generation();
	}
	CHECK(!really_open((int)get("other")));
	CHECK_FAILS(find("a", 0), ENOENT);
	CHECK_INT(find("a", 1), get("kept"));
}

TEST(a_number_closed_past_us_may_be_bound_again, BOTH)
{
	struct address a = inet4("127.0.0.1", port(0)), b = inet4("127.0.0.1", port(1));
	int fd, again;

	if (generation() == 1) {
		fd = listening(a, SOCK_STREAM);
		close_past_us(fd);
		again = listening(b, SOCK_STREAM);
		CHECK_INT(again, fd);
		put("inode", inode_of(again));
		next_generation();
	}
	CHECK_INT(inode_of(listening(b, SOCK_STREAM)), get("inode"));
	listening(a, SOCK_STREAM);
}

/* Finding asks the kernel nothing: cpr.h says so. Saving does, and so does whatever is given the number next. */
TEST(a_tag_closed_past_us_may_be_saved_again, ONCE)
{
	int (*save)(const char *, int, int) = API(cpr_save_fd), (*find)(const char *, int) = API(cpr_find_fd);
	int fd = MUST(open("/dev/null", O_RDONLY)), other = MUST(open("/dev/null", O_RDONLY)),
	    status = MUST(open("/proc/self/stat", O_RDONLY));

	CHECK_INT(save("a", 0, fd), 0);
	CHECK_INT(save("b", 0, status), 0);
	close_past_us(fd);
	close_past_us(status);
	CHECK_INT(find("a", 0), fd);
	CHECK_INT(save("a", 0, other), 0);
	CHECK_INT(find("a", 0), other);
	CHECK_INT(open("/dev/null", O_RDONLY), fd);
	CHECK_INT(open("/dev/null", O_RDONLY), status);
	CHECK_FAILS(find("b", 0), ENOENT);
	CHECK_INT(table_size(), 1);
}

TEST(fclose_closes_what_was_tagged, BOTH)
{
	struct address a = inet4("127.0.0.1", port(0));

	if (generation() == 1) {
		int fd = listening(a, SOCK_STREAM);

		put("inode", inode_of(fd));
		fclose(fdopen(fd, "r+"));
		CHECK_INT(table_size(), 0);
		next_generation();
	}
	CHECK(inode_of(listening(a, SOCK_STREAM)) != get("inode"));
}

TEST(a_duplicate_keeps_the_tag_alive, BOTH)
{
	struct address a = inet4("127.0.0.1", port(0));

	if (generation() == 1) {
		int fd = listening(a, SOCK_STREAM), copy = MUST(fcntl(fd, F_DUPFD_CLOEXEC, 50));

		put("inode", inode_of(fd));
		close(fd);
		CHECK(in_table(copy));
		next_generation();
	}
	CHECK_INT(inode_of(listening(a, SOCK_STREAM)), get("inode"));
}

/* ---- many ---- */

enum { MANY = 5000 };

static void allow_many(void)
{
	struct rlimit limit;

	getrlimit(RLIMIT_NOFILE, &limit);
	limit.rlim_cur = limit.rlim_max < MANY + 500 ? limit.rlim_max : MANY + 500;
	CHECK(limit.rlim_cur >= MANY + 500);
	MUST(setrlimit(RLIMIT_NOFILE, &limit));
}

/* The addresses of 127/8 are the machine's own, every one. */
static struct address one_of_many(int i)
{
	char host[32];

	snprintf(host, sizeof(host), "127.1.%d.%d", i / 250, i % 250 + 1);
	return inet4(host, port(0));
}

TEST(five_thousand_sockets_are_claimed, BOTH)
{
	long sum = 0;

	allow_many();
	for (int i = 0; i < MANY; i++)
		sum += inode_of(bound(one_of_many(generation() == 1 ? i : MANY - 1 - i), SOCK_DGRAM)) % 1000003 *
		       (generation() == 1 ? i + 1 : MANY - i);
	if (generation() == 1) {
		put("sum", sum);
		next_generation();
	}
	CHECK_INT(sum, get("sum"));
	CHECK_INT(table_size(), MANY);
}
