/* SPDX-License-Identifier: MIT */
/*
 * The state as bytes: a header, then typed records, each a multiple of 8 bytes long. Numbers are the machine's own: it
 * never leaves it.
 */
#define _GNU_SOURCE
#include "model/state.h"

#include "base/attr.h"
#include "base/io.h"
#include "base/next.h"
#include "base/pool.h"

#include <errno.h>
#include <stdarg.h>
#include <fcntl.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#define XXH_INLINE_ALL
#include <xxhash.h>

static const char magic[8] = "CPRSTATE";

enum { ALL_SEALS = F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL };

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
	uint32_t children; /* 0 from who does not know of them */
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
	RECORD_UNSEEN
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
			there */
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

static uint64_t hash_of(const void *bytes, size_t size)
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

static size_t descriptor_length(size_t name)
{
	return (sizeof(struct descriptor_record) + name + 7) & ~(size_t)7;
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

static size_t given_length(size_t strings)
{
	return (sizeof(struct given_record) + strings + 7) & ~(size_t)7;
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
	for (size_t i = 0; i < state->worker_count; i++)
		put_pair(&at, RECORD_WORKER, state->workers[i].pid, state->workers[i].empty,
			 state->workers[i].start_time, (uint64_t)state->workers[i].leave_by);
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
	memcpy(header->magic, magic, sizeof(magic));
	header->hash = hash_of(bytes, size);
}

int state_write(const struct state *state, bool whole)
{
	size_t size = sizeof(struct header) + sizeof(struct restart_record) +
		      (state->heirloom_count + state->worker_count + state->passed_count + state->child_count) *
			      sizeof(struct pair_record);
	cleanup_fd int fd = -1;
	char *bytes;

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
	if (next_fcntl(fd, F_ADD_SEALS, (void *)(long)ALL_SEALS))
		return -errno;
	return steal_fd(&fd);
}

static int bad(struct text *why, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	text_vformat(why, format, args);
	va_end(args);
	return -EBADMSG;
}

static int check_header(const struct header *h, size_t size, const char *bytes, struct text *why)
{
	if (size < sizeof(*h))
		return bad(why, "%zu bytes are too few for a state", size);
	if (memcmp(h->magic, magic, sizeof(magic)))
		return bad(why, "not a state: it does not begin with CPRSTATE");
	if (h->version > STATE_VERSION)
		return bad(why,
			   "it is of version %u, and this library reads versions up to %d: start the program with the "
			   "newer cpr",
			   h->version, (int)STATE_VERSION);
	if (!h->version || h->size < sizeof(*h) || h->size > size || h->size % 8)
		return bad(why, "its header says version %u, size %u", h->version, h->size);
	if (h->total != size)
		return bad(why, "it says %llu bytes and has %zu", (unsigned long long)h->total, size);
	if (h->hash != hash_of(bytes, size))
		return bad(why, "its checksum is wrong");
	if (h->descriptors > STATE_RECORDS_MAX || h->heirlooms > STATE_RECORDS_MAX || h->workers > STATE_RECORDS_MAX ||
	    h->connections > STATE_RECORDS_MAX || h->children > STATE_RECORDS_MAX)
		return bad(why, "it counts more than %d records of a kind", (int)STATE_RECORDS_MAX);
	if (!h->generation || h->generation > INT32_MAX)
		return bad(why, "its generation is %u", h->generation);
	return 0;
}

static int take_descriptor(struct state *state, const struct descriptor_record *r, struct text *why)
{
	char name[TAG_NAME_MAX + 1];
	struct entry *e;
	int taken;

	if (r->head.length < sizeof(*r)) /* its name_length would be behind it, and perhaps behind the last page */
		return bad(why, "a descriptor's record has %u bytes", r->head.length);
	if (r->name_length > TAG_NAME_MAX || r->head.length != descriptor_length(r->name_length))
		return bad(why, "a descriptor's record of %u bytes does not fit its name of %u", r->head.length,
			   r->name_length);
	memcpy(name, r->name, r->name_length);
	name[r->name_length] = '\0';
	if (strlen(name) != r->name_length)
		return bad(why, "a name holds a NUL");
	if (r->kind >= ENTRY_KINDS || r->flags & ~(uint32_t)ENTRY_SAVED_FLAGS || r->fd < 0)
		return bad(why, "%s/%d has kind %u, flags %x, descriptor %d", name, r->id, r->kind, r->flags, r->fd);
	taken = table_add(state->table, name, r->id, r->fd, &e);
	if (taken == -EEXIST)
		return bad(why, "the tag %s/%d, or its descriptor %d, stands twice", name, r->id, r->fd);
	if (taken == -ENOMEM)
		return taken;
	if (taken)
		return bad(why, "%s/%d with descriptor %d is no tag", name, r->id, r->fd);
	e->kind = (enum entry_kind)r->kind;
	e->flags = r->flags & ~(uint32_t)ENTRY_ORPHAN;
	if (r->flags & ENTRY_ORPHAN)
		table_make_orphan(state->table, e);
	e->backlog = r->backlog;
	e->queue = r->queue;
	e->access = r->access;
	e->object = (struct object){.dev = r->dev,
				    .ino = r->ino,
				    .mode = r->mode,
				    .domain = r->domain,
				    .type = r->type,
				    .protocol = r->protocol};
	e->path_dev = r->path_dev;
	e->path_ino = r->path_ino;
	return 0;
}

/* The next string of *at, which goes up to `end`; NULL: there is none. */
static char *next_string(char **at, const char *end)
{
	char *string = *at, *nul = string < end ? memchr(string, '\0', (size_t)(end - string)) : NULL;

	if (nul)
		*at = nul + 1;
	return nul ? string : NULL;
}

static char **next_strings(char **at, const char *end, char ***room, uint32_t count)
{
	char **first = *room;

	for (uint32_t i = 0; i < count; i++)
		if (!(first[i] = next_string(at, end)))
			return NULL;
	*room += count + 1; /* the block came zeroed: a NULL ends it */
	return first;
}

static int take_given(struct state *state, const struct given_record *r, struct text *why)
{
	struct given given;
	char *at, *end, **room;

	if (r->head.length < sizeof(*r) || r->length > r->head.length - sizeof(*r) ||
	    r->head.length != given_length(r->length))
		return bad(why, "the record of the start has %u bytes", r->head.length);
	if (state->given.path)
		return bad(why, "it tells the start twice");
	if (r->args > r->length || r->envs > r->length)
		return bad(why, "the record of the start counts %u arguments and %u variables in %u bytes", r->args,
			   r->envs, r->length);
	given = (struct given){.mask = r->mask, .ignored = r->ignored, .umask = r->umask & 0777};
	given.size = ((size_t)r->args + r->envs + 2) * sizeof(char *) + r->length;
	room = pool_map(given.size);
	if (!room)
		return -ENOMEM;
	at = (char *)(room + r->args + r->envs + 2);
	end = at + r->length;
	memcpy(at, r->strings, r->length);
	given.argv = room; /* the block begins here */
	given.path = next_string(&at, end);
	given.directory = next_string(&at, end);
	given.script = next_string(&at, end);
	if (!given.script || !*given.path || !next_strings(&at, end, &room, r->args) ||
	    !(given.envp = next_strings(&at, end, &room, r->envs)) || at != end) {
		pool_unmap(given.argv, given.size);
		return bad(why, "the record of the start does not hold what it counts");
	}
	state->given = given;
	return 0;
}

static int take_record(struct state *state, const struct header *h, const struct record *r, struct text *why)
{
	const struct pair_record *pair = (const struct pair_record *)r;
	const struct restart_record *restart = (const struct restart_record *)r;

	switch (r->type) {
	case RECORD_DESCRIPTOR:
		return take_descriptor(state, (const struct descriptor_record *)r, why);
	case RECORD_PAGE:
		if (r->length != sizeof(*pair) || pair->number < 0)
			return bad(why, "the record of the shared page has %u bytes and descriptor %d", r->length,
				   pair->number);
		state->page = pair->number;
		state->page_ino = pair->first;
		return 0;
	case RECORD_UNSEEN:
		state->unseen = true;
		return 0;
	case RECORD_GIVEN:
		return take_given(state, (const struct given_record *)r, why);
	case RECORD_CONNECTION:
		if (r->length != sizeof(*pair) || pair->number < 0 || pair->other < -1)
			return bad(why, "a connection's record has %u bytes and descriptor %d", r->length,
				   pair->number);
		if (state->passed_count == h->connections)
			return bad(why, "it has more connections than it counts");
		state->passed[state->passed_count++] =
			(struct passed){.fd = pair->number, .listener = pair->other, .ino = pair->first};
		return 0;
	case RECORD_CHILD:
		if (r->length != sizeof(*pair) || pair->number <= 0 || !pair->first)
			return bad(why, "a child's record has %u bytes, process %d and start time %llu", r->length,
				   pair->number, (unsigned long long)pair->first);
		if (state->child_count == h->children)
			return bad(why, "it has more children than it counts");
		state->children[state->child_count++] = (struct child){pair->number, pair->first, pair->other != 0};
		return 0;
	case RECORD_HEIRLOOM:
	case RECORD_WORKER:
		if (r->length != sizeof(*pair) || pair->number < 0)
			return bad(why, "a record of type %u has %u bytes and number %d", r->type, r->length,
				   pair->number);
		if (r->type == RECORD_HEIRLOOM ? state->heirloom_count == h->heirlooms
					       : state->worker_count == h->workers)
			return bad(why, "it has more records of type %u than it counts", r->type);
		if (r->type == RECORD_WORKER && !pair->first) /* what is said of who is gone: any pid would match */
			return bad(why, "worker %d has no start time", pair->number);
		if (r->type == RECORD_WORKER && pair->second > INT64_MAX)
			return bad(why, "worker %d is to leave before time began", pair->number);
		if (r->type == RECORD_HEIRLOOM)
			state->heirlooms[state->heirloom_count++] =
				(struct heirloom){pair->number, pair->first, pair->second};
		else
			state->workers[state->worker_count++] =
				(struct worker){pair->number, pair->first, (int64_t)pair->second, pair->other != 0};
		return 0;
	case RECORD_RESTART:
		if (r->length != sizeof(*restart))
			return bad(why, "a record of type %u has %u bytes", r->type, r->length);
		if (restart->passage >= PASSAGES)
			return bad(why, "it came by a passage of number %u, which this library does not know",
				   restart->passage);
		state->cut = restart->cut;
		state->nonce = restart->nonce;
		state->asked_at = restart->asked_at;
		state->carried = restart->carried;
		state->closed = restart->closed;
		state->passage = restart->passage;
		state->mask = restart->mask;
		state->drained_at = restart->drained_at;
		state->left_at = restart->left_at;
		state->first_at = restart->first_at;
		return 0;
	default:
		return r->flags & RECORD_REQUIRED
			       ? bad(why, "it needs records of type %u, which this library does not know", r->type)
			       : 0;
	}
}

static int take_records(struct state *state, const struct header *h, const char *bytes, struct text *why)
{
	for (size_t at = h->size; at < h->total;) {
		const struct record *r = (const struct record *)(bytes + at);
		int taken;

		if (h->total - at < sizeof(*r) || r->length < sizeof(*r) || r->length % 8 || r->length > h->total - at)
			return bad(why, "the record at byte %zu runs past the end", at);
		/* every record that we know is at least a pair long: shorter ones must not be looked into */
		if (r->type <= RECORD_UNSEEN && r->length < sizeof(struct pair_record))
			return bad(why, "the record at byte %zu is too short", at);
		taken = take_record(state, h, r, why);
		if (taken)
			return taken;
		at += r->length;
	}
	if (table_count(state->table) != h->descriptors || state->heirloom_count != h->heirlooms ||
	    state->worker_count != h->workers || state->passed_count != h->connections ||
	    state->child_count != h->children)
		return bad(why, "it does not have as many records as it counts");
	return 0;
}

int state_decode(const void *bytes, size_t size, struct state *into, struct text *why)
{
	const struct header *h = bytes;
	struct state state = {0};
	int r = check_header(h, size, bytes, why);

	if (r)
		return r;
	/* a count is no reason to ask for memory: each record has its bytes here */
	if ((uint64_t)h->heirlooms + h->workers + h->connections + h->children > size / sizeof(struct pair_record))
		return bad(why, "it counts more records than it has bytes for");
	state.generation = h->generation;
	state.table = table_new();
	if (state.table && h->descriptors <= size / sizeof(struct descriptor_record))
		table_reserve(state.table, h->descriptors, size - h->descriptors * sizeof(struct descriptor_record));
	state.heirlooms = pool_map(h->heirlooms * sizeof(struct heirloom) + 1);
	state.workers = pool_map(h->workers * sizeof(struct worker) + 1);
	state.passed = pool_map(h->connections * sizeof(struct passed) + 1);
	state.children = pool_map(h->children * sizeof(struct child) + 1);
	r = state.table && state.heirlooms && state.workers && state.passed && state.children
		    ? take_records(&state, h, bytes, why)
		    : -ENOMEM;
	if (r) {
		if (r == -ENOMEM)
			text_add(why, "out of memory");
		state.heirloom_count = h->heirlooms; /* what was mapped, however far we came */
		state.worker_count = h->workers;
		state.passed_count = h->connections;
		state.child_count = h->children;
		state_free(&state);
		return r;
	}
	*into = state;
	return 0;
}

/*
 * A sealed memfd of a terabyte costs its maker nothing, and to map it, or to take its checksum, stopped a start for
 * more than 10 s. A state that was written has no holes; where it is a file on a disk, that may compress it.
 */
static int check_size(const struct stat *st, bool unsealed_too, struct text *why)
{
	if (!S_ISREG(st->st_mode) || st->st_size <= 0)
		return bad(why, "0 bytes are too few for a state");
	if (st->st_size > STATE_SIZE_MAX)
		return bad(why, "it has %lld bytes, which is more than a state can have", (long long)st->st_size);
	if (!unsealed_too && st->st_blocks * 512 < st->st_size)
		return bad(why, "it has %lld bytes, and most of them are a hole", (long long)st->st_size);
	return 0;
}

int state_read(int fd, bool unsealed_too, struct state *state, struct text *why)
{
	int seals = next_fcntl(fd, F_GET_SEALS, NULL), r;
	struct stat st;
	void *bytes;

	if (!unsealed_too && (seals < 0 || (seals & ALL_SEALS) != ALL_SEALS)) {
		text_add(why, "it is not a sealed memfd");
		return -EPERM;
	}
	if (fstat(fd, &st))
		return bad(why, "%m");
	r = check_size(&st, unsealed_too, why);
	if (r)
		return r;
	bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE | MAP_POPULATE, fd, 0);
	if (bytes == MAP_FAILED)
		return bad(why, "mmap: %m");
	r = state_decode(bytes, (size_t)st.st_size, state, why);
	munmap(bytes, (size_t)st.st_size);
	return r;
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
