/* SPDX-License-Identifier: MIT */
/* cprctl metrics: what runs under cpr, as Prometheus reads it. */
#define _GNU_SOURCE
#include "cmd.h"

#include "base/attr.h"
#include "base/io.h"
#include "census.h"
#include "connections.h"
#include "figures.h"
#include "own.h"
#include "proc.h"

#include <err.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char usage_text[] =
	"Usage: cprctl metrics\n"
	"Shows the servers under cpr that you may see in the text format of Prometheus, for node_exporter's textfile "
	"collector:\n"
	"    cprctl metrics | sponge /var/lib/prometheus/node-exporter/cpr.prom\n"
	"Histograms and failures are those of supervisors, which live as long as their server: handover mode.\n";

/* A server: a supervisor, or the owner in exec mode. */
struct service {
	const struct row *row;
	char labels[512];
	struct figures figures;
	bool counts; /* it has figures */
	int64_t connections[CONNECTIONS_KINDS];
	bool connected; /* it has told its connections */
};

struct services {
	struct service *of;
	size_t count;
};

/* ---- which process it is ---- */

/* Its unit, if it is a service of systemd's. */
static bool put_unit(pid_t pid, struct text *t)
{
	char path[64], groups[4096], *name, *end;

	snprintf(path, sizeof(path), "/proc/%d/cgroup", (int)pid);
	if (io_read_file(path, groups, sizeof(groups)) <= 0)
		return false;
	end = strstr(groups, ".service\n");
	if (!end)
		return false;
	*end = '\0';
	name = strrchr(groups, '/');
	text_add(t, name ? name + 1 : groups);
	return true;
}

/* The label's value may hold anything but these three as they are. */
static void put_quoted(struct text *t, const char *value)
{
	for (; *value; value++)
		if (*value == '\n')
			text_add(t, "\\n");
		else if (*value == '"' || *value == '\\')
			text_format(t, "\\%c", *value);
		else
			text_format(t, "%c", *value);
}

/* What the server is called: its unit's name, else its program's. */
static void put_labels(struct service *s)
{
	char name[256] = "", command[4096] = "";
	struct text name_text = TEXT_ON(name), t = TEXT_ON(s->labels);

	if (!put_unit(s->row->pid, &name_text)) {
		protocol_get(s->row->answer.text, "command", command, sizeof(command));
		command[strcspn(command, " ")] = '\0';
		text_add(&name_text, strrchr(command, '/') ? strrchr(command, '/') + 1 : command);
	}
	text_add(&t, "service=\"");
	put_quoted(&t, name);
	text_format(&t, "\",pid=\"%d\"", (int)s->row->pid);
}

/* Of a supervisor, those of the generation that serves. */
static bool count_connections(struct service *s, const struct census *census)
{
	int64_t server = s->row->pid;

	protocol_get_int(s->row->answer.text, "server", &server);
	for (size_t i = 0; i < census->count; i++)
		if (census->row[i].pid == server)
			return connections_count((pid_t)server, census->row[i].answer.text, s->connections);
	return false;
}

static void add_service(struct services *all, const struct row *row, const struct census *census)
{
	struct service *longer = reallocarray(all->of, all->count + 1, sizeof(*longer));

	if (!longer)
		err(OUTCOME_FAILED, NULL);
	all->of = longer;
	longer += all->count++;
	*longer = (struct service){.row = row};
	put_labels(longer);
	longer->counts = figures_get(row->answer.text, &longer->figures);
	longer->connected = count_connections(longer, census);
}

/* ---- what is said ---- */

static void head(const char *name, const char *type, const char *help)
{
	printf("# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
}

/* Numbers that an answer has, each divided by so much. */
static const struct plain {
	const char *name, *type, *help, *key;
	double per;
} plains[] = {
	{"cpr_generation", "gauge", "The generation that serves.", "generation", 1},
	{"cpr_uptime_seconds", "gauge", "Since the first generation started.", "uptime_ms", 1000},
	{"cpr_generation_uptime_seconds", "gauge", "Since this generation started.", "generation_ms", 1000},
	{"cpr_descriptors", "gauge", "Descriptors that the next generation will get.", "descriptors", 1},
	{"cpr_last_restart_duration_seconds", "gauge", "How long the last restart took.", "last_restart_ms", 1000},
	{"cpr_generations_total", "counter", "Generations that followed the first.", "restarts", 1},
	{"cpr_restarts_total", "counter", "Restarts that succeeded.", "total_restarts", 1},
	{"cpr_restart_failures_total", "counter", "Restarts that were called off: the old generation served on.",
	 "total_failures", 1},
	{"cpr_rollbacks_total", "counter", "Times that an old generation took over again.", "total_rollbacks", 1},
	{"cpr_crashes_total", "counter", "Times that the server ended by itself.", "total_crashes", 1},
	{"cpr_connections_carried_total", "counter", "Connections that went on in the next generation.",
	 "total_carried", 1},
	{"cpr_connections_cut_total", "counter", "Connections that ended with a generation that was told to leave.",
	 "total_cut", 1},
};

static void say_plain(const struct plain *p, const struct services *all)
{
	bool said = false;

	for (size_t i = 0; i < all->count; i++) {
		int64_t n;

		if (protocol_get_int(all->of[i].row->answer.text, p->key, &n))
			continue;
		if (!said)
			head(p->name, p->type, p->help);
		said = true;
		printf("%s{%s} %.10g\n", p->name, all->of[i].labels, (double)n / p->per);
	}
}

static void say_connections(const struct services *all)
{
	static const char *const states[] = {
		[CONNECTIONS_FRESH] = "fresh", [CONNECTIONS_IDLE] = "idle", [CONNECTIONS_BUSY] = "busy"};

	head("cpr_connections", "gauge", "Connections of the generation that serves, by where they stand.");
	for (size_t i = 0; i < all->count; i++)
		for (size_t kind = CONNECTIONS_FRESH; all->of[i].connected && kind < CONNECTIONS_KINDS; kind++)
			printf("cpr_connections{%s,state=\"%s\"} %lld\n", all->of[i].labels, states[kind],
			       (long long)all->of[i].connections[kind]);
}

/* "one=NUMBER PID LEFT PHASE" for each generation. */
static void say_draining(const struct services *all)
{
	head("cpr_draining_connections", "gauge", "Connections that go on in an old generation.");
	for (size_t i = 0; i < all->count; i++)
		for (const char *line = strstr(all->of[i].row->answer.text, "\none="); line;
		     line = strstr(line + 1, "\none=")) {
			int number, pid, left;
			char phase[16];

			if (sscanf(line, "\none=%d %d %d %15s", &number, &pid, &left, phase) == 4 && left >= 0 &&
			    !strcmp(phase, "draining"))
				printf("cpr_draining_connections{%s,generation=\"%d\"} %d\n", all->of[i].labels, number,
				       left);
		}
}

static void say_histogram(const char *name, const char *help, size_t at, const uint64_t *ends,
			  const struct services *all)
{
	head(name, "histogram", help);
	for (size_t i = 0; i < all->count; i++) {
		const struct service *s = &all->of[i];
		const struct histogram *h = (const struct histogram *)((const char *)&s->figures + at);
		unsigned long long so_far = 0;

		if (!s->counts)
			continue;
		for (size_t b = 0; b < FIGURES_BUCKETS; b++) {
			so_far += h->counts[b];
			printf("%s_bucket{%s,le=\"%g\"} %llu\n", name, s->labels, (double)ends[b] / 1e6, so_far);
		}
		so_far += h->counts[FIGURES_BUCKETS];
		printf("%s_bucket{%s,le=\"+Inf\"} %llu\n", name, s->labels, so_far);
		printf("%s_sum{%s} %.10g\n%s_count{%s} %llu\n", name, s->labels, (double)h->sum_us / 1e6, name,
		       s->labels, so_far);
	}
}

enum outcome cmd_metrics(int argc, char **argv)
{
	cleanup_census struct census census;
	struct services all = {0};

	cmd_no_option(argc, argv, usage_text);
	census_take(&census, true);
	for (size_t i = 0; i < census.count; i++)
		if (!census.row[i].silent && !census_parent(&census, &census.row[i]))
			add_service(&all, &census.row[i], &census);
	for (size_t i = 0; i < countof(plains); i++)
		say_plain(&plains[i], &all);
	say_connections(&all);
	say_draining(&all);
	say_histogram("cpr_restart_duration_seconds", "From the request until the next generation serves.",
		      offsetof(struct figures, took), figures_took_us, &all);
	say_histogram("cpr_restart_gate_seconds", "How long no generation accepted; clients waited in the queue.",
		      offsetof(struct figures, gate), figures_gate_us, &all);
	free(all.of);
	return OUTCOME_DONE;
}
