/* SPDX-License-Identifier: MIT */
/* Names for descriptors: the same request makes the same name in every generation. */
#define _GNU_SOURCE
#include "model/tag.h"

#include "base/next.h"
#include "base/room.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/vm_sockets.h>
#include <netinet/in.h>
#include <stddef.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>
#include <sys/sysmacros.h>

static int socket_number(int fd, int option)
{
	int value = -1;
	socklen_t len = sizeof(value);

	return getsockopt(fd, SOL_SOCKET, option, &value, &len) ? -1 : value;
}

/* glibc's fstat is newfstatat with an empty path, which is dearer by a sixth. */
static int stat_of(int fd, struct stat *st)
{
#if defined(SYS_fstat) && defined(__LP64__)
	return (int)next_sys(SYS_fstat, fd, st);
#else
	return fstat(fd, st);
#endif
}

int object_of(int fd, struct object *object)
{
	int saved_errno = errno;
	struct stat st;

	if (stat_of(fd, &st)) {
		errno = saved_errno;
		return -EBADF;
	}
	*object = (struct object){.dev = st.st_dev,
				  .ino = st.st_ino,
				  .mode = st.st_mode & S_IFMT,
				  .domain = -1,
				  .type = -1,
				  .protocol = -1};
	if (S_ISSOCK(st.st_mode)) {
		object->domain = socket_number(fd, SO_DOMAIN);
		object->type = socket_number(fd, SO_TYPE);
		object->protocol = socket_number(fd, SO_PROTOCOL);
	}
	errno = saved_errno;
	return 0;
}

bool object_same(const struct object *a, const struct object *b)
{
	return a->dev == b->dev && a->ino == b->ino && a->mode == b->mode && a->domain == b->domain &&
	       a->type == b->type && a->protocol == b->protocol;
}

bool object_still(const struct object *object, int fd)
{
	int saved_errno = errno;
	struct stat st;
	bool same = stat_of(fd, &st) == 0 && st.st_dev == object->dev && st.st_ino == object->ino;

	errno = saved_errno;
	return same;
}

/*
 * Appends the clean form of `path` to `out`, which holds a clean absolute path without a final slash (or nothing: the
 * root).
 */
static int append_clean(char *out, size_t used, const char *path)
{
	while (*path) {
		size_t n = strcspn(path, "/");

		if (n == 2 && path[0] == '.' && path[1] == '.') {
			while (used && out[--used] != '/')
				;
		} else if (n && !(n == 1 && path[0] == '.')) {
			if (used + 1 + n > TAG_NAME_MAX)
				return -ENAMETOOLONG;
			out[used++] = '/';
			memcpy(out + used, path, n);
			used += n;
		}
		path += n;
		path += *path == '/';
	}
	if (!used)
		out[used++] = '/';
	out[used] = '\0';
	return 0;
}

void tag_clean(const char *path, char *out)
{
	append_clean(out, 0, path);
}

static ssize_t directory_path(int dir, char *out)
{
	char link[32];
	struct text t = TEXT_ON(link);
	ssize_t n;

	if (dir == AT_FDCWD) {
		n = next_sys(SYS_getcwd, out, TAG_NAME_MAX + 1);
		return n < 0 ? -errno : n - 1;
	}
	text_format(&t, "/proc/self/fd/%d", dir);
	n = readlink(link, out, TAG_NAME_MAX);
	return n < 0 ? -errno : n;
}

int tag_path(int dir, const char *path, char out[TAG_NAME_MAX + 1])
{
	cleanup_room char *whole = room_take();
	ssize_t used = 0;
	int saved_errno = errno, r;

	if (!whole)
		return -ENOMEM;
	if (!*path)
		return -ENOENT;
	if (*path != '/')
		used = directory_path(dir, whole);
	errno = saved_errno;
	if (used < 0)
		return (int)used;
	if (used && whole[0] != '/') /* "(unreachable)/…": outside of our root */
		return -ENOENT;
	if (used == 1)
		used = 0;
	r = append_clean(whole, (size_t)used, path);
	if (!r)
		memcpy(out, whole, strlen(whole) + 1);
	return r;
}

bool tag_unix_path(const struct sockaddr *addr, socklen_t len, char out[109])
{
	const struct sockaddr_un *un = (const struct sockaddr_un *)addr;
	size_t n = offsetof(struct sockaddr_un, sun_path);

	if (!addr || len <= n || un->sun_family != AF_UNIX || !un->sun_path[0])
		return false;
	n = strnlen(un->sun_path, len - n > sizeof(un->sun_path) ? sizeof(un->sun_path) : len - n);
	memcpy(out, un->sun_path, n);
	out[n] = '\0';
	return true;
}

static void add_escaped(struct text *t, const unsigned char *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (bytes[i] < 0x21 || bytes[i] > 0x7e || bytes[i] == '\\') {
			char hex[4] = {'\\', 'x', "0123456789abcdef"[bytes[i] >> 4], "0123456789abcdef"[bytes[i] & 15]};

			text_add_bytes(t, hex, sizeof(hex));
		} else {
			text_add_bytes(t, bytes + i, 1);
		}
}

static int name_unix(struct text *t, const struct sockaddr *addr, socklen_t len)
{
	const struct sockaddr_un *un = (const struct sockaddr_un *)addr;
	size_t head = offsetof(struct sockaddr_un, sun_path);
	cleanup_room char *absolute = room_take();
	char path[109];
	int r;

	if (!absolute)
		return -ENOMEM;
	if (len <= head) /* autobind: a name of the kernel's choice that no next generation can ask for */
		return -EINVAL;
	if (tag_unix_path(addr, len, path)) {
		r = tag_path(AT_FDCWD, path, absolute);
		if (!r)
			add_escaped(t, (const unsigned char *)absolute, strlen(absolute));
		return r;
	}
	if (len - head > sizeof(un->sun_path))
		len = sizeof(*un);
	text_add(t, "@");
	add_escaped(t, (const unsigned char *)un->sun_path + 1, len - head - 1);
	return 0;
}

/* Not inet_ntop(3): glibc's calls sprintf(3), which takes 1.7 KiB of stack. */
static void add_inet4(struct text *t, const unsigned char *bytes)
{
	text_format(t, "%u.%u.%u.%u", (unsigned)bytes[0], (unsigned)bytes[1], (unsigned)bytes[2], (unsigned)bytes[3]);
}

/* The first of the longest runs of two zero words or more is written as "::". *from is 8 if there is none. */
static void find_zeros(const unsigned *words, int *from, int *count)
{
	*from = 8;
	*count = 1;
	for (int i = 0, n; i < 8; i += n + 1) {
		for (n = 0; i + n < 8 && !words[i + n]; n++)
			;
		if (n > *count) {
			*from = i;
			*count = n;
		}
	}
}

/* As inet_ntop(3) writes it: the last two words as an IPv4 address behind ::, or ::ffff. */
static void add_inet6(struct text *t, const unsigned char *bytes)
{
	unsigned words[8];
	int from, count;

	for (int i = 0; i < 8; i++)
		words[i] = (unsigned)bytes[2 * i] << 8 | bytes[2 * i + 1];
	find_zeros(words, &from, &count);
	for (int i = 0; i < 8; i++) {
		if (i == from) {
			text_add(t, "::");
			i += count - 1;
			continue;
		}
		if (i == 6 && !from && (count == 6 || (count == 5 && words[5] == 0xffff))) {
			if (i != from + count)
				text_add(t, ":");
			add_inet4(t, bytes + 12);
			return;
		}
		if (i && i != from + count)
			text_add(t, ":");
		text_add_hex(t, words[i]);
	}
}

static int name_inet(struct text *t, const struct sockaddr *addr, socklen_t len)
{
	const struct sockaddr_in *in = (const struct sockaddr_in *)addr;
	const struct sockaddr_in6 *in6 = (const struct sockaddr_in6 *)addr;

	if (addr->sa_family == AF_INET) {
		if (len < sizeof(*in))
			return -EINVAL;
		add_inet4(t, (const unsigned char *)&in->sin_addr);
		text_format(t, ":%u", (unsigned)ntohs(in->sin_port));
		return 0;
	}
	if (len < offsetof(struct sockaddr_in6, sin6_scope_id)) /* RFC 2133's form, which the kernel still takes */
		return -EINVAL;
	text_add(t, "[");
	add_inet6(t, in6->sin6_addr.s6_addr);
	if (len >= sizeof(*in6) && in6->sin6_scope_id)
		text_format(t, "%%%u", in6->sin6_scope_id);
	text_format(t, "]:%u", (unsigned)ntohs(in6->sin6_port));
	return 0;
}

static const char *transport(const struct object *socket)
{
	if (socket->domain == AF_UNIX)
		return socket->type == SOCK_DGRAM       ? "unix-dgram:"
		       : socket->type == SOCK_SEQPACKET ? "unix-seqpacket:"
							: "unix:";
	switch (socket->protocol) {
	case IPPROTO_SCTP:
		return socket->type == SOCK_SEQPACKET ? "sctp-seqpacket:" : "sctp:";
	case IPPROTO_UDPLITE:
		return "udplite:";
	case IPPROTO_ICMP:
	case IPPROTO_ICMPV6:
		return "icmp:";
	default:
		return socket->type == SOCK_STREAM ? "tcp:" : socket->type == SOCK_DGRAM ? "udp:" : NULL;
	}
}

int tag_socket(const struct object *socket, const struct sockaddr *addr, socklen_t len, char out[TAG_NAME_MAX + 1])
{
	cleanup_room char *name = room_take();
	struct text t;
	const char *prefix;
	int r = -EAFNOSUPPORT;

	if (!name)
		return -ENOMEM;
	if (!addr || len < sizeof(sa_family_t))
		return -EINVAL;
	t = text_on(name, TAG_NAME_MAX + 1);
	if (socket->domain == AF_VSOCK && socket->type == SOCK_STREAM && len >= sizeof(struct sockaddr_vm)) {
		const struct sockaddr_vm *vm = (const struct sockaddr_vm *)addr;

		text_format(&t, "vsock:%u:%u", vm->svm_cid, vm->svm_port);
		r = 0;
	} else if (socket->domain == AF_UNIX || socket->domain == AF_INET || socket->domain == AF_INET6) {
		prefix = transport(socket);
		if (!prefix || addr->sa_family != socket->domain)
			return -EAFNOSUPPORT;
		text_add(&t, prefix);
		r = socket->domain == AF_UNIX ? name_unix(&t, addr, len) : name_inet(&t, addr, len);
	}
	if (!r && t.cut)
		r = -ENAMETOOLONG;
	if (!r)
		memcpy(out, name, t.used + 1);
	return r;
}

int tag_inet(const struct object *socket, const struct sockaddr *addr, socklen_t len, char *out, size_t size)
{
	struct text t = text_on(out, size);
	const char *prefix = transport(socket);
	int r;

	if (!prefix || addr->sa_family != socket->domain)
		return -EAFNOSUPPORT;
	text_add(&t, prefix);
	r = name_inet(&t, addr, len);
	return r ? r : t.cut ? -ENAMETOOLONG : 0;
}

const char *tag_prefix(const struct object *object)
{
	switch (object->mode) {
	case S_IFCHR:
		return "dev:";
	case S_IFIFO:
		return "fifo:";
	case S_IFREG:
		return "file:";
	default:
		return NULL;
	}
}

bool tag_stateless_device(const char *name)
{
	static const char *const devices[] = {"dev:/dev/null",    "dev:/dev/zero", "dev:/dev/full", "dev:/dev/random",
					      "dev:/dev/urandom", "dev:/dev/tty",  "dev:/dev/ptmx", "dev:/dev/console"};

	for (size_t i = 0; i < sizeof(devices) / sizeof(devices[0]); i++)
		if (!strcmp(name, devices[i]))
			return true;
	return false;
}

bool tag_stateless_number(dev_t number)
{
	unsigned kind = major(number), which = minor(number);

	return (kind == 1 && (which == 3 || which == 5 || (which >= 7 && which <= 9))) || (kind == 5 && which <= 2);
}

bool tag_is_any_port(const char *name)
{
	size_t n = strlen(name);

	return n > 2 && !strcmp(name + n - 2, ":0");
}
