/* SPDX-License-Identifier: MIT */
/* Reads a state (state_format.h), and checks everything before use. */
#define _GNU_SOURCE
#include "model/state.h"

#include "base/attr.h"
#include "base/io.h"
#include "base/next.h"
#include "base/pool.h"
#include "model/state_format.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

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
	if (memcmp(h->magic, STATE_MAGIC, sizeof(h->magic)))
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
	if (h->hash != state_hash(bytes, size))
		return bad(why, "its checksum is wrong");
	if (h->descriptors > STATE_RECORDS_MAX || h->heirlooms > STATE_RECORDS_MAX || h->workers > STATE_RECORDS_MAX ||
	    h->connections > STATE_RECORDS_MAX || h->children > STATE_RECORDS_MAX)
		return bad(why, "it counts more than %d records of a kind", (int)STATE_RECORDS_MAX);
	if (!h->generation || h->generation > INT32_MAX)
		return bad(why, "its generation is %u", h->generation);
	return 0;
}

/* One descriptor has several tags if the program has saved it under them; else two records of one are a mistake. */
static int add_descriptor(struct table *table, const char *name, const struct descriptor_record *r, struct entry **e)
{
	struct object object = {.dev = r->dev,
				.ino = r->ino,
				.mode = (uint16_t)r->mode,
				.domain = (int16_t)r->domain,
				.type = (int16_t)r->type,
				.protocol = (int16_t)r->protocol};
	struct entry *beside = table_by_fd(table, r->fd);
	bool also = beside && beside->kind == ENTRY_API && r->kind == ENTRY_API &&
		    object_same(&beside->object, &object);
	int added = also ? table_add_beside(table, name, r->id, beside, e) : table_add(table, name, r->id, r->fd, e);

	if (!added)
		(*e)->object = object;
	return added;
}

static int take_descriptor(struct state *state, const struct header *h, const struct record *record, struct text *why)
{
	const struct descriptor_record *r = (const struct descriptor_record *)record;
	char name[TAG_NAME_MAX + 1];
	struct entry *e;
	int taken;

	(void)h;
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
	taken = add_descriptor(state->table, name, r, &e);
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

static int state_read_given(struct state *state, const struct header *h, const struct record *record, struct text *why)
{
	const struct given_record *r = (const struct given_record *)record;
	struct given given;
	char *at, *end, **room;

	(void)h;
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

static int take_page(struct state *state, const struct header *h, const struct record *r, struct text *why)
{
	const struct pair_record *pair = (const struct pair_record *)r;

	(void)h;
	if (r->length != sizeof(*pair) || pair->number < 0)
		return bad(why, "the record of the shared page has %u bytes and descriptor %d", r->length,
			   pair->number);
	state->page = pair->number;
	state->page_ino = pair->first;
	return 0;
}

static int take_unseen(struct state *state, const struct header *h, const struct record *r, struct text *why)
{
	(void)h, (void)r, (void)why;
	state->unseen = true;
	return 0;
}

static int take_connection(struct state *state, const struct header *h, const struct record *r, struct text *why)
{
	const struct pair_record *pair = (const struct pair_record *)r;

	if (r->length != sizeof(*pair) || pair->number < 0 || pair->other < -1)
		return bad(why, "a connection's record has %u bytes and descriptor %d", r->length, pair->number);
	if (state->passed_count == h->connections)
		return bad(why, "it has more connections than it counts");
	state->passed[state->passed_count++] =
		(struct passed){.fd = pair->number, .listener = pair->other, .ino = pair->first};
	return 0;
}

static int take_child(struct state *state, const struct header *h, const struct record *r, struct text *why)
{
	const struct pair_record *pair = (const struct pair_record *)r;

	if (r->length != sizeof(*pair) || pair->number <= 0 || !pair->first)
		return bad(why, "a child's record has %u bytes, process %d and start time %llu", r->length,
			   pair->number, (unsigned long long)pair->first);
	if (state->child_count == h->children)
		return bad(why, "it has more children than it counts");
	state->children[state->child_count++] = (struct child){pair->number, pair->first, pair->other != 0};
	return 0;
}

/* One of two kinds of which there are `counted` at the most, and `taken` so far. */
static int check_pair(const struct record *r, uint32_t taken, uint32_t counted, struct text *why)
{
	const struct pair_record *pair = (const struct pair_record *)r;

	if (r->length != sizeof(*pair) || pair->number < 0)
		return bad(why, "a record of type %u has %u bytes and number %d", r->type, r->length, pair->number);
	if (taken == counted)
		return bad(why, "it has more records of type %u than it counts", r->type);
	return 0;
}

static int take_heirloom(struct state *state, const struct header *h, const struct record *r, struct text *why)
{
	const struct pair_record *pair = (const struct pair_record *)r;
	int checked = check_pair(r, (uint32_t)state->heirloom_count, h->heirlooms, why);

	if (checked)
		return checked;
	state->heirlooms[state->heirloom_count++] = (struct heirloom){pair->number, pair->first, pair->second};
	return 0;
}

static int take_worker(struct state *state, const struct header *h, const struct record *r, struct text *why)
{
	const struct pair_record *pair = (const struct pair_record *)r;
	int checked = check_pair(r, (uint32_t)state->worker_count, h->workers, why);

	if (checked)
		return checked;
	if (!pair->first) /* what is said of a process that is gone: any pid would match */
		return bad(why, "worker %d has no start time", pair->number);
	if (pair->second > INT64_MAX)
		return bad(why, "worker %d is to leave before time began", pair->number);
	state->workers[state->worker_count++] =
		(struct worker){pair->number, pair->first, (int64_t)pair->second, pair->other != 0, 0, 0};
	return 0;
}

/* It stands behind its worker. One that says nonsense only makes it leave later, or when its time is over. */
static int take_rest(struct state *state, const struct header *h, const struct record *r, struct text *why)
{
	const struct pair_record *pair = (const struct pair_record *)r;
	struct worker *w = state->worker_count ? &state->workers[state->worker_count - 1] : NULL;

	(void)h;
	if (r->length != sizeof(*pair) || !w || w->pid != pair->number || pair->first > INT64_MAX ||
	    pair->second > INT64_MAX)
		return bad(why, "a record of %u bytes says that process %d rests", r->length, pair->number);
	w->rests_since = (int64_t)pair->first;
	w->cpu = (int64_t)pair->second;
	return 0;
}

static int take_restart(struct state *state, const struct header *h, const struct record *r, struct text *why)
{
	const struct restart_record *restart = (const struct restart_record *)r;

	(void)h;
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
}

static int take_record(struct state *state, const struct header *h, const struct record *r, struct text *why)
{
	typedef int taker(struct state *, const struct header *, const struct record *, struct text *);
	static taker *const takers[] = {
		[RECORD_DESCRIPTOR] = take_descriptor, [RECORD_HEIRLOOM] = take_heirloom,
		[RECORD_WORKER] = take_worker,         [RECORD_RESTART] = take_restart,
		[RECORD_CONNECTION] = take_connection, [RECORD_GIVEN] = state_read_given,
		[RECORD_PAGE] = take_page,             [RECORD_CHILD] = take_child,
		[RECORD_UNSEEN] = take_unseen,         [RECORD_REST] = take_rest,
	};

	if (r->type < sizeof(takers) / sizeof(*takers) && takers[r->type])
		return takers[r->type](state, h, r, why);
	return r->flags & RECORD_REQUIRED
		       ? bad(why, "it needs records of type %u, which this library does not know", r->type)
		       : 0;
}

static int take_records(struct state *state, const struct header *h, const char *bytes, struct text *why)
{
	for (size_t at = h->size; at < h->total;) {
		const struct record *r = (const struct record *)(bytes + at);
		int taken;

		if (h->total - at < sizeof(*r) || r->length < sizeof(*r) || r->length % 8 || r->length > h->total - at)
			return bad(why, "the record at byte %zu runs past the end", at);
		/* every record that we know is at least a pair long: shorter ones must not be looked into */
		if (r->type <= RECORD_REST && r->length < sizeof(struct pair_record))
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
 * A sealed memfd of a terabyte costs its maker nothing. To map it, or to compute its checksum, stopped a start for more
 * than 10 s. So a memfd with holes is refused: state_write leaves none. A file on a disk may have some, by compression.
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

	if (!unsealed_too && (seals < 0 || (seals & STATE_SEALS) != STATE_SEALS)) {
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
