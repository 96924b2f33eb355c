/* SPDX-License-Identifier: MIT */
/* The doorbell's protocol: one request of fixed size, answers of "key=value" lines. */
#ifndef CPR_MODEL_PROTOCOL_H
#define CPR_MODEL_PROTOCOL_H

#include "base/text.h"

#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

/*
 * The caller listens on the abstract SOCK_SEQPACKET socket of its nonce (protocol_address), in the network namespace of
 * the process. It queues the signal to the process (sigqueue, sival_ptr: the nonce). The process connects, answers one
 * request with one message, and closes. The answer begins "result=WORD\n":
 *
 *   ok       status: the values follow; list: the state comes as a memfd. Both have connections=, and of these
 *            connections_fresh= (no data yet), connections_idle= (between requests), connections_busy=; beside them
 *            connections_waiting= (carried, and not accepted yet)
 *   leaving  restart: the process execs now. When the next generation is ready, it connects to the same socket and
 *            sends "ready" (or "warn" lines); it gets no request. If exec fails, "failed" follows on the first
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
	PROTOCOL_GIVE, /* the supervisor's verbs, below */
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
 *   DRAIN  downwards: drain until `deadline` (CLOCK_MONOTONIC, ns), and pass idle connections to the socket of `nonce`
 *          (restart/drain_worker.h). After the answer "ok" the connection stays. A message on it calls the restart
 *          off; its end without one says that the caller has become the next generation. A process without a listener
 *          of the caller's (`shares` 0) may have been given connections of the listeners with these keys
 *          (drain/scm_recv.h). If it has none, it answers "none" and goes on
 *   JOIN   upwards: the connections that were carried for the listener of inode `ino`, to be accepted there as well.
 *          deliver/queue.h describes the answer
 */

/*
 * Handover mode: the supervisor rings the owner of a generation. Each answer begins with one text message, "result=ok"
 * or "result=failed" with a reason.
 *   GIVE   the state as a memfd with the text, then its descriptors: batches of PROTOCOL_BATCH_DESCRIPTORS. Changes
 *          nothing
 *   DOORS  lines door=DOOR LISTENER, both as tags: where a generation behind its gate can be reached
 *   CLOSE  closes the gate in all processes of the generation, within a second. If that fails, the gate stays open
 *   OPEN   opens the gate in all processes. The next CLOSE tells how many clients were accepted=
 *   PASS   after CLOSE. The connection stays. It brings batches of PROTOCOL_BATCH_CARRY: each client's connection as
 *          soon as it is at a boundary. PROTOCOL_BATCH_LEFT comes first, when the number changes (once a second at
 *          most), and at once when it is 0. The end of the connection calls it off
 *   TAKE   after OPEN, with the keys of the listeners. If the answer has "pid", that worker takes the carried
 *          connections, and has to be asked. Else the connection stays, and the supervisor sends the batches of
 *          PROTOCOL_BATCH_CARRY on it
 *   FORGET after CLOSE: gives up the listeners; there is no way back
 *   ALONE  the next generation was called off and is gone: restores pid files that it took
 *   BEHIND to a process that the next generation has exec'ed with one of its doors, of inode `ino`: the listener behind
 *          it comes with the request. From then on OPEN goes to it as well
 *   ADOPT  the process that asks is the supervisor from now on: the one before was killed
 * Each process of the generation answers GIVE and PASS, at the same address; processes= in the owner's text says how
 * many there are. A process that the generation has exec'ed is asked by itself: PASS with the keys of the listeners
 * (`drain.keys`). It answers "none" if it shares no such listener and has none of their connections. When a generation
 * is ready, it reports to the supervisor's own address (SETTINGS_SUPERVISOR), as after a restart in exec mode.
 */
/*
 * Flag of PROTOCOL_RESTART, to a supervisor: the connection stays until the old generation is gone, then "drained"
 * comes.
 */
enum { PROTOCOL_WAIT_DRAINED = 1 };

/*
 * FORESEE: would a restart be refused, and what would become of the connections of this process now (carried= closed=
 * cut=)? Does nothing else. The flag: a supervisor, and not this process, would start the next generation.
 */
enum { PROTOCOL_BY_SUPERVISOR = 1 };

/* Flag of PROTOCOL_GIVE: the state also holds what the generation was started with, and the text its uid=. */
enum { PROTOCOL_WITH_START = 1 };

/* Value in a batch, of a connection whose process does not have its listener: the address finds the listener. */
enum { PROTOCOL_BY_ADDRESS = 0 };

enum protocol_batch_kind { PROTOCOL_BATCH_DESCRIPTORS = 1, PROTOCOL_BATCH_CARRY, PROTOCOL_BATCH_LEFT };

enum { PROTOCOL_BATCH_MAX = 64 };

/* One message. `count` descriptors come with it. */
struct protocol_batch {
	uint32_t magic;
	uint32_t kind;
	uint32_t count;
	uint32_t left;                      /* PROTOCOL_BATCH_LEFT: connections that this generation still has */
	/* for each descriptor: its number in the state, or the inode of the listener that accepted it */
	uint64_t value[PROTOCOL_BATCH_MAX];
};

enum {
	PROTOCOL_MAGIC = 0x43505231, /* "CPR1" */
	PROTOCOL_ANSWER_MAX = 8192,
	PROTOCOL_SIGNAL_DEFAULT_BELOW_MAX = 5, /* SIGRTMAX - 5 */
	PROTOCOL_KEYS_MAX = 256,
	/* how long a process waits for a request after it was rung */
	PROTOCOL_TIMEOUT_MS = 2000,
};

/*
 * The name of the memfd that every process under cpr has mapped; the doorbell's signal and the number of seccomp
 * filters at the start follow. /memfd:cpr.59.0 in /proc/PID/maps shows the tools that the process is under cpr, how to
 * ring it, and whether an answer could kill it.
 */
#define PROTOCOL_PAGE_NAME "cpr."

/* The same of a supervisor, which cannot be asked for the queue of a listener. */
#define PROTOCOL_SUPERVISOR_PAGE_NAME "cpr-supervisor."

/* Our descriptors go above the numbers that a small program uses, and below a soft limit of 1,024. */
enum { PROTOCOL_HIGH = 700 };

struct protocol_request {
	uint32_t magic;
	uint32_t verb;
	uint32_t flags;
	uint32_t clients; /* OPEN: after so many accepted clients, "result=turn" goes to `drain.nonce`; 0: never */
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

/* Stores the abstract address of a nonce. Returns its length, for bind and connect. */
socklen_t protocol_address(uint64_t nonce, struct sockaddr_un *addr);

/*
 * Returns a key that is the same, in every process, for a listener and the connections that it accepted: from the port,
 * or from the name of a unix socket. 0: there is none.
 */
uint64_t protocol_key(const struct sockaddr *addr, socklen_t len);

/* Is this a valid batch, with as many descriptors as arrived? */
bool protocol_batch_is_sound(const struct protocol_batch *batch, size_t size, size_t descriptors);

/* Parses "PID:NONCE" of SETTINGS_SUPERVISOR, the nonce in hex. Returns false if `word` is not of that form. */
bool protocol_parse_supervisor(const char *word, int *pid, uint64_t *nonce);

/* Is the request valid: magic, verb, and an absolute path with its NUL, or none? Returns 0, or -EINVAL. */
int protocol_check(const struct protocol_request *request, size_t size);

/* Appends "key=value\n". A newline in the value becomes a blank. */
void protocol_put(struct text *t, const char *key, const char *value);
void protocol_put_int(struct text *t, const char *key, int64_t value);

/* Copies the value of a key in an answer, with a NUL, cut at size - 1. Returns 0, or -ENOENT. */
int protocol_get(const char *answer, const char *key, char *value, size_t size);
int protocol_get_int(const char *answer, const char *key, int64_t *value);

#endif
