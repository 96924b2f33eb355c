/* SPDX-License-Identifier: MIT */
/* Output in columns that are as wide as what stands in them. */
#define _GNU_SOURCE
#include "grid.h"

#include "own.h"
#include "utf8.h"

#include <err.h>
#include <stdarg.h>
#include <string.h>

struct grid {
	const struct grid_column *columns;
	size_t width; /* in columns */
	char **cells;
	size_t count;
	size_t room;
};

struct grid *grid_new(const struct grid_column *columns, size_t count)
{
	struct grid *grid = calloc(1, sizeof(*grid));

	if (!grid)
		err(1, NULL);
	grid->columns = columns;
	grid->width = count;
	return grid;
}

void grid_free(struct grid **grid)
{
	for (size_t i = 0; *grid && i < (*grid)->count; i++)
		free((*grid)->cells[i]);
	if (*grid)
		free((*grid)->cells);
	free(*grid);
}

/* A copy in which everything prints: four bytes for each at most. */
static char *printable(const char *s)
{
	size_t size = 4 * strlen(s) + 1;
	char *copy = malloc(size);
	struct text t;

	if (!copy)
		err(1, NULL);
	t = text_on(copy, size);
	utf8_add_printable(&t, s);
	return copy;
}

void grid_add(struct grid *grid, const char *format, ...)
{
	cleanup_free char *cell = NULL;
	va_list args;
	int n;

	va_start(args, format);
	n = vasprintf(&cell, format, args);
	va_end(args);
	if (n < 0) {
		cell = NULL;
		err(1, NULL);
	}
	if (grid->count == grid->room) {
		size_t room = grid->room ? 2 * grid->room : 64;
		char **cells = reallocarray(grid->cells, room, sizeof(*cells));

		if (!cells)
			err(1, NULL);
		grid->cells = cells;
		grid->room = room;
	}
	grid->cells[grid->count++] = printable(cell);
}

static size_t column_width(const struct grid *grid, size_t column)
{
	size_t width = grid->columns[column].head ? utf8_width(grid->columns[column].head) : 0;

	for (size_t i = column; i < grid->count; i += grid->width) {
		size_t own = utf8_width(grid->cells[i]);

		width = own > width ? own : width;
	}
	return width;
}

static void print_cell(const struct grid *grid, size_t column, size_t width, const char *cell, FILE *out)
{
	size_t own = utf8_width(cell);
	int pad = own < width ? (int)(width - own) : 0;
	bool last = column == grid->width - 1;

	if (grid->columns[column].right)
		fprintf(out, "%*s%s", pad, "", cell);
	else
		fprintf(out, "%s%*s", cell, last ? 0 : pad, "");
	fputs(last ? "\n" : "  ", out);
}

void grid_print(const struct grid *grid, FILE *out)
{
	cleanup_free size_t *widths = calloc(grid->width, sizeof(*widths));

	if (!widths)
		err(1, NULL);
	for (size_t c = 0; c < grid->width; c++)
		widths[c] = column_width(grid, c);
	for (size_t c = 0; c < grid->width && grid->columns[0].head; c++)
		print_cell(grid, c, widths[c], grid->columns[c].head, out);
	for (size_t i = 0; i < grid->count; i++)
		print_cell(grid, i % grid->width, widths[i % grid->width], grid->cells[i], out);
}
