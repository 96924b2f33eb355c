/* SPDX-License-Identifier: MIT */
/* EINTR-safe I/O, descriptors over a socket, memfds, small files of /proc. Any signal handler may call these. */
#ifndef CPR_BASE_IO_H
#define CPR_BASE_IO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* 0, or -errno; a short write that makes no progress is -EIO. */
int io_write_all(int fd, const void *bytes, size_t n);

/* Bytes read up to end of file or n, or -errno. */
ssize_t io_read_all(int fd, void *bytes, size_t n);

/* A whole small file into `bytes` (NUL-terminated, at most size - 1 bytes of it). Bytes read, or -errno. */
ssize_t io_read_file(const char *path, char *bytes, size_t size);

/* One message, with a descriptor beside it if `pass` >= 0. MSG_NOSIGNAL. 0, or -errno. */
int io_send(int sock, const void *bytes, size_t n, int pass);

/* The same with `count` descriptors, IO_FDS_MAX at most. */
enum { IO_FDS_MAX = 128 };
int io_send_fds(int sock, const void *bytes, size_t n, const int *fds, size_t count);

/*
 * One message into `bytes`; a descriptor that came with it goes to *passed (close-on-exec, the caller's to close),
 * else -1. `passed` may be NULL: then descriptors are refused by the kernel. Bytes, 0 at end of file, or -errno;
 * -EMSGSIZE when the message was longer.
 */
ssize_t io_receive(int sock, void *bytes, size_t n, int *passed);

/*
 * The same; up to IO_FDS_MAX descriptors go into fds, *count of them. What finds no number free is closed by the
 * kernel.
 */
ssize_t io_receive_fds(int sock, void *bytes, size_t n, int fds[IO_FDS_MAX], size_t *count);

/* The same, and the message stays, with its descriptor: that in *passed is another one. */
ssize_t io_peek(int sock, void *bytes, size_t n, int *passed);

/* A sealable close-on-exec memfd. The descriptor, or -errno. */
int io_memfd(const char *name);

/*
 * The same with so many bytes, all zero, and with these seals. RLIMIT_FSIZE holds for it as for a file, and its
 * signal would end the program: the soft limit is lifted meanwhile, and beyond the hard one this is -EFBIG. What is
 * shared with another process is sealed against shrinking: a mapping of what was cut off is SIGBUS.
 */
int io_memfd_sized(const char *name, size_t size, int seals);

/*
 * Moves fd to a number at or above `least`, close-on-exec; the old number is closed. The new one, or fd where there
 * is no room.
 */
int io_move_up(int fd, int least);

/*
 * Accepts what is in a listener's queue; close-on-exec. Another process may take what poll(2) saw, and on a blocking
 * listener accept(2) would then sleep for good: so it sleeps for a quarter of a second at the most. The connection, or
 * -errno: -EAGAIN if there is none.
 */
int io_accept_soon(int listener);

/* Is there something to read, or an end, within so many ms? Signals do not cut that short. */
bool io_await_input(int fd, int ms);

/* Do both paths lead to one file that is there? */
bool io_same_file(const char *a, const char *b);

/* CLOCK_MONOTONIC in nanoseconds: it goes on across an exec. */
int64_t io_now(void);

void io_close(int *fd);
#define cleanup_fd __attribute__((cleanup(io_close)))

#endif
