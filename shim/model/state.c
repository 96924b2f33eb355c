/* SPDX-License-Identifier: MIT */
/* Writes the state (state_format.h) into a sealed memfd. */
#define _GNU_SOURCE
#include "model/state.h"

#include "base/attr.h"
#include "base/io.h"
#include "base/next.h"
#include "base/pool.h"
#include "model/state_format.h"

#include <errno.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

uint64_t state_hash(const void *bytes, size_t size)
{
	static const uint64_t none;
	const size_t at = offsetof(struct header, hash), after = at + sizeof(none);
	XXH64_state_t hash;

	XXH64_reset(&hash, 0);
	XXH64_update(&hash, bytes, at);
	XXH64_update(&hash, &none, sizeof(none));
	XXH64_update(&hash, (const char *)bytes + after, size - after);
	return XXH64_digest(&hash);
}

static void put_descriptor(char **at, const struct entry *e)
{
	struct descriptor_record *r = (struct descriptor_record *)*at;
	size_t len = strlen(e->name);

	*r = (struct descriptor_record){
		.head = {RECORD_DESCRIPTOR, RECORD_REQUIRED, (uint32_t)descriptor_length(len)},
		.fd = e->fd,
		.id = e->id,
		.kind = e->kind,
		.flags = e->flags & ENTRY_SAVED_FLAGS,
		.backlog = e->backlog,
		.queue = e->queue,
		.access = e->access,
		.name_length = (uint32_t)len,
		.mode = e->object.mode,
		.domain = e->object.domain,
		.type = e->object.type,
		.protocol = e->object.protocol,
		.dev = e->object.dev,
		.ino = e->object.ino,
		.path_dev = e->path_dev,
		.path_ino = e->path_ino,
	};
	memcpy(r->name, e->name, len); /* the pages came zeroed: the filling is there */
	*at += r->head.length;
}

static void put_pair(char **at, uint16_t type, int number, int other, uint64_t first, uint64_t second)
{
	*(struct pair_record *)*at = (struct pair_record){
		.head = {type, type >= RECORD_PAGE ? 0 : RECORD_REQUIRED, sizeof(struct pair_record)},
		.number = number, .other = other, .first = first, .second = second};
	*at += sizeof(struct pair_record);
}

/* The strings one behind the other at `into` (NULL: they are only measured). How many bytes. */
static size_t put_strings(const struct given *given, char *into)
{
	char *const first[] = {given->path, given->directory, given->script, NULL};
	char *const *const all[] = {first, given->argv, given->envp};
	size_t used = 0;

	for (size_t i = 0; i < countof(all); i++)
		for (char *const *string = all[i]; *string; string++) {
			size_t n = strlen(*string) + 1;

			if (into)
				memcpy(into + used, *string, n);
			used += n;
		}
	return used;
}

static void put_given(char **at, const struct given *given)
{
	struct given_record *r = (struct given_record *)*at;
	uint32_t args = 0, envs = 0, length = (uint32_t)put_strings(given, r->strings);

	while (given->argv[args])
		args++;
	while (given->envp[envs])
		envs++;
	r->head = (struct record){RECORD_GIVEN, 0, (uint32_t)given_length(length)};
	r->mask = given->mask;
	r->ignored = given->ignored;
	r->umask = given->umask;
	r->args = args;
	r->envs = envs;
	r->length = length;
	*at += r->head.length;
}

static bool goes_in(const struct entry *e, bool whole)
{
	return (whole && !(e->flags & ENTRY_STARTED_WITH)) || e->flags & ENTRY_KEPT;
}

/* Fills `bytes`, which state_size measured. */
static void encode(const struct state *state, bool whole, char *bytes, size_t size)
{
	struct header *header = (struct header *)bytes;
	char *at = bytes + sizeof(*header);
	uint32_t descriptors = 0;

	*(struct restart_record *)at =
		(struct restart_record){.head = {RECORD_RESTART, 0, sizeof(struct restart_record)},
					.cut = state->cut,
					.carried = state->carried,
					.closed = state->closed,
					.passage = state->passage,
					.mask = state->mask,
					.nonce = state->nonce,
					.asked_at = state->asked_at,
					.drained_at = state->drained_at,
					.left_at = state->left_at,
					.first_at = state->first_at};
	at += sizeof(struct restart_record);
	if (state->given.path)
		put_given(&at, &state->given);
	if (state->page_ino)
		put_pair(&at, RECORD_PAGE, state->page, 0, state->page_ino, 0);
	if (state->unseen)
		put_pair(&at, RECORD_UNSEEN, 0, 0, 0, 0);
	for (size_t i = 0; i < state->heirloom_count; i++)
		put_pair(&at, RECORD_HEIRLOOM, state->heirlooms[i].fd, 0, state->heirlooms[i].dev,
			 state->heirlooms[i].ino);
	for (size_t i = 0; i < state->worker_count; i++) {
		put_pair(&at, RECORD_WORKER, state->workers[i].pid, state->workers[i].empty,
			 state->workers[i].start_time, (uint64_t)state->workers[i].leave_by);
		if (state->workers[i].rests_since)
			put_pair(&at, RECORD_REST, state->workers[i].pid, 0, (uint64_t)state->workers[i].rests_since,
				 (uint64_t)state->workers[i].cpu);
	}
	for (size_t i = 0; i < state->passed_count; i++)
		put_pair(&at, RECORD_CONNECTION, state->passed[i].fd, state->passed[i].listener, state->passed[i].ino,
			 0);
	for (size_t i = 0; i < state->child_count; i++)
		put_pair(&at, RECORD_CHILD, state->children[i].pid, state->children[i].shares,
			 state->children[i].start_time, 0);
	for (const struct entry *e = table_first(state->table); e; e = table_after(e))
		if (goes_in(e, whole)) {
			put_descriptor(&at, e);
			descriptors++;
		}
	*header = (struct header){.version = STATE_VERSION,
				  .size = sizeof(*header),
				  .total = size,
				  .generation = state->generation,
				  .descriptors = descriptors,
				  .heirlooms = (uint32_t)state->heirloom_count,
				  .workers = (uint32_t)state->worker_count,
				  .connections = (uint32_t)state->passed_count,
				  .children = (uint32_t)state->child_count};
	memcpy(header->magic, STATE_MAGIC, sizeof(header->magic));
	header->hash = state_hash(bytes, size);
}

int state_write(const struct state *state, bool whole)
{
	size_t size = sizeof(struct header) + sizeof(struct restart_record) +
		      (state->heirloom_count + state->worker_count + state->passed_count + state->child_count) *
			      sizeof(struct pair_record);
	cleanup_fd int fd = -1;
	char *bytes;

	for (size_t i = 0; i < state->worker_count; i++)
		size += state->workers[i].rests_since ? sizeof(struct pair_record) : 0;
	for (const struct entry *e = table_first(state->table); e; e = table_after(e))
		if (goes_in(e, whole))
			size += descriptor_length(strlen(e->name));
	if (state->given.path)
		size += given_length(put_strings(&state->given, NULL));
	size += (state->page_ino ? sizeof(struct pair_record) : 0) + (state->unseen ? sizeof(struct pair_record) : 0);
	if (size > STATE_SIZE_MAX)
		return -E2BIG;
	fd = io_memfd_sized("cpr.state", size, 0);
	if (fd < 0)
		return fd;
	/* one call and not a fault for each page */
	bytes = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_POPULATE, fd, 0);
	if (bytes == MAP_FAILED)
		return -errno;
	encode(state, whole, bytes, size);
	munmap(bytes, size); /* a writable mapping would refuse the seal */
	if (next_fcntl(fd, F_ADD_SEALS, (void *)(long)STATE_SEALS))
		return -errno;
	return steal_fd(&fd);
}

void state_free(struct state *state)
{
	table_free(state->table);
	pool_unmap(state->heirlooms, state->heirloom_count * sizeof(struct heirloom) + 1);
	pool_unmap(state->workers, state->worker_count * sizeof(struct worker) + 1);
	pool_unmap(state->passed, state->passed_count * sizeof(struct passed) + 1);
	pool_unmap(state->children, state->child_count * sizeof(struct child) + 1);
	if (state->given.path)
		pool_unmap(state->given.argv, state->given.size);
	*state = (struct state){0};
}
