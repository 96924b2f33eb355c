/* SPDX-License-Identifier: MIT */
/*
 * What a descriptor is called (names of sockets, paths, devices), and what it really is. Signal handlers may call
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
 * What the kernel says of a descriptor. Two descriptors of one object compare equal; a number that was closed behind
 * our back and given away again does not.
 */
struct object {
	uint64_t dev;
	uint64_t ino;
	uint16_t mode;   /* st_mode's type bits */
	int16_t domain;  /* sockets: SO_DOMAIN, SO_TYPE, SO_PROTOCOL; else -1 */
	int16_t type;
	int16_t protocol;
};

/* 0 and *object filled; -EBADF. */
int object_of(int fd, struct object *object);
bool object_same(const struct object *a, const struct object *b);

/* Same file? Compares st_dev and st_ino only: what a check before each use can afford. */
bool object_still(const struct object *object, int fd);

/*
 * `path`, seen from directory `dir` (a descriptor or AT_FDCWD), absolute and lexically clean: no "//", no ".", "a/.."
 * gone. Symbolic links stay as they are written: `current ->` moves between generations, and must then be followed
 * anew. 0; -ENAMETOOLONG; -ENOENT for an empty path; else what getcwd or readlink said. *out untouched on failure.
 */
int tag_path(int dir, const char *path, char out[TAG_NAME_MAX + 1]);

/*
 * The name of a socket that asks for this address: tcp:127.0.0.1:8080, udp:[::1]:53, unix:/run/a.sock, unix:@abstract.
 * 0; -EAFNOSUPPORT for a family that has no names here; -EINVAL for an address too short to be one; -ENAMETOOLONG.
 */
int tag_socket(const struct object *socket, const struct sockaddr *addr, socklen_t len, char out[TAG_NAME_MAX + 1]);

/* The same for AF_INET and AF_INET6 only, on a small stack; 96 bytes hold any. */
int tag_inet(const struct object *socket, const struct sockaddr *addr, socklen_t len, char *out, size_t size);

/* An absolute path of at most TAG_NAME_MAX bytes lexically clean, which is never longer. On a small stack. */
void tag_clean(const char *path, char *out);

/*
 * The path of a filesystem unix address (NUL-terminated copy, at most 108 bytes), or false: abstract, unnamed, not
 * unix.
 */
bool tag_unix_path(const struct sockaddr *addr, socklen_t len, char out[109]);

/*
 * The name of an opened path by what it is: dev:, fifo:, file:. NULL for what is never tagged (directories, sockets…).
 */
const char *tag_prefix(const struct object *object);

/* A character device that keeps nothing between generations: null, zero, full, random, urandom, tty, ptmx, console. */
bool tag_stateless_device(const char *name);

/* The same by what the kernel calls a character device, whatever the name is. */
bool tag_stateless_number(dev_t number);

/* Is it the tag of a socket that was bound to port 0: to any that is free? */
bool tag_is_any_port(const char *name);

#endif
