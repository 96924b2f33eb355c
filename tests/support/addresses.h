/* SPDX-License-Identifier: MIT */
/* Socket addresses and kinds of sockets for tests, and what tag_socket makes of them. */
#ifndef CPR_TEST_ADDRESSES_H
#define CPR_TEST_ADDRESSES_H

#include "model/tag.h"

#include <arpa/inet.h>
#include <criterion/criterion.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/un.h>

static const struct object TCP4 = {.domain = AF_INET, .type = SOCK_STREAM, .protocol = IPPROTO_TCP};
static const struct object UDP4 = {.domain = AF_INET, .type = SOCK_DGRAM, .protocol = IPPROTO_UDP};
static const struct object TCP6 = {.domain = AF_INET6, .type = SOCK_STREAM, .protocol = IPPROTO_TCP};
static const struct object UDP6 = {.domain = AF_INET6, .type = SOCK_DGRAM, .protocol = IPPROTO_UDP};
static const struct object UNIX_STREAM = {.domain = AF_UNIX, .type = SOCK_STREAM};
static const struct object UNIX_DGRAM = {.domain = AF_UNIX, .type = SOCK_DGRAM};
static const struct object UNIX_SEQPACKET = {.domain = AF_UNIX, .type = SOCK_SEQPACKET};

/* Longer than any real one, and filled with what must not be read. */
struct address {
	socklen_t len;
	char bytes[256] __attribute__((aligned(16)));
};

static inline struct address address_of(const void *bytes, size_t n)
{
	struct address made = {.len = (socklen_t)n};

	memset(made.bytes, '#', sizeof(made.bytes));
	memcpy(made.bytes, bytes, n);
	return made;
}

static inline struct address v4(const char *host, int port)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};

	cr_assert_eq(inet_pton(AF_INET, host, &in.sin_addr), 1);
	return address_of(&in, sizeof(in));
}

static inline struct address v6(const char *host, int port, uint32_t scope)
{
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port), .sin6_scope_id = scope};

	cr_assert_eq(inet_pton(AF_INET6, host, &in6.sin6_addr), 1);
	return address_of(&in6, sizeof(in6));
}

/* `n` bytes of path; past the string's own end they are zeroes. */
static inline struct address un(const char *path, size_t n)
{
	struct address made = address_of(&(sa_family_t){AF_UNIX}, sizeof(sa_family_t));
	size_t head = offsetof(struct sockaddr_un, sun_path);
	char *at = made.bytes + head;

	if (path[0]) {
		memset(at, 0, n);
		memcpy(at, path, strnlen(path, n));
	} else {
		memcpy(at, path, n);
	}
	made.len = (socklen_t)(head + n);
	return made;
}

static inline void named(const char *expected, struct object socket, struct address addr)
{
	char name[TAG_NAME_MAX + 1] = "untouched";

	cr_assert_eq(tag_socket(&socket, (struct sockaddr *)addr.bytes, addr.len, name), 0, "for %s", expected);
	cr_assert_str_eq(name, expected);
}

static inline void refused(int expected, struct object socket, struct address addr)
{
	char name[TAG_NAME_MAX + 1] = "untouched";
	int r = tag_socket(&socket, (struct sockaddr *)addr.bytes, addr.len, name);

	cr_assert_eq(r, expected, "%d, not %d, for %d bytes of family %d", r, expected, (int)addr.len,
		     *(sa_family_t *)addr.bytes);
	cr_assert_str_eq(name, "untouched");
}

#endif
