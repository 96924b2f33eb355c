/* SPDX-License-Identifier: MIT */
/* cprctl top: servers under cpr with their generations and connections, redrawn. */
#define _GNU_SOURCE
#include "cmd.h"

#include "base/attr.h"
#include "base/io.h"
#include "census.h"
#include "connections.h"
#include "json.h"
#include "own.h"
#include "proc.h"
#include "utf8.h"

#include <err.h>
#include <getopt.h>
#include <math.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

static const char usage_text[] =
	"Usage: cprctl top [--once] [--interval SEC] [--json]\n"
	"Shows the servers under cpr that you may see, again and again: their generations, and the connections of "
	"each.\n"
	"  --once            one table, and that is all; so does an output that is no terminal\n"
	"  --interval SEC    how often it looks, 2 by default; decimals are fine\n"
	"  --json            one table in JSON\n"
	"  q, Ctrl-C         leaves; any other key looks at once\n"
	"Columns:\n"
	"  FRESH IDLE BUSY   connections with nothing said yet, between two requests, with a request under way\n"
	"  CONN/S            by how many the connections of the server grew or shrank in a second\n"
	"NO_COLOR, if it is set, leaves the colours out.\n";

#define BOLD "\033[1m"
#define GREEN "\033[32m"
#define YELLOW "\033[33m"
#define DIM "\033[2m"
#define PLAIN "\033[0m"

enum { WIDTH = 200, COMMAND_SIZE = 4200 };

struct look {
	int64_t at; /* io_now() */
	struct census census;
	int64_t (*connections)[CONNECTIONS_KINDS]; /* of each row; [CONNECTIONS_ALL] -1: not known */
};

/* ---- looking ---- */

static void look(struct look *l)
{
	l->at = io_now();
	census_take(&l->census, false);
	l->connections = calloc(l->census.count + 1, sizeof(*l->connections));
	if (!l->connections)
		err(OUTCOME_FAILED, NULL);
	for (size_t i = 0; i < l->census.count; i++) {
		const struct row *row = &l->census.row[i];

		if (row->silent || row->owner || census_is_supervisor(row) ||
		    !connections_count(row->pid, row->answer.text, l->connections[i]))
			l->connections[i][CONNECTIONS_ALL] = -1;
	}
}

static void forget(struct look *l)
{
	census_free(&l->census);
	free(l->connections);
	*l = (struct look){0};
}

/* In a second, since the look before. NAN: there was none. */
static double rate(const struct look *now, const struct look *before, size_t i)
{
	double seconds = (double)(now->at - before->at) / 1e9;

	for (size_t k = 0; before->at && k < before->census.count; k++) {
		int64_t then = before->connections[k][CONNECTIONS_ALL];

		if (before->census.row[k].pid == now->census.row[i].pid && then >= 0)
			return (double)(now->connections[i][CONNECTIONS_ALL] - then) / seconds;
	}
	return NAN;
}

/* A generation that its supervisor says more of, or a server of exec mode, which serves. */
static const char *phase(const struct row *row)
{
	if (row->silent)
		return "silent";
	if (census_is_supervisor(row))
		return "supervises";
	return *row->phase ? row->phase : "serving";
}

/* ---- the table ---- */

struct paper {
	bool colours, redraws;
	int width, height; /* of a terminal */
	int lines;         /* so far */
};

static void cut(char *line, int width)
{
	for (size_t n; width > 0 && (n = utf8_length(line)); width--)
		line += n;
	*line = '\0';
}

/* One line, cut at the terminal's edge; in this colour. */
static void put_line(struct paper *p, const char *colour, char *line)
{
	if (p->redraws && p->lines >= p->height - 1)
		return;
	p->lines++;
	if (p->redraws)
		cut(line, p->width);
	if (p->colours && *colour)
		printf("%s%s%s", colour, line, PLAIN);
	else
		fputs(line, stdout);
	fputs(p->redraws ? "\033[K\r\n" : "\n", stdout);
}

static const char *colour_of(const struct row *row)
{
	if (row->silent || census_is_supervisor(row))
		return DIM;
	return !strcmp(phase(row), "serving") ? GREEN : YELLOW;
}

static void put_row(struct paper *p, const struct look *now, const struct look *before, size_t i, int depth)
{
	const struct row *row = &now->census.row[i];
	const int64_t *n = now->connections[i];
	char line[WIDTH + 4 * COMMAND_SIZE], raw[COMMAND_SIZE], command[4 * COMMAND_SIZE];
	char up[64] = "", counts[64] = "", change[16] = "";
	struct text raw_text = TEXT_ON(raw), command_text = TEXT_ON(command), up_text = TEXT_ON(up);
	int64_t generation = 0, ms;
	double by = n[CONNECTIONS_ALL] < 0 ? NAN : rate(now, before, i);

	proc_command(row->pid, &raw_text);
	utf8_add_printable(&command_text, raw);
	protocol_get_int(row->answer.text, "generation", &generation);
	if (!protocol_get_int(row->answer.text, depth ? "generation_ms" : "uptime_ms", &ms))
		cmd_duration(ms, &up_text);
	if (n[CONNECTIONS_ALL] >= 0)
		snprintf(counts, sizeof(counts), "%6lld %6lld %6lld", (long long)n[CONNECTIONS_FRESH],
			 (long long)n[CONNECTIONS_IDLE], (long long)n[CONNECTIONS_BUSY]);
	if (!isnan(by))
		snprintf(change, sizeof(change), "%+.1f", by);
	snprintf(line, sizeof(line), "%7d %4lld  %-16.16s %11s %20s %8s  %s%s", (int)row->pid, (long long)generation,
		 phase(row), up, counts, change, depth ? " \\_ " : "", command);
	put_line(p, colour_of(row), line);
}

/* Workers are counted with their owner. */
static void put_below(struct paper *p, const struct look *now, const struct look *before, pid_t parent, int depth)
{
	for (size_t i = 0; i < now->census.count; i++) {
		const struct row *row = &now->census.row[i];

		if (row->owner || census_parent(&now->census, row) != parent)
			continue;
		put_row(p, now, before, i, depth);
		if (!depth)
			put_below(p, now, before, row->pid, depth + 1);
	}
}

static void put_table(struct paper *p, const struct look *now, const struct look *before)
{
	char head[WIDTH];

	p->lines = 0;
	snprintf(head, sizeof(head), "%7s %4s  %-16s %11s %6s %6s %6s %8s  %s", "PID", "GEN", "STATE", "UP", "FRESH",
		 "IDLE", "BUSY", "CONN/S", "COMMAND");
	put_line(p, BOLD, head);
	put_below(p, now, before, 0, 0);
}

static void print_json(const struct look *now)
{
	struct json json = {.out = stdout};

	json_array(&json, NULL);
	for (size_t i = 0; i < now->census.count; i++) {
		const struct row *row = &now->census.row[i];
		int64_t generation;

		if (row->owner)
			continue;
		json_object(&json, NULL);
		json_int(&json, "pid", row->pid);
		json_string(&json, "state", phase(row));
		if (census_parent(&now->census, row))
			json_int(&json, "supervisor", row->supervisor);
		if (!protocol_get_int(row->answer.text, "generation", &generation))
			json_int(&json, "generation", generation);
		for (size_t kind = 0; now->connections[i][CONNECTIONS_ALL] >= 0 && kind < CONNECTIONS_KINDS; kind++)
			json_int(&json, connections_key[kind], now->connections[i][kind]);
		json_end(&json, '}');
	}
	json_end(&json, ']');
}

/* ---- the terminal ---- */

static volatile sig_atomic_t told_to_end;
static struct termios terminal;

static void note_end(int signo)
{
	(void)signo;
	told_to_end = 1;
}

/* The other screen, without a cursor; keys come as they are pressed. */
static void take_terminal(void)
{
	struct sigaction end = {.sa_handler = note_end};
	struct termios raw;

	sigaction(SIGINT, &end, NULL);
	sigaction(SIGTERM, &end, NULL);
	sigaction(SIGHUP, &end, NULL);
	if (!tcgetattr(STDIN_FILENO, &terminal)) {
		raw = terminal;
		raw.c_lflag &= (tcflag_t) ~(ICANON | ECHO);
		tcsetattr(STDIN_FILENO, TCSADRAIN, &raw);
	}
	fputs("\033[?1049h\033[?25l", stdout);
}

static void give_terminal_back(void)
{
	fputs("\033[?25h\033[?1049l", stdout);
	fflush(stdout);
	tcsetattr(STDIN_FILENO, TCSADRAIN, &terminal);
}

/* Waits for the next look. False: to leave. */
static bool go_on(int interval_ms)
{
	struct pollfd keys = {.fd = STDIN_FILENO, .events = POLLIN};
	char key;

	if (told_to_end)
		return false;
	if (poll(&keys, 1, interval_ms) <= 0)
		return !told_to_end; /* a change of the window's size is a reason to draw */
	return read(STDIN_FILENO, &key, 1) == 1 && key != 'q' && key != 'Q';
}

static void draw(struct paper *p, const struct look *now, const struct look *before)
{
	struct winsize size = {0};

	ioctl(STDOUT_FILENO, TIOCGWINSZ, &size);
	p->width = size.ws_col ? size.ws_col : 80;
	p->height = size.ws_row ? size.ws_row : 24;
	fputs("\033[H", stdout);
	put_table(p, now, before);
	fputs("\033[J", stdout);
	fflush(stdout);
}

static void run(struct paper *p, int interval_ms)
{
	struct look before = {0}, now = {0};

	take_terminal();
	do {
		forget(&before);
		before = now;
		look(&now);
		draw(p, &now, &before);
	} while (!ferror(stdout) && go_on(interval_ms));
	give_terminal_back();
	forget(&before);
	forget(&now);
}

static int interval(const char *word)
{
	char *end;
	double seconds = strtod(word, &end);

	if (end == word || *end || !(seconds >= 0.1 && seconds <= 3600))
		errx(OUTCOME_USAGE, "--interval takes seconds from 0.1 to 3600, and not \"%s\"", word);
	return (int)(seconds * 1000);
}

enum outcome cmd_top(int argc, char **argv)
{
	static const struct option options[] = {
		{"once", no_argument, NULL, 'o'}, {"interval", required_argument, NULL, 'i'},
		{"json", no_argument, NULL, 'j'}, {"help", no_argument, NULL, 'h'},
		{NULL, 0, NULL, 0},
	};
	const char *no_color = getenv("NO_COLOR");
	bool is_terminal = isatty(STDOUT_FILENO), once = !is_terminal, json = false;
	struct paper paper = {.colours = is_terminal && !(no_color && *no_color)};
	struct look now = {0}, none = {0};
	int option, interval_ms = 2000;

	while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (option == 'i')
			interval_ms = interval(optarg);
		else if (option != 'o' && option != 'j')
			cmd_help_or_usage(option, argv[0], usage_text);
		once |= option == 'o';
		json |= option == 'j';
	}
	cmd_expect_word(argc, argv, NULL);
	if (!once && !json) {
		paper.redraws = true;
		run(&paper, interval_ms);
		return OUTCOME_DONE;
	}
	look(&now);
	if (json)
		print_json(&now);
	else
		put_table(&paper, &now, &none);
	forget(&now);
	return OUTCOME_DONE;
}
