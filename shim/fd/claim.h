/* SPDX-License-Identifier: MIT */
/* Claiming: the program makes the same call as in the last generation, and gets the orphan of that name. */
#ifndef CPR_FD_CLAIM_H
#define CPR_FD_CLAIM_H

#include "fd/offered.h"
#include "fd/tagging.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>

/* Registers one function, which is called with the guard held for each socket that a bind() has claimed. */
void claim_on_listener(void (*claimed)(const char *name, int fd));

/*
 * For bind(): moves the orphan onto fd, with fd's flags, options and epoll registrations. Returns whether it did; then
 * bind() has succeeded.
 */
bool claim_bind(int fd, const struct sockaddr *addr, socklen_t len);

/*
 * After EADDRINUSE from bind(): closes orphans on that port for which this program now asks in another way. Returns
 * whether there was one; then try again.
 */
bool claim_release_port(int fd, const struct sockaddr *addr, socklen_t len);

/*
 * For open(): returns the claimed descriptor; -1 if nothing was claimed, with errno untouched: open the file as usual.
 */
int claim_open(int dir, const char *path, int flags);
int claim_memfd(const char *name, unsigned flags);

/* For cpr_find_fd(): the orphan belongs to the program again. Holding the guard. */
void claim_entry(struct entry *e);

/* Is this the path of a unix socket that is not claimed yet? Then unlink() returns 0 and leaves the file. */
bool claim_guards_path(int dir, const char *path);

/*
 * For rename(): a socket of the program moves to the path of an orphan. Returns whether it did; then the program's
 * socket is the orphan, and rename() has succeeded.
 */
bool claim_rename(int fromdir, const char *from, int todir, const char *to);

/*
 * Is it the path of a socket that only this program has, and no other generation? The program may move that, even
 * behind its gate.
 */
bool claim_has_path(int dir, const char *path);

/* After rename(): a socket of the program has a new name. */
void claim_renamed(int fromdir, const char *from, int todir, const char *to);

/* Is there anything for bind() or a path to claim? */
static inline bool claim_may(void)
{
	return tagging_orphans() || offered_any();
}

/* ---- shared by its two files; holding the guard ---- */

/* Moves the orphan to fd, and only there. `fresh` is the program's own object at fd. */
bool claim_onto(struct entry *e, int fd, const struct object *fresh);

/* Is the file at this path the one to which the socket was bound? */
static inline bool claim_path_is_its(const struct entry *e, const char *path)
{
	struct stat st;

	return !stat(path, &st) && st.st_dev == e->path_dev && st.st_ino == e->path_ino;
}

/* claim_guards_address for a unix socket. Not holding the guard. */
bool claim_guards_local(const struct sockaddr *addr, socklen_t len);

/* claim_guards_address for TCP. Not holding the guard. */
bool claim_guards_inet(int fd, const struct sockaddr *addr);

/*
 * For connect(): is the listener at this address an orphan? Before they bind, programs connect to find out whether one
 * of them runs already. If true, the wrapper returns ECONNREFUSED, as without a listener.
 */
static inline bool claim_guards_address(int fd, const struct sockaddr *addr, socklen_t len)
{
	if (likely(!tagging_orphans()) || !addr || len < sizeof(sa_family_t))
		return false;
	if (addr->sa_family == AF_UNIX)
		return claim_guards_local(addr, len);
	if ((addr->sa_family == AF_INET && len >= sizeof(struct sockaddr_in)) ||
	    (addr->sa_family == AF_INET6 && len >= sizeof(struct sockaddr_in6)))
		return claim_guards_inet(fd, addr);
	return false;
}

#endif
