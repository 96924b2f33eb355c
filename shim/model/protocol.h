/* SPDX-License-Identifier: MIT */
/* What the doorbell's two ends say to each other: one request of fixed size, answers of "key=value" lines. */
#ifndef CPR_MODEL_PROTOCOL_H
#define CPR_MODEL_PROTOCOL_H

#include "base/text.h"

#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

/*
 * The caller listens on the abstract SOCK_SEQPACKET socket of its nonce (protocol_address) in the network namespace of
 * the process, and queues the signal to it (sigqueue, sival_ptr: the nonce). The process connects and answers one
 * request with one message, and closes. The answer begins "result=WORD\n":
 *
 *   ok       what was asked for follows (status), or came as a memfd with the state (list); both with connections= and
 *            how many of them are connections_fresh= (nothing said yet), connections_idle= (between requests),
 *            connections_busy=; and beside them connections_waiting= (carried, and not accepted yet)
 *   leaving  restart: the process execs now. The next generation, when it is ready, connects to the same socket, and
 *            says "ready" (or "warn" lines); nothing is sent to it. If exec fails, "failed" follows on the first
 *            connection
 *   ready    generation= descriptors= carried= closed= cut= orphans= drain_us= leave_us= exec_us= ready_us= (since the
 *            request)
 *   refused  reason=…: cannot be restarted like this; nothing was done
 *   failed   reason=…: tried, undone; the old generation serves on
 *   busy     a restart is under way already
 *   worker   owner=PID: this process is a worker of PID; ask that one
 */
enum protocol_verb {
	PROTOCOL_STATUS = 1,
	PROTOCOL_LIST,
	PROTOCOL_RESTART,
	PROTOCOL_RETIRE,
	PROTOCOL_DRAIN,
	PROTOCOL_JOIN,
	PROTOCOL_GIVE, /* from here on: the supervisor's, below */
	PROTOCOL_DOORS,
	PROTOCOL_CLOSE,
	PROTOCOL_OPEN,
	PROTOCOL_PASS,
	PROTOCOL_TAKE,
	PROTOCOL_ROLLBACK, /* cprctl's, to a supervisor */
	PROTOCOL_FORGET,
	PROTOCOL_REEXEC, /* cprctl's, to a supervisor */
	PROTOCOL_ADOPT,
	PROTOCOL_FORESEE, /* cprctl's */
	PROTOCOL_ALONE,
	PROTOCOL_BEHIND,
	PROTOCOL_VERBS_END,
};

/*
 * Between a process under cpr and one that it has exec'ed with its listener:
 *   DRAIN  down: drain until `deadline` (CLOCK_MONOTONIC, ns), and pass on what is idle to the socket of `nonce`
 *          (restart/drain_worker.h). Answered "ok", the connection stays: any message on it says that the restart is
 *          called off, its end without one that the caller has become the next generation. A process that holds no
 *          listener of the caller's (`shares` 0) may have been given connections of the listeners with these keys
 *          (drain/scm_recv.h); or else says "none", and goes on
 *   JOIN   up: what was carried for the listener of inode `ino`, to be accepted there as well. Answered as
 *          deliver/queue.h tells
 */

/*
 * Handover mode: the supervisor rings at the owner of a generation. Each answer begins with one text message,
 * "result=ok" or "result=failed" with a reason.
 *   GIVE   the state as a memfd beside the text, then its descriptors: batches of PROTOCOL_BATCH_DESCRIPTORS. Changes
 *          nothing
 *   DOORS  lines door=DOOR LISTENER, both as tags: where a generation behind its gate can be reached
 *   CLOSE  the gate closes, in all processes of the generation, within a second; else it stays open and this has failed
 *   OPEN   the gate opens, in all processes. CLOSE tells then how many clients were accepted=
 *   PASS   after CLOSE. The connection stays: batches of PROTOCOL_BATCH_CARRY, a connection as soon as it stands at a
 *          boundary; and PROTOCOL_BATCH_LEFT, at first and when the number changes, once a second at most, and at once
 *          when it is 0. Its end calls it off
 *   TAKE   after OPEN, with the keys of the listeners. With "pid" in the answer it is that worker which takes what is
 *          carried to them, and is to be asked. Else the connection stays, and the supervisor sends the batches of
 *          PROTOCOL_BATCH_CARRY on it
 *   FORGET after CLOSE: its listeners are given up, and there is no way back
 *   ALONE  the next generation, which was called off, is gone: pid files that it took are put back
 *   BEHIND to a process that the next generation has exec'ed with one of its doors, of inode `ino`: the listener behind
 *          it comes with the request. From then on OPEN is asked of it as well
 *   ADOPT  the process that asks is the supervisor from now on: the one before was killed
 * GIVE and PASS are answered by each process of the generation, at the same address: the owner's text says how many
 * processes= there are. A process that the generation has exec'ed is asked for itself: PASS with the keys of the
 * listeners (`drain.keys`). It says "none" if it shares no such listener, and was given none of their connections. A
 * generation reports to the supervisor's own address (SETTINGS_SUPERVISOR) when it is ready, as after a restart in exec
 * mode.
 */
/* PROTOCOL_RESTART's flags, to a supervisor: the line stays until the old generation is gone, and is told "drained". */
enum { PROTOCOL_WAIT_DRAINED = 1 };

/*
 * FORESEE: would a restart be refused, and what would become of the connections of this process now (carried= closed=
 * cut=)? Nothing is done. The flag: a supervisor would start the next generation, and not this process.
 */
enum { PROTOCOL_BY_SUPERVISOR = 1 };

/* PROTOCOL_GIVE's: the state holds what the generation was started with, and the text as which uid=. */
enum { PROTOCOL_WITH_START = 1 };

/* A batch's value, of a connection whose process does not have its listener: it is found by the address. */
enum { PROTOCOL_BY_ADDRESS = 0 };

enum protocol_batch_kind { PROTOCOL_BATCH_DESCRIPTORS = 1, PROTOCOL_BATCH_CARRY, PROTOCOL_BATCH_LEFT };

enum { PROTOCOL_BATCH_MAX = 64 };

/* One message. `count` descriptors come with it. */
struct protocol_batch {
	uint32_t magic;
	uint32_t kind;
	uint32_t count;
	uint32_t left;                      /* PROTOCOL_BATCH_LEFT: connections that are in this generation still */
	/* of each: its number in the state; or the inode of the listener that accepted it */
	uint64_t value[PROTOCOL_BATCH_MAX];
};

enum {
	PROTOCOL_MAGIC = 0x43505231, /* "CPR1" */
	PROTOCOL_ANSWER_MAX = 8192,
	PROTOCOL_SIGNAL_DEFAULT_BELOW_MAX = 5, /* SIGRTMAX - 5 */
	PROTOCOL_KEYS_MAX = 256,
	/* how long a process waits for a caller that rang and then says nothing */
	PROTOCOL_TIMEOUT_MS = 2000,
};

/*
 * The memfd that every process under cpr has mapped is called so, with the doorbell's signal and the number of seccomp
 * filters at the start behind it: /memfd:cpr.59.0 in /proc/PID/maps is how the tools know such a process, how to ring,
 * and whether answering could kill it.
 */
#define PROTOCOL_PAGE_NAME "cpr."

/* The supervisor's, which is no process to be asked for a listener's queue. */
#define PROTOCOL_SUPERVISOR_PAGE_NAME "cpr-supervisor."

/* Where descriptors of ours go: above the numbers that a small program uses, below a soft limit of 1,024. */
enum { PROTOCOL_HIGH = 700 };

struct protocol_request {
	uint32_t magic;
	uint32_t verb;
	uint32_t flags;
	uint32_t clients; /* OPEN: "result=turn" is said at `drain.nonce` when it has accepted so many; 0: it is not */
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

/*
 * By what a listener and the connections that were accepted on it know each other in different processes: the port, or
 * what a unix socket is bound to. 0: nothing.
 */
uint64_t protocol_key(const struct sockaddr *addr, socklen_t len);

/* Is this a sound batch, with as many descriptors as came? */
bool protocol_batch_is_sound(const struct protocol_batch *batch, size_t size, size_t descriptors);

/* "PID:NONCE" of SETTINGS_SUPERVISOR, the nonce in hex. False: it is nothing like that. */
bool protocol_parse_supervisor(const char *word, int *pid, uint64_t *nonce);

/* Is this a sound request (magic, verb, a terminated absolute path or none)? 0, or -EINVAL. */
int protocol_check(const struct protocol_request *request, size_t size);

/* Appends "key=value\n"; a newline in the value becomes a blank. */
void protocol_put(struct text *t, const char *key, const char *value);
void protocol_put_int(struct text *t, const char *key, int64_t value);

/* The value of a key in an answer, copied and terminated (cut at size - 1). 0, or -ENOENT. */
int protocol_get(const char *answer, const char *key, char *value, size_t size);
int protocol_get_int(const char *answer, const char *key, int64_t *value);

#endif
