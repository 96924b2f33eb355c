/* SPDX-License-Identifier: MIT */
/* Plots as SVG by gnuplot. Without --out nothing is drawn; without gnuplot a note says so. */
#ifndef CPR_BENCH_PLOT_H
#define CPR_BENCH_PLOT_H

#include "bench.h"

#include <stdio.h>

/* Opens NAME and a suffix in the directory of --out for writing. Returns NULL, with the reason on stderr. */
FILE *plot_open(const struct bench *bench, const char *name, const char *suffix);

/* Runs NAME.gp, which draws NAME.svg, both in the directory of --out. */
void plot_draw(const struct bench *bench, const char *name);

struct plot_bar {
	const char *what;
	struct figure ratio;
};

/*
 * Draws NAME.svg: a bar for each ratio with its quartiles, and a line at the target. The axis is logarithmic for ratios
 * above 20.
 */
void plot_bars(const struct bench *bench, const char *name, const char *title, const struct plot_bar *bars,
	       size_t count, double wanted);

#endif
