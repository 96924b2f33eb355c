/* SPDX-License-Identifier: MIT */
/* Runs gnuplot, and draws what can be told in bars. */
#define _GNU_SOURCE
#include "plot.h"

#include "machine.h"
#include "own.h"
#include "servers.h"

#include <err.h>
#include <math.h>

enum { WIDTH = 760, BAR_HEIGHT = 30, LABEL_WIDTH = 300, AROUND = 80 };

FILE *plot_open(const struct bench *bench, const char *name, const char *suffix)
{
	char path[PATH_MAX];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s%s", bench->out, name, suffix);
	file = fopen(path, "we");
	if (!file)
		warn("%s", path);
	return file;
}

void plot_draw(const struct bench *bench, const char *name)
{
	char program[PATH_MAX], script[PATH_MAX], said[16];
	char *argv[] = {program, script, NULL};
	int r;

	if (!program_find("gnuplot", program)) {
		report_note(bench->report, "gnuplot is not installed: %s.svg is not drawn.", name);
		return;
	}
	snprintf(script, sizeof(script), "%s.gp", name);
	r = machine_run(argv, bench->out, said, sizeof(said));
	if (r)
		report_note(bench->report, "gnuplot failed (%d): %s.svg is not drawn.", r, name);
}

void plot_bars(const struct bench *bench, const char *name, const char *title, const struct plot_bar *bars,
	       size_t count, double wanted)
{
	cleanup_file FILE *data = NULL, *script = NULL;
	double highest = wanted;

	if (!bench->out || !count)
		return;
	data = plot_open(bench, name, ".dat");
	script = plot_open(bench, name, ".gp");
	if (!data || !script)
		return;
	for (size_t i = 0; i < count; i++) {
		highest = fmax(highest, bars[i].ratio.high);
		fprintf(data, "%zu %g %g %g \"%s\"\n", count - i, bars[i].ratio.median, bars[i].ratio.low,
			bars[i].ratio.high, bars[i].what);
	}
	/* an explicit background: a viewer's may be dark */
	fprintf(script,
		"set terminal svg size %d,%zu noenhanced font \"sans-serif,11\" background \"white\"\nset output "
		"\"%s.svg\"\n",
		(int)WIDTH, count * BAR_HEIGHT + AROUND, name);
	fprintf(script,
		"set title \"%s\"\nunset key\nset border 3 lc rgb \"#606060\"\nset tics nomirror\nset lmargin at "
		"screen %.3f\n",
		title, (double)LABEL_WIDTH / WIDTH);
	fprintf(script, "set yrange [0.4:%zu.6]\n", count);
	if (highest > 20)
		fprintf(script, "set xrange [%g:%g]\nset logscale x\n", 0.5, highest * 1.5);
	else
		fprintf(script, "set xrange [0:%g]\n", highest * 1.1);
	fprintf(script, "set arrow from %g, graph 0 to %g, graph 1 nohead lw 2 lc rgb \"#d62728\"\n", wanted, wanted);
	fprintf(script,
		"plot \"%s.dat\" using 2:1:(%s):2:($1-0.32):($1+0.32):ytic(5) with boxxyerror fs solid lc rgb "
		"\"#8fb3dd\", \\\n",
		name, highest > 20 ? "0.5" : "0");
	fprintf(script, "  \"\" using 2:1:3:4 with xerrorbars pt 7 ps 0.4 lw 2 lc rgb \"#1d4e89\"\n");
	fflush(data);
	fflush(script);
	plot_draw(bench, name);
}
