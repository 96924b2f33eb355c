/* SPDX-License-Identifier: MIT */
/*
 * What the supervisor holds for the next generation: a duplicate of every kept descriptor, each checked against the
 * kernel.
 */
#ifndef CPR_HOLDINGS_H
#define CPR_HOLDINGS_H

#include "client.h"
#include "model/state.h"

#include <stddef.h>

struct holdings {
	struct table *table; /* the tags, with our own numbers; NULL: empty */
	struct table *taking; /* entries that a transfer under way has moved from there or received; NULL: none */
	size_t refused;      /* descriptors of the last generation that were not what their tags say */
	struct heirloom *heirlooms;
	size_t heirloom_count;
	int64_t first_at; /* when generation 1 started (CLOCK_MONOTONIC, ns) */
};

/* Notes the heirlooms: every generation gets what is open now. Returns 0, or -ENOMEM. */
int holdings_begin(struct holdings *h);

/*
 * Asks the owner of a generation for what it holds (PROTOCOL_GIVE). On success *h is exactly that, and all else in it
 * is closed. On failure *h is unchanged, and `why` gets the reason.
 */
enum outcome holdings_take(struct holdings *h, pid_t owner, int timeout_ms, struct text *why);

/* What a generation was first started with, and its user. */
struct beginning {
	struct given given;
	struct heirloom *heirlooms; /* by its own numbers */
	size_t heirloom_count;
	uid_t uid;
};

/* The same with what it was started with, which is the caller's to free. */
enum outcome holdings_take_with_start(struct holdings *h, pid_t owner, int timeout_ms, struct beginning *start,
				      struct text *why);

/*
 * Writes a sealed memfd for the generation after `generation`, which reports to `nonce`. Returns the descriptor, or
 * -errno.
 */
int holdings_write(const struct holdings *h, int generation, uint64_t nonce, int64_t asked_at);

/* Before an exec, in a child or of the supervisor itself: keeps these descriptors open over it, or not. */
void holdings_keep_open(const struct holdings *h, bool open);

/*
 * For a socket that no generation listed. *fd becomes ours, as a kept one with the name, kind and flags of `like`, if
 * the kernel agrees; else it stays the caller's. Returns the entry, or NULL.
 */
struct entry *holdings_keep(struct holdings *h, const struct entry *like, int *fd);
bool holdings_has(const struct holdings *h, const struct object *object);
void holdings_drop(struct holdings *h, struct entry *e);

/*
 * Restores what another supervisor wrote by holdings_write. `claim` returns the descriptor of each entry, which is then
 * ours, or -1. Returns the generation for which it was written; or -errno, and `why`.
 */
int holdings_restore(struct holdings *h, int state, int (*claim)(void *arg, const struct entry *e), void *arg,
		     struct text *why);
/*
 * Restores what the last image of this process wrote by holdings_write, with the same numbers. `dry`: only checks that
 * it can be read. Returns 0; or -errno, and `why`.
 */
int holdings_resume(struct holdings *h, int state, bool dry, struct text *why);
void holdings_no_heirloom(struct holdings *h, int fd);
int holdings_add_heirloom(struct holdings *h, int fd); /* every generation gets it, with this number. 0, -errno */

size_t holdings_count(const struct holdings *h);

/* Writes the keys (protocol_key) of its stream listeners, `most` at most. Returns how many. */
size_t holdings_keys(const struct holdings *h, uint64_t *keys, size_t most);

/* Closes everything. */
void holdings_close(struct holdings *h);

#endif
