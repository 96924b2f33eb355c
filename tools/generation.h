/* SPDX-License-Identifier: MIT */
/*
 * One generation of a server under a supervisor: the process that was started, the one that serves, and their remains.
 */
#ifndef CPR_GENERATION_H
#define CPR_GENERATION_H

#include "bound.h"
#include "holdings.h"
#include "tail.h"

#include <signal.h>
#include <sys/resource.h>

/* What every generation is started with: the supervisor was given it. */
struct recipe {
	const char *path; /* absolute */
	char **argv;
	const char *directory; /* by the path that led there; NULL: not known */
	sigset_t mask;
	struct rlimit files;
	uint64_t nonce;     /* of the supervisor's address */
	bool comes_back;    /* --rollback: a generation may serve again later */
	bool filtered;      /* cannot be preloaded: a seccomp filter notifies us of its listeners */
	const char *notify; /* the supervisor's own NOTIFY_SOCKET for its server; NULL: none */
};

enum generation_phase {
	GENERATION_GATED,    /* starts, or is checked, behind its gate */
	GENERATION_SERVING,  /* takes new work; it may be starting still, when there was none before it */
	GENERATION_KEPT,     /* complete behind its closed gate, for a rollback */
	GENERATION_DRAINING, /* serves what it has, and takes nothing new */
	GENERATION_RETIRING, /* was signalled to leave */
	GENERATION_FAILED,   /* was ended before it served */
};

/* A process of a generation that drains, which gives its connections. */
struct line {
	int fd;     /* -1: it has ended */
	pid_t pid;  /* of that process */
	bool known; /* it has sent the number of those left */
	uint32_t left;
};

/* All of them. */
struct passing {
	int listener;    /* to which the other processes of the generation connect; -1: nothing is passed */
	size_t expected; /* processes */
	struct line *lines;
	size_t count;
	bool all_asked;                /* also those that it has exec'ed */
	bool swept;                    /* the connections that were idle at first are passed */
	int64_t sweep_by;              /* … or it is not waited for any more */
	int64_t look_at;               /* when to check that the processes that are awaited live; 0: not */
	int64_t swept_at, graceful_at; /* when it gets the graceful signal for the others; 0: none, or it was sent */
	bool mute;                     /* one that it has exec'ed has not sent the number of those left */
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
	pid_t owner;   /* the one that answers for all: the same, or a daemon from it; 0: not known */
	int64_t started_at;
	bool ready;
	bool reported; /* the library has seen it ready, and its message is in `report` */
	char report[1024];
	bool notified;        /* it has sent READY=1 itself */
	bool pings;           /* … and WATCHDOG=1 */
	bool ended;           /* its owner has ended */
	int pidfd;            /* of an owner that is not our child; -1 */
	bool signalled;       /* we have signalled it to end, or passed such a signal on */
	int status;           /* how, as of waitpid */
	int64_t search_until; /* the process that was started has exited with 0: its daemon is looked for until then */
	uint64_t owed; /* signals that have come meanwhile: a bit for each number, from 1 on */
	int64_t leave_by;     /* it is killed then; 0: no limit yet */
	bool graceful;        /* got the graceful signal */
	int take;             /* the line of PROTOCOL_TAKE, when it serves; -1 */
	struct passing passing;
	int notices;            /* of its seccomp filter; -1: it has none */
	struct bounds bounds;   /* what it has bound under that */
	int64_t listened_at;    /* its last listen(); 0: never */
	uint32_t carried;       /* connections that it gave */
	uint32_t helpers;       /* programs that it has exec'ed, with a connection each */
	int64_t helpers_at;     /* when they are looked for again; 0: not */
	struct tail tail;       /* of its stderr */
	pid_t *apart;           /* processes that it has exec'ed, and which accept clients themselves */
	size_t apart_count;
	struct member *members; /* its processes, when it was signalled to leave */
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

/*
 * Signals its owner, or the process that was started; while its daemon is looked for, that one gets the signal as soon
 * as it is found. 0, or -errno.
 */
int generation_signal(struct generation *g, int signo);

/* Its daemon is this process, which gets the signals that were meant for it. */
void generation_found(struct generation *g, pid_t owner);

/*
 * Has each generation its own process group? Not if we run in the foreground of a terminal: a server of another group
 * would be stopped when it reads.
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
