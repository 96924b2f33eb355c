/* SPDX-License-Identifier: MIT */
/*
 * I/O that goes on after EINTR, descriptors over a socket, memfds, small files of /proc. A signal handler may call all
 * of these.
 */
#ifndef CPR_BASE_IO_H
#define CPR_BASE_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Writes all n bytes. Returns 0, or -errno; -EIO if a write makes no progress. */
int io_write_all(int fd, const void *bytes, size_t n);

/* Reads until n bytes or the end of the file. Returns the bytes read, or -errno. */
ssize_t io_read_all(int fd, void *bytes, size_t n);

/* Reads a small file into `bytes`: at most size - 1 bytes, and a NUL. Returns the bytes read, or -errno. */
ssize_t io_read_file(const char *path, char *bytes, size_t size);

/* Sends one message, with the descriptor `pass` if that is >= 0. MSG_NOSIGNAL. Returns 0, or -errno. */
int io_send(int sock, const void *bytes, size_t n, int pass);

/* The same with `count` descriptors, at most IO_FDS_MAX. */
enum { IO_FDS_MAX = 128 };
int io_send_fds(int sock, const void *bytes, size_t n, const int *fds, size_t count);

/*
 * Receives one message into `bytes`. A descriptor that came with it goes to *passed, close-on-exec and the caller's to
 * close; else *passed is -1. If `passed` is NULL, the kernel drops descriptors. Returns the bytes, 0 at end of file, or
 * -errno; -EMSGSIZE if the message was longer than n.
 */
ssize_t io_receive(int sock, void *bytes, size_t n, int *passed);

/*
 * The same with up to IO_FDS_MAX descriptors: they go to fds, and their count to *count. The kernel closes those for
 * which the process has no number free.
 */
ssize_t io_receive_fds(int sock, void *bytes, size_t n, int fds[IO_FDS_MAX], size_t *count);

/* The same without taking the message. The descriptor in *passed is a duplicate of the one that stays in it. */
ssize_t io_peek(int sock, void *bytes, size_t n, int *passed);

/* Makes a sealable close-on-exec memfd. Returns the descriptor, or -errno. */
int io_memfd(const char *name);

/*
 * The same with `size` zero bytes and with `seals`. RLIMIT_FSIZE limits a memfd as well, and SIGXFSZ would end the
 * program: so the soft limit is lifted meanwhile. Beyond the hard limit it returns -EFBIG. Seal what another process
 * maps against shrinking: a read behind the new end is SIGBUS.
 */
int io_memfd_sized(const char *name, size_t size, int seals);

/*
 * Moves fd to a number >= least, close-on-exec, and closes the old number. Returns the new one, or fd if none is free.
 */
int io_move_up(int fd, int least);

/*
 * Accepts what is in a listener's queue; close-on-exec. Another process may take the connection that poll(2) saw. On a
 * blocking listener accept(2) would then sleep without end; here it sleeps a quarter of a second at most. Returns the
 * connection, or -errno; -EAGAIN if there is none.
 */
int io_accept_soon(int listener);

/* Is there input or an end of file within ms milliseconds? Signals do not shorten the wait. */
bool io_await_input(int fd, int ms);

/* Do both paths lead to the same existing file? */
bool io_same_file(const char *a, const char *b);

/* CLOCK_MONOTONIC in nanoseconds. That clock goes on across an exec. */
int64_t io_now(void);

void io_close(int *fd);
#define cleanup_fd __attribute__((cleanup(io_close)))

#endif
