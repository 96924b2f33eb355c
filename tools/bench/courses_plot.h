/* SPDX-License-Identifier: MIT */
/* Plots of courses, as SVG by gnuplot. Without --out nothing is drawn; without gnuplot a note says so. */
#ifndef CPR_BENCH_COURSES_PLOT_H
#define CPR_BENCH_COURSES_PLOT_H

#include "course.h"

/*
 * NAME.svg in the directory of --out, NAME.gp and NAME.dat beside it, to draw it again: panels in rows of `columns`; a
 * course that did not take place leaves its panel empty.
 */
void plot_courses(const struct bench *bench, const char *name, const struct course *const *courses, size_t count,
		  size_t columns);

#endif
