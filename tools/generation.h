/* SPDX-License-Identifier: MIT */
/* One generation of a server under a supervisor: the process that was started, the one that serves, and what is left of
 * both. */
#ifndef CPR_GENERATION_H
#define CPR_GENERATION_H

#include "bound.h"
#include "holdings.h"
#include "tail.h"

#include <signal.h>
#include <sys/resource.h>

/* What every generation is started with, as the supervisor was given it. */
struct recipe {
	const char *path; /* absolute */
	char **argv;
	const char *directory; /* by the path that led there; NULL: not known */
	sigset_t mask;
	struct rlimit files;
	uint64_t nonce;     /* of the supervisor's address */
	bool comes_back;    /* --rollback: a generation may get its work back */
	bool filtered;      /* nothing can be preloaded: a seccomp filter notifies us of its listeners */
	const char *notify; /* the supervisor's own NOTIFY_SOCKET for its server; NULL: none */
};

enum generation_phase {
	GENERATION_GATED,    /* starts, or is tried, behind its gate */
	GENERATION_SERVING,  /* takes new work; it may be starting still, when there was none before it */
	GENERATION_KEPT,     /* complete behind its closed gate, for a rollback */
	GENERATION_DRAINING, /* serves what it has, and takes nothing new */
	GENERATION_RETIRING, /* was told to leave */
	GENERATION_FAILED,   /* was ended before it ever served */
};

/* A process of a generation that drains, which gives its connections. */
struct line {
	int fd;     /* -1: it has ended */
	pid_t pid;  /* whose it is */
	bool known; /* it has said how many are left */
	uint32_t left;
};

/* All of them. */
struct passing {
	int listener;    /* where the others of the generation than its owner connect; -1: nothing is passed */
	size_t expected; /* processes */
	struct line *lines;
	size_t count;
	bool all_asked;                /* those too that it has exec'ed */
	bool swept;                    /* what was idle at first has been given */
	int64_t sweep_by;              /* … or it is not waited for any more */
	int64_t look_at;               /* it is looked then whether those that are waited for live; 0: not */
	int64_t swept_at, graceful_at; /* it is told to end the rest in its own way then; 0: not, or it was */
	bool mute;                     /* one that it has exec'ed has not said how many are left */
};

struct member {
	pid_t pid;
	uint64_t start_time;
};

struct generation {
	struct generation *next;
	int number;
	enum generation_phase phase;
	pid_t started; /* the process that was started; 0: it has ended */
	pid_t owner;   /* the one that answers for all: the same, or a daemon that it became; 0: none that is known */
	int64_t started_at;
	bool ready;
	bool reported; /* the library has seen it ready, and what it said stands in `report` */
	char report[1024];
	bool notified;        /* it has said READY=1 itself */
	bool pings;           /* … and WATCHDOG=1 */
	bool ended;           /* its owner has ended */
	int pidfd;            /* of an owner that is no child of ours; -1 */
	bool signalled;       /* it was told to end by us, or through us */
	int status;           /* how, as of waitpid */
	int64_t search_until; /* the process that was started has ended well: a daemon of it is looked for */
	int64_t leave_by;     /* it is killed then; 0: no limit yet */
	bool graceful;        /* was told to end gracefully */
	int take;             /* the line of PROTOCOL_TAKE, when it serves; -1 */
	struct passing passing;
	int notices;            /* of its seccomp filter; -1: it has none */
	struct bounds bounds;   /* what it has bound under that */
	int64_t listened_at;    /* it has last called listen() then; 0: never */
	uint32_t carried;       /* connections that it gave */
	uint32_t helpers;       /* programs that it has exec'ed, with a connection each */
	int64_t helpers_at;     /* they are looked for again then; 0: not */
	struct tail tail;       /* of its stderr */
	pid_t *apart;           /* processes that it has exec'ed, and which accept clients themselves */
	size_t apart_count;
	struct member *members; /* its processes, when it was told to leave */
	size_t member_count;
};

/*
 * Starts one. `state`: the memfd of holdings_write, or -1; `gated`: behind its gate. `watched`: its stderr goes through
 * us. The generation is the caller's (generation_free); NULL and `why`.
 */
struct generation *generation_start(const struct recipe *recipe, const struct holdings *holdings, int state, bool gated,
				    bool watched, struct text *why);
/* An empty one: every descriptor in it is -1. NULL: no memory. */
struct generation *generation_new(void);
void generation_free(struct generation *g);

/* Signals its owner, or the process that was started. 0, or -errno. */
int generation_signal(const struct generation *g, int signo);

/*
 * Are generations in process groups of their own? Not where we are what runs in the foreground of a terminal: there a
 * server of another group would be stopped as soon as it reads.
 */
bool generation_is_apart(void);

/* Records all processes that descend from it now: after its owner's end, nothing else shows their generation. */
void generation_note_members(struct generation *g);

/* Records one more process that it exec'ed. */
void generation_add_apart(struct generation *g, pid_t pid);

/* Signals the recorded processes that live (0: only counts them). Returns how many. */
size_t generation_signal_members(const struct generation *g, int signo);

/* Those of its processes that live, are of its owner's program, and have no line. */
size_t generation_without_line(struct generation *g);

/* Has the line ended before its process said how many are left, and does that one live? */
bool generation_is_mute(const struct line *line);

/* Is this process its owner, the process that was started, or a descendant of one of them? */
bool generation_has(const struct generation *g, pid_t pid);

/* The same; or was it one when they were recorded, and has ended or has another parent since? */
bool generation_has_had(const struct generation *g, pid_t pid);

/* The generation of this process, among those that have not ended; NULL: none. */
struct generation *generation_find(struct generation *all, pid_t pid);

/* The number of its remaining connections; -1: not known. */
int64_t generation_left(const struct generation *g);

/* Closes the lines on which it gives connections. */
void generation_stop_passing(struct generation *g);

const char *generation_phase_word(const struct generation *g);

#endif
