/* SPDX-License-Identifier: MIT */
/* cprctl restart: the test, the request, and waiting until the next generation is ready. */
#define _GNU_SOURCE
#include "cmd.h"

#include "base/io.h"
#include "check.h"
#include "foresight.h"
#include "json.h"
#include "trial.h"
#include "utf8.h"

#include <err.h>
#include <getopt.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define SECOND INT64_C(1000000000)

enum { TIMEOUT_DEFAULT = 60, TIMEOUT_MAX = 86400, REASON_SIZE = PROTOCOL_ANSWER_MAX };

static const char usage_text[] =
	"Usage: cprctl restart PID [--timeout SEC] [--exec PATH] [--wait ready|drained] [--dry-run] [--json]\n"
	"Restarts a process under cpr, or the server of a supervisor, and returns when its next generation serves.\n"
	"  --timeout SEC  how long to wait for that (60; decimals are fine)\n"
	"  --exec PATH    starts PATH in the place of the program, with its arguments\n"
	"  --wait drained returns when the old generation is gone as well: its last connection has ended (ready: when "
	"the next one serves)\n"
	"  --dry-run      only shows what would be kept, carried, go on or be ended, or why it would be refused\n"
	"  --json         says what happened in JSON\n"
	"If the process was started with --test, that command must succeed first.\n"
	"Exit status: 0 done; 1 failed, the old generation serves on; 3 not under cpr; 4 not ready in time; 5 failed, "
	"and nothing serves.\n";

struct restart {
	pid_t pid;
	int64_t began;
	int64_t until;
	const char *exec; /* NULL: the same program */
	bool json;
	bool dry;          /* only what would be done is shown */
	bool left;         /* the old generation is gone */
	bool wait_drained; /* wait until it is, in handover mode */
	bool supervised;   /* by a supervisor: the pid is its */
	pid_t speaker;
	bool done;          /* the next generation serves: only the old one's end is awaited */
	char phase[32];     /* what a supervisor said it does */
	bool shown;         /* a line of progress stands on the terminal */
	int64_t generation; /* the one that is to leave; 0: it did not say */
	struct answer answer;
};

/* What was said so far is not the reason. */
static void begin_anew(struct text *t)
{
	*t = text_on(t->bytes, t->size);
}

/* ---- words ---- */

static int64_t parse_timeout(const char *word)
{
	char *end;
	double seconds = strtod(word, &end);

	if (!*word || strspn(word, "0123456789.") != strlen(word) || *end || !(seconds > 0 && seconds <= TIMEOUT_MAX))
		errx(OUTCOME_USAGE, "--timeout \"%s\": give seconds, more than 0, at most %d", word, (int)TIMEOUT_MAX);
	return (int64_t)(seconds * (double)SECOND);
}

/* True: drained. */
static bool parse_wait(const char *word)
{
	if (strcmp(word, "ready") && strcmp(word, "drained"))
		errx(OUTCOME_USAGE, "--wait \"%s\": there are ready and drained", word);
	return !strcmp(word, "drained");
}

static void parse(int argc, char **argv, struct restart *r)
{
	static const struct option options[] = {
		{"timeout", required_argument, NULL, 't'}, {"exec", required_argument, NULL, 'e'},
		{"wait", required_argument, NULL, 'w'},    {"json", no_argument, NULL, 'j'},
		{"dry-run", no_argument, NULL, 'n'},
		{"help", no_argument, NULL, 'h'},          {NULL, 0, NULL, 0},
	};
	int64_t timeout = TIMEOUT_DEFAULT * SECOND;
	int option;

	while ((option = getopt_long(argc, argv, "h", options, NULL)) != -1) {
		if (option == 't')
			timeout = parse_timeout(optarg);
		else if (option == 'e')
			r->exec = optarg;
		else if (option == 'w')
			r->wait_drained = parse_wait(optarg);
		else if (option == 'j')
			r->json = true;
		else if (option == 'n')
			r->dry = true;
		else
			cmd_help_or_usage(option, argv[0], usage_text);
	}
	cmd_expect_word(argc, argv, "PID");
	r->pid = cmd_pid(argv[optind]);
	r->began = io_now();
	r->until = r->began + timeout;
}

/* ---- before ---- */

/* Does the process's own test succeed? */
static enum outcome test(const struct restart *r, const struct client *client, struct text *why)
{
	char command[PROTOCOL_ANSWER_MAX], directory[PROTOCOL_ANSWER_MAX] = "", reason[REASON_SIZE];
	struct text inner = TEXT_ON(reason);

	if (protocol_get(r->answer.text, "test", command, sizeof(command)) || !*command)
		return OUTCOME_DONE;
	protocol_get(r->answer.text, "directory", directory, sizeof(directory));
	if (!trial_run(command, directory, r->pid, client->uid, client->gid, r->until, &inner))
		return OUTCOME_DONE;
	text_add(why, "refused: ");
	utf8_add_printable(why, reason);
	return OUTCOME_FAILED;
}

/* The path of --exec into the request. */
static enum outcome choose_program(const struct restart *r, struct protocol_request *request, struct text *why)
{
	char path[PATH_MAX];

	if (!r->exec)
		return OUTCOME_DONE;
	text_add(why, "refused: --exec ");
	if (check_find(r->exec, path, why) || check_served(path, why))
		return OUTCOME_FAILED;
	_Static_assert(sizeof(request->path) >= sizeof(path), "a path fits");
	strcpy(request->path, path);
	return OUTCOME_DONE;
}

/*
 * In handover mode it is the supervisor that restarts. One that has been killed lets its server serve on: that one
 * restarts by itself, as in exec mode. True: *client is the supervisor now.
 */
static bool find_supervisor(const struct restart *r, struct client *client)
{
	cleanup_client struct client supervisor = CLIENT_NONE;
	char unused[REASON_SIZE];
	struct text gone = TEXT_ON(unused);
	int64_t pid;

	if (client->supervisor || protocol_get_int(r->answer.text, "supervisor", &pid) ||
	    client_open(&supervisor, (pid_t)pid, false, &gone) || !supervisor.supervisor)
		return false;
	client_close(client);
	*client = supervisor;
	supervisor = CLIENT_NONE;
	return true;
}

/* Asks how things stand, and refuses what should not be restarted. */
static enum outcome look_first(struct restart *r, struct client *client, struct text *why)
{
	const struct protocol_request request = {.verb = PROTOCOL_STATUS};
	enum outcome outcome = client_ring(client, &request, why);
	int64_t owner;

	if (!outcome)
		outcome = client_hear(client, r->until, &r->answer, why);
	if (outcome)
		return outcome;
	if (find_supervisor(r, client)) {
		r->pid = client->pid;
		return look_first(r, client, why);
	}
	if (!protocol_get_int(r->answer.text, "owner", &owner) && owner != r->pid) {
		text_format(why, "PID %d is a worker of %lld; restart that one: cprctl restart %lld", (int)r->pid,
			    (long long)owner, (long long)owner);
		return OUTCOME_FAILED;
	}
	if (!answer_is(r->answer.text, "ok")) {
		text_format(why, "PID %d: ", (int)r->pid);
		answer_reason(r->answer.text, why);
		return OUTCOME_FAILED;
	}
	if (protocol_get_int(r->answer.text, "generation", &r->generation))
		r->generation = 0;
	return test(r, client, why);
}

/* ---- meanwhile ---- */

/* One line that is written over, on a terminal only. */
static void show_progress(struct restart *r)
{
	long long seconds = (long long)((io_now() - r->began) / SECOND);

	if (seconds < 1 || !isatty(STDERR_FILENO))
		return;
	if (r->done)
		fprintf(stderr, "\r\033[Kgeneration %lld serves, %lld s; waiting for the old one's last connection ...",
			(long long)r->generation + 1, seconds);
	else if (*r->phase)
		fprintf(stderr, "\r\033[Kgeneration %lld: %s, %lld s ...", (long long)r->generation + 1, r->phase,
			seconds);
	else if (r->left)
		fprintf(stderr, "\r\033[Kwaiting for generation %lld to be ready, %lld s ...",
			(long long)r->generation + 1, seconds);
	else
		fprintf(stderr, "\r\033[Kwaiting for generation %lld to leave, %lld s ...", (long long)r->generation,
			seconds);
	r->shown = true;
}

static void clear_progress(struct restart *r)
{
	if (r->shown)
		fputs("\r\033[K", stderr);
	r->shown = false;
}

/* Every "KEY=" of the message, on stderr, each behind `mark`. */
static void show_lines(const struct restart *r, const char *key, const char *mark)
{
	size_t len = strlen(key);

	for (const char *line = r->answer.text; *line;) {
		size_t n = strcspn(line, "\n");
		char value[4 * PROTOCOL_ANSWER_MAX];
		struct text t = TEXT_ON(value);

		if (!strncmp(line, key, len) && line[len] == '=') {
			answer_show(line, key, &t);
			warnx("%s%s", mark, value);
		}
		line += n + (line[n] == '\n');
	}
}

static void show_warnings(struct restart *r)
{
	clear_progress(r);
	show_lines(r, "warning", "");
}

/* ---- what was done ---- */

static const struct count {
	const char *key;
	const char *one, *many;
} counts[] = {
	{"descriptors", "descriptor", "descriptors"},
	{"carried", "connection carried", "connections carried"},
	{"cut", "cut", "cut"},
};

/* What goes on in old generations. */
static void print_draining(const struct restart *r)
{
	int64_t generations, connections;

	if (protocol_get_int(r->answer.text, "draining", &generations) ||
	    protocol_get_int(r->answer.text, "draining_connections", &connections) || !connections)
		return;
	printf("; %lld %s on in %lld old %s", (long long)connections,
	       connections == 1 ? "connection goes" : "connections go", (long long)generations,
	       generations == 1 ? "generation" : "generations");
}

static void print_human(const struct restart *r, pid_t pid)
{
	const char *answer = r->answer.text;
	int64_t number;

	printf("restarted %d", (int)r->pid);
	if (pid != r->pid)
		printf(" (now PID %d)", (int)pid);
	if (!protocol_get_int(answer, "generation", &number))
		printf(": generation %lld", (long long)number);
	else
		printf(": generation -");
	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
		if (!protocol_get_int(answer, counts[i].key, &number))
			printf(", %lld %s", (long long)number, number == 1 ? counts[i].one : counts[i].many);
	if (protocol_get_int(answer, "ready_us", &number))
		number = (io_now() - r->began) / 1000;
	printf(", %lld ms", (long long)(number + 500) / 1000);
	print_draining(r);
	putchar('\n');
}

static void print_json(const struct restart *r, pid_t pid)
{
	static const char *const keys[] = {"generation",
					   "descriptors",
					   "carried",
					   "closed",
					   "cut",
					   "orphans",
					   "drain_us",
					   "leave_us",
					   "exec_us",
					   "gate_us",
					   "ready_us",
					   "draining",
					   "draining_connections"};
	struct json json = {.out = stdout};
	int64_t number;

	json_object(&json, NULL);
	json_int(&json, "pid", pid);
	if (r->supervised && !protocol_get_int(r->answer.text, "pid", &number))
		json_int(&json, "server", number);
	for (size_t i = 0; i < sizeof(keys) / sizeof(keys[0]); i++)
		if (!protocol_get_int(r->answer.text, keys[i], &number))
			json_int(&json, keys[i], number);
	json_end(&json, '}');
}

static void report(struct restart *r)
{
	pid_t pid = r->supervised || r->speaker <= 0 ? r->pid : r->speaker;
	int64_t orphans;

	if (!protocol_get_int(r->answer.text, "orphans", &orphans) && orphans > 0)
		warnx("%lld %s of the generation before %s not been asked for yet: see cprctl list %d",
		      (long long)orphans, orphans == 1 ? "descriptor" : "descriptors", orphans == 1 ? "has" : "have",
		      (int)pid);
	if (r->json)
		print_json(r, pid);
	else
		print_human(r, pid);
	fflush(stdout); /* the old one's end may be hours away */
}

static enum outcome not_in_time(const struct restart *r, struct text *why)
{
	const char *stands = r->done                ? "its old generation goes on with what it has"
			     : r->left || *r->phase ? "its next generation is not ready"
			     : r->supervised        ? "its server is starting still, and is not restarted"
						    : "it has not left: it may still do so";

	begin_anew(why);
	text_format(why, "PID %d: %s after ", (int)r->pid, stands);
	cmd_duration((r->until - r->began) / 1000000, why);
	text_add(why, " (--timeout)");
	return OUTCOME_SILENT;
}

static enum outcome died(const struct restart *r, struct text *why)
{
	begin_anew(why);
	text_format(why, "PID %d died while restarting: nothing serves; start it again", (int)r->pid);
	return OUTCOME_DOWN;
}

static enum outcome failed(const struct restart *r, struct text *why)
{
	const char *answer = r->answer.text;
	int64_t serves;

	if (answer_is(answer, "refused") || answer_is(answer, "failed"))
		answer_show(answer, "result", why);
	else
		text_format(why, "PID %d", (int)r->pid);
	text_add(why, ": ");
	answer_reason(answer, why);
	show_lines(r, "stderr", "| ");
	return protocol_get_int(answer, "serves", &serves) || serves ? OUTCOME_FAILED : OUTCOME_DOWN;
}

/* What one message says: OUTCOME_DONE: it was the last word. OUTCOME_SILENT: it was not. */
static enum outcome take(struct restart *r, struct text *why)
{
	const char *answer = r->answer.text;
	int64_t more;

	show_warnings(r);
	if (answer_is(answer, "drained"))
		return OUTCOME_DONE;
	if (answer_is(answer, "ready")) {
		report(r);
		r->done = true;
		return r->wait_drained && r->supervised ? OUTCOME_SILENT : OUTCOME_DONE;
	}
	if (answer_is(answer, "leaving"))
		r->left = true;
	if (answer_is(answer, "progress"))
		protocol_get(answer, "phase", r->phase, sizeof(r->phase));
	if (answer_is(answer, "progress") && !protocol_get_int(answer, "more_s", &more))
		r->until += more * SECOND;
	if (answer_is(answer, "leaving") || answer_is(answer, "warn") || answer_is(answer, "progress"))
		return OUTCOME_SILENT;
	return failed(r, why);
}

static enum outcome follow(struct restart *r, struct client *client, struct text *why)
{
	for (;;) {
		int64_t slice = io_now() + SECOND;
		enum outcome outcome = client_hear(client, slice < r->until ? slice : r->until, &r->answer, why);

		if (outcome == OUTCOME_DONE) {
			begin_anew(why);
			r->speaker = client->speaker;
			outcome = take(r, why);
			if (outcome != OUTCOME_SILENT)
				return outcome;
		} else if (outcome == OUTCOME_ABSENT) {
			return died(r, why);
		} else if (outcome != OUTCOME_SILENT) {
			return outcome;
		}
		if (io_now() >= r->until)
			return not_in_time(r, why);
		begin_anew(why);
		show_progress(r);
	}
}

static enum outcome restart(struct restart *r, struct text *why)
{
	cleanup_client struct client client = CLIENT_NONE;
	struct protocol_request request = {.verb = PROTOCOL_RESTART};
	enum outcome outcome = client_open(&client, r->pid, true, why);

	if (!outcome)
		outcome = look_first(r, &client, why);
	if (!outcome)
		outcome = choose_program(r, &request, why);
	if (outcome)
		return outcome;
	begin_anew(why);
	if (r->dry)
		return foresight_show(&client, r->answer.text, request.path, r->json, why);
	r->supervised = client.supervisor;
	request.flags = r->wait_drained ? PROTOCOL_WAIT_DRAINED : 0;
	outcome = client_ring(&client, &request, why);
	if (!outcome)
		outcome = follow(r, &client, why);
	clear_progress(r);
	return outcome;
}

enum outcome cmd_restart(int argc, char **argv)
{
	struct restart r = {.answer = ANSWER_NONE};
	char reason[4 * REASON_SIZE];
	struct text why = TEXT_ON(reason);
	enum outcome outcome;

	parse(argc, argv, &r);
	outcome = restart(&r, &why);
	answer_close(&r.answer);
	return outcome ? cmd_fail(outcome, &why) : OUTCOME_DONE;
}
