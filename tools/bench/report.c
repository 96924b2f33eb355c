/* SPDX-License-Identifier: MIT */
/* The report: tables on the terminal, or JSON with every figure's spread and the machine. */
#define _GNU_SOURCE
#include "report.h"

#include "grid.h"
#include "json.h"
#include "own.h"
#include "base/text.h"

#include <err.h>
#include <gnu/libc-version.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>
#include <sys/utsname.h>
#include <unistd.h>

struct line {
	char *what, *ours_name, *theirs_name, *unit;
	struct figure ours, theirs, ratio;
	bool has_theirs, has_ratio;
	enum bench_wanted wanted;
	double limit;
};

struct section {
	char *name, *method, *failed;
	struct line *lines;
	size_t line_count;
	char **notes;
	size_t note_count;
};

struct report {
	bool json, quick, terminal;
	bool progress_shown;
	int64_t progress_at;
	struct section *sections;
	size_t count;
};

enum { PROGRESS_EVERY_MS = 5000 }; /* where it is no terminal */

static void *more(void *array, size_t count, size_t size)
{
	void *grown = reallocarray(array, count + 1, size);

	if (!grown)
		err(1, NULL);
	memset((char *)grown + count * size, 0, size);
	return grown;
}

static char *copy(const char *s)
{
	char *made = s ? strdup(s) : NULL;

	if (s && !made)
		err(1, NULL);
	return made;
}

static void clear_progress(struct report *report)
{
	if (report->progress_shown && report->terminal)
		fputs("\r\033[K", stderr);
	report->progress_shown = false;
}

struct report *report_new(bool json, bool quick)
{
	struct report *report = calloc(1, sizeof(*report));

	if (!report)
		err(1, NULL);
	report->json = json;
	report->quick = quick;
	report->terminal = isatty(STDERR_FILENO);
	report->progress_at = bench_now();
	return report;
}

static bool is_met(const struct line *line)
{
	double value = line->has_ratio ? line->ratio.median : line->ours.median;

	return line->wanted == WANTED_NOTHING ||
	       (line->wanted == WANTED_AT_MOST ? value <= line->limit : value >= line->limit);
}

size_t report_unmet(const struct report *report)
{
	size_t n = 0;

	for (size_t s = 0; s < report->count; s++)
		for (size_t i = 0; i < report->sections[s].line_count; i++)
			n += !is_met(&report->sections[s].lines[i]);
	return n;
}

/* ---- tables ---- */

/* Three digits that count, thousands parted: 0.0123, 1.23, 45.6, 1,234,567. */
static void add_number(char *out, size_t size, double value)
{
	double magnitude = fabs(value);
	char digits[64];
	struct text t = text_on(out, size);
	size_t n;

	if (magnitude < 1000 && magnitude == floor(magnitude)) { /* a count */
		snprintf(out, size, "%.0f", value);
		return;
	}
	if (magnitude < 1000) {
		snprintf(out, size, "%.*f",
			 magnitude < 0.1 && magnitude > 0 ? 4
			 : magnitude < 10                 ? 2
			 : magnitude < 100                ? 1
							  : 0,
			 value);
		return;
	}
	n = (size_t)snprintf(digits, sizeof(digits), "%.0f", magnitude);
	if (value < 0)
		text_add(&t, "-");
	for (size_t i = 0; i < n; i++) {
		if (i && (n - i) % 3 == 0)
			text_add(&t, ",");
		text_add_bytes(&t, digits + i, 1);
	}
}

static void grid_add_figure(struct grid *grid, double value, const char *unit)
{
	char number[64];

	add_number(number, sizeof(number), value);
	grid_add(grid, "%s%s%s", number, *unit ? " " : "", unit);
}

static void grid_add_line(struct grid *grid, const struct line *line)
{
	const struct figure *spread = line->has_ratio ? &line->ratio : &line->ours;
	char low[64], high[64], limit[64];

	grid_add(grid, "%s", line->what);
	grid_add_figure(grid, line->ours.median, line->unit);
	if (line->has_theirs)
		grid_add_figure(grid, line->theirs.median, line->unit);
	else
		grid_add(grid, "-");
	if (line->has_ratio)
		grid_add_figure(grid, line->ratio.median, "");
	else
		grid_add(grid, "-");
	add_number(low, sizeof(low), spread->low);
	add_number(high, sizeof(high), spread->high);
	grid_add(grid, "%s to %s", low, high);
	add_number(limit, sizeof(limit), line->limit);
	if (line->wanted == WANTED_NOTHING)
		grid_add(grid, " ");
	else
		grid_add(grid, "at %s %s: %s", line->wanted == WANTED_AT_MOST ? "most" : "least", limit,
			 is_met(line) ? "met" : "NOT MET");
}

static bool same_names(const struct line *a, const struct line *b)
{
	return !strcmp(a->ours_name, b->ours_name) &&
	       !strcmp(a->theirs_name ? a->theirs_name : "", b->theirs_name ? b->theirs_name : "");
}

/* Lines that compare the same two are one table. How many they are. */
static size_t print_table(const struct line *lines, size_t count)
{
	const struct grid_column columns[] = {
		{"", false}, {lines->ours_name, true}, {lines->theirs_name ? lines->theirs_name : "", true},
		{"RATIO", true}, {"QUARTILES", true}, {"WANTED", false},
	};
	cleanup_grid struct grid *grid = grid_new(columns, sizeof(columns) / sizeof(columns[0]));
	size_t n = 0;

	while (n < count && same_names(lines, &lines[n]))
		grid_add_line(grid, &lines[n++]);
	grid_print(grid, stdout);
	return n;
}

static void print_section(const struct section *section)
{
	printf("\n%s: %s\n", section->name, section->method);
	for (size_t i = 0; i < section->line_count;) {
		putchar('\n');
		i += print_table(section->lines + i, section->line_count - i);
	}
	if (section->note_count)
		putchar('\n');
	for (size_t i = 0; i < section->note_count; i++)
		printf("  %s\n", section->notes[i]);
	fflush(stdout);
}

/* The last section is complete. */
static void tell_last(struct report *report)
{
	clear_progress(report);
	if (report->count && !report->json)
		print_section(&report->sections[report->count - 1]);
}

/* ---- adding ---- */

static struct section *last_section(struct report *report)
{
	if (!report->count)
		report_section(report, "", "");
	return &report->sections[report->count - 1];
}

void report_section(struct report *report, const char *name, const char *method)
{
	struct section *section;

	tell_last(report);
	report->sections = more(report->sections, report->count, sizeof(*report->sections));
	section = &report->sections[report->count++];
	section->name = copy(name);
	section->method = copy(method);
}

void report_line(struct report *report, const struct bench_line *line)
{
	struct section *section = last_section(report);
	struct line *made;

	section->lines = more(section->lines, section->line_count, sizeof(*section->lines));
	made = &section->lines[section->line_count++];
	*made = (struct line){
		.what = copy(line->what),
		.ours_name = copy(line->ours_name ? line->ours_name : ""),
		.theirs_name = copy(line->theirs_name),
		.unit = copy(line->unit ? line->unit : ""),
		.ours = line->ours,
		.has_theirs = line->theirs != NULL,
		.has_ratio = line->ratio != NULL,
		.wanted = line->wanted,
		.limit = line->limit,
	};
	if (line->theirs)
		made->theirs = *line->theirs;
	if (line->ratio)
		made->ratio = *line->ratio;
}

void report_note(struct report *report, const char *format, ...)
{
	struct section *section = last_section(report);
	char *note;
	va_list args;

	va_start(args, format);
	if (vasprintf(&note, format, args) < 0)
		err(1, NULL);
	va_end(args);
	section->notes = more(section->notes, section->note_count, sizeof(*section->notes));
	section->notes[section->note_count++] = note;
}

size_t report_sections(const struct report *report)
{
	return report->count;
}

void report_failed(struct report *report, size_t before, const char *name, const char *reason)
{
	struct section *section;

	if (report->count == before)
		report_section(report, name, "could not be run");
	section = last_section(report);
	free(section->failed);
	section->failed = copy(reason);
	report_note(report, "Failed: %s", reason);
}

void report_progress(struct report *report, const char *format, ...)
{
	int64_t now = bench_now();
	va_list args;

	if (!report->terminal && now - report->progress_at < PROGRESS_EVERY_MS * (int64_t)1000000)
		return;
	clear_progress(report);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	if (!report->terminal)
		putc('\n', stderr);
	fflush(stderr);
	report->progress_shown = true;
	report->progress_at = now;
}

/* ---- JSON ---- */

static void json_figure(struct json *j, const char *key, const struct figure *figure)
{
	json_object(j, key);
	json_double(j, "median", figure->median);
	json_double(j, "low", figure->low);
	json_double(j, "high", figure->high);
	json_unsigned(j, "rounds", figure->rounds);
	json_end(j, '}');
}

static void json_line(struct json *j, const struct line *line)
{
	json_object(j, NULL);
	json_string(j, "what", line->what);
	json_string(j, "unit", line->unit);
	json_string(j, "ours_name", line->ours_name);
	json_figure(j, "ours", &line->ours);
	if (line->has_theirs) {
		json_string(j, "theirs_name", line->theirs_name ? line->theirs_name : "");
		json_figure(j, "theirs", &line->theirs);
	}
	if (line->has_ratio)
		json_figure(j, "ratio", &line->ratio);
	if (line->wanted != WANTED_NOTHING) {
		json_string(j, "wanted", line->wanted == WANTED_AT_MOST ? "at most" : "at least");
		json_double(j, "limit", line->limit);
		json_bool(j, "met", is_met(line));
	}
	json_end(j, '}');
}

static void json_section(struct json *j, const struct section *section)
{
	json_object(j, NULL);
	json_string(j, "name", section->name);
	json_string(j, "method", section->method);
	if (section->failed)
		json_string(j, "failed", section->failed);
	json_array(j, "lines");
	for (size_t i = 0; i < section->line_count; i++)
		json_line(j, &section->lines[i]);
	json_end(j, ']');
	json_array(j, "notes");
	for (size_t i = 0; i < section->note_count; i++)
		json_string(j, NULL, section->notes[i]);
	json_end(j, ']');
	json_end(j, '}');
}

/* The first processor's name as the kernel tells it; the machine's kind where /proc/cpuinfo has none (arm64). */
static void cpu_model(char *model, size_t size, const char *machine)
{
	cleanup_file FILE *file = fopen("/proc/cpuinfo", "re");
	char line[512];

	snprintf(model, size, "%s", machine);
	while (file && fgets(line, sizeof(line), file)) {
		const char *value = strstr(line, ": ");

		if (strncmp(line, "model name", 10) || !value)
			continue;
		snprintf(model, size, "%.*s", (int)strcspn(value + 2, "\n"), value + 2);
		return;
	}
}

static void json_machine(struct json *j)
{
	struct utsname name = {0};
	char model[512], kernel[sizeof(name.sysname) + sizeof(name.release) + 1];

	uname(&name);
	cpu_model(model, sizeof(model), name.machine);
	snprintf(kernel, sizeof(kernel), "%s %s", name.sysname, name.release);
	json_object(j, "machine");
	json_string(j, "cpu", model);
	json_int(j, "cores", sysconf(_SC_NPROCESSORS_ONLN));
	json_string(j, "architecture", name.machine);
	json_string(j, "kernel", kernel);
	json_string(j, "libc", gnu_get_libc_version());
#ifdef __clang__
	json_string(j, "compiler", __VERSION__);
#else
	json_string(j, "compiler", "gcc " __VERSION__);
#endif
	json_end(j, '}');
}

static void print_json(const struct report *report)
{
	struct json j = {.out = stdout};

	json_object(&j, NULL);
	json_string(&j, "version", CPR_VERSION);
	json_bool(&j, "quick", report->quick);
	json_machine(&j);
	json_array(&j, "benchmarks");
	for (size_t i = 0; i < report->count; i++)
		json_section(&j, &report->sections[i]);
	json_end(&j, ']');
	json_unsigned(&j, "unmet", report_unmet(report));
	json_end(&j, '}');
}

void report_end(struct report *report)
{
	tell_last(report);
	if (report->json)
		print_json(report);
}

static void free_section(struct section *section)
{
	for (size_t i = 0; i < section->line_count; i++) {
		free(section->lines[i].what);
		free(section->lines[i].ours_name);
		free(section->lines[i].theirs_name);
		free(section->lines[i].unit);
	}
	for (size_t i = 0; i < section->note_count; i++)
		free(section->notes[i]);
	free(section->lines);
	free(section->notes);
	free(section->name);
	free(section->method);
	free(section->failed);
}

void report_free(struct report **report)
{
	for (size_t i = 0; *report && i < (*report)->count; i++)
		free_section(&(*report)->sections[i]);
	if (*report)
		free((*report)->sections);
	free(*report);
}
