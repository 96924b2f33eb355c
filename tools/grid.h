/* SPDX-License-Identifier: MIT */
/* Output in columns, each as wide as its longest cell. */
#ifndef CPR_GRID_H
#define CPR_GRID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct grid_column {
	const char *head;
	bool right; /* right-aligned, for numbers */
};

struct grid;

/* `columns` must stay. Without memory this exits, and so do the calls that add. */
struct grid *grid_new(const struct grid_column *columns, size_t count);
void grid_free(struct grid **grid);

/* Adds the next cell, row by row. What does not print is shown as \xHH. */
void grid_add(struct grid *grid, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Prints two blanks between columns, and no line of heads if all are NULL. */
void grid_print(const struct grid *grid, FILE *out);

#define cleanup_grid __attribute__((cleanup(grid_free)))

#endif
