/* SPDX-License-Identifier: MIT */
/* Duplicates of a generation's kept descriptors, each checked against the kernel before use. */
#define _GNU_SOURCE
#include "holdings.h"

#include "base/attr.h"
#include "base/fds.h"
#include "base/io.h"
#include "batch.h"
#include "genuine.h"
#include "patience.h"
#include "proc.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { WORKERS_MS = 1000, WORKER_MS = 200 };

/* ---- heirlooms ---- */

int holdings_add_heirloom(struct holdings *h, int fd)
{
	struct heirloom *longer;
	struct object object;

	if (object_of(fd, &object))
		return -EBADF;
	longer = reallocarray(h->heirlooms, h->heirloom_count + 1, sizeof(*longer));
	if (!longer)
		return -ENOMEM;
	h->heirlooms = longer;
	longer[h->heirloom_count++] = (struct heirloom){fd, object.dev, object.ino};
	return 0;
}

static void note_heirloom(int fd, void *arg)
{
	holdings_add_heirloom(arg, fd);
}

int holdings_begin(struct holdings *h)
{
	*h = (struct holdings){.table = table_new(), .first_at = io_now()};
	fds_walk(note_heirloom, h);
	return h->table ? 0 : -ENOMEM;
}

/* ---- taking ---- */

/* Above the numbers that a program uses: the next generation inherits them where they are. */
static int out_of_the_way(int fd)
{
	int up = fcntl(fd, F_DUPFD_CLOEXEC, PROTOCOL_HIGH);

	if (up < 0)
		return fd;
	close(fd);
	return up;
}

static void copy(struct entry *to, const struct entry *from)
{
	to->object = from->object;
	to->path_dev = from->path_dev;
	to->path_ino = from->path_ino;
	to->backlog = from->backlog;
	to->queue = from->queue;
	to->kind = from->kind;
	to->access = from->access;
	to->flags = (from->flags & ENTRY_SAVED_FLAGS & ~(ENTRY_ORPHAN | ENTRY_INHERITED)) | ENTRY_KEPT;
}

static struct entry *find_object(const struct table *table, const struct object *object)
{
	struct entry *e = table_first(table);

	while (e && !object_same(&e->object, object))
		e = table_after(e);
	return e;
}

/* Of one that we hold already, the one we hold: no number more is needed for it. */
static struct entry *held_already(struct table *held, const struct entry *e, bool worker)
{
	struct entry *before = worker ? find_object(held, &e->object) : table_find(held, e->name, e->id);

	return before && object_same(&before->object, &e->object) && object_still(&before->object, before->fd) ? before
													       : NULL;
}

/*
 * Adds a tag to our descriptor, beside those that it has. Each worker counts the ids of what it binds by itself. If the
 * tag is another worker's already, it gets the next id of its name.
 */
static int add_tag(struct table *into, const struct entry *e, int mine, bool worker)
{
	struct entry *made;
	int r = table_add_also(into, e->name, e->id, mine, &made);

	if (r == -EEXIST && worker)
		r = table_add_next(into, e->name, mine, &made);
	if (!r)
		copy(made, e);
	return r;
}

/* Every tag of their number, with our one descriptor in place of theirs. How many could not be taken. */
static size_t add_all(struct table *into, struct table *held, struct table *theirs, int number, int *fd, bool worker)
{
	struct entry *e = table_by_fd(theirs, number), *before = held ? held_already(held, e, worker) : NULL;
	int mine = before ? before->fd : out_of_the_way(*fd);
	size_t refused = 0;

	if (before)
		table_forget_fd(held, mine);
	else
		*fd = -1;
	for (; e; e = table_by_fd(theirs, number)) {
		refused += !genuine_is(e, mine) || add_tag(into, e, mine, worker);
		table_remove(theirs, e);
	}
	if (!table_by_fd(into, mine))
		close(mine);
	return refused;
}

static void close_all(struct table *table)
{
	for (struct entry *e = table_first(table); e; e = table_first(table)) {
		int fd = e->fd;

		table_forget_fd(table, fd); /* all its tags */
		close(fd);
	}
	table_free(table);
}

struct taking {
	struct table *theirs, *into, *held;
	bool worker;
	size_t refused;
	struct beginning *start; /* what the state says of it goes there; NULL: it is not wanted */
};

static bool is_held(const struct table *table, int fd)
{
	struct object object;

	return !object_of(fd, &object) && find_object(table, &object);
}

static void take_one(struct taking *t, uint64_t number, int *fd)
{
	struct entry *e = number <= INT32_MAX ? table_by_fd(t->theirs, (int)number) : NULL;

	if (!e)
		t->refused += !is_held(t->into, *fd); /* it comes once for each tag; the first time took them all */
	else if (t->worker && find_object(t->into, &e->object)) /* its owner's, or another worker's */
		table_forget_fd(t->theirs, e->fd);
	else
		t->refused += add_all(t->into, t->held, t->theirs, e->fd, fd, t->worker);
	io_close(fd);
	*fd = -1;
}

/* Batches until the line ends. */
static enum outcome take_batches(struct taking *t, int line, int64_t until, struct text *why)
{
	for (;;) {
		struct batch batch;
		int r = batch_await(line, &batch, until);

		if (r < 0) {
			text_format(why, "it did not send its descriptors: %s", strerror(-r));
			return r == -ETIME ? OUTCOME_SILENT : OUTCOME_FAILED;
		}
		if (!r)
			return OUTCOME_DONE;
		for (uint32_t i = 0; i < batch.head.count; i++)
			if (batch.head.kind == PROTOCOL_BATCH_DESCRIPTORS)
				take_one(t, batch.head.value[i], &batch.fds[i]);
		batch_close(&batch);
	}
}

/* All that one process gives: its state is in the first message, and then come the batches. */
static enum outcome take_process(struct taking *t, int state_fd, int line, int64_t until, struct text *why)
{
	struct state state = {0};
	enum outcome outcome;

	if (state_fd < 0 || state_read(state_fd, false, &state, why)) {
		text_add(why, " (its state cannot be used)");
		return OUTCOME_FAILED;
	}
	t->theirs = state.table;
	outcome = take_batches(t, line, until, why);
	if (!t->worker)
		t->refused += table_count(t->theirs); /* what it named and did not give */
	if (t->start) {
		*t->start = (struct beginning){state.given, state.heirlooms, state.heirloom_count, 0};
		state.given = (struct given){0};
		state.heirlooms = NULL;
		state.heirloom_count = 0;
		t->start = NULL;
	}
	state_free(&state);
	return outcome;
}

/*
 * Accepts the connection of a worker. Any process may connect to an abstract name, so its pid must descend from the
 * owner's. -1: no worker connects in time.
 */
static int await_worker(const struct client *client, int64_t until)
{
	for (;;) {
		int64_t left = (until - io_now()) / 1000000;
		struct ucred peer;
		socklen_t len = sizeof(peer);
		int line;

		if (left <= 0 || !patience_await(client->listener, (int)left))
			return -1;
		line = accept4(client->listener, NULL, NULL, SOCK_CLOEXEC);
		if (line >= 0 && !getsockopt(line, SOL_SOCKET, SO_PEERCRED, &peer, &len) &&
		    proc_descends(peer.pid, client->pid))
			return line;
		if (line >= 0)
			close(line);
	}
}

/* What workers have bound each for itself. One that does not answer has nothing, or is stuck: no reason to have nothing
 * of the others. */
static void take_workers(struct taking *t, const struct client *client, int64_t workers, int64_t until)
{
	char text[PROTOCOL_ANSWER_MAX], reason[256];

	t->worker = true;
	for (int64_t i = 0; i < workers; i++) {
		cleanup_fd int line = await_worker(client, until), state = -1;
		struct text why = TEXT_ON(reason);

		if (line < 0)
			return;
		if (patience_await(line, WORKER_MS) && io_receive(line, text, sizeof(text), &state) > 0)
			take_process(t, state, line, until, &why);
	}
}

/* It did not come to an end: what was held is held. */
static void put_back(struct holdings *h, struct table *into)
{
	for (const struct entry *e = table_first(into); e; e = table_after(e))
		add_tag(h->table, e, e->fd, true);
	for (const struct entry *e = table_first(into); e; e = table_after(e))
		if (!table_by_fd(h->table, e->fd))
			close(e->fd);
	table_free(into);
}

enum outcome holdings_take_with_start(struct holdings *h, pid_t owner, int timeout_ms, struct beginning *start,
				      struct text *why)
{
	const struct protocol_request request = {.verb = PROTOCOL_GIVE, .flags = start ? PROTOCOL_WITH_START : 0};
	cleanup_client struct client client = CLIENT_NONE;
	cleanup_answer struct answer answer = ANSWER_NONE;
	int64_t until = io_now() + timeout_ms * INT64_C(1000000), processes = 1, user = 0;
	struct taking t = {.into = table_new(), .held = h->table, .start = start};
	enum outcome outcome;

	h->taking = t.into; /* cprctl may ask how much is held, while this waits */
	outcome = client_call_with(&client, owner, &request, until, &answer, why);
	if (!outcome)
		outcome = take_process(&t, answer.fd, client.line, until, why);
	if (outcome) {
		h->taking = NULL;
		put_back(h, t.into);
		return outcome;
	}
	protocol_get_int(answer.text, "processes", &processes);
	if (start && !protocol_get_int(answer.text, "uid", &user))
		start->uid = (uid_t)user;
	take_workers(&t, &client, processes - 1, io_now() + WORKERS_MS * INT64_C(1000000));
	close_all(h->table);
	h->table = t.into;
	h->taking = NULL;
	h->refused = t.refused;
	return OUTCOME_DONE;
}

/* Once more for one that had no memory, or no number, for the answer: else nothing of it is carried. */
enum outcome holdings_take(struct holdings *h, pid_t owner, int timeout_ms, struct text *why)
{
	int64_t until = io_now() + timeout_ms * INT64_C(1000000);
	size_t used = why->used;
	enum outcome outcome = holdings_take_with_start(h, owner, timeout_ms, NULL, why);
	int left = (int)((until - io_now()) / 1000000);

	if (!outcome || left <= 0)
		return outcome;
	why->used = used;
	return holdings_take_with_start(h, owner, left, NULL, why);
}

/* ---- from the supervisor before ---- */

/* Another number of what is held, which the store has once for all its numbers. */
static int duplicate_of_held(const struct holdings *h, const struct entry *e)
{
	const struct entry *held = find_object(h->table, &e->object);

	return held ? fcntl(held->fd, F_DUPFD_CLOEXEC, PROTOCOL_HIGH) : -1;
}

int holdings_restore(struct holdings *h, int state_fd, int (*claim)(void *arg, const struct entry *e), void *arg,
		     struct text *why)
{
	struct state state = {0};
	int r = state_read(state_fd, false, &state, why);

	if (r)
		return r;
	for (struct entry *e = table_first(state.table); e; e = table_first(state.table)) {
		cleanup_fd int fd = claim(arg, e);

		if (fd < 0)
			fd = duplicate_of_held(h, e);
		add_all(h->table, NULL, state.table, e->fd, &fd, false);
	}
	h->first_at = state.first_at;
	r = (int)state.generation;
	state_free(&state);
	return r;
}

/* A descriptor that was closed meanwhile, or that is another object now, is not held. */
static int resume_one(struct holdings *h, const struct entry *e)
{
	int r;

	if (!object_still(&e->object, e->fd))
		return 0;
	r = add_tag(h->table, e, e->fd, false);
	if (r)
		return r;
	return fcntl(e->fd, F_SETFD, FD_CLOEXEC) ? -errno : 0;
}

int holdings_resume(struct holdings *h, int state_fd, bool dry, struct text *why)
{
	struct state state = {0};
	int r = state_read(state_fd, false, &state, why);

	if (r)
		return r;
	*h = (struct holdings){.table = table_new(), .first_at = state.first_at};
	if (!dry) {
		h->heirlooms = calloc(state.heirloom_count + 1, sizeof(*h->heirlooms));
		r = h->table && h->heirlooms ? 0 : -ENOMEM;
	}
	for (size_t i = 0; h->heirlooms && i < state.heirloom_count; i++)
		h->heirlooms[h->heirloom_count++] = state.heirlooms[i];
	for (const struct entry *e = dry ? NULL : table_first(state.table); e && !r; e = table_after(e))
		r = resume_one(h, e);
	state_free(&state);
	return r;
}

void holdings_no_heirloom(struct holdings *h, int fd)
{
	for (size_t i = 0; i < h->heirloom_count; i++)
		if (h->heirlooms[i].fd == fd)
			h->heirlooms[i--] = h->heirlooms[--h->heirloom_count];
}

/* ---- sockets that are seen, not given ---- */

/* Whether it listens is not known yet. */
struct entry *holdings_keep(struct holdings *h, const struct entry *like, int *fd)
{
	struct sockaddr_storage address;
	socklen_t len = sizeof(address);
	char kernel[TAG_NAME_MAX + 1];
	struct entry *made;

	if (like->kind == ENTRY_STREAM && (getsockname(*fd, (struct sockaddr *)&address, &len) ||
					   tag_socket(&like->object, (struct sockaddr *)&address, len, kernel) ||
					   !genuine_name(like->name, kernel)))
		return NULL;
	*fd = out_of_the_way(*fd);
	if (table_add_next(h->table, like->name, *fd, &made))
		return NULL;
	*fd = -1;
	copy(made, like);
	return made;
}

bool holdings_has(const struct holdings *h, const struct object *object)
{
	return find_object(h->table, object);
}

void holdings_drop(struct holdings *h, struct entry *e)
{
	close(e->fd);
	table_remove(h->table, e);
}

/* ---- giving ---- */

int holdings_write(const struct holdings *h, int generation, uint64_t nonce, int64_t asked_at)
{
	int64_t now = io_now();
	const struct state state = {.passage = BY_HANDOVER,
				    .generation = (uint32_t)generation,
				    .nonce = nonce,
				    .asked_at = asked_at,
				    .drained_at = asked_at,
				    .left_at = now,
				    .first_at = h->first_at,
				    .table = h->table,
				    .heirlooms = h->heirlooms,
				    .heirloom_count = h->heirloom_count};

	return state_write(&state, false);
}

void holdings_keep_open(const struct holdings *h, bool open)
{
	for (const struct entry *e = table_first(h->table); e; e = table_after(e))
		fcntl(e->fd, F_SETFD, open ? 0 : FD_CLOEXEC);
}

size_t holdings_count(const struct holdings *h)
{
	return table_count(h->table) + (h->taking ? table_count(h->taking) : 0);
}

size_t holdings_keys(const struct holdings *h, uint64_t *keys, size_t most)
{
	size_t n = 0;

	for (const struct entry *e = table_first(h->table); e && n < most; e = table_after(e)) {
		struct sockaddr_storage address;
		socklen_t len = sizeof(address);
		uint64_t key = 0;

		if (e->kind == ENTRY_STREAM && e->flags & ENTRY_LISTENING &&
		    !getsockname(e->fd, (struct sockaddr *)&address, &len))
			key = protocol_key((struct sockaddr *)&address, len);
		if (key)
			keys[n++] = key;
	}
	return n;
}

void holdings_close(struct holdings *h)
{
	close_all(h->table);
	h->table = table_new();
}
