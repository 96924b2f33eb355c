/* SPDX-License-Identifier: MIT */
/*
 * The state as bytes: a header, then typed records, each a multiple of 8 bytes long. Byte order and sizes are the
 * machine's own, since a state never leaves it. For state.c, which writes it, and state_read.c.
 */
#ifndef CPR_MODEL_STATE_FORMAT_H
#define CPR_MODEL_STATE_FORMAT_H

#include <fcntl.h>
#include <stddef.h>
#include <stdint.h>

#define STATE_MAGIC "CPRSTATE" /* 8 bytes; its NUL is not written */

enum { STATE_SEALS = F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL };

struct header {
	char magic[8];
	uint32_t version;
	uint32_t size; /* of this header; a newer one may be longer */
	uint64_t total;
	uint64_t hash; /* xxh64 of all bytes, this field taken as 0 */
	uint32_t generation;
	uint32_t descriptors;
	uint32_t heirlooms;
	uint32_t workers;
	uint32_t connections;
	uint32_t children; /* 0 from a library without this field */
};

enum record_type {
	RECORD_DESCRIPTOR = 1,
	RECORD_HEIRLOOM,
	RECORD_WORKER,
	RECORD_RESTART,
	RECORD_CONNECTION,
	RECORD_GIVEN,
	RECORD_PAGE,
	RECORD_CHILD,
	RECORD_UNSEEN,
	RECORD_REST
};
enum { RECORD_REQUIRED = 1 };

struct record {
	uint16_t type;
	uint16_t flags;
	uint32_t length; /* with this head */
};

struct descriptor_record {
	struct record head;
	int32_t fd, id;
	uint32_t kind, flags;
	int32_t backlog, queue;
	int32_t access;
	uint32_t mode;
	int32_t domain, type, protocol;
	uint32_t name_length;
	uint64_t dev, ino;
	uint64_t path_dev, path_ino;
	char name[]; /* name_length bytes, then zeroes up to a multiple of 8 */
};

struct pair_record { /* heirloom: fd, 0, dev, ino. worker: pid, empty, start time, leave by. connection: fd, listener's
			or -1, ino, 0. page: fd, 0, ino, 0. child: pid, shares, start time, 0. unseen: only that it is
			there. rest, behind its worker: pid, 0, since, processor time */
	struct record head;
	int32_t number;
	int32_t other;
	uint64_t first, second;
};

struct restart_record {
	struct record head;
	uint32_t cut, carried, closed, passage;
	uint64_t nonce, mask;
	int64_t asked_at, drained_at, left_at, first_at;
};

struct given_record {
	struct record head;
	uint64_t mask, ignored;
	uint32_t umask, args, envs;
	uint32_t length;   /* of the strings: path, directory, script, arguments, environment */
	char strings[];    /* each with its NUL; then zeroes up to a multiple of 8 */
};

/* Returns the checksum of a whole state of `size` bytes. Its own field in the header counts as 0. */
uint64_t state_hash(const void *bytes, size_t size);

/* Returns the length of a descriptor's record with a name of `name` bytes. */
static inline size_t descriptor_length(size_t name)
{
	return (sizeof(struct descriptor_record) + name + 7) & ~(size_t)7;
}

/* Returns the length of the record of what the program was started with: its strings take `strings` bytes. */
static inline size_t given_length(size_t strings)
{
	return (sizeof(struct given_record) + strings + 7) & ~(size_t)7;
}

#endif
