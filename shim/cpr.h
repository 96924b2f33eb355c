/* SPDX-License-Identifier: MIT */
/*
 * The public API of libcpr: descriptors that survive this program's next exec. Its model is QEMU's migration/cpr.c.
 */
#ifndef CPR_H
#define CPR_H

#include <stdbool.h>
#include <sys/types.h>

#ifdef __cplusplus
extern "C" {
#endif

/*
 * A tag is a name and an id. A name is a string of 1 to 4,095 bytes, which the library copies. Descriptors stay the
 * caller's: no function closes one that it was given. Any thread may call these functions. A signal handler may call
 * those that are marked async-signal-safe.
 *
 * Functions that fail return -1 and set errno. Beside the errors that each lists:
 *   EPERM    the process cannot use the table: a vfork child, or a process in a seccomp sandbox. (In a
 *            vfork child, cpr_find_fd still finds a descriptor that needs no claim.)
 *   EDEADLK  called from a callback of cpr_walk_fd
 *
 * Link with -lcpr. A program that cpr-exec starts may instead look each function up with dlsym(RTLD_DEFAULT,
 * "cpr_save_fd").
 */

/*
 * Makes the table and takes over the state of the last generation. A program need not call it: the library does this
 * by itself, and a second call changes nothing. Returns 0, or -1 with ENOMEM. Not for signal handlers.
 */
int cpr_state_init(void);

/*
 * Saves fd under (name, id). Restarts keep it, unless the user's rules drop that name. Until the moment of exec its
 * close-on-exec flag stays as the program set it. One descriptor may have several tags: a claim of one of them claims
 * the descriptor, and close(2) removes all of them. Returns 0, or -1 with
 *   EEXIST  the tag is in use, or fd is an orphan (QEMU replaces the entry, which led to a use after free)
 *   EBADF   fd is not open
 *   EINVAL  name is NULL, empty, or longer than 4,095 bytes
 *   ENOMEM
 * Async-signal-safe.
 */
int cpr_save_fd(const char *name, int id, int fd);

/*
 * Finds the descriptor that this generation, or an earlier one, saved as (name, id). An orphan is claimed by that.
 * Returns the descriptor itself, no duplicate, or -1 with ENOENT or EINVAL. Async-signal-safe.
 *
 * A call that claims nothing takes no lock and makes no system call. A claim takes the lock only if the name contains a
 * colon, or if the descriptor has several tags or was not close-on-exec. Without the lock, the function does not ask
 * the kernel whether the descriptor is still open; an orphan was checked when it was handed over. close(2) and its
 * relatives in libc remove the tag. A program that closes a saved descriptor by a system call of its own must first
 * call cpr_delete_fd.
 */
int cpr_find_fd(const char *name, int id);

/* Removes the tag and closes nothing. Returns 0, or -1 with ENOENT or EINVAL. Async-signal-safe. */
int cpr_delete_fd(const char *name, int id);

/*
 * Saves fd under (name, id), or does nothing if the tag already has fd. Returns 0, or -1 with the errors of
 * cpr_save_fd; EEXIST: the tag has another descriptor. Async-signal-safe.
 */
int cpr_resave_fd(const char *name, int id, int fd);

/*
 * Finds (name, id) as cpr_find_fd does. If there is no such tag, opens path with flags and mode as open(2) does, and
 * saves the descriptor. O_CLOEXEC is up to the caller. Returns the descriptor, which the caller owns, or -1 with an
 * error of open(2) or cpr_save_fd; then it leaves nothing open. Async-signal-safe.
 */
int cpr_open_fd(const char *path, int flags, mode_t mode, const char *name, int id);

/*
 * Calls cb(name, id, fd, arg) for each tag of the table, oldest first, until cb returns false. Tags of the wrappers and
 * of orphans are included. name is valid only during the call. Meanwhile the table is locked and signals are blocked:
 * cb should be short, and may call no function that uses the table. Returns 0; 1 if cb returned false; -1 with EINVAL
 * if cb is NULL. Not for signal handlers.
 */
int cpr_walk_fd(bool (*cb)(const char *name, int id, int fd, void *arg), void *arg);

/*
 * Writes the kept part of the table into a sealed memfd, for a program that passes its descriptors on by itself (as
 * QEMU's cpr_state_save). Returns the memfd, which is close-on-exec and the caller's to close, or -1 with ENOMEM,
 * EMFILE or ENFILE. Async-signal-safe.
 */
int cpr_state_save(void);

/*
 * Adds the tags of the memfd fd, which cpr_state_save made, to the table as orphans. Their descriptors must be open in
 * this process under the same numbers. fd stays open. After an error except ENOMEM the table is unchanged. Returns 0,
 * or -1 with
 *   EBADMSG  not a valid state, or one of a newer format
 *   EPERM    the memfd is not sealed
 *   EEXIST   the table already has one of the tags or descriptors
 *   EBADF    a descriptor is not the object that was saved
 *   ENOMEM
 * Not for signal handlers.
 */
int cpr_state_load(int fd);

/* Returns the number of this generation of the program; the first is 1. Async-signal-safe. */
int cpr_generation(void);

/* Returns the version of the library, as "0.1.0". The string is static. Async-signal-safe. */
const char *cpr_version(void);

#ifdef __cplusplus
}
#endif

#endif
