/* SPDX-License-Identifier: MIT */
/* What the supervisor holds for the next generation: a duplicate of every kept descriptor, each checked against the
 * kernel. */
#ifndef CPR_HOLDINGS_H
#define CPR_HOLDINGS_H

#include "client.h"
#include "model/state.h"

#include <stddef.h>

struct holdings {
	struct table *table; /* the tags, with our own numbers; NULL: nothing yet */
	struct table *taking; /* what a taking that is under way has moved from there, and got; NULL: none is */
	size_t refused;      /* of the last generation's: what was not what it claimed to be */
	struct heirloom *heirlooms;
	size_t heirloom_count;
	int64_t first_at; /* when generation 1 started (CLOCK_MONOTONIC, ns) */
};

/* Notes the heirlooms: what is open now is what every generation gets. 0, or -ENOMEM. */
int holdings_begin(struct holdings *h);

/*
 * What a generation holds, asked of its owner by PROTOCOL_GIVE. On success *h is that and nothing else: what it no
 * longer has is closed. On failure *h is unchanged, and `why` says what was wrong.
 */
enum outcome holdings_take(struct holdings *h, pid_t owner, int timeout_ms, struct text *why);

/* What a generation was first started with, and as which user. */
struct beginning {
	struct given given;
	struct heirloom *heirlooms; /* by its own numbers */
	size_t heirloom_count;
	uid_t uid;
};

/* The same, and what it was started with: that is the caller's. */
enum outcome holdings_take_with_start(struct holdings *h, pid_t owner, int timeout_ms, struct beginning *start,
				      struct text *why);

/* A sealed memfd for the generation that follows `generation`, which reports to `nonce`. The descriptor, or -errno. */
int holdings_write(const struct holdings *h, int generation, uint64_t nonce, int64_t asked_at);

/* Before an exec, in a child or of the supervisor itself: these descriptors stay open, or do not. */
void holdings_keep_open(const struct holdings *h, bool open);

/*
 * A socket that stands in no list of a generation's: *fd becomes ours, as a kept one with the name, kind and flags of
 * `like`, if the kernel says the same of it; else it stays the caller's. The entry, or NULL.
 */
struct entry *holdings_keep(struct holdings *h, const struct entry *like, int *fd);
bool holdings_has(const struct holdings *h, const struct object *object);
void holdings_drop(struct holdings *h, struct entry *e);

/*
 * Takes up what another supervisor wrote by holdings_write: `claim` gives the descriptor of each entry, which is then
 * ours, or -1. The generation that it was written for; -errno, and `why`.
 */
int holdings_restore(struct holdings *h, int state, int (*claim)(void *arg, const struct entry *e), void *arg,
		     struct text *why);
/*
 * Takes up what the last image of this process wrote by holdings_write, with the same numbers. `dry`: only whether it
 * can be read. 0; -errno, and `why`.
 */
int holdings_resume(struct holdings *h, int state, bool dry, struct text *why);
void holdings_no_heirloom(struct holdings *h, int fd);
int holdings_add_heirloom(struct holdings *h, int fd); /* every generation gets it, with this number. 0, -errno */

size_t holdings_count(const struct holdings *h);

/* The keys (protocol_key) of its stream listeners, at most `most`. How many. */
size_t holdings_keys(const struct holdings *h, uint64_t *keys, size_t most);

/* Closes everything. */
void holdings_close(struct holdings *h);

#endif
