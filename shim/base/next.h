/* SPDX-License-Identifier: MIT */
/* The libc functions behind ours: next_close() is the close() that the program would call without us. */
#ifndef CPR_BASE_NEXT_H
#define CPR_BASE_NEXT_H

#include "base/sys.h"

#include <poll.h>
#include <semaphore.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/epoll.h>
#include <sys/select.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <time.h>

struct rusage;
struct sembuf;

typedef void (*next_handler)(int);

/*
 * One pointer per row of base/next.def. Each starts at a resolver that looks its own function up and calls it: a malloc
 * or a sanitizer in the same process may call us before our constructor has run, and dlsym() may call them. Any of
 * these may be called from a signal handler if the libc function may.
 */
#define ROW(ret, name, params, args) extern ret(*next_##name) params;
#include "base/next.def"
#undef ROW

/* Looks all of them up at once, so that no signal handler ever has to. The constructor calls it. */
void next_resolve(void);

/* A raw system call, past every wrapper (ours, and any library's that stands between us and libc). -1 and errno. */
#define next_sys(...) sys_errno(sys(__VA_ARGS__))

#endif
