/* SPDX-License-Identifier: MIT */
/* Measures what cpr costs, each figure in pairs against doing without: one benchmark a file. */
#define _GNU_SOURCE
#include "base/attr.h"
#include "launch.h"
#include "report.h"

#include <err.h>
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MET, FAILED, USAGE, UNMET }; /* exit statuses */

static const char usage_text[] =
	"Usage: cpr-bench [OPTION...] [BENCHMARK...]\n"
	"\n"
	"  lookup                       the table against a list and GLib's GHashTable\n"
	"  calls                        what the wrapped calls cost a program that does not restart\n"
	"  exec                         saved descriptors over one exec, and where the time goes\n"
	"  restart                      a restart, as clients see it\n"
	"  throughput                   servers under load, with cpr and without\n"
	"\n"
	"      --json                   the report as JSON, with every figure's spread\n"
	"      --quick                  a tenth of the rounds: does it run, not how fast is it\n"
	"      --out DIR                writes plots there\n"
	"  -h, --help                   this text\n"
	"  -V, --version                the version\n"
	"\n"
	"Without a name, all of them, in this order.\n"
	"Exit status: 0 all wanted figures are met; 1 a benchmark could not be run; 2 usage; 3 all ran, and a wanted "
	"figure is not met.\n";

static const struct benchmark {
	const char *name;
	int (*run)(struct bench *bench);
} benchmarks[] = {
	{"lookup", bench_lookup},   {"calls", bench_calls},           {"exec", bench_exec},
	{"restart", bench_restart}, {"throughput", bench_throughput},
};

static const struct child {
	const char *name;
	int (*run)(int argc, char **argv);
} children[] = {
	{"lookup", bench_lookup_child},
	{"calls", bench_calls_child},
	{"exec", bench_exec_child},
};

enum { OPT_JSON = 256, OPT_QUICK, OPT_OUT };

static const struct option options[] = {
	{"json", no_argument, NULL, OPT_JSON},     {"quick", no_argument, NULL, OPT_QUICK},
	{"out", required_argument, NULL, OPT_OUT}, {"help", no_argument, NULL, 'h'},
	{"version", no_argument, NULL, 'V'},       {NULL, 0, NULL, 0},
};

static const struct benchmark *find(const char *name)
{
	for (size_t i = 0; i < countof(benchmarks); i++)
		if (!strcmp(benchmarks[i].name, name))
			return &benchmarks[i];
	return NULL;
}

/* The half of a benchmark that runs in a process of its own; what its words mean is between the two. */
static int run_child(int argc, char **argv)
{
	for (size_t i = 0; i < countof(children); i++)
		if (children[i].run && !strcmp(children[i].name, argv[0]))
			return children[i].run(argc, argv);
	warnx("--child %s: there is none", argv[0]);
	return USAGE;
}

static int usage(void)
{
	fputs("Try 'cpr-bench --help'.\n", stderr);
	return USAGE;
}

/* The file `name` in the directory that this program stands in. */
static void beside(const char *self, const char *name, char path[PATH_MAX])
{
	const char *slash = strrchr(self, '/');

	if (snprintf(path, PATH_MAX, "%.*s%s", (int)(slash + 1 - self), self, name) >= PATH_MAX || access(path, X_OK))
		errx(FAILED, "%s is not beside this tool (%s)", name, self);
}

static void find_tools(struct bench *bench)
{
	static char self[PATH_MAX], library[PATH_MAX], exec[PATH_MAX], ctl[PATH_MAX];
	char reason[2 * PATH_MAX];
	struct text why = TEXT_ON(reason);
	ssize_t n = readlink("/proc/self/exe", self, sizeof(self) - 1);

	if (n < 0)
		err(FAILED, "/proc/self/exe");
	if (launch_library(library, &why))
		errx(FAILED, "%s", reason);
	beside(self, "cpr-exec", exec);
	beside(self, "cprctl", ctl);
	bench->self = self;
	bench->library = library;
	bench->exec = exec;
	bench->ctl = ctl;
}

/* The plots' directory, made if it is not there, absolute: a benchmark may change its own. */
static const char *out_directory(const char *given)
{
	static char path[PATH_MAX];

	if (mkdir(given, 0777) && errno != EEXIST)
		err(FAILED, "--out %s", given);
	if (!realpath(given, path) || access(path, W_OK | X_OK))
		err(FAILED, "--out %s", given);
	return path;
}

/* False: it could not be run. */
static bool run(struct bench *bench, const struct benchmark *benchmark)
{
	size_t before = report_sections(bench->report);
	int r = benchmark->run(bench);

	if (!r)
		return true;
	warnx("%s: %s", benchmark->name, strerror(-r));
	report_failed(bench->report, before, benchmark->name, strerror(-r));
	return false;
}

static int run_all(struct bench *bench, char **names, size_t count)
{
	bool ran = true;
	int outcome;

	for (size_t i = 0; i < (count ? count : countof(benchmarks)); i++)
		ran &= run(bench, count ? find(names[i]) : &benchmarks[i]);
	report_end(bench->report);
	outcome = !ran ? FAILED : report_unmet(bench->report) ? UNMET : MET;
	if (ferror(stdout) || fflush(stdout)) {
		warn("the report could not be written");
		return FAILED;
	}
	return outcome;
}

int main(int argc, char **argv)
{
	struct bench bench = {0};
	const char *out = NULL;
	int option, outcome;

	if (argc > 2 && !strcmp(argv[1], "--child"))
		return run_child(argc - 2, argv + 2);
	if (argc)
		argv[0] = program_invocation_short_name; /* getopt's messages begin with it */
	while ((option = getopt_long(argc, argv, "hV", options, NULL)) != -1)
		switch (option) {
		case OPT_JSON:
			bench.json = true;
			break;
		case OPT_QUICK:
			bench.quick = true;
			break;
		case OPT_OUT:
			out = optarg;
			break;
		case 'h':
			fputs(usage_text, stdout);
			return fflush(stdout) ? FAILED : MET;
		case 'V':
			puts("cpr-bench " CPR_VERSION);
			return fflush(stdout) ? FAILED : MET;
		default:
			return usage();
		}
	for (int i = optind; i < argc; i++)
		if (!find(argv[i])) {
			warnx("\"%s\" is not a benchmark: there are lookup, calls, exec, restart, throughput", argv[i]);
			return usage();
		}
	find_tools(&bench);
	bench.out = out ? out_directory(out) : NULL;
	bench.report = report_new(bench.json, bench.quick);
	outcome = run_all(&bench, argv + optind, (size_t)(argc - optind));
	report_free(&bench.report);
	return outcome;
}
