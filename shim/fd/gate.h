/* SPDX-License-Identifier: MIT */
/*
 * The gate: what stands between a generation's listeners and the world. Behind a closed gate another socket, the door,
 * stands at each listener's number, and the listener waits at a hidden one: so whatever the program calls, by libc or
 * by number, in whatever thread, it looks at the door.
 */
#ifndef CPR_FD_GATE_H
#define CPR_FD_GATE_H

#include "base/attr.h"
#include "base/text.h"
#include "model/table.h"

#include <stdatomic.h>
#include <stdbool.h>
#include <sys/socket.h>

/*
 * Does a door stand for any listener of this process? One load; while there is none, no call of the program costs more.
 */
extern _Atomic bool gate_is_closed;

/*
 * Called around the exchange of what stands at the listeners' numbers, for each listener that took the place of the
 * door with this inode, and for each that the program has from then on. Filled by init. Holding the guard.
 */
struct gate_hooks {
	void (*begin)(void);
	void (*end)(void);
	void (*exchanged)(int fd, uint64_t door);
	void (*listens)(const char *name, int fd);
};

/* Reads CPR_GATE out of `envp`, and takes it away there. Once, at the start. */
void gate_begin(char **envp, const struct gate_hooks *hooks);

/* Is what this process claims to be put behind the gate? */
bool gate_claims(void);

/*
 * bind() of `fd` asks for the orphan `e`: the program's own socket becomes its door, bound to a private address. 0; or
 * -errno of that bind: nothing has changed then. Holding the guard.
 */
int gate_claim(struct entry *e, int fd, const struct object *fresh);

/*
 * listen() of a socket that no generation before had is about to come: clients wait for this one until its gate opens.
 * Any thread.
 */
void gate_listens(int fd);

/*
 * The program asks for a socket of this name. Has it closed the door of one, as haproxy's master does before it execs
 * itself behind its gate? Then what waits there is an orphan of that name again. False: nothing has changed.
 * Holding the guard.
 */
bool gate_revive(const char *name);

/* What waits behind the gate for this one; NULL: nothing. Holding the guard, as for the two below. */
struct entry *gate_behind(const struct entry *e);

/* That one has another name: it is e. */
void gate_renamed(struct entry *hidden, const struct entry *e);

/* That one was moved to where an orphan's file is, and the orphan, e, is what the program has now. */
void gate_replaced(struct entry *hidden, struct entry *e);

/* Is this orphan a door? The program has exec'ed itself behind its gate, and asks anew. Holding the guard. */
bool gate_has_door(const struct entry *e);

/*
 * The same for what the program was started with; and what it has behind the gate since before its own exec. Once, at
 * the start, with the table there.
 */
void gate_add_inherited(void);

/*
 * A process that was exec'ed behind the gate has inherited the door of this inode, and waits at it: from here on it
 * knows the listener that stands behind that, and opens its gate as others do. 0: *listener is taken; -ENOENT: it has
 * no such door; -errno.
 */
int gate_stand_before(uint64_t door, int *listener);

/* Each listener takes its door's place. How many. Keeps errno. */
size_t gate_open(void);

/* A while later: the backlogs are the program's again. Until then they are the system's greatest. */
void gate_lower_backlogs(void);

/* A silent door takes each listener's place. 0, or -errno: then nothing has changed. Keeps errno. */
int gate_close(void);

/* Gives the listeners behind a closed gate up: there is no way back. */
void gate_forget(void);

/* Is this a listener behind the gate? Not an orphan that the program has to ask for. */
bool gate_hides(const struct entry *e);

/* The inode of e's listener, also when another generation has it. */
uint64_t gate_inode(const struct entry *e);

/* Is there a door at this number? Then setsockopt(2) is noted, for the listener. */
bool gate_stands_at(int fd);

/* getsockname(2) of a door is its listener's. False: it is none. */
bool gate_name(int fd, struct sockaddr *addr, socklen_t *len);

/*
 * Does this path belong to a socket that stands behind this process's gate, or that it has given up; or is it, once the
 * gate was closed, a pid file that names a process of another generation? Then it is not to be unlinked. Holding the
 * guard.
 */
bool gate_guards_path(const char *path);
extern _Atomic bool gate_has_left;

/* Two lines for each door: door=DOOR LISTENER, as tags; behind=DOOR LISTENER FD, as inodes and the number of that. */
void gate_put_doors(struct text *t);

#endif
