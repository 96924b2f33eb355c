/* SPDX-License-Identifier: MIT */
/* cprctl dump: a state, decoded. */
#define _GNU_SOURCE
#include "cmd.h"

#include "base/attr.h"
#include "base/io.h"
#include "grid.h"
#include "json.h"
#include "model/state.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SIZE_MAX_MIB = 1024 };

static const char usage_text[] =
	"Usage: cprctl dump FILE|- [--json]\n"
	"Decodes a state: a file that holds one, /proc/PID/fd/N for a memfd that does, or - for the standard input.\n";

/* All of `from` in a memfd of our own: a pipe cannot be mapped, and a file may shrink while it is read. The memfd, or
 * -errno. */
static int copy_of(int from)
{
	cleanup_fd int memfd = io_memfd("state");
	char bytes[65536];
	size_t size = 0;
	ssize_t n;
	int r;

	if (memfd < 0)
		return memfd;
	while ((n = io_read_all(from, bytes, sizeof(bytes))) > 0) {
		size += (size_t)n;
		if (size > (size_t)SIZE_MAX_MIB << 20)
			return -EFBIG;
		r = io_write_all(memfd, bytes, (size_t)n);
		if (r)
			return r;
	}
	return n < 0 ? (int)n : steal_fd(&memfd);
}

static void print_tags(const struct state *state)
{
	static const struct grid_column columns[] = {
		{"TAG", false},    {"ID", true},  {"FD", true},    {"KIND", false},   {"FLAGS", false},
		{"BACKLOG", true}, {"DEV", true}, {"INODE", true}, {"SOCKET", false},
	};
	static const struct {
		unsigned flag;
		const char *name;
	} names[] = {
		{ENTRY_KEPT, "kept"},           {ENTRY_LISTENING, "listening"}, {ENTRY_CLOEXEC, "cloexec"},
		{ENTRY_INHERITED, "inherited"}, {ENTRY_V6ONLY, "v6only"},       {ENTRY_ORPHAN, "orphan"},
	};
	cleanup_grid struct grid *grid = grid_new(columns, countof(columns));

	for (const struct entry *e = table_first(state->table); e; e = table_after(e)) {
		char flags[128];
		struct text t = TEXT_ON(flags);

		for (size_t i = 0; i < countof(names); i++)
			if (e->flags & names[i].flag)
				text_format(&t, "%s%s", t.used ? "," : "", names[i].name);
		grid_add(grid, "%s", e->name);
		grid_add(grid, "%d", e->id);
		grid_add(grid, "%d", e->fd);
		grid_add(grid, "%s", cmd_kind(e->kind));
		grid_add(grid, "%s", t.used ? flags : "-");
		grid_add(grid, "%d", e->backlog);
		grid_add(grid, "%llx", (unsigned long long)e->object.dev);
		grid_add(grid, "%llu", (unsigned long long)e->object.ino);
		if (e->object.domain < 0)
			grid_add(grid, "-");
		else
			grid_add(grid, "%d/%d/%d", e->object.domain, e->object.type, e->object.protocol);
	}
	grid_print(grid, stdout);
}

static void print_human(const struct state *state)
{
	printf("generation %u, %zu tags, %zu heirlooms, %zu workers, %zu connections (%u carried, %u closed, %u cut)\n",
	       state->generation, table_count(state->table), state->heirloom_count, state->worker_count,
	       state->passed_count, state->carried, state->closed, state->cut);
	if (state->left_at)
		printf("asked for at %lld ns, left at %lld ns (CLOCK_MONOTONIC); generation 1 started at %lld ns\n",
		       (long long)state->asked_at, (long long)state->left_at, (long long)state->first_at);
	putchar('\n');
	print_tags(state);
	for (size_t i = 0; i < state->heirloom_count; i++)
		printf("%sheirloom: fd %d, device %llx, inode %llu\n", i ? "" : "\n", state->heirlooms[i].fd,
		       (unsigned long long)state->heirlooms[i].dev, (unsigned long long)state->heirlooms[i].ino);
	for (size_t i = 0; i < state->passed_count; i++)
		printf("%sconnection: fd %d, inode %llu, %s\n", i ? "" : "\n", state->passed[i].fd,
		       (unsigned long long)state->passed[i].ino,
		       state->passed[i].listener < 0 ? "to be closed" : "carried");
	for (size_t i = 0; i < state->worker_count; i++)
		printf("%sworker: PID %d, started at tick %llu\n", i ? "" : "\n", state->workers[i].pid,
		       (unsigned long long)state->workers[i].start_time);
}

static void json_entry(struct json *json, const struct entry *e)
{
	json_object(json, NULL);
	json_string(json, "tag", e->name);
	json_int(json, "id", e->id);
	json_int(json, "fd", e->fd);
	json_string(json, "kind", cmd_kind(e->kind));
	json_bool(json, "kept", e->flags & ENTRY_KEPT);
	json_bool(json, "listening", e->flags & ENTRY_LISTENING);
	json_bool(json, "cloexec", e->flags & ENTRY_CLOEXEC);
	json_bool(json, "inherited", e->flags & ENTRY_INHERITED);
	json_bool(json, "v6only", e->flags & ENTRY_V6ONLY);
	json_bool(json, "orphan", e->flags & ENTRY_ORPHAN);
	json_int(json, "backlog", e->backlog);
	json_int(json, "queue", e->queue);
	json_int(json, "access", e->access);
	json_unsigned(json, "dev", e->object.dev);
	json_unsigned(json, "ino", e->object.ino);
	json_unsigned(json, "mode", e->object.mode);
	json_int(json, "domain", e->object.domain);
	json_int(json, "type", e->object.type);
	json_int(json, "protocol", e->object.protocol);
	json_unsigned(json, "path_dev", e->path_dev);
	json_unsigned(json, "path_ino", e->path_ino);
	json_end(json, '}');
}

static void print_json(const struct state *state)
{
	struct json json = {.out = stdout};

	json_object(&json, NULL);
	json_int(&json, "generation", state->generation);
	json_int(&json, "cut", state->cut);
	json_unsigned(&json, "nonce", state->nonce);
	json_int(&json, "asked_at_ns", state->asked_at);
	json_int(&json, "left_at_ns", state->left_at);
	json_int(&json, "first_at_ns", state->first_at);
	json_array(&json, "tags");
	for (const struct entry *e = table_first(state->table); e; e = table_after(e))
		json_entry(&json, e);
	json_end(&json, ']');
	json_array(&json, "heirlooms");
	for (size_t i = 0; i < state->heirloom_count; i++) {
		json_object(&json, NULL);
		json_int(&json, "fd", state->heirlooms[i].fd);
		json_unsigned(&json, "dev", state->heirlooms[i].dev);
		json_unsigned(&json, "ino", state->heirlooms[i].ino);
		json_end(&json, '}');
	}
	json_end(&json, ']');
	json_array(&json, "connections");
	for (size_t i = 0; i < state->passed_count; i++) {
		json_object(&json, NULL);
		json_int(&json, "fd", state->passed[i].fd);
		json_unsigned(&json, "ino", state->passed[i].ino);
		json_int(&json, "listener", state->passed[i].listener);
		json_end(&json, '}');
	}
	json_end(&json, ']');
	json_array(&json, "workers");
	for (size_t i = 0; i < state->worker_count; i++) {
		json_object(&json, NULL);
		json_int(&json, "pid", state->workers[i].pid);
		json_unsigned(&json, "start_time", state->workers[i].start_time);
		json_end(&json, '}');
	}
	json_end(&json, ']');
	json_end(&json, '}');
}

enum outcome cmd_dump(int argc, char **argv)
{
	bool json = cmd_json_option(argc, argv, "FILE", usage_text);
	const char *name = argv[optind];
	bool standard_input = !strcmp(name, "-");
	cleanup_fd int file = standard_input ? -1 : open(name, O_RDONLY | O_CLOEXEC | O_NOCTTY);
	cleanup_fd int copy = -1;
	char reason[8192];
	struct text why = TEXT_ON(reason);
	struct state state;

	text_format(&why, "%s: ", standard_input ? "standard input" : name);
	if (!standard_input && file < 0) {
		text_format(&why, "%m");
		return cmd_fail(OUTCOME_FAILED, &why);
	}
	copy = copy_of(standard_input ? STDIN_FILENO : file);
	if (copy < 0) {
		errno = -copy;
		text_format(&why, "%m");
		return cmd_fail(OUTCOME_FAILED, &why);
	}
	if (state_read(copy, true, &state, &why))
		return cmd_fail(OUTCOME_FAILED, &why);
	if (json)
		print_json(&state);
	else
		print_human(&state);
	state_free(&state);
	return OUTCOME_DONE;
}
