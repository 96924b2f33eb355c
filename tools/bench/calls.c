/* SPDX-License-Identifier: MIT */
/*
 * What the preload adds to the calls of a program that does not restart: two processes, one under it, that do batches
 * by turns.
 */
#define _GNU_SOURCE
#include "calls.h"

#include "base/attr.h"
#include "bench.h"
#include "model/http.h"

#include <dlfcn.h>
#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	THREADS = 2,
	ROUNDS = 96,
	LIFE = 8,               /* batches of one child: where its memory lies must not decide */
	START_ROUNDS = 200,
	FRAMED = 200000,
};

#define BATCH_NS 4e6 /* a batch lasts at least so long */

/* ---- a child ---- */

struct thread {
	pthread_t id;
	struct work work;
	const struct call *call;
	pthread_barrier_t *barrier;
	const size_t *count; /* of the batch to do; 0: end */
	int64_t spent;
};

/* Each on a processor of its own, both children on the same ones. */
static void settle_on(int index)
{
	cpu_set_t all, one;

	CPU_ZERO(&one);
	if (sched_getaffinity(0, sizeof(all), &all))
		return;
	index %= CPU_COUNT(&all);
	for (int cpu = 0; cpu < CPU_SETSIZE; cpu++)
		if (CPU_ISSET(cpu, &all) && !index--)
			CPU_SET(cpu, &one);
	sched_setaffinity(0, sizeof(one), &one);
}

static void *work_on(void *arg)
{
	struct thread *t = arg;

	settle_on(1);
	for (;;) {
		pthread_barrier_wait(t->barrier);
		if (!*t->count)
			return NULL;
		t->spent = t->call->batch(&t->work, *t->count);
		pthread_barrier_wait(t->barrier);
	}
}

/* The mean of what the threads spent, all at once; or -errno. */
static int64_t run_batch(struct thread *threads, int n, pthread_barrier_t *barrier, size_t count)
{
	int64_t sum = 0;

	if (n > 1)
		pthread_barrier_wait(barrier);
	threads[0].spent = threads[0].call->batch(&threads[0].work, count);
	if (n > 1)
		pthread_barrier_wait(barrier);
	for (int i = 0; i < n; i++) {
		if (threads[i].spent < 0)
			return threads[i].spent;
		sum += threads[i].spent;
	}
	return sum / n;
}

static int serve_batches(struct thread *threads, int n)
{
	pthread_barrier_t barrier;
	size_t count = 0;

	pthread_barrier_init(&barrier, NULL, (unsigned)n);
	for (int i = 0; i < n; i++) {
		threads[i].barrier = &barrier;
		threads[i].count = &count;
		if (i && pthread_create(&threads[i].id, NULL, work_on, &threads[i]))
			return 1;
	}
	while (read(STDIN_FILENO, &count, sizeof(count)) == sizeof(count) && count) {
		int64_t spent = run_batch(threads, n, &barrier, count);

		if (write(STDOUT_FILENO, &spent, sizeof(spent)) != sizeof(spent))
			return 1;
	}
	count = 0;
	if (n > 1)
		pthread_barrier_wait(&barrier);
	for (int i = 1; i < n; i++)
		pthread_join(threads[i].id, NULL);
	return 0;
}

/* calls PATH NUMBER THREADS WITH: WITH says whether the library must be there. */
int bench_calls_child(int argc, char **argv)
{
	struct thread threads[THREADS] = {0};
	size_t number = argc == 5 ? strtoul(argv[2], NULL, 10) : call_count;
	int n = argc == 5 ? atoi(argv[3]) : 0;

	if (number >= call_count || n < 1 || n > THREADS ||
	    atoi(argv[4]) != (dlsym(RTLD_DEFAULT, "cpr_version") != NULL)) {
		fputs("cpr-bench: the library is where it should not be, or is not where it should\n", stderr);
		return 1;
	}
	settle_on(0);
	for (int i = 0; i < n; i++) {
		int r;

		threads[i].work.path = argv[1];
		threads[i].call = &calls[number];
		r = calls[number].begin ? calls[number].begin(&threads[i].work) : 0;
		if (r) {
			fprintf(stderr, "cpr-bench: %s: %s\n", calls[number].name, strerror(-r));
			return 1;
		}
	}
	return serve_batches(threads, n);
}

/* ---- its parent ---- */

struct child {
	const struct bench *bench;
	const struct call *call;
	bool with;
	int threads;
	int batches; /* that it has done */
	pid_t pid;   /* 0: there is none */
	int sock;    /* its standard input and output */
};

static void end_child(struct child *child)
{
	if (!child->pid)
		return;
	close(child->sock); /* it reads the end, and leaves */
	waitpid(child->pid, NULL, 0);
	child->pid = 0;
}

/*
 * The library is this benchmark's to give: an environment without it, and without its settings. All symbols are bound
 * at the start, as distributions build their servers: else each forked child would bind its _exit.
 */
static char **plain_environment(void)
{
	size_t n = 0, used = 0;
	char **env;

	while (environ[n])
		n++;
	env = calloc(n + 2, sizeof(*env));
	for (size_t i = 0; env && i < n; i++)
		if (strncmp(environ[i], "LD_PRELOAD=", 11) && strncmp(environ[i], "CPR_", 4))
			env[used++] = environ[i];
	if (env)
		env[used] = (char *)"LD_BIND_NOW=1";
	return env;
}

static int spawn(pid_t *pid, int sock, char *const argv[])
{
	char **env = plain_environment();
	posix_spawn_file_actions_t actions;
	int r;

	if (!env)
		return -ENOMEM;
	posix_spawn_file_actions_init(&actions);
	posix_spawn_file_actions_adddup2(&actions, sock, STDIN_FILENO);
	posix_spawn_file_actions_adddup2(&actions, sock, STDOUT_FILENO);
	r = posix_spawn(pid, argv[0], &actions, NULL, argv, env);
	posix_spawn_file_actions_destroy(&actions);
	free(env);
	return -r;
}

static int begin_child(struct child *child)
{
	char number[24], threads[24];
	char *argv[] = {(char *)child->bench->exec,
			(char *)"--",
			(char *)child->bench->self,
			(char *)"--child",
			(char *)"calls",
			(char *)child->bench->self,
			number,
			threads,
			(char *)(child->with ? "1" : "0"),
			NULL};
	int pair[2], r;

	snprintf(number, sizeof(number), "%td", child->call - calls);
	snprintf(threads, sizeof(threads), "%d", child->threads);
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, pair))
		return -errno;
	r = spawn(&child->pid, pair[1], argv + (child->with ? 0 : 2));
	close(pair[1]);
	child->sock = pair[0];
	child->batches = 0;
	if (r) {
		close(child->sock);
		child->pid = 0;
	}
	return r;
}

static double batch(struct child *child, size_t count)
{
	int64_t spent;

	if (send(child->sock, &count, sizeof(count), MSG_NOSIGNAL) != sizeof(count))
		return -EPIPE;
	return read(child->sock, &spent, sizeof(spent)) == sizeof(spent) ? (double)spent : -EPIPE;
}

/* A bench_way. A child does not get old: the next one has its memory elsewhere. */
static double run_child(void *arg, size_t count)
{
	struct child *child = arg;
	double warm;
	int r;

	if (child->pid && child->batches++ >= LIFE)
		end_child(child);
	if (!child->pid) {
		r = begin_child(child);
		if (r)
			return r;
		warm = batch(child, count / 4 + 1);
		if (warm < 0)
			return warm;
	}
	return batch(child, count);
}

/* How many make a batch long enough. */
static double find_count(struct child *child, size_t *count)
{
	size_t most = child->call->most ? child->call->most : SIZE_MAX / 2;
	double ns;

	for (*count = 16;; *count *= 2) {
		ns = run_child(child, *count);
		if (ns < 0 || ns >= BATCH_NS || *count * 2 > most)
			return ns;
	}
}

static int measure(const struct bench *bench, const struct call *call, int threads)
{
	struct child without = {.bench = bench, .call = call, .threads = threads}, with = without;
	struct figure a, b, ratio;
	char what[128];
	size_t count;
	double ns;
	int r;

	with.with = true;
	ns = find_count(&without, &count);
	r = ns < 0 ? (int)ns
		   : bench_pair(run_child, &without, run_child, &with, bench->quick ? ROUNDS / 10 : ROUNDS, count, &a,
				&b, &ratio);
	end_child(&without);
	end_child(&with);
	if (r) {
		fprintf(stderr, "cpr-bench: %s: %s\n", call->name, strerror(-r));
		return r;
	}
	snprintf(what, sizeof(what), "%s, %d thread%s", call->name, threads, threads > 1 ? "s" : "");
	report_line(bench->report, &(struct bench_line){.what = what,
							.ours_name = "with cpr",
							.theirs_name = "without",
							.unit = "ns",
							.ours = b,
							.theirs = &a,
							.ratio = &ratio,
							.wanted = call->limit > 0 ? WANTED_AT_MOST : WANTED_NOTHING,
							.limit = call->limit});
	return 0;
}

/* ---- what needs no child ---- */

/* From the start of /bin/true to its end, in us; negative errno. */
static double start_true(char *const env[])
{
	static char name[] = "true";
	char *argv[] = {name, NULL};
	int64_t start = bench_now();
	pid_t pid;
	int status, r = posix_spawn(&pid, "/bin/true", NULL, NULL, argv, env);

	if (r)
		return -r;
	if (waitpid(pid, &status, 0) != pid || status)
		return -ECHILD;
	return (double)(bench_now() - start) / 1e3;
}

static int measure_start(const struct bench *bench)
{
	size_t rounds = bench->quick ? START_ROUNDS / 10 : START_ROUNDS;
	double added[START_ROUNDS], plain[START_ROUNDS];
	char preload[PATH_MAX + 16];
	char *none[] = {NULL}, *library[] = {preload, NULL};
	struct figure theirs;

	snprintf(preload, sizeof(preload), "LD_PRELOAD=%s", bench->library);
	for (size_t i = 0; i <= rounds; i++) { /* the first is not counted */
		double us[2];

		for (size_t turn = 0; turn < 2; turn++) {
			size_t which = (i + turn) % 2;

			us[which] = start_true(which ? library : none);
			if (us[which] < 0)
				return (int)us[which];
		}
		added[i ? i - 1 : 0] = us[1] - us[0];
		plain[i ? i - 1 : 0] = us[0];
	}
	theirs = figure_of(plain, rounds);
	report_line(bench->report, &(struct bench_line){.what = "start of /bin/true, to its end: what is added",
							.ours_name = "added by cpr",
							.theirs_name = "all of it without",
							.unit = "us",
							.ours = figure_of(added, rounds),
							.theirs = &theirs,
							.wanted = WANTED_AT_MOST,
							.limit = 1000});
	return 0;
}

/* The framing by itself: part of the two HTTP/1.1 lines. */
static void measure_framing(const struct bench *bench)
{
	static const char request[] =
		"GET /index.html HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUser-Agent: bench/1.0\r\nAccept: */*\r\n\r\n";
	static const char answer[] = "HTTP/1.1 200 OK\r\nServer: bench\r\nContent-Type: text/plain\r\nContent-Length: "
				     "13\r\n\r\nHello, world\n";
	size_t rounds = bench->quick ? 5 : 31;
	double each[31];
	struct http h = {0};

	for (size_t i = 0; i < rounds; i++) {
		int64_t start = bench_now();

		for (int n = 0; n < FRAMED; n++) {
			http_read(&h, request, sizeof(request) - 1);
			http_wrote(&h, answer, sizeof(answer) - 1);
		}
		each[i] = (double)(bench_now() - start) / FRAMED;
	}
	report_line(bench->report,
		    &(struct bench_line){.what = http_at_boundary(&h) ? "of that, framing a request and its answer"
								      : "framing: LOST",
					 .ours_name = "with cpr",
					 .unit = "ns",
					 .ours = figure_of(each, rounds)});
}

int bench_calls(struct bench *bench)
{
	int r = 0;

	report_section(bench->report, "calls",
		       "one process under the library (started by cpr-exec) and one without do batches of some ms by "
		       "turns, on the same processors; each is started anew after "
		       "8 batches; ns of the thread's own time per call (of real time where processes are started). "
		       "Medians (quartiles), and of the pairs' ratios");
	for (size_t i = 0; i < call_count && !r; i++)
		for (int threads = 1; threads <= THREADS && !r; threads++) {
			report_progress(bench->report, "calls: %s, %d threads", calls[i].name, threads);
			r = measure(bench, &calls[i], threads);
		}
	if (!r)
		measure_framing(bench);
	if (!r)
		r = measure_start(bench);
	return r;
}
