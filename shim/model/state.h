/* SPDX-License-Identifier: MIT */
/*
 * The state: what one generation leaves to the next, as bytes in a sealed memfd. Every byte is checked before it is
 * believed.
 */
#ifndef CPR_MODEL_STATE_H
#define CPR_MODEL_STATE_H

#include "model/table.h"
#include "base/text.h"

enum {
	STATE_VERSION = 1,
	STATE_RECORDS_MAX = 1 << 24, /* of one kind: 16 times what must work */
	STATE_SIZE_MAX = 1 << 30,    /* bytes: what must work takes 150 million */
};

/* A descriptor that was open when generation 1 started. */
struct heirloom {
	int fd;
	uint64_t dev;
	uint64_t ino;
};

/*
 * A forked process of the generation that left; its start time (ticks, /proc/PID/stat) tells it from a reuse of its
 * pid.
 */
struct worker {
	int pid;
	uint64_t start_time;
	int64_t leave_by; /* CLOCK_MONOTONIC, ns: it was told to leave, and is killed then; 0: not told yet */
	bool empty;       /* it serves connections, and has passed on all that it had */
	int64_t rests_since; /* CLOCK_MONOTONIC, ns: it uses no more of the processors since then; 0: not known */
	int64_t cpu;         /* what it had used then, ns */
};

/*
 * A child of the process, dead or alive, that the next program did not make and must not hear of; or a child's child
 * that shares a listener.
 */
struct child {
	int pid;
	uint64_t start_time;
	bool shares; /* it was exec'ed, and accepts on a listener that is handed over */
};

/*
 * A connection that goes with the state: carried to the listener of that number, or, for -1, closed as its server would
 * close it.
 */
struct passed {
	int fd;
	int listener;
	uint64_t ino;
};

/*
 * What the first generation was started with. The state holds it only when the program exec'ed itself. The next image
 * then has another environment and other arguments, which are for that image alone (haproxy tells its master so that it
 * only waits). A restart uses these.
 */
struct given {
	char *path, *directory, *script; /* "" for none; path NULL: it is not told */
	char **argv, **envp;
	uint64_t mask, ignored; /* bit 0 is signal 1 */
	uint32_t umask;
	size_t size;            /* of the one block of memory in which all this is */
};

/* How a state gets to its reader; numbers that are in the bytes. */
enum passage {
	BY_RESTART,  /* the same process becomes the next generation, with everything as at start */
	BY_OWN_EXEC, /* the program execs itself, and everything stays as it left it */
	BY_HANDOVER, /* the next generation is another process */
	PASSAGES
};

struct state {
	enum passage passage;
	uint32_t generation; /* of the one that wrote it; 1 is the first */
	uint32_t cut;        /* connections that it had to close */
	uint64_t nonce;      /* the caller that waits for the answer to this restart; 0: none */
	int64_t asked_at;    /* CLOCK_MONOTONIC, ns: when the restart was asked for */
	int64_t left_at;     /* … and when exec was called */
	int64_t first_at;    /* … and when generation 1 started */
	struct table *table; /* the entries; flags as ENTRY_SAVED_FLAGS, none of them orphans yet */
	struct heirloom *heirlooms;
	size_t heirloom_count;
	struct worker *workers;
	size_t worker_count;
	struct passed *passed;
	size_t passed_count;
	struct child *children;
	size_t child_count;
	int64_t drained_at;  /* … when every connection stood at a boundary */
	uint32_t carried, closed;
	uint64_t mask;       /* the signals that the next image blocks (the kernel's form); BY_HANDOVER: unused */
	struct given given;
	/* the last generation did not check whether the API's descriptors are still what they were */
	bool unseen;
	int page;            /* the memfd that its workers share with it; page_ino 0: none */
	uint64_t page_ino;
};

/*
 * A sealed memfd with these bytes: of the table, the entries that are ENTRY_KEPT (all of them if `whole`, for a
 * listing). The descriptor (close-on-exec, the caller's), or -errno of memfd_create, ftruncate, mmap or fcntl; -E2BIG.
 * A signal handler may call it if it holds the guard.
 */
int state_write(const struct state *state, bool whole);

/*
 * Reads a sealed memfd (or, `unsealed_too`, any file) into *state. 0; -EPERM: not sealed; -EBADMSG: not a sound state,
 * or one from a newer version: `why` says what is wrong with it; -ENOMEM. One that is too large, or has holes, is not
 * even mapped. On failure *state is untouched. Free it with state_free.
 */
int state_read(int fd, bool unsealed_too, struct state *state, struct text *why);

/* The same over bytes in memory. */
int state_decode(const void *bytes, size_t size, struct state *state, struct text *why);

void state_free(struct state *state);

#endif
