/* SPDX-License-Identifier: MIT */
/* The state: what one generation leaves to the next, as bytes in a sealed memfd. Every byte is checked before use. */
#ifndef CPR_MODEL_STATE_H
#define CPR_MODEL_STATE_H

#include "model/table.h"
#include "base/text.h"

enum {
	STATE_VERSION = 1,
	STATE_RECORDS_MAX = 1 << 24, /* of one kind: 16 times the 1,000,000 that must work */
	STATE_SIZE_MAX = 1 << 30,    /* bytes: 1,000,000 records take 150 million */
};

/* A descriptor that was open when generation 1 started. */
struct heirloom {
	int fd;
	uint64_t dev;
	uint64_t ino;
};

/*
 * A forked process of the generation that left. The start time (ticks, /proc/PID/stat) shows whether its pid was
 * reused.
 */
struct worker {
	int pid;
	uint64_t start_time;
	int64_t leave_by; /* CLOCK_MONOTONIC, ns: killed then, after its signal to leave; 0: not signalled */
	bool empty;       /* it serves connections, and has passed all of them on */
	int64_t rests_since; /* CLOCK_MONOTONIC, ns: it has used no processor since then; 0: not known */
	int64_t cpu;         /* processor time that it had used then, ns */
};

/*
 * A child of the process, dead or alive, that the next program did not start and must not notice; or a grandchild that
 * shares a listener.
 */
struct child {
	int pid;
	uint64_t start_time;
	bool shares; /* exec'ed, and accepts on a listener that is handed over */
};

/*
 * A connection that goes with the state. It is carried to the listener of that number; with -1 it is closed as its
 * server would close it.
 */
struct passed {
	int fd;
	int listener;
	uint64_t ino;
};

/*
 * What the first generation was started with. The state holds it only if the program exec'ed itself. The next image
 * then has another environment and other arguments, for that image alone: haproxy tells its master in this way only to
 * wait. A restart uses the first ones.
 */
struct given {
	char *path, *directory, *script; /* "" for none; path NULL: not known */
	char **argv, **envp;
	uint64_t mask, ignored; /* bit 0 is signal 1 */
	uint32_t umask;
	size_t size;            /* of the block of memory that holds all this */
};

/* How a state reaches its reader. The numbers are part of the format. */
enum passage {
	BY_RESTART,  /* the same process becomes the next generation, with all as at the start */
	BY_OWN_EXEC, /* the program execs itself, and all stays as it left it */
	BY_HANDOVER, /* the next generation is another process */
	PASSAGES
};

struct state {
	enum passage passage;
	uint32_t generation; /* of the writer; 1 is the first */
	uint32_t cut;        /* connections that the writer had to close */
	uint64_t nonce;      /* of the caller that waits for the answer to this restart; 0: none */
	int64_t asked_at;    /* CLOCK_MONOTONIC, ns: when the restart was requested */
	int64_t left_at;     /* … and when exec was called */
	int64_t first_at;    /* … and when generation 1 started */
	struct table *table; /* the entries; flags as in ENTRY_SAVED_FLAGS, none of them orphans yet */
	struct heirloom *heirlooms;
	size_t heirloom_count;
	struct worker *workers;
	size_t worker_count;
	struct passed *passed;
	size_t passed_count;
	struct child *children;
	size_t child_count;
	int64_t drained_at;  /* … when every connection was at a boundary */
	uint32_t carried, closed;
	uint64_t mask;       /* the signals that the next image blocks (the kernel's form); BY_HANDOVER: unused */
	struct given given;
	/* the last generation did not check the API's descriptors: see restart/parts.c */
	bool unseen;
	int page;            /* the memfd that it shares with its workers; page_ino 0: none */
	uint64_t page_ino;
};

/*
 * Writes a sealed memfd. Of the table it holds the entries with ENTRY_KEPT; with `whole` all of them, for a listing.
 * Returns the descriptor, which is close-on-exec and the caller's, or -errno of memfd_create, ftruncate, mmap or fcntl;
 * -E2BIG. A signal handler may call it while it holds the guard.
 */
int state_write(const struct state *state, bool whole);

/*
 * Reads a sealed memfd, or with `unsealed_too` any file, into *state. Returns 0; -EPERM if it is not sealed; -EBADMSG
 * if it is not valid, or of a newer version; -ENOMEM. `why` gets the reason. A file that is too large, or has holes, is
 * not mapped. *state is untouched on failure. Free it with state_free.
 */
int state_read(int fd, bool unsealed_too, struct state *state, struct text *why);

/* The same for bytes in memory. */
int state_decode(const void *bytes, size_t size, struct state *state, struct text *why);

void state_free(struct state *state);

#endif
