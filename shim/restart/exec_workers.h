/* SPDX-License-Identifier: MIT */
/*
 * Descendants that have exec'ed and still hold our listeners, or were given our connections. They are no workers, but
 * they serve. Those under cpr are asked to drain like workers.
 */
#ifndef CPR_RESTART_EXEC_WORKERS_H
#define CPR_RESTART_EXEC_WORKERS_H

#include "model/state.h"

/*
 * A drain asks such a process to drain like a worker, if it is under cpr and has the same doorbell. Its first
 * connection to the drain's socket is its answer, and stays open. What it passes on comes by a second one, like a
 * worker's. If connections were given away (drain/scm_send.h), all other descendants under cpr are asked as well. One
 * without any of them answers so, and is left alone.
 *
 * exec_workers_find forgets the last drain, and returns how many are to be asked. exec_workers_ring rings them, for the
 * socket of `nonce`: from then on the drain waits for them.
 */
size_t exec_workers_find(void);
size_t exec_workers_ring(uint64_t nonce, int64_t deadline, int *pids, size_t most);

/* Was this process asked? The other: this connection is its answer, and is kept. */
bool exec_workers_knows(int pid);
bool exec_workers_takes(int pid, int sock);

/* Returns one that has refused or ended since the last call; 0: none. */
int exec_workers_next_refusal(void);

/* This one has passed on what it had. `empty`: it served clients, and has none left. */
void exec_workers_passed_on(int pid, bool empty);

/* The drain was called off: they thaw. In a child: drops the copies of its parent's. */
void exec_workers_dismiss(void);
void exec_workers_forget(void);

/*
 * Looks for them among the descendants of this process. It skips the `*workers` that are in `worker` already, forked
 * workers, and what those have started. Adds each to `worker`, to be retired like a worker. Marks in `child`, and names
 * in the log, one that has not passed on what it had. At most `most` of each. Holding the guard, after
 * tagging_check_all.
 */
void exec_workers_add(struct worker *worker, size_t *workers, struct child *child, size_t *children, size_t most);

#endif
