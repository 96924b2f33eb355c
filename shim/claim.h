/* SPDX-License-Identifier: MIT */
/* Claiming: the program asks for what it always asked for, and gets the orphan that has that name. */
#ifndef CPR_CLAIM_H
#define CPR_CLAIM_H

#include "track.h"

#include <sys/epoll.h>

/* bind(): moves the orphan onto fd, with fd's flags, options and epoll registrations. True if it did: bind has succeeded. */
bool claim_bind(int fd, const struct sockaddr *addr, socklen_t len);

/* bind() said EADDRINUSE: closes orphans on that port that this program asks for differently now. True if any was: try again. */
bool claim_release_port(int fd, const struct sockaddr *addr, socklen_t len);

/* open(): the descriptor, or -1 when nothing was claimed (errno untouched): open as always. */
int claim_open(int dir, const char *path, int flags);
int claim_memfd(const char *name, unsigned flags);

/* cpr_find_fd(): an orphan of the API's becomes the program's again. Holding the guard. */
void claim_entry(struct entry *e);

/* Is this the path of a unix socket that waits to be claimed? Then unlink() says yes and leaves it. */
bool claim_guards_path(int dir, const char *path);

/* connect(): is what would answer there an orphan? Programs ask "is one of me running?" before they bind: to this one nobody is. */
bool claim_guards_address(int fd, const struct sockaddr *addr, socklen_t len);

/* rename(): a socket of the program's is moved to where an orphan's file is. True: it is that orphan now, and rename has succeeded. */
bool claim_rename(int fromdir, const char *from, int todir, const char *to);

/* It was renamed: a socket of the program's has a new name. */
void claim_renamed(int fromdir, const char *from, int todir, const char *to);

/* What the program set on a socket before bind(), for the orphan. Only while there are orphans. */
void claim_note_option(int fd, int level, int name, const void *value, socklen_t len);
void claim_note_epoll(int epfd, int op, int fd, const struct epoll_event *event);
void claim_forget_notes(void); /* the arrival is over */

#endif
