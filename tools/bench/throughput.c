/* SPDX-License-Identifier: MIT */
/*
 * The benchmark of servers that do not restart: wrk and redis-benchmark against two of a kind, with the preload and
 * without, by turns.
 */
#define _GNU_SOURCE
#include "base/attr.h"
#include "plot.h"
#include "service.h"

#include <err.h>
#include <errno.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

enum {
	/*
	 * The place of a process's memory makes a per cent or two for its whole life. So every few pairs get two new
	 * processes.
	 */
	FRESH = 6,
	PAIRS_OF_EACH = 3,
	PAIRS = FRESH * PAIRS_OF_EACH,
	FIRST_RUNS = 5000,
	OUTPUT_MAX = 4096,
	SLICE_MS = 10,
};

#define CLIENTS "32"
#define AT_LEAST 0.99

static const char method[] = "wrk and redis-benchmark, 32 connections, against a server with the preload and one "
			     "without; after 3 pairs both are new. The two clients of a pair run at the same "
			     "time, by turns of 10 ms in which the other is stopped, for about a second each: what "
			     "else the machine does meets both. Rate: requests in the time of the "
			     "client's turns. The servers share one processor, the clients have another. Ratio: with "
			     "the preload to without. Processor time is that of "
			     "all the server's processes, for a request.";

/* A client's program that runs against a port, and what came of it. */
struct load_run {
	pid_t pid;
	int out;    /* where it writes to; -1: it has ended */
	int port;
	long asked; /* number of requests, for a program that needs it */
	int64_t ns; /* of its turns so far */
	double requests, rate;
};

/* 0, or a negative errno. */
typedef int (*program_start)(const char *program, const char *option, struct load_run *run);
typedef int (*program_read)(const char *said, struct load_run *run);

static int start_wrk(const char *program, const char *option, struct load_run *run)
{
	char url[64];
	char *argv[] = {(char *)program,
			(char *)"-t1",
			(char *)"-c" CLIENTS,
			(char *)"-d2s",
			(char *)"-H",
			(char *)option,
			url,
			NULL};

	snprintf(url, sizeof(url), "http://127.0.0.1:%d/", run->port);
	return machine_start(argv, NULL, &run->pid, &run->out);
}

static int read_wrk(const char *said, struct load_run *run)
{
	const char *requests = strstr(said, " requests in ");

	if (!requests || strstr(said, "Non-2xx") || strstr(said, "Socket errors"))
		return -EIO;
	while (requests > said && strchr("0123456789", requests[-1]))
		requests--;
	run->requests = strtod(requests, NULL);
	return 0;
}

static int start_redis_benchmark(const char *program, const char *option, struct load_run *run)
{
	char where[16], count[32];
	char *argv[] = {(char *)program, (char *)"-p",    where,        (char *)"-c",  (char *)CLIENTS,
			(char *)"-n",    count,           (char *)"-t", (char *)"get", (char *)"-P",
			(char *)option,  (char *)"--csv", NULL};

	snprintf(where, sizeof(where), "%d", run->port);
	snprintf(count, sizeof(count), "%ld", run->asked);
	return machine_start(argv, NULL, &run->pid, &run->out);
}

static int read_redis_benchmark(const char *said, struct load_run *run)
{
	run->requests = (double)run->asked;
	return strstr(said, "\n\"GET\",\"") ? 0 : -EIO;
}

static const struct measured {
	const char *what, *server, *program;
	program_start start;
	program_read read;
	const char *option;
} all[] = {
	{"nginx, keep-alive", "nginx", "wrk", start_wrk, read_wrk, "Connection: keep-alive"},
	{"nginx, a connection for each request", "nginx", "wrk", start_wrk, read_wrk, "Connection: close"},
	{"redis, GET", "redis", "redis-benchmark", start_redis_benchmark, read_redis_benchmark, "1"},
	{"redis, GET, 16 in a pipeline", "redis", "redis-benchmark", start_redis_benchmark, read_redis_benchmark, "16"},
};

enum { WITH, WITHOUT, SIDES };

struct figures {
	size_t count;
	double rates[SIDES][PAIRS], ns[SIDES][PAIRS]; /* ns: the server's processor time per request */
};

/* A turn: it goes on, for a while or until it ends. */
static void take_turn(struct load_run *run)
{
	struct pollfd end = {.fd = run->out};
	int64_t begin = bench_now();

	if (run->out < 0 || kill(run->pid, SIGCONT))
		end.fd = -1; /* the other's pauses stay what they were */
	poll(&end, 1, SLICE_MS);
	if (end.fd < 0)
		return;
	kill(run->pid, SIGSTOP);
	run->ns += bench_now() - begin;
}

/* Its output is short: it fits into the pipe. */
static int take_result(const struct measured *m, struct load_run *run)
{
	char said[OUTPUT_MAX];
	int r;

	kill(run->pid, SIGCONT);
	r = machine_finish(run->pid, run->out, said, sizeof(said));
	run->out = -1;
	if (!r)
		r = m->read(said, run);
	if (!r && !(run->requests > 0 && run->ns > 0))
		r = -EIO;
	if (r)
		warnx("%s: %s\n%s", m->program, r < 0 ? strerror(-r) : "it failed", said);
	run->rate = run->requests * 1e9 / (double)run->ns;
	return r > 0 ? -EIO : r;
}

static bool has_ended(const struct load_run *run)
{
	struct pollfd end = {.fd = run->out};

	return poll(&end, 1, 0) > 0;
}

/* Both at the same time, by turns; `first` has the first. */
static int run_both(const struct measured *m, const char *program, struct load_run runs[SIDES], size_t first)
{
	int server_cpu, clients_cpu, r = 0, left = 0;

	machine_processors(&server_cpu, &clients_cpu);
	machine_pin(clients_cpu);
	for (size_t side = 0; side < SIDES; side++)
		runs[side].out = -1;
	for (size_t side = 0; !r && side < SIDES; side++) {
		r = m->start(program, m->option, &runs[side]);
		if (!r)
			kill(runs[side].pid, SIGSTOP);
		left += !r;
	}
	machine_pin(server_cpu);
	for (size_t side = first; left; side = !side) {
		int one;

		take_turn(&runs[side]);
		if (runs[side].out < 0 || !has_ended(&runs[side]))
			continue;
		one = take_result(m, &runs[side]);
		r = r ? r : one;
		left--;
	}
	return r ? r : service_sleep_until(0);
}

static int run_pair(const struct measured *m, const char *program, struct service services[SIDES],
		    const long asked[SIDES], struct figures *f)
{
	struct load_run runs[SIDES] = {0};
	int64_t before[SIDES];
	int r;

	for (size_t side = 0; side < SIDES; side++) {
		runs[side].port = services[side].port;
		runs[side].asked = asked[side];
		before[side] = service_cpu_ns(&services[side]);
	}
	r = run_both(m, program, runs, f->count % SIDES);
	for (size_t side = 0; !r && side < SIDES; side++) {
		f->rates[side][f->count] = runs[side].rate;
		f->ns[side][f->count] = (double)(service_cpu_ns(&services[side]) - before[side]) / runs[side].requests;
	}
	return r;
}

/* Some pairs against two new servers. */
static int run_pairs(const struct bench *bench, const struct measured *m, const char *program,
		     struct service services[SIDES], size_t pairs, struct figures *f)
{
	long asked[SIDES] = {FIRST_RUNS, FIRST_RUNS};
	int r = 0;

	for (size_t side = 0; !r && side < SIDES; side++) {
		int64_t took;

		r = service_start(&services[side], &took);
	}
	for (size_t i = 0; !r && i <= pairs; i++) { /* the first is not counted */
		report_progress(bench->report, "throughput: %s, pair %zu", m->what, f->count + 1);
		r = run_pair(m, program, services, asked, f);
		for (size_t side = 0; !r && !i && side < SIDES; side++)
			asked[side] = (long)(f->rates[WITHOUT][f->count] / (bench->quick ? 10 : 1));
		f->count += !r && i;
	}
	return r;
}

/* Of sorted values: between which two the median of all that might have been taken lies, in 19 cases of 20. */
static void note_median(const struct bench *bench, const char *what, const double *sorted, size_t count)
{
	double away = 0.98 * sqrt((double)count), middle = (double)count / 2;
	size_t low = middle > away ? (size_t)(middle - away) : 0;

	if (count > 5)
		report_note(bench->report,
			    "%s: the ratio's median lies between %.3f and %.3f (95 %%, by the order of %zu pairs).",
			    what, sorted[low], sorted[count - 1 - low], count);
}

static struct figure add_line(const struct bench *bench, const char *what, const char *unit,
			      double values[SIDES][PAIRS], size_t count, double at_least)
{
	double ratios[PAIRS];
	struct figure theirs, ratio;
	struct bench_line line = {
		.what = what, .ours_name = "with the preload", .theirs_name = "without", .unit = unit};

	for (size_t i = 0; i < count; i++)
		ratios[i] = values[WITH][i] / values[WITHOUT][i];
	line.ours = figure_of(values[WITH], count);
	theirs = figure_of(values[WITHOUT], count);
	ratio = figure_of(ratios, count);
	line.theirs = &theirs;
	line.ratio = &ratio;
	line.wanted = at_least > 0 ? WANTED_AT_LEAST : WANTED_NOTHING;
	line.limit = at_least;
	report_line(bench->report, &line);
	note_median(bench, what, ratios, count);
	return ratio;
}

static int measure(const struct bench *bench, const struct measured *m, const char *program, struct plot_bar *bar)
{
	const struct server *server = server_find(m->server);
	size_t fresh = bench->quick ? 1 : FRESH, pairs = bench->quick ? 2 : PAIRS_OF_EACH;
	struct figures f = {.count = 0};
	char what[128];
	int r = 0;

	for (size_t i = 0; !r && i < fresh; i++) {
		struct service services[SIDES] = {0};

		r = service_open(&services[WITH], bench, server, way_of(server, WAY_CPR));
		if (!r)
			r = service_open(&services[WITHOUT], bench, server, way_of(server, WAY_STOP));
		if (!r)
			r = run_pairs(bench, m, program, services, pairs, &f);
		service_close(&services[WITH]);
		service_close(&services[WITHOUT]);
	}
	if (r)
		return r;
	*bar = (struct plot_bar){m->what, add_line(bench, m->what, "/s", f.rates, f.count, AT_LEAST)};
	snprintf(what, sizeof(what), "%s: processor time", m->what);
	add_line(bench, what, "ns", f.ns, f.count, 0);
	return 0;
}

int bench_throughput(struct bench *bench)
{
	struct plot_bar bars[countof(all)];
	int server_cpu, clients_cpu, failed = 0;
	size_t count = 0;

	report_section(bench->report, "throughput", method);
	service_begin();
	machine_processors(&server_cpu, &clients_cpu);
	machine_pin(server_cpu);
	for (size_t i = 0; i < countof(all) && failed != -EINTR; i++) {
		char program[PATH_MAX], server[PATH_MAX];
		int r = -ENOENT;

		if (!program_find(server_find(all[i].server)->program, server))
			report_note(bench->report, "%s: %s is not installed: not measured.", all[i].what,
				    all[i].server);
		else if (!program_find(all[i].program, program))
			report_note(bench->report, "%s: %s is not installed: not measured.", all[i].what,
				    all[i].program);
		else
			r = measure(bench, &all[i], program, &bars[count]);
		count += !r;
		failed = failed && r != -EINTR ? failed : r;
	}
	machine_pin(-1);
	plot_bars(bench, "throughput", "Requests per second, with the preload to without", bars, count, AT_LEAST);
	service_end();
	return failed;
}
