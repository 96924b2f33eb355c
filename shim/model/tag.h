/* SPDX-License-Identifier: MIT */
/*
 * Names of descriptors (sockets, paths, devices), and what a descriptor really is. A signal handler may call all of
 * these.
 */
#ifndef CPR_MODEL_TAG_H
#define CPR_MODEL_TAG_H

#include "base/text.h"

#include <stdbool.h>
#include <sys/socket.h>
#include <sys/types.h>

enum {
	TAG_NAME_MAX = 4095, /* bytes of a name, without its NUL */
};

/*
 * What the kernel tells about a descriptor. Descriptors of one object compare equal. A number that was closed unseen
 * and reused does not.
 */
struct object {
	uint64_t dev;
	uint64_t ino;
	uint16_t mode;   /* st_mode's type bits */
	int16_t domain;  /* sockets: SO_DOMAIN, SO_TYPE, SO_PROTOCOL; else -1 */
	int16_t type;
	int16_t protocol;
};

/* Fills *object. Returns 0, or -EBADF. */
int object_of(int fd, struct object *object);
bool object_same(const struct object *a, const struct object *b);

/* Is it still the same file? Compares st_dev and st_ino only, which is cheap enough before each use. */
bool object_still(const struct object *object, int fd);

/*
 * Makes `path`, relative to the directory `dir` (a descriptor or AT_FDCWD), absolute and lexically clean: no "//", no
 * ".", no "a/..". Symbolic links stay as written: `current ->` changes between generations, and must be followed anew.
 * Returns 0; -ENAMETOOLONG; -ENOENT for an empty path; else the error of getcwd or readlink. *out is untouched on
 * failure.
 */
int tag_path(int dir, const char *path, char out[TAG_NAME_MAX + 1]);

/*
 * Makes the name of a socket that asks for this address: tcp:127.0.0.1:8080, udp:[::1]:53, unix:/run/a.sock,
 * unix:@abstract. Returns 0; -EAFNOSUPPORT for a family without names here; -EINVAL for an address that is too short;
 * -ENAMETOOLONG; -ENOMEM. *out is untouched on failure.
 */
int tag_socket(const struct object *socket, const struct sockaddr *addr, socklen_t len, char out[TAG_NAME_MAX + 1]);

/* The same for AF_INET and AF_INET6 only, with little stack; 96 bytes hold any name. */
int tag_inet(const struct object *socket, const struct sockaddr *addr, socklen_t len, char *out, size_t size);

/*
 * Makes an absolute path of at most TAG_NAME_MAX bytes lexically clean. The result is never longer. Uses little stack.
 */
void tag_clean(const char *path, char *out);

/*
 * Copies the path of a unix address with a NUL: at most 108 bytes. Returns false if it is abstract, unnamed or not
 * unix.
 */
bool tag_unix_path(const struct sockaddr *addr, socklen_t len, char out[109]);

/*
 * Returns the prefix for an opened path by its type: dev:, fifo:, file:. NULL: it is never tagged (directories,
 * sockets…).
 */
const char *tag_prefix(const struct object *object);

/* Is it a character device without state between generations: null, zero, full, random, urandom, tty, ptmx, console? */
bool tag_stateless_device(const char *name);

/* The same by the device's number, whatever its name is. */
bool tag_stateless_number(dev_t number);

/* Is it the tag of a socket bound to port 0, which means any free port? */
bool tag_is_any_port(const char *name);

#endif
