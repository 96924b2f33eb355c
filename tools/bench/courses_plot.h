/* SPDX-License-Identifier: MIT */
/* Plots of courses, as SVG by gnuplot. Without --out nothing is drawn; without gnuplot a note says so. */
#ifndef CPR_BENCH_COURSES_PLOT_H
#define CPR_BENCH_COURSES_PLOT_H

#include "course.h"

/*
 * Draws NAME.svg in the directory of --out, with NAME.gp and NAME.dat beside it, to draw it again. The panels are in
 * rows of `columns`. A course that did not run leaves its panel empty.
 */
void plot_courses(const struct bench *bench, const char *name, const struct course *const *courses, size_t count,
		  size_t columns);

#endif
