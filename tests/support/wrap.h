/* SPDX-License-Identifier: MIT */
/*
 * What the programs of tests/wrap stand on: cases by name, generations, a scratch directory, and questions to the
 * runner.
 */
#ifndef WRAP_H
#define WRAP_H

#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#define UNUSED __attribute__((unused))

/*
 * TEST(name, WAYS, settings) { body }. The body runs in every generation; next_generation() ends one. WAYS says how the
 * next begins. ONCE: there is none. EXEC: by the program's own execv. BELL: by cprctl restart. BOTH: the case is run
 * twice, once each way. settings: "NAME=value;NAME=value" for the environment that the program is started in. WARNS=1
 * says that lines in cpr's log are expected.
 */
struct test {
	const char *name, *ways, *settings;
	void (*run)(void);
	struct test *next;
};

static struct test *tests, **tests_end = &tests;

#define ONCE "once"
#define EXEC "exec"
#define BELL "bell"
#define BOTH "exec bell"

#define TEST(name_, ways_, ...)                                                                                        \
	static void name_(void);                                                                                       \
	__attribute__((constructor)) static void add_##name_(void)                                                     \
	{                                                                                                              \
		static struct test test = {#name_, ways_, "" __VA_ARGS__, name_, NULL};                                \
		*tests_end = &test;                                                                                    \
		tests_end = &test.next;                                                                                \
	}                                                                                                              \
	static void name_(void)

static char **arguments; /* as main got them */

/* ---- what is expected ---- */

static int generation(void)
{
	int (*of)(void) = (int (*)(void))dlsym(RTLD_DEFAULT, "cpr_generation");

	return of ? of() : 0;
}

__attribute__((noreturn)) static void fail_at(const char *file, int line, const char *what)
{
	const char *room = getenv("WRAP_ROOM"), *why = strerror(errno);
	char text[1024], path[1024];
	FILE *failure;

	snprintf(text, sizeof(text), "%s:%d: generation %d: %s (errno: %s)\n", file, line, generation(), what, why);
	/* what standard error is by now is the case's business */
	snprintf(path, sizeof(path), "%s/failure", room ? room : ".");
	failure = fopen(path, "ae");
	if (failure) {
		fputs(text, failure);
		fclose(failure);
	}
	_exit(1);
}

#define CHECK(condition)                                                                                               \
	do {                                                                                                           \
		if (!(condition))                                                                                      \
			fail_at(__FILE__, __LINE__, "not so: " #condition);                                            \
	} while (0)

#define CHECK_INT(got_, wanted_)                                                                                       \
	do {                                                                                                           \
		long got__ = (long)(got_), wanted__ = (long)(wanted_);                                                 \
		char text__[256];                                                                                      \
		snprintf(text__, sizeof(text__), "%s is %ld, and should be %ld", #got_, got__, wanted__);              \
		if (got__ != wanted__)                                                                                 \
			fail_at(__FILE__, __LINE__, text__);                                                           \
	} while (0)

/* -1 and this errno. */
#define CHECK_FAILS(call, number)                                                                                      \
	do {                                                                                                           \
		errno = 0;                                                                                             \
		CHECK_INT(call, -1);                                                                                   \
		CHECK_INT(errno, number);                                                                              \
	} while (0)

/* The value of a call that must not fail. */
#define MUST(call)                                                                                                     \
	({                                                                                                             \
		long r__ = (long)(call);                                                                               \
		if (r__ < 0)                                                                                           \
			fail_at(__FILE__, __LINE__, "failed: " #call);                                                 \
		(int)r__;                                                                                              \
	})

/* ---- time ---- */

static inline long now_ms(void)
{
	struct timespec now;

	clock_gettime(CLOCK_MONOTONIC, &now);
	return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

/* Looks every 10 ms until it holds; false when `ms` have passed. */
#define AWAIT(condition, ms)                                                                                           \
	({                                                                                                             \
		long until__ = now_ms() + (ms);                                                                        \
		bool held__;                                                                                           \
		while (!(held__ = (condition)) && now_ms() < until__)                                                  \
			nanosleep(&(struct timespec){0, 10000000}, NULL);                                              \
		held__;                                                                                                \
	})

/* Whatever wakes us meanwhile. For what must not happen, there is no event to wait for. */
static inline void sleep_through(long ms)
{
	for (long until = now_ms() + ms, left; (left = until - now_ms()) > 0;)
		nanosleep(&(struct timespec){left / 1000, left % 1000 * 1000000}, NULL);
}

/* Does this thread of ours sleep in the kernel? 0: there is none yet. */
static inline bool sleeps(int tid)
{
	char path[64], state = '?';
	FILE *stat;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
	stat = tid ? fopen(path, "re") : NULL;
	if (!stat)
		return false;
	CHECK_INT(fscanf(stat, "%*d (%*[^)]) %c", &state), 1);
	fclose(stat);
	return state == 'S';
}

/* ---- what one generation leaves for the next: files in the case's own directory ---- */

static inline const char *in_room(const char *name)
{
	static char rooms[8][1024];
	static unsigned turn;
	char *room = rooms[turn++ % 8];

	snprintf(room, sizeof(rooms[0]), "%s/%s", getenv("WRAP_ROOM"), name);
	return room;
}

static inline void put(const char *key, long value)
{
	FILE *file = fopen(in_room(key), "we");

	CHECK(file && fprintf(file, "%ld", value) > 0 && !fclose(file));
}

static inline long get(const char *key)
{
	FILE *file = fopen(in_room(key), "re");
	long value = -1;

	CHECK(file && fscanf(file, "%ld", &value) == 1 && !fclose(file));
	return value;
}

/* A port that no other test uses, for TCP and UDP, v4 and v6; offset 0 to 3. */
static inline int port(int offset)
{
	return atoi(getenv("WRAP_PORT")) + offset;
}

/* ---- the runner ---- */

static inline void say(const char *line)
{
	size_t n = strlen(line);

	CHECK(write(STDOUT_FILENO, line, n) == (ssize_t)n);
}

static inline const char *hear(void)
{
	static char line[8192];
	size_t n = 0;
	ssize_t r;

	while ((r = read(STDIN_FILENO, line + n, 1)) < 0 ? errno == EINTR
							 : r && line[n] != '\n' && n < sizeof(line) - 1)
		n += r > 0;
	CHECK(r == 1 || n);
	line[n] = '\0';
	return line;
}

/* One line to the runner, and its answer: see Conversation in tests/support/conversation.py. */
__attribute__((format(printf, 1, 2))) static inline const char *ask(const char *format, ...)
{
	char line[1024];
	va_list args;
	size_t n;

	va_start(args, format);
	n = (size_t)vsnprintf(line, sizeof(line) - 1, format, args);
	va_end(args);
	CHECK(n < sizeof(line) - 1);
	memcpy(line + n, "\n", 2);
	say(line);
	return hear();
}

static inline bool by_exec(void)
{
	return !strcmp(getenv("WRAP_WAY"), "exec");
}

__attribute__((noreturn)) static inline void next_generation(void)
{
	if (by_exec()) {
		execv(arguments[0], arguments);
		fail_at(__FILE__, __LINE__, "execv came back");
	}
	say("restart\n");
	for (;;)
		poll(NULL, 0, -1);
}

/* A process of this memory's copy; it must end by _exit. */
#define IN_CHILD for (int child__ = MUST(fork()); child__ == 0; _exit(0))

int main(int argc, char **argv)
{
	struct pollfd input = {STDIN_FILENO, POLLIN, 0};

	arguments = argv;
	if (argc == 2 && !strcmp(argv[1], "--list")) {
		for (const struct test *test = tests; test; test = test->next)
			printf("%s\t%s\t%s\n", test->name, test->ways, test->settings);
		return 0;
	}
	for (const struct test *test = tests; test && argc >= 2; test = test->next) {
		if (strcmp(argv[1], test->name))
			continue;
		CHECK(generation() > 0);
		test->run();
		say("end\n"); /* a program that has restarted is ready when it waits */
		while (poll(&input, 1, -1) < 0)
			CHECK(errno == EINTR);
		return 0;
	}
	dprintf(STDERR_FILENO, "no case %s\n", argc >= 2 ? argv[1] : "");
	return 2;
}

#endif
