/* SPDX-License-Identifier: MIT */
/* --fdstore: listeners, idle connections and the state lie in the service manager's descriptor store from one
 * supervisor to the next. Every name in it begins with "cpr-". */
#define _GNU_SOURCE
#include "supervisor_inside.h"

#include <bsd/stdlib.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#define STATE_NAME "cpr-state"
#define KEPT_NAME "cpr-kept-%llx"       /* by inode: the same socket keeps its name over every restart */
#define CARRIED_NAME "cpr-carried-%llx" /* by the value that its batch gave it */

enum { FIRST_FD = 3, DRAIN_S = 10, BARRIER_MS = 5000 };

/* ---- messages to the manager ---- */

static void put(struct supervisor *s, const char *name, int fd)
{
	char text[128];
	struct text t = TEXT_ON(text);

	text_format(&t, "FDSTORE=1\nFDNAME=%s\nFDPOLL=0\n", name);
	notify_send(s, text, t.used, fd);
}

/* So many descriptors does the manager take: systemd says it from version 254 on. */
static size_t store_limit(const struct supervisor *s)
{
	const char *said = getenv("FDSTORE");
	const char *error;
	long long most = said ? strtonum(said, 1, INT32_MAX, &error) : 0;

	if (most <= 0)
		most = s->options.store_max;
	return most > 0 ? (size_t)most : SIZE_MAX;
}

/* Listeners and the state, without which the listeners cannot be known again. */
static size_t store_needs(const struct supervisor *s)
{
	return holdings_count(&s->holdings) + 1;
}

static void put_number(struct supervisor *s, const char *format, uint64_t number, int fd)
{
	char name[64];

	snprintf(name, sizeof(name), format, (unsigned long long)number);
	put(s, name, fd);
}

static void drop(struct supervisor *s, const char *name)
{
	char text[128];
	struct text t = TEXT_ON(text);

	text_format(&t, "FDSTOREREMOVE=1\nFDNAME=%s\n", name);
	notify_send(s, text, t.used, -1);
}

/* Until the manager has read all that was said. It would not take a descriptor from a process that has ended. */
static void await_manager(struct supervisor *s)
{
	static const char barrier[] = "BARRIER=1";
	int ends[2];

	if (pipe2(ends, O_CLOEXEC))
		return;
	notify_send(s, barrier, sizeof(barrier) - 1, ends[1]);
	close(ends[1]);
	io_await_input(ends[0], BARRIER_MS);
	close(ends[0]);
}

/* ---- storing ---- */

static bool may_store(const struct supervisor *s)
{
	return s->options.fdstore && s->notify.manager;
}

static bool store_takes_all(struct supervisor *s)
{
	bool takes = store_needs(s) <= store_limit(s);

	if (!takes && !s->store.said_small)
		supervisor_say("the manager's store takes %zu descriptors, and the listeners need %zu: nothing is "
			       "stored (FileDescriptorStoreMax=)",
			       store_limit(s), store_needs(s));
	s->store.said_small = !takes;
	return takes;
}

/* Those that are held no more leave the store: else their ports would be open with no process behind them. */
static void drop_gone(struct supervisor *s)
{
	struct store *store = &s->store;
	char name[64];

	for (size_t i = 0; i < store->count; i++) {
		const struct entry *e = table_first(s->holdings.table);

		while (e && e->object.ino != store->inodes[i])
			e = table_after(e);
		if (e)
			continue;
		snprintf(name, sizeof(name), KEPT_NAME, (unsigned long long)store->inodes[i]);
		drop(s, name);
	}
}

/* What is held now is what the store has. */
static void note_stored(struct supervisor *s)
{
	struct store *store = &s->store;
	size_t count = holdings_count(&s->holdings);
	uint64_t *longer = reallocarray(store->inodes, count + 1, sizeof(*longer));

	store->count = 0;
	if (!longer)
		return;
	store->inodes = longer;
	for (const struct entry *e = table_first(s->holdings.table); e; e = table_after(e))
		store->inodes[store->count++] = e->object.ino;
}

bool fdstore_is_current(const struct supervisor *s)
{
	const struct store *store = &s->store;
	size_t known = 0;

	for (const struct entry *e = table_first(s->holdings.table); e; e = table_after(e))
		for (size_t i = 0; i < store->count; i++)
			known += store->inodes[i] == e->object.ino;
	return known == store->count && known == holdings_count(&s->holdings);
}

void fdstore_keep(struct supervisor *s)
{
	cleanup_fd int state = -1;

	if (!may_store(s) || !holdings_count(&s->holdings) || !store_takes_all(s))
		return;
	drop_gone(s);
	for (const struct entry *e = table_first(s->holdings.table); e; e = table_after(e))
		put_number(s, KEPT_NAME, e->object.ino, e->fd);
	note_stored(s);
	state = holdings_write(&s->holdings, s->restarts + 1, s->recipe.nonce, io_now());
	drop(s, STATE_NAME);
	if (state >= 0)
		put(s, STATE_NAME, state);
}

/* With what has come unread, close(2) would send RST instead of FIN. */
static void close_in_order(int fd)
{
	char scratch[4096];

	shutdown(fd, SHUT_WR);
	while (recv(fd, scratch, sizeof(scratch), MSG_DONTWAIT) > 0)
		;
}

/* Listeners first: the manager refuses what is too much without a word. */
static void put_carried(struct supervisor *s, uint64_t value, int fd)
{
	size_t needs = store_needs(s), limit = store_limit(s);

	if (needs < limit && s->store.idle_stored < limit - needs) {
		put_number(s, CARRIED_NAME, value, fd);
		s->store.idle_stored++;
		return;
	}
	close_in_order(fd);
	s->store.idle_closed++;
}

void fdstore_carry(struct supervisor *s, struct batch *batch)
{
	for (uint32_t i = 0; i < batch->head.count; i++)
		put_carried(s, batch->head.value[i], batch->fds[i]);
	batch_close(batch);
}

/* Those that wait here for a server which is not ready. */
static void store_waiting(struct supervisor *s)
{
	struct store *store = &s->store;

	while (store->carried_count) {
		const struct carried *one = &store->carried[--store->carried_count];

		put_carried(s, one->value, one->fd);
		close(one->fd);
	}
	if (s->has_pending)
		fdstore_carry(s, &s->pending);
	s->has_pending = false;
}

/* It has no gate: it accepts until it gets its signal to end, and clients wait in the queues from then on. */
static void leave_gateless(struct supervisor *s)
{
	notices_settle(s);
	fdstore_keep(s);
	reexec_call_off(s, "the supervisor was told to end");
	gateless_linger(s, s->serving);
}

/* The server takes nothing new from here on: clients wait in the queues of the listeners. What is idle is stored, what
 * goes on has DRAIN_S seconds. */
bool fdstore_leave(struct supervisor *s)
{
	struct generation *old = s->serving;
	int64_t by = io_now() + DRAIN_S * SECOND, gate_us;
	char reason[REASON_SIZE];
	struct text why = TEXT_ON(reason);

	if (!may_store(s) || s->ending)
		return false;
	s->store.leaving = true;
	store_waiting(s);
	if (!old || !old->ready)
		return false;
	if (handover_under_way(s))
		handover_fail(s, "the supervisor was told to end");
	rollback_give_up(s);
	if (s->recipe.filtered) {
		leave_gateless(s);
		return false;
	}
	if (holdings_take(&s->holdings, old->owner, BARRIER_MS, &why)) {
		supervisor_say("what PID %d has cannot be handed over: %s", (int)old->owner, reason);
		return false;
	}
	if (!store_takes_all(s))
		return false;
	if (gates_swap(s, old, NULL, &gate_us, &why)) {
		supervisor_say("what PID %d has cannot be handed over: %s", (int)old->owner, reason);
		return false;
	}
	fdstore_keep(s);
	reexec_call_off(s, "the supervisor was told to end");
	notify_more_time(s, DRAIN_S + lives_stop_timeout(s) + KILL_AFTER_S); /* a unit may allow less */
	s->ending = true;
	s->start_again_at = 0;
	s->serving = NULL;
	io_close(&old->take); /* else it takes connections still, and says that it has some */
	old->take = -1;
	generation_note_members(old);
	passing_begin(s, old, NULL);
	handover_drain(s, old);
	for (struct generation *g = s->generations; g; g = g->next)
		if (g->phase == GENERATION_DRAINING)
			g->leave_by = g->leave_by && g->leave_by < by ? g->leave_by : by;
	return true;
}

void fdstore_end(struct supervisor *s)
{
	if (s->store.idle_closed)
		supervisor_say("%zu of %zu idle connections were closed: the manager's store takes %zu descriptors "
			       "(FileDescriptorStoreMax=)",
			       s->store.idle_closed, s->store.idle_closed + s->store.idle_stored, store_limit(s));
	if (s->store.leaving)
		await_manager(s);
}

/* ---- taking back ---- */

struct given_fd {
	const char *name;
	int fd; /* -1: it was claimed */
};

struct given_fds {
	struct given_fd *of;
	size_t count;
	size_t others; /* a socket unit's stand before ours */
};

static int claim_kept(void *arg, const struct entry *e)
{
	struct given_fds *given = arg;
	char name[64];

	snprintf(name, sizeof(name), KEPT_NAME, (unsigned long long)e->object.ino);
	for (size_t i = 0; i < given->count; i++)
		if (given->of[i].fd >= 0 && !strcmp(given->of[i].name, name))
			return steal_fd(&given->of[i].fd);
	return -1;
}

static void take_state(struct supervisor *s, struct given_fds *given)
{
	char reason[REASON_SIZE];
	struct text why = TEXT_ON(reason);
	int generation = 0;

	for (size_t i = 0; i < given->count; i++)
		if (!strcmp(given->of[i].name, STATE_NAME)) {
			generation = holdings_restore(&s->holdings, given->of[i].fd, claim_kept, given, &why);
			if (generation < 0)
				supervisor_say("the stored state cannot be used: %s", reason);
			close(given->of[i].fd);
			given->of[i].fd = -1;
		}
	s->restarts = generation > 0 ? generation - 1 : 0;
}

void fdstore_add_carried(struct supervisor *s, int *fd, uint64_t value)
{
	struct carried *longer = reallocarray(s->store.carried, s->store.carried_count + 1, sizeof(*longer));

	if (!longer)
		return;
	s->store.carried = longer;
	longer[s->store.carried_count++] = (struct carried){steal_fd(fd), value};
}

/* The manager keeps its duplicates: those of connections must go, or none of them would ever end. */
static void take_rest(struct supervisor *s, struct given_fds *given)
{
	for (size_t i = 0; i < given->count; i++) {
		struct given_fd *one = &given->of[i];
		unsigned long long value;

		if (one->fd < 0)
			continue;
		drop(s, one->name);
		if (sscanf(one->name, CARRIED_NAME, &value) == 1 && holdings_count(&s->holdings))
			fdstore_add_carried(s, &one->fd, value);
		if (one->fd >= 0)
			close(one->fd);
	}
}

/* "a:b:c", for FIRST_FD and those that follow; 0 when it is not for us, or has none of ours. */
static size_t read_names(char *names, struct given_fds *given)
{
	const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
	size_t most = count ? strtoul(count, NULL, 10) : 0;
	char *name;

	if (!pid || strtol(pid, NULL, 10) != getpid() || !most || most > INT16_MAX)
		return 0;
	given->of = calloc(most, sizeof(*given->of));
	for (size_t i = 0; given->of && i < most && (name = strsep(&names, ":")); i++)
		if (!strncmp(name, "cpr-", 4))
			given->of[given->count++] = (struct given_fd){name, FIRST_FD + (int)i};
		else if (!given->count)
			given->others++;
	return given->count;
}

/* Above the numbers that the server uses, and not among what every generation is started with. */
static void move_up(struct supervisor *s, struct given_fd *one)
{
	int up = fcntl(one->fd, F_DUPFD_CLOEXEC, PROTOCOL_HIGH);

	holdings_no_heirloom(&s->holdings, one->fd);
	if (up >= 0) {
		close(one->fd);
		one->fd = up;
	} else {
		fcntl(one->fd, F_SETFD, FD_CLOEXEC);
	}
}

/* A socket unit's are the server's, as if nothing had been stored. */
static void leave_others(size_t others)
{
	const char *all = getenv("LISTEN_FDNAMES"), *end = all;
	char count[24];
	cleanup_free char *names = NULL;

	for (size_t i = 0; i < others && end; i++)
		end = strchr(end + (i != 0), ':');
	snprintf(count, sizeof(count), "%zu", others);
	names = others && end ? strndup(all, (size_t)(end - all)) : NULL;
	if (names) {
		setenv("LISTEN_FDS", count, 1);
		setenv("LISTEN_FDNAMES", names, 1);
	} else {
		unsetenv("LISTEN_PID");
		unsetenv("LISTEN_FDS");
		unsetenv("LISTEN_FDNAMES");
	}
}

void fdstore_take(struct supervisor *s)
{
	cleanup_free char *names = getenv("LISTEN_FDNAMES") ? strdup(getenv("LISTEN_FDNAMES")) : NULL;
	struct given_fds given = {0};

	if (s->options.fdstore && names && read_names(names, &given)) {
		for (size_t i = 0; i < given.count; i++)
			move_up(s, &given.of[i]);
		take_state(s, &given);
		take_rest(s, &given);
		note_stored(s);
		leave_others(given.others);
	}
	free(given.of);
}

/* Carried connections go to the server as soon as it is ready, as from a generation before it. */
void fdstore_tick(struct supervisor *s)
{
	struct store *store = &s->store;

	while (store->carried_count && !s->has_pending && s->serving && s->serving->ready) {
		struct batch batch = batch_empty(PROTOCOL_BATCH_CARRY);

		while (store->carried_count && batch.head.count < PROTOCOL_BATCH_MAX) {
			const struct carried *one = &store->carried[--store->carried_count];

			batch.head.value[batch.head.count] = one->value;
			batch.fds[batch.head.count++] = one->fd;
		}
		s->pending = batch;
		s->has_pending = true;
		passing_flush(s);
	}
}
