/* SPDX-License-Identifier: MIT */
/* Claiming: the program makes the same call as in the last generation, and gets the orphan of that name. */
#ifndef CPR_FD_CLAIM_H
#define CPR_FD_CLAIM_H

#include "fd/offered.h"
#include "fd/tagging.h"

#include <netinet/in.h>
#include <sys/socket.h>
#include <sys/stat.h>

/* Registers the function that is called, with the guard held, for each socket that a bind() has claimed. One only. */
void claim_on_listener(void (*claimed)(const char *name, int fd));

/*
 * bind(): moves the orphan onto fd, with fd's flags, options and epoll registrations. True if it did: bind has
 * succeeded.
 */
bool claim_bind(int fd, const struct sockaddr *addr, socklen_t len);

/*
 * bind() said EADDRINUSE: closes orphans on that port that this program asks for differently now. True if any was: try
 * again.
 */
bool claim_release_port(int fd, const struct sockaddr *addr, socklen_t len);

/* open(): the descriptor, or -1 when nothing was claimed (errno untouched): open as always. */
int claim_open(int dir, const char *path, int flags);
int claim_memfd(const char *name, unsigned flags);

/* cpr_find_fd(): an orphan of the API's becomes the program's again. Holding the guard. */
void claim_entry(struct entry *e);

/* Is this the path of a unix socket that waits to be claimed? Then unlink() says yes and leaves it. */
bool claim_guards_path(int dir, const char *path);

/*
 * rename(): a socket of the program's is moved to where an orphan's file is. True: it is that orphan now, and rename
 * has succeeded.
 */
bool claim_rename(int fromdir, const char *from, int todir, const char *to);

/*
 * Is it the path of a socket that the program has, and no other generation? It may move that, also behind its gate.
 */
bool claim_has_path(int dir, const char *path);

/* It was renamed: a socket of the program's has a new name. */
void claim_renamed(int fromdir, const char *from, int todir, const char *to);

/* Is there anything that bind() or a path could ask for? */
static inline bool claim_may(void)
{
	return tagging_orphans() || offered_any();
}

/* ---- shared by its two files; holding the guard ---- */

/* The orphan at fd, and nowhere else; `fresh` is what the program has there. */
bool claim_onto(struct entry *e, int fd, const struct object *fresh);

/* Is the socket that was bound there the file at this path? */
static inline bool claim_path_is_its(const struct entry *e, const char *path)
{
	struct stat st;

	return !stat(path, &st) && st.st_dev == e->path_dev && st.st_ino == e->path_ino;
}

/* claim_guards_address of a unix socket. Not holding the guard. */
bool claim_guards_local(const struct sockaddr *addr, socklen_t len);

/* The same of TCP. Not holding the guard. */
bool claim_guards_inet(int fd, const struct sockaddr *addr);

/*
 * connect(): is the listener at this address an orphan? Before they bind, programs connect to ask "is one of me
 * running?". True: the wrapper answers ECONNREFUSED, as if none were.
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
