/* SPDX-License-Identifier: MIT */
/* The benchmark of servers that do not restart: wrk and redis-benchmark against two of a kind, with the preload and without, by turns. */
#define _GNU_SOURCE
#include "attr.h"
#include "plot.h"
#include "service.h"

#include <err.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	/* Where a process's memory lies makes a per cent or two for as long as it lives: so every few pairs are of two new processes. */
	FRESH = 5,
	PAIRS_OF_EACH = 4,
	PAIRS = FRESH * PAIRS_OF_EACH,
	FIRST_RUNS = 5000,
	OUTPUT_MAX = 4096,
};

#define CLIENTS "32"
#define AT_LEAST 0.99

static const char method[] = "wrk and redis-benchmark, 32 connections, about a second a run, against a server with the preload and one "
			     "without, by turns; after 4 pairs both are new. The servers "
			     "share one processor, the clients have another. Ratio: with the preload to without. Processor time is that of "
			     "all the server's processes; it moves less with what else "
			     "the machine does.";

struct load_run {
	double rate; /* per second */
	double requests;
};

/* One run of the load's program against a port; `runs`: how many requests, where that must be said. 0, or a negative errno. */
typedef int (*load_program)(const char *program, int port, long runs, const char *option, struct load_run *run);

static int run_wrk(const char *program, int port, long runs, const char *option, struct load_run *run)
{
	char url[64], out[OUTPUT_MAX];
	char *argv[] = {(char *)program, (char *)"-t1", (char *)"-c" CLIENTS, (char *)"-d1s", (char *)"-H", (char *)option, url, NULL};
	const char *requests, *rate;
	int r;

	(void)runs;
	snprintf(url, sizeof(url), "http://127.0.0.1:%d/", port);
	r = machine_run(argv, NULL, out, sizeof(out));
	requests = strstr(out, " requests in ");
	rate = strstr(out, "Requests/sec:");
	if (r || !requests || !rate || strstr(out, "Non-2xx") || strstr(out, "Socket errors")) {
		warnx("wrk: exit status %d\n%s", r, out);
		return r < 0 ? r : -EIO;
	}
	while (requests > out && strchr("0123456789", requests[-1]))
		requests--;
	run->requests = strtod(requests, NULL);
	run->rate = strtod(rate + strlen("Requests/sec:"), NULL);
	return 0;
}

static int run_redis_benchmark(const char *program, int port, long runs, const char *option, struct load_run *run)
{
	static const char first[] = "\n\"GET\",\"";
	char where[16], count[32], out[OUTPUT_MAX];
	char *argv[] = {(char *)program, (char *)"-p",  where,        (char *)"-c",   (char *)CLIENTS, (char *)"-n", count,
			(char *)"-t",    (char *)"get", (char *)"-P", (char *)option, (char *)"--csv", NULL};
	const char *rate;
	int r;

	snprintf(where, sizeof(where), "%d", port);
	snprintf(count, sizeof(count), "%ld", runs);
	r = machine_run(argv, NULL, out, sizeof(out));
	rate = strstr(out, first);
	if (r || !rate) {
		warnx("redis-benchmark: exit status %d\n%s", r, out);
		return r < 0 ? r : -EIO;
	}
	run->requests = (double)runs;
	run->rate = strtod(rate + strlen(first), NULL);
	return 0;
}

static const struct measured {
	const char *what, *server, *program;
	load_program run;
	const char *option;
} all[] = {
	{"nginx, keep-alive", "nginx", "wrk", run_wrk, "Connection: keep-alive"},
	{"nginx, a connection for each request", "nginx", "wrk", run_wrk, "Connection: close"},
	{"redis, GET", "redis", "redis-benchmark", run_redis_benchmark, "1"},
	{"redis, GET, 16 in a pipeline", "redis", "redis-benchmark", run_redis_benchmark, "16"},
};

enum { WITH, WITHOUT, SIDES };

struct figures {
	size_t count;
	double rates[SIDES][PAIRS], ns[SIDES][PAIRS]; /* ns: the server's processor time per request */
};

static int one_run(const struct measured *m, const char *program, struct service *service, long runs, struct load_run *run, double *ns)
{
	int server_cpu, clients_cpu, r;
	int64_t before = service_cpu_ns(service);

	machine_processors(&server_cpu, &clients_cpu);
	machine_pin(clients_cpu);
	r = m->run(program, service->port, runs, m->option, run);
	machine_pin(server_cpu);
	if (!r && !(run->requests > 0 && run->rate > 0))
		r = -EIO;
	if (!r)
		*ns = (double)(service_cpu_ns(service) - before) / run->requests;
	return r ? r : service_sleep_until(0);
}

/* Some pairs of runs against two new servers; what comes first changes: with, without, without, with. */
static int run_pairs(const struct bench *bench, const struct measured *m, const char *program, struct service services[SIDES], size_t pairs,
		     struct figures *f)
{
	long runs = FIRST_RUNS;
	struct load_run run;
	double ns;
	int r = 0;

	for (size_t side = 0; !r && side < SIDES; side++) { /* not counted */
		int64_t took;

		r = service_start(&services[side], &took);
		if (!r)
			r = one_run(m, program, &services[side], runs, &run, &ns);
	}
	if (!r)
		runs = (long)(bench->quick ? run.rate / 10 : run.rate);
	for (size_t i = 0; !r && i < pairs; i++) {
		report_progress(bench->report, "throughput: %s, pair %zu", m->what, f->count + 1);
		for (size_t turn = 0; !r && turn < SIDES; turn++) {
			size_t side = (i + turn) % SIDES;

			r = one_run(m, program, &services[side], runs, &run, &ns);
			f->rates[side][f->count] = run.rate;
			f->ns[side][f->count] = ns;
		}
		f->count += !r;
	}
	return r;
}

static struct figure add_line(const struct bench *bench, const char *what, const char *unit, double values[SIDES][PAIRS], size_t count,
			      double at_least)
{
	double ratios[PAIRS];
	struct figure theirs, ratio;
	struct bench_line line = {.what = what, .ours_name = "with the preload", .theirs_name = "without", .unit = unit};

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
			report_note(bench->report, "%s: %s is not installed: not measured.", all[i].what, all[i].server);
		else if (!program_find(all[i].program, program))
			report_note(bench->report, "%s: %s is not installed: not measured.", all[i].what, all[i].program);
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
