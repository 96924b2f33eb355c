/* SPDX-License-Identifier: MIT */
/* Output in columns that are as wide as what stands in them. */
#ifndef CPR_GRID_H
#define CPR_GRID_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

struct grid_column {
	const char *head;
	bool right; /* numbers stand at the right */
};

struct grid;

/* `columns` must stay. Without memory this ends the program, as does every call that adds. */
struct grid *grid_new(const struct grid_column *columns, size_t count);
void grid_free(struct grid **grid);

/* The next cell, row by row. What does not print is shown as \xHH. */
void grid_add(struct grid *grid, const char *format, ...) __attribute__((format(printf, 2, 3)));

/* Columns are parted by two blanks; the line of heads is left out when they are all NULL. */
void grid_print(const struct grid *grid, FILE *out);

#define cleanup_grid __attribute__((cleanup(grid_free)))

#endif
