/* SPDX-License-Identifier: MIT */
/* The commands of cprctl, and their common parts. */
#ifndef CPR_CMD_H
#define CPR_CMD_H

#include "client.h"
#include "model/table.h"

/* Each takes its own words (argv[0] is "cprctl NAME"), and returns cprctl's exit status. Wrong usage exits with 2. */
enum outcome cmd_ps(int argc, char **argv);
enum outcome cmd_list(int argc, char **argv);
enum outcome cmd_status(int argc, char **argv);
enum outcome cmd_restart(int argc, char **argv);
enum outcome cmd_rollback(int argc, char **argv);
enum outcome cmd_reexec(int argc, char **argv);
enum outcome cmd_top(int argc, char **argv);
enum outcome cmd_metrics(int argc, char **argv);
enum outcome cmd_dump(int argc, char **argv);
enum outcome cmd_enable(int argc, char **argv);
enum outcome cmd_disable(int argc, char **argv);

/*
 * Parses a command with only --json and --help, and one word, which is then argv[optind]. `word` names it in messages;
 * NULL: there is none. --help prints `usage` and exits. Returns whether --json was given.
 */
bool cmd_json_option(int argc, char **argv, const char *word, const char *usage);

/* Parses a command with only --help, and no word. */
void cmd_no_option(int argc, char **argv, const char *usage);

/* For getopt's '?' or 'h': prints `usage` and exits with 0, or names --help and exits with 2. */
void cmd_help_or_usage(int option, const char *command, const char *usage) __attribute__((noreturn));

/* Checks that exactly that one word follows the options (none if NULL). If not, prints that and exits with 2. */
void cmd_expect_word(int argc, char **argv, const char *word);

/* Returns a process id, or exits with 2. */
pid_t cmd_pid(const char *word);

/*
 * Asks the supervisor that `word` names, or that of the server which it names, and waits timeout_s seconds for "ok".
 * The answer is in *answer, the supervisor's pid in *supervisor. Any other outcome was printed on stderr.
 */
enum outcome cmd_ask_supervisor(const char *word, enum protocol_verb verb, int timeout_s, struct answer *answer,
				pid_t *supervisor);

/* Prints the reason on stderr, and returns the outcome. */
enum outcome cmd_fail(enum outcome outcome, const struct text *why);

/* "12 ms", "3 s", "5 min 12 s", "3 h 5 min", "4 d 3 h". */
void cmd_duration(int64_t ms, struct text *t);

/* "stream", "device" … */
const char *cmd_kind(enum entry_kind kind);

#endif
