/* SPDX-License-Identifier: MIT */
/* The commands of cprctl, and what they have in common. */
#ifndef CPR_CMD_H
#define CPR_CMD_H

#include "client.h"
#include "model/table.h"

/*
 * Each takes its own words (argv[0] is "cprctl NAME") and returns cprctl's exit status; wrong usage exits with 2 by
 * itself.
 */
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
 * The options of a command that knows --json and --help only, and its word: the one called `word` in messages, which
 * then is argv[optind], or none if that is NULL. --help prints `usage` and exits. True: --json.
 */
bool cmd_json_option(int argc, char **argv, const char *word, const char *usage);

/* The same of a command that knows --help only, and no word. */
void cmd_no_option(int argc, char **argv, const char *usage);

/* getopt's '?' or 'h': prints `usage` and exits, or points to it and exits with 2. */
void cmd_help_or_usage(int option, const char *command, const char *usage) __attribute__((noreturn));

/* Is there exactly that one word behind the options (none if NULL)? If not, says so and exits with 2. */
void cmd_expect_word(int argc, char **argv, const char *word);

/* A process id, or exit with 2. */
pid_t cmd_pid(const char *word);

/*
 * Asks the supervisor that this word names, or that of the server which it names, and waits so long for its "ok". What
 * it says is in *answer, its process id in *supervisor. Any other outcome has been said on stderr.
 */
enum outcome cmd_ask_supervisor(const char *word, enum protocol_verb verb, int timeout_s, struct answer *answer,
				pid_t *supervisor);

/* Says why on stderr, and returns the outcome. */
enum outcome cmd_fail(enum outcome outcome, const struct text *why);

/* "12 ms", "3 s", "5 min 12 s", "3 h 5 min", "4 d 3 h". */
void cmd_duration(int64_t ms, struct text *t);

/* "stream", "device" … */
const char *cmd_kind(enum entry_kind kind);

#endif
