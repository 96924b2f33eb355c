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
 * One pointer for each row of base/next.def. Each first points to a resolver, which looks up its function and calls it.
 * A malloc or a sanitizer may call us before our constructor has run, and dlsym() may call malloc. A signal handler may
 * call each of these that it may call in libc.
 */
#define ROW(ret, name, params, args) extern ret(*next_##name) params;
#include "base/next.def"
#undef ROW

/* Looks up all of them at once, so that no signal handler has to. The constructor calls it. */
void next_resolve(void);

/* A raw system call, which passes by every wrapper: ours, and those of libraries between us and libc. -1 with errno. */
#define next_sys(...) sys_errno(sys(__VA_ARGS__))

#endif
