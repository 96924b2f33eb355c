/* SPDX-License-Identifier: MIT */
/*
 * Draws what clients saw: requests as dots over time, what failed in red, what was closed in orange, restarts as lines.
 */
#define _GNU_SOURCE
#include "courses_plot.h"

#include "own.h"
#include "plot.h"

#include <err.h>
#include <math.h>
#include <string.h>

#define SECOND INT64_C(1000000000)
#define LATENCY_MIN 0.05 /* ms, the axis */
#define LATENCY_MAX 10000.0

enum {
	PANEL_WIDTH = 480,
	PANEL_HEIGHT = 190,
	LEGEND_HEIGHT = 36,
	CELL = 2, /* pixels: two requests in one cell are one dot, and cells side by side are one stroke, or the picture
		   * would be megabytes
		   */
	COARSE_CELL = 4, /* where there are many panels */
	ROWS = 46,
	BINS_PER_SECOND = 25,
};

enum layer { ANSWERED, FAILED, CLOSED, LAYERS };

struct panel {
	const struct course *course;
	double seconds; /* the axis */
	size_t across;  /* cells */
	unsigned char *cells[LAYERS];
	size_t block[LAYERS + 2]; /* where each stands in the data file, from 1; 0: nothing to draw */
};

static enum layer layer_of(const struct load_record *r)
{
	return r->outcome == LOAD_CLOSED ? CLOSED : r->outcome == LOAD_ANSWERED ? ANSWERED : FAILED;
}

static size_t row_of(double ms)
{
	double part = log(ms / LATENCY_MIN) / log(LATENCY_MAX / LATENCY_MIN);

	return part <= 0 ? 0 : part >= 1 ? ROWS - 1 : (size_t)(part * ROWS);
}

static double latency_of(size_t row)
{
	return LATENCY_MIN * pow(LATENCY_MAX / LATENCY_MIN, ((double)row + 0.5) / ROWS);
}

static void fill_cells(struct panel *panel)
{
	const struct course *course = panel->course;

	for (size_t i = 0; i < course->count; i++) {
		const struct load_record *r = &course->records[i];
		double x = (double)r->due / (double)SECOND / panel->seconds;

		if (x >= 0 && x < 1)
			panel->cells[layer_of(r)][row_of((double)r->latency / 1e6) * panel->across +
						  (size_t)(x * (double)panel->across)] = 1;
	}
}

/* ---- the data file: blocks, parted by two empty lines ---- */

/* Strokes: where, how high, how long. False: there is none. */
static bool write_layer(FILE *file, const struct panel *panel, enum layer layer)
{
	double width = panel->seconds / (double)panel->across;
	bool any = false;

	for (size_t row = 0; row < ROWS; row++) {
		const unsigned char *cells = panel->cells[layer] + row * panel->across;

		for (size_t i = 0; i < panel->across; i++) {
			size_t first = i;

			while (i < panel->across && cells[i])
				i++;
			if (i == first)
				continue;
			fprintf(file, "%.4f %.4f %.4f\n", width * ((double)first + 0.25), latency_of(row),
				width * ((double)(i - first) - 0.5));
			any = true;
		}
	}
	return any;
}

static void write_rate(FILE *file, const struct panel *panel)
{
	const struct course *course = panel->course;
	size_t bins = (size_t)(panel->seconds * BINS_PER_SECOND),
	       last = (size_t)(course->length * BINS_PER_SECOND / SECOND);
	cleanup_free unsigned *counts = calloc(bins + 1, sizeof(*counts));
	size_t round = 0; /* records are in the rounds' order */

	if (!counts)
		err(1, NULL);
	for (size_t i = 0; i < course->count; i++) {
		const struct load_record *r = &course->records[i];
		int64_t answered = r->due + r->latency;
		size_t bin = (size_t)(answered * BINS_PER_SECOND / SECOND);

		while (round + 1 < course->restarts && r->due >= course->until[round])
			round++;
		if (answered >= course->until[round]) /* after the round: the next one's time is another */
			continue;
		if (r->outcome != LOAD_CLOSED && bin < bins)
			counts[bin]++;
	}
	for (size_t i = 0; i < bins && i < last; i++)
		fprintf(file, "%.3f %u\n", (double)i / BINS_PER_SECOND, counts[i] * BINS_PER_SECOND);
}

static size_t end_block(FILE *file, size_t *blocks)
{
	fputs("\n\n", file);
	return ++*blocks;
}

static void write_panel(FILE *file, struct panel *panel, size_t *blocks)
{
	const struct course *course = panel->course;

	for (int layer = 0; layer < LAYERS; layer++)
		if (write_layer(file, panel, layer))
			panel->block[layer] = end_block(file, blocks);
	write_rate(file, panel);
	panel->block[LAYERS] = end_block(file, blocks);
	for (size_t i = 0; i < course->restarts; i++)
		fprintf(file, "%.4f\n", (double)course->at[i] / (double)SECOND);
	panel->block[LAYERS + 1] = end_block(file, blocks);
}

/* ---- the script ---- */

static void write_title(FILE *script, const struct course *course)
{
	size_t failed = course_failed(course), closed = course->outcomes[LOAD_CLOSED];
	double longest = 0;

	for (size_t i = 0; i < course->restarts; i++)
		longest = fmax(longest, course->values[COURSE_LONGEST][i]);
	fprintf(script, "set label 2 \"%s, %s: %zu failed, %zu closed, longest %.0f ms\" at graph 0,1.25\n",
		course->service.server->name, course->service.way->name, failed, closed, longest);
}

/* In parts of the whole picture, from below. */
struct area {
	double left, right, bottom, top;
};

static void write_area(FILE *script, struct area a)
{
	fprintf(script,
		"set lmargin at screen %.4f\nset rmargin at screen %.4f\nset bmargin at screen %.4f\nset tmargin at "
		"screen %.4f\n",
		a.left, a.right, a.bottom, a.top);
}

static void write_plots(FILE *script, const char *name, const struct panel *panel, struct area area)
{
	static const char *const strokes[LAYERS] = {"lw 2 lc rgb \"#2b6cb0\"", "lw 4 lc rgb \"#d62728\"",
						    "lw 5 lc rgb \"#ff9a00\""};
	struct area upper = area, lower = area;

	lower.top = area.bottom + 0.66 * (area.top - area.bottom);
	upper.bottom = area.bottom + 0.74 * (area.top - area.bottom);
	write_area(script, upper);
	write_title(script, panel->course);
	fprintf(script,
		"unset logscale y\nset xrange [0:%.2f]\nset yrange [0:%u]\nset ytics (\"0\" 0, \"%u/s\" %u)\nset xtics "
		"1 format \"\"\n",
		panel->seconds, 2 * panel->course->service.server->rate, panel->course->service.server->rate,
		panel->course->service.server->rate);
	fprintf(script, "plot \"%s.dat\" index %zu using 1:2 with steps lw 1 lc rgb \"#2b6cb0\"\n", name,
		panel->block[LAYERS] - 1);
	write_area(script, lower);
	fprintf(script,
		"unset label 2\nset yrange [%g:%g]\nset logscale y\nset ytics (\"0.1 ms\" 0.1, \"1 ms\" 1, \"10 ms\" "
		"10, \"100 ms\" 100, "
		"\"1 s\" 1000)\n",
		LATENCY_MIN, LATENCY_MAX);
	fprintf(script,
		"set xtics 1 format \"%%g s\"\nplot \"%s.dat\" index %zu using 1:(%g):(0):(%g) with vectors nohead lw "
		"1 lc rgb \"#b0b0b0\"",
		name, panel->block[LAYERS + 1] - 1, LATENCY_MIN, LATENCY_MAX);
	for (int layer = 0; layer < LAYERS; layer++)
		if (panel->block[layer])
			fprintf(script, ", \\\n  \"\" index %zu using 1:2:3:(0) with vectors nohead %s",
				panel->block[layer] - 1, strokes[layer]);
	fputc('\n', script);
}

static void write_script(FILE *script, const char *name, const struct panel *panels, size_t count, size_t columns)
{
	size_t rows = (count + columns - 1) / columns, width = columns * PANEL_WIDTH,
	       height = rows * PANEL_HEIGHT + LEGEND_HEIGHT;

	/* an explicit background: a viewer's may be dark */
	fprintf(script,
		"set terminal svg size %zu,%zu noenhanced font \"sans-serif,11\" background \"white\" rounded\nset "
		"output \"%s.svg\"\n",
		width, height, name);
	fprintf(script, "unset key\nset tics nomirror scale 0.5\nset border 3 lc rgb \"#606060\"\nset multiplot\n");
	fprintf(script,
		"set label 1 \"Each request at the time it was due: blue, answered; red, failed, then "
		"answered;%sorange, an idle "
		"connection closed; grey, a restart\" "
		"at screen 0.5,%.4f center\n",
		columns == 1 ? "\\n" : " ", LEGEND_HEIGHT * 0.6 / (double)height);
	for (size_t i = 0; i < count; i++) {
		size_t column = i % columns, row = i / columns;
		double top = (double)(height - row * PANEL_HEIGHT), left = (double)(column * PANEL_WIDTH);
		struct area area = {(left + 52) / (double)width, (left + PANEL_WIDTH - 14) / (double)width,
				    (top - PANEL_HEIGHT + 24) / (double)height, (top - 24) / (double)height};

		if (!panels[i].course)
			continue;
		write_plots(script, name, &panels[i], area);
		fputs("unset label 1\n", script);
	}
	fputs("unset multiplot\n", script);
}

/* ---- all of it ---- */

static bool prepare(struct panel *panel, const struct course *course, double seconds, size_t cell)
{
	bool ready = true;

	panel->course = course;
	panel->seconds = seconds;
	panel->across = (PANEL_WIDTH - 66) / cell;
	for (int layer = 0; layer < LAYERS; layer++) {
		panel->cells[layer] = calloc(ROWS * panel->across, 1);
		ready &= panel->cells[layer] != NULL;
	}
	if (ready)
		fill_cells(panel);
	return ready;
}

void plot_courses(const struct bench *bench, const char *name, const struct course *const *courses, size_t count,
		  size_t columns)
{
	cleanup_free struct panel *panels = calloc(count, sizeof(*panels));
	cleanup_file FILE *data = NULL, *script = NULL;
	size_t blocks = 0, taken = 0;
	double seconds = 0;

	if (!bench->out || !panels)
		return;
	for (size_t i = 0; i < count; i++)
		if (courses[i]->runs)
			seconds = fmax(seconds, (double)courses[i]->length / (double)SECOND);
	for (size_t i = 0; i < count; i++)
		if (courses[i]->runs && !prepare(&panels[i], courses[i], seconds, columns > 1 ? COARSE_CELL : CELL))
			err(1, NULL);
	data = plot_open(bench, name, ".dat");
	script = plot_open(bench, name, ".gp");
	for (size_t i = 0; i < count && data && script; i++)
		if (panels[i].course) {
			write_panel(data, &panels[i], &blocks);
			taken++;
		}
	if (taken) {
		write_script(script, name, panels, count, columns);
		fflush(data);
		fflush(script);
		plot_draw(bench, name);
	}
	for (size_t i = 0; i < count; i++)
		for (int layer = 0; layer < LAYERS; layer++)
			free(panels[i].cells[layer]);
}
