/* SPDX-License-Identifier: MIT */
/* What the doorbell's two ends say to each other: one request of fixed size, answers of "key=value" lines. */
#ifndef CPR_MODEL_PROTOCOL_H
#define CPR_MODEL_PROTOCOL_H

#include "base/text.h"

#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

/*
 * The caller listens on the abstract SOCK_SEQPACKET socket of its nonce (protocol_address) in the network namespace of the process, and
 * queues the signal to it (sigqueue, sival_ptr: the nonce). The process connects and answers one request with one message, and closes.
 * The answer begins "result=WORD\n":
 *
 *   ok       what was asked for follows (status), or came as a memfd with the state (list); both with connections= and how many of them are
 *            connections_fresh= (nothing said yet), connections_idle= (between requests), connections_busy=; and beside
 *            them connections_waiting= (carried, and not accepted yet)
 *   leaving  restart: the process execs now. The next generation, when it is ready, connects to the same socket, and says "ready" (or
 *            "warn" lines); nothing is sent to it. If exec fails, "failed" follows on the first connection
 *   ready    generation= descriptors= carried= closed= cut= orphans= drain_us= leave_us= exec_us= ready_us= (since the request)
 *   refused  reason=…: cannot be restarted like this; nothing was done
 *   failed   reason=…: tried, undone; the old generation serves on
 *   busy     a restart is under way already
 *   worker   owner=PID: this process is a worker of PID; ask that one
 */
enum protocol_verb { PROTOCOL_STATUS = 1, PROTOCOL_LIST, PROTOCOL_RESTART, PROTOCOL_RETIRE, PROTOCOL_DRAIN, PROTOCOL_JOIN };

/*
 * Between a process under cpr and one that it has exec'ed with its listener:
 *   DRAIN  down: drain until `deadline` (CLOCK_MONOTONIC, ns), and pass on what is idle to the socket of `nonce` (restart/drain_worker.h). Answered "ok", the connection stays: any message on it
 *          says that the restart is called off, its end without one that the caller has become the next generation. Who holds no listener of the caller's (`shares` 0) may have
 *          been given connections of the listeners with these keys (drain/scm_recv.h); or else says "none", and goes on
 *   JOIN   up: what was carried for the listener of inode `ino`, to be accepted there as well. Answered as deliver/queue.h tells
 */

enum {
	PROTOCOL_MAGIC = 0x43505231, /* "CPR1" */
	PROTOCOL_ANSWER_MAX = 8192,
	PROTOCOL_SIGNAL_DEFAULT_BELOW_MAX = 5, /* SIGRTMAX - 5 */
	PROTOCOL_KEYS_MAX = 256,
	PROTOCOL_TIMEOUT_MS = 2000,            /* how long a process waits for a caller that rang and then says nothing */
};

/*
 * The memfd that every process under cpr has mapped is called so, with the doorbell's signal and the number of seccomp filters at the start behind it:
 * /memfd:cpr.59.0 in /proc/PID/maps is how the tools know such a process, how to ring, and whether answering could kill it.
 */
#define PROTOCOL_PAGE_NAME "cpr."

/* Where descriptors of ours go: above the numbers that a small program uses, below a soft limit of 1,024. */
enum { PROTOCOL_HIGH = 700 };

struct protocol_request {
	uint32_t magic;
	uint32_t verb;
	uint32_t flags;
	uint32_t reserved;
	union {
		char path[4096]; /* restart --exec PATH: exec this instead of what was started; empty: the same */
		struct {
			uint64_t nonce;
			int64_t deadline;
			uint32_t shares;
			uint32_t key_count;
			uint64_t keys[PROTOCOL_KEYS_MAX];
		} drain;
		struct {
			uint64_t ino;
		} join;
	};
};

/* The abstract address of a nonce; the length that bind and connect want. */
socklen_t protocol_address(uint64_t nonce, struct sockaddr_un *addr);

/* Is this a sound request (magic, verb, a terminated absolute path or none)? 0, or -EINVAL. */
int protocol_check(const struct protocol_request *request, size_t size);

/* Appends "key=value\n"; a newline in the value becomes a blank. */
void protocol_put(struct text *t, const char *key, const char *value);
void protocol_put_int(struct text *t, const char *key, int64_t value);

/* The value of a key in an answer, copied and terminated (cut at size - 1). 0, or -ENOENT. */
int protocol_get(const char *answer, const char *key, char *value, size_t size);
int protocol_get_int(const char *answer, const char *key, int64_t *value);

#endif
