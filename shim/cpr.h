/* SPDX-License-Identifier: MIT */
/*
 * The public API of libcpr: descriptors that survive this program's next exec. QEMU's cpr_save_fd and its kin
 * (migration/cpr.c), made safe.
 */
#ifndef CPR_H
#define CPR_H

#include <stdbool.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * A tag is a name (1 to 4,095 bytes) and an id. Strings are copied; descriptors stay the caller's own. All functions
 * may be called from any thread. Those of which it is said may be called from a signal handler. A vfork child must call
 * none: they say EPERM there (but cpr_find_fd finds, if it has nothing to claim).
 *
 * Link with -lcpr, or, in a program that is merely started by cpr-exec, find them by dlsym(RTLD_DEFAULT,
 * "cpr_save_fd").
 */

/*
 * Makes the table, and takes what the last generation left. Idempotent; the library's constructor has done it already,
 * so that a program need not. Returns 0, or -1 with ENOMEM. Not for signal handlers.
 */
int cpr_state_init(void);

/*
 * Saves fd under (name, id): it is kept across restarts, whatever the rules say of other descriptors. The program's
 * close-on-exec flag stays as it is until the moment of exec. Returns 0; -1 with EEXIST (the tag is taken; QEMU
 * replaced the entry, which led to a use after free), EBADF (fd is not open), EINVAL (name is empty, or over 4,095
 * bytes), ENOMEM, EPERM. Async-signal-safe.
 *
 * As in QEMU, one descriptor may have several tags. To find it by one of them is to claim it: the others find the same
 * descriptor. Each tag is deleted by itself; close(2) ends all of them.
 */
int cpr_save_fd(const char *name, int id, int fd);

/*
 * The descriptor of (name, id): saved by this generation, or by an earlier one and handed over; asking for it is
 * claiming it. Returns the descriptor (not a duplicate), or -1 with ENOENT, EINVAL, EPERM. Async-signal-safe. What is
 * not a claim takes no lock and makes no system call; a claim takes no lock either, unless the name has a colon in it
 * or the descriptor was not close-on-exec, and its descriptor was looked at when it was handed over. So nobody asks the
 * kernel whether it is still open. A tag goes with close(2) and its like; a program that closes what it saved behind
 * libc's back (by a system call of its own machine code, or of a runtime's) must cpr_delete_fd first.
 */
int cpr_find_fd(const char *name, int id);

/*
 * Forgets the tag; closes nothing. Returns 0, or -1 with ENOENT, EINVAL, EPERM. Async-signal-safe.
 */
int cpr_delete_fd(const char *name, int id);

/*
 * Saves, or agrees with what is saved: 0 if the tag is free, or has this very descriptor. -1 with EEXIST when another
 * descriptor is there; else as cpr_save_fd. Async-signal-safe.
 */
int cpr_resave_fd(const char *name, int id, int fd);

/*
 * Finds (name, id), or else opens path (flags and mode as open(2), O_CLOEXEC as the caller likes) and saves it.
 * Returns the descriptor; -1 with what open(2) or cpr_save_fd said (then nothing is left open). Async-signal-safe.
 */
int cpr_open_fd(const char *path, int flags, mode_t mode, const char *name, int id);

/*
 * Calls cb with every tag of the table (what the wrappers tagged, too, and what is handed over and not claimed), oldest
 * first, until cb says false. The table is locked and signals are blocked meanwhile: cb may not call any cpr_ function
 * (they say EDEADLK) and should be short. Returns 0; 1 when cb said false; -1 with EINVAL (no cb), EPERM.
 */
int cpr_walk_fd(bool (*cb)(const char *name, int id, int fd, void *arg), void *arg);

/*
 * For a program that hands its descriptors on by itself: a sealed memfd with the kept part of the table. The memfd
 * (close-on-exec, the caller's), or -1 with ENOMEM, EMFILE, ENFILE, EPERM. Async-signal-safe. Follows cpr_state_save of
 * QEMU.
 */
int cpr_state_save(void);

/*
 * Takes the tags of such a memfd into the table, as handed over and not yet claimed; the descriptors must be open in
 * this process under their numbers. fd stays open. Returns 0; -1 with EBADMSG (not a sound state, or a newer one),
 * EPERM (not sealed), EEXIST (a tag or descriptor of it is in the table already: nothing is taken), EBADF (one of its
 * descriptors is not what was saved), ENOMEM. Not for signal handlers.
 */
int cpr_state_load(int fd);

/* Which image of this program this is; the first is 1. Async-signal-safe. */
int cpr_generation(void);

/* "0.1.0". Async-signal-safe. */
const char *cpr_version(void);

#ifdef __cplusplus
}
#endif

#endif
