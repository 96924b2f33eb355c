/* SPDX-License-Identifier: MIT */
/*
 * Processes that this one's children have become by exec, and that hold its listeners, or were given its connections:
 * no workers of ours, but they serve. Those that are under cpr too are asked to drain as workers do.
 */
#ifndef CPR_RESTART_EXEC_WORKERS_H
#define CPR_RESTART_EXEC_WORKERS_H

#include "model/state.h"

/*
 * In a drain, such a process is asked to drain as a worker does, if it is under cpr itself, and this process's doorbell
 * rings there. Its first connection to the drain's socket is the answer to that ring, and stays open; what it passes on
 * comes by a second one, as a worker's. Where connections were given away (drain/scm_send.h), all others that are under
 * cpr are asked as well; one that has got none says so, and is left alone.
 *
 * exec_workers_find: how many there are that have not been asked yet; with what the last drain knew forgotten.
 * exec_workers_ring rings them, for the socket of `nonce`: they are awaited from then on.
 */
size_t exec_workers_find(void);
size_t exec_workers_ring(uint64_t nonce, int64_t deadline, int *pids, size_t most);

/* Was it asked? And: this connection is its answer, and is kept. */
bool exec_workers_knows(int pid);
bool exec_workers_takes(int pid, int sock);

/* One that has said no, or ended, since the last call; 0: none. */
int exec_workers_next_refusal(void);

/* This one has passed on what it had, and serves no client any more (`empty`: it did serve). */
void exec_workers_passed_on(int pid, bool empty);

/* The drain is called off: they thaw. In a child: copies of its parent's. */
void exec_workers_dismiss(void);
void exec_workers_forget(void);

/*
 * Looks for them among all that descend from this process, but for the `*workers` that stand in `worker` already, and
 * forked workers and what those have made. Each is added there, to be retired as a worker is; one that has not passed
 * on what it had is marked in `child`, and named in the log. At most `most` of each. Holding the guard, with the table
 * checked.
 */
void exec_workers_add(struct worker *worker, size_t *workers, struct child *child, size_t *children, size_t most);

#endif
