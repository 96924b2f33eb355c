/* SPDX-License-Identifier: MIT */
/* A state with something of everything, for tests and for the fuzzer. */
#ifndef CPR_TEST_STATE_SAMPLE_H
#define CPR_TEST_STATE_SAMPLE_H

#include "base/pool.h"
#include "model/state.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static inline struct entry *sample_add(struct state *s, const char *name, int id, int fd, enum entry_kind kind,
				       unsigned flags)
{
	struct entry *e;

	if (table_add(s->table, name, id, fd, &e))
		abort();
	e->kind = kind;
	e->flags = flags;
	e->backlog = 511 + fd;
	e->queue = fd;
	e->access = fd % 3;
	e->object = (struct object){.dev = 0x1122334455667788u + (uint64_t)fd,
				    .ino = 0xfedcba9876543210u - (uint64_t)fd,
				    .mode = S_IFSOCK,
				    .domain = fd,
				    .type = 1,
				    .protocol = -1};
	e->path_dev = UINT64_MAX - (uint64_t)fd;
	e->path_ino = (uint64_t)fd << 40;
	return e;
}

/* In one block, as state_read() makes it. */
static inline struct given sample_given(void)
{
	static const char strings[] = "/usr/bin/some server\0/\0\0some server\0-x\0\0PATH=/bin\0EMPTY=";
	struct given given = {.mask = 0x8000000000000001u,
			      .ignored = 4096,
			      .umask = 022,
			      .size = 8 * sizeof(char *) + sizeof(strings)};
	char **room = pool_map(given.size), *at = (char *)(room + 8);

	memcpy(at, strings, sizeof(strings));
	given.path = at;
	given.directory = at + 21;
	given.script = at + 23;
	given.argv = room;
	room[0] = at + 24;
	room[1] = at + 36;
	room[2] = at + 39;
	given.envp = room + 4;
	room[4] = at + 40;
	room[5] = at + 50;
	return given;
}

/* Free it with state_free(). The workers' times are of no process that there is. */
static inline struct state sample_state(void)
{
	static const struct heirloom heirlooms[] = {
		{0, 1, 2}, {1, 0xffffffffffffffffu, 3}, {2, 4, 0xffffffffffffffffu}};
	static const struct worker workers[] = {{32000000, 0x7766554433221100u, 0, true, 0, 0},
						{2147483647, 0xffffffffffffffffu, INT64_MAX, false, 1, INT64_MAX}};
	static const struct child children[] = {{32000000, 0x7766554433221100u, true}, {2147483647, 1, false}};
	static const struct passed passed[] = {{14, 6, 99}, {15, -1, 0xffffffffffffffffu}, {2147483647, 2147483647, 1}};
	struct state s = {.generation = 7, .cut = 3, .carried = 4, .closed = 0xffffffffu, .drained_at = 1000001,
			  .nonce = 0xabcdef0123456789u, .asked_at = 1000000, .left_at = INT64_MAX, .first_at = -5};

	s.table = table_new();
	s.heirloom_count = sizeof(heirlooms) / sizeof(heirlooms[0]);
	s.worker_count = sizeof(workers) / sizeof(workers[0]);
	s.passed_count = sizeof(passed) / sizeof(passed[0]);
	s.passed = pool_map(sizeof(passed) + 1);
	memcpy(s.passed, passed, sizeof(passed));
	s.child_count = sizeof(children) / sizeof(children[0]);
	s.children = pool_map(sizeof(children) + 1);
	memcpy(s.children, children, sizeof(children));
	s.heirlooms = pool_map(sizeof(heirlooms) + 1);
	s.workers = pool_map(sizeof(workers) + 1);
	memcpy(s.heirlooms, heirlooms, sizeof(heirlooms));
	memcpy(s.workers, workers, sizeof(workers));
	s.page = 701;
	s.page_ino = 0x8877665544332211u;
	s.given = sample_given();
	sample_add(&s, "tcp:0.0.0.0:80", 0, 6, ENTRY_STREAM, ENTRY_KEPT | ENTRY_LISTENING | ENTRY_CLOEXEC);
	sample_add(&s, "tcp:0.0.0.0:80", 1, 7, ENTRY_STREAM, ENTRY_KEPT | ENTRY_LISTENING);
	sample_add(&s, "tcp:[::]:443", 0, 1000, ENTRY_STREAM, ENTRY_KEPT | ENTRY_V6ONLY | ENTRY_INHERITED);
	sample_add(&s, "udp:0.0.0.0:53", 0, 3, ENTRY_DATAGRAM, ENTRY_KEPT);
	sample_add(&s, "unix:/run/a.sock", 0, 8, ENTRY_STREAM, ENTRY_KEPT | ENTRY_LISTENING);
	sample_add(&s, "fifo:/run/in", 0, 9, ENTRY_FIFO, ENTRY_KEPT);
	sample_add(&s, "dev:/dev/ttyUSB0", 0, 10, ENTRY_DEVICE, ENTRY_KEPT);
	sample_add(&s, "file:/var/log/a.log", -3, 11, ENTRY_FILE, 0);
	sample_add(&s, "memfd:x", 0, 12, ENTRY_MEMFD, ENTRY_KEPT);
	sample_add(&s, "v", 2147483647, 16777215, ENTRY_API, ENTRY_KEPT);
	table_make_orphan(s.table, sample_add(&s, "udp:0.0.0.0:53", 1, 13, ENTRY_DATAGRAM, ENTRY_KEPT));
	return s;
}

#endif
