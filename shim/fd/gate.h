/* SPDX-License-Identifier: MIT */
/*
 * The gate between a generation's listeners and the world. Behind a closed gate another socket, the door, is at each
 * listener's number, and the listener is at a hidden one. So every call of the program reaches the door, by libc or by
 * number, in any thread.
 */
#ifndef CPR_FD_GATE_H
#define CPR_FD_GATE_H

#include "base/attr.h"
#include "base/text.h"
#include "model/table.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/socket.h>

/* Has any listener of this process a door? One load; while there is none, no call of the program costs more. */
extern _Atomic bool gate_is_closed;

/*
 * Hooks that init fills: around the exchange at the listeners' numbers; for each listener that replaced the door with
 * this inode; for each that the program has from then on. Holding the guard.
 */
struct gate_hooks {
	void (*begin)(void);
	void (*end)(void);
	void (*exchanged)(int fd, uint64_t door);
	void (*listens)(const char *name, int fd);
};

/* Reads CPR_GATE from `envp`, and removes it there. Called once, at the start. */
void gate_begin(char **envp, const struct gate_hooks *hooks);

/* Does what this process claims go behind the gate? */
bool gate_claims(void);

/*
 * For bind() of `fd` that asks for the orphan `e`: the program's own socket becomes its door, bound to a private
 * address. Returns 0; or -errno of that bind, and nothing has changed. Holding the guard.
 */
int gate_claim(struct entry *e, int fd, const struct object *fresh);

/*
 * Before listen() of a socket that no earlier generation had: clients wait for this generation until its gate opens.
 * Any thread may call it.
 */
void gate_listens(int fd);

/*
 * The program asks for a socket of this name. Has it closed that one's door, as haproxy's master does before it execs
 * itself behind its gate? Then the hidden listener is an orphan of that name again, and this returns true. Holding the
 * guard.
 */
bool gate_revive(const char *name);

/* Returns the listener behind the gate for this entry, or NULL. Holding the guard, as for the next two. */
struct entry *gate_behind(const struct entry *e);

/* The hidden listener has a new name: that of e. */
void gate_renamed(struct entry *hidden, const struct entry *e);

/* The hidden listener was moved to the path of an orphan, and the orphan, e, now belongs to the program. */
void gate_replaced(struct entry *hidden, struct entry *e);

/* Is this orphan a door? The program has exec'ed itself behind its gate, and asks again. Holding the guard. */
bool gate_has_door(const struct entry *e);

/*
 * Puts what the program was started with behind the gate, and what was there before its own exec. Called once, at the
 * start, after the table is made.
 */
void gate_add_inherited(void);

/*
 * For a process that was exec'ed behind the gate with the door of this inode. From now on it has the listener behind
 * the door, and opens its gate with the others. Returns 0, and *listener is taken; -ENOENT if it has no such door;
 * -errno.
 */
int gate_stand_before(uint64_t door, int *listener);

/* Each listener replaces its door. Returns how many. Keeps errno. */
size_t gate_open(void);

/* A while later: restores the program's backlogs. Until then they are the system's maximum. */
void gate_lower_backlogs(void);

/* A silent door replaces each listener. Returns 0, or -errno, and nothing has changed. Keeps errno. */
int gate_close(void);

/* Gives up the listeners behind a closed gate: there is no way back. */
void gate_forget(void);

/* Has it done so? One without listeners of its own (its worker has them all) has no gate that is closed either. */
bool gate_is_given_up(void);

/* Is this a listener behind the gate? (No orphan for which the program has to ask.) */
bool gate_hides(const struct entry *e);

/* Returns the inode of e's listener, even if another generation has it. */
uint64_t gate_inode(const struct entry *e);

/*
 * Returns the program's listener that has this inode, or had it before a door took its place; or NULL. (A look through
 * the table finds the descriptor behind the gate instead, under a name of ours.) Holding the guard.
 */
const struct entry *gate_listener(uint64_t ino);

/* Is there a door at this number? Then setsockopt(2) is noted for the listener. */
bool gate_stands_at(int fd);

/* For getsockname(2): a door has the name of its listener. Returns false if fd is no door. */
bool gate_name(int fd, struct sockaddr *addr, socklen_t *len);

/*
 * Must this path not be unlinked? It belongs to a socket behind this process's gate, or to one that it has given up.
 * Or, after the gate was closed, it is a pid file of another generation. Holding the guard.
 */
bool gate_guards_path(const char *path);
extern _Atomic bool gate_has_left;

/*
 * Adds two lines for each door: door=DOOR LISTENER, as tags; behind=DOOR LISTENER FD, as inodes and the listener's
 * number.
 */
void gate_put_doors(struct text *t);

#endif
