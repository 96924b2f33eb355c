/* SPDX-License-Identifier: MIT */
/* tag: the same request makes the same name, different requests never meet in one; and what a descriptor really is. */
#include "model/tag.h"

#include "../support/addresses.h"
#include "../support/files.h"

#include <errno.h>
#include <linux/vm_sockets.h>
#include <sys/sysmacros.h>

/* ---- addresses of the internet ---- */

Test(tag, names_v4_by_transport_address_and_port)
{
	named("tcp:127.0.0.1:8080", TCP4, v4("127.0.0.1", 8080));
	named("tcp:0.0.0.0:80", TCP4, v4("0.0.0.0", 80));
	named("udp:0.0.0.0:53", UDP4, v4("0.0.0.0", 53));
	named("tcp:255.255.255.255:65535", TCP4, v4("255.255.255.255", 65535));
}

Test(tag, keeps_port_zero_as_it_was_asked)
{
	named("tcp:127.0.0.1:0", TCP4, v4("127.0.0.1", 0));
	named("udp:[::]:0", UDP6, v6("::", 0, 0));
}

Test(tag, names_v6_in_brackets_and_in_its_shortest_form)
{
	named("tcp:[::1]:80", TCP6, v6("::1", 80, 0));
	named("tcp:[::]:80", TCP6, v6("0:0:0:0:0:0:0:0", 80, 0));
	named("udp:[2001:db8::1]:53", UDP6, v6("2001:0db8:0000::0001", 53, 0));
}

Test(tag, keeps_the_scope_id)
{
	named("tcp:[fe80::1%2]:80", TCP6, v6("fe80::1", 80, 2));
	named("tcp:[fe80::1%3]:80", TCP6, v6("fe80::1", 80, 3));
	named("tcp:[fe80::1%4294967295]:80", TCP6, v6("fe80::1", 80, UINT32_MAX));
	named("tcp:[fe80::1]:80", TCP6, v6("fe80::1", 80, 0));
}

Test(tag, tells_a_mapped_v4_address_from_v4)
{
	named("tcp:[::ffff:127.0.0.1]:80", TCP6, v6("::ffff:127.0.0.1", 80, 0));
	named("tcp:127.0.0.1:80", TCP4, v4("127.0.0.1", 80));
}

Test(tag, takes_the_v6_address_without_scope_that_the_kernel_takes)
{
	struct address short_form = v6("::1", 80, 7);

	short_form.len = 24; /* RFC 2133: no sin6_scope_id; what stands behind it is not looked at */
	named("tcp:[::1]:80", TCP6, short_form);
	short_form.len = 23;
	refused(-EINVAL, TCP6, short_form);
}

Test(tag, parts_protocols_on_one_port)
{
	named("sctp:127.0.0.1:80", ((struct object){.domain = AF_INET, .type = SOCK_STREAM, .protocol = IPPROTO_SCTP}),
	      v4("127.0.0.1", 80));
	named("sctp-seqpacket:127.0.0.1:80",
	      ((struct object){.domain = AF_INET, .type = SOCK_SEQPACKET, .protocol = IPPROTO_SCTP}),
	      v4("127.0.0.1", 80));
	named("udplite:127.0.0.1:80",
	      ((struct object){.domain = AF_INET, .type = SOCK_DGRAM, .protocol = IPPROTO_UDPLITE}),
	      v4("127.0.0.1", 80));
	named("udp:127.0.0.1:80", UDP4, v4("127.0.0.1", 80));
	named("tcp:127.0.0.1:80", TCP4, v4("127.0.0.1", 80));
	named("icmp:127.0.0.1:80", ((struct object){.domain = AF_INET, .type = SOCK_DGRAM, .protocol = IPPROTO_ICMP}),
	      v4("127.0.0.1", 80));
	named("udplite:[::1]:80",
	      ((struct object){.domain = AF_INET6, .type = SOCK_DGRAM, .protocol = IPPROTO_UDPLITE}), v6("::1", 80, 0));
}

Test(tag, names_mptcp_as_the_tcp_that_it_speaks)
{
	named("tcp:127.0.0.1:80", ((struct object){.domain = AF_INET, .type = SOCK_STREAM, .protocol = IPPROTO_MPTCP}),
	      v4("127.0.0.1", 80));
}

Test(tag, has_no_name_for_raw_sockets)
{
	refused(-EAFNOSUPPORT, ((struct object){.domain = AF_INET, .type = SOCK_RAW, .protocol = IPPROTO_TCP}),
		v4("127.0.0.1", 0));
	refused(-EAFNOSUPPORT, ((struct object){.domain = AF_INET, .type = SOCK_RAW, .protocol = IPPROTO_RAW}),
		v4("127.0.0.1", 0));
}

Test(tag, looks_at_the_first_bytes_of_an_over_long_address)
{
	struct address addr = v4("127.0.0.1", 8080);

	addr.len = sizeof(addr.bytes); /* the JVM passes a sockaddr_in6's length for v4 */
	named("tcp:127.0.0.1:8080", TCP4, addr);
	addr = v6("::1", 80, 5);
	addr.len = sizeof(addr.bytes);
	named("tcp:[::1%5]:80", TCP6, addr);
}

Test(tag, refuses_every_address_that_is_too_short)
{
	for (socklen_t len = 0; len < sizeof(struct sockaddr_in); len++) {
		struct address addr = v4("127.0.0.1", 80);

		addr.len = len;
		refused(-EINVAL, TCP4, addr);
	}
	for (socklen_t len = 0; len < 24; len++) {
		struct address addr = v6("::1", 80, 0);

		addr.len = len;
		refused(-EINVAL, TCP6, addr);
	}
	for (socklen_t len = 0; len <= sizeof(sa_family_t); len++) { /* at 2: autobind */
		struct address addr = un("/a", 2);

		addr.len = len;
		refused(-EINVAL, UNIX_STREAM, addr);
	}
	cr_assert_eq(tag_socket(&TCP4, NULL, 16, (char[TAG_NAME_MAX + 1]){0}), -EINVAL);
}

Test(tag, refuses_an_address_of_another_family_than_the_socket)
{
	refused(-EAFNOSUPPORT, TCP6, v4("127.0.0.1", 80));
	refused(-EAFNOSUPPORT, TCP4, v6("::1", 80, 0));
	refused(-EAFNOSUPPORT, UNIX_STREAM, v4("127.0.0.1", 80));
	refused(-EAFNOSUPPORT, TCP4, un("/a", 2));
	refused(-EAFNOSUPPORT, ((struct object){.domain = AF_NETLINK, .type = SOCK_RAW}), v4("127.0.0.1", 80));
}

Test(tag, names_vsock_streams)
{
	struct sockaddr_vm vm = {.svm_family = AF_VSOCK, .svm_cid = VMADDR_CID_ANY, .svm_port = 1024};
	struct address addr = {.len = sizeof(vm)};

	memcpy(addr.bytes, &vm, sizeof(vm));
	named("vsock:4294967295:1024", ((struct object){.domain = AF_VSOCK, .type = SOCK_STREAM}), addr);
	addr.len--;
	refused(-EAFNOSUPPORT, ((struct object){.domain = AF_VSOCK, .type = SOCK_STREAM}), addr);
}

/* ---- unix addresses ---- */

Test(tag, names_unix_paths_by_type)
{
	named("unix:/run/a.sock", UNIX_STREAM, un("/run/a.sock", 12));
	named("unix-dgram:/run/a.sock", UNIX_DGRAM, un("/run/a.sock", 12));
	named("unix-seqpacket:/run/a.sock", UNIX_SEQPACKET, un("/run/a.sock", 12));
}

Test(tag, names_a_unix_path_the_same_with_and_without_its_nul)
{
	named("unix:/run/a.sock", UNIX_STREAM, un("/run/a.sock", 13));
	named("unix:/run/a.sock", UNIX_STREAM, un("/run/a.sock", sizeof(((struct sockaddr_un *)0)->sun_path)));
}

Test(tag, makes_a_unix_path_absolute_and_clean)
{
	char dir[4096], expected[5000];

	scratch_enter(dir);
	snprintf(expected, sizeof(expected), "unix:%s/a.sock", dir);
	named(expected, UNIX_STREAM, un("a.sock", 6));
	named(expected, UNIX_STREAM, un("./a.sock", 8));
	named(expected, UNIX_STREAM, un("sub/../a.sock", 13));
	named("unix:/run/a.sock", UNIX_STREAM, un("/run//./x/../a.sock", 19));
	scratch_leave(dir);
}

Test(tag, names_a_path_that_fills_the_address_to_its_last_byte)
{
	char path[109], expected[120];

	memset(path, 'p', 108);
	path[0] = '/';
	path[108] = '\0';
	snprintf(expected, sizeof(expected), "unix:%s", path);
	named(expected, UNIX_STREAM, un(path, 108));
}

Test(tag, names_abstract_addresses_with_every_byte_of_theirs)
{
	named("unix:@name", UNIX_STREAM, un("\0name", 5));
	named("unix:@name\\x00", UNIX_STREAM, un("\0name\0", 6));
	named("unix:@a\\x00b", UNIX_STREAM, un("\0a\0b", 4));
	named("unix:@\\x01\\x7f\\xff\\x20~!", UNIX_STREAM, un("\0\x01\x7f\xff ~!", 7));
	named("unix:@", UNIX_STREAM, un("\0", 1));
	named("unix-dgram:@/looks/like/../a/path", UNIX_DGRAM, un("\0/looks/like/../a/path", 22));
}

Test(tag, tells_an_escape_from_the_bytes_that_spell_it)
{
	named("unix:@\\x5cx00", UNIX_STREAM, un("\0\\x00", 5));
	named("unix:/a\\x5cx20b", UNIX_STREAM, un("/a\\x20b", 7));
	named("unix:/a\\x20b", UNIX_STREAM, un("/a b", 4));
	named("unix:/a\\x0ab", UNIX_STREAM, un("/a\nb", 4));
}

Test(tag, gives_an_abstract_address_of_full_length_all_its_escapes)
{
	char path[108] = "", expected[5 + 1 + 107 * 4 + 1] = "unix:@";

	for (int i = 0; i < 107; i++)
		strcat(expected, "\\x00");
	named(expected, UNIX_STREAM, un(path, 108));
}

Test(tag, finds_the_path_of_unix_addresses_that_have_one)
{
	struct address addr = un("/run/a.sock", 12);
	char path[109];

	cr_assert(tag_unix_path((struct sockaddr *)addr.bytes, addr.len, path));
	cr_assert_str_eq(path, "/run/a.sock");
	addr = un("rel", 3); /* not terminated, not absolute */
	cr_assert(tag_unix_path((struct sockaddr *)addr.bytes, addr.len, path));
	cr_assert_str_eq(path, "rel");
	addr = un("\0abstract", 9);
	cr_assert_not(tag_unix_path((struct sockaddr *)addr.bytes, addr.len, path));
	addr.len = sizeof(sa_family_t);
	cr_assert_not(tag_unix_path((struct sockaddr *)addr.bytes, addr.len, path));
	addr = v4("47.47.47.47", 80);
	cr_assert_not(tag_unix_path((struct sockaddr *)addr.bytes, addr.len, path));
	cr_assert_not(tag_unix_path(NULL, 100, path));
	addr = un("/", 1);
	memset(addr.bytes + 2, '/', sizeof(addr.bytes) - 2);
	addr.len = sizeof(addr.bytes);
	cr_assert(tag_unix_path((struct sockaddr *)addr.bytes, addr.len, path));
	cr_assert_eq(strlen(path), 108);
}

/* ---- what a descriptor is ---- */

Test(tag, knows_what_a_descriptor_is)
{
	struct object object;

	cr_assert_eq(object_of(socket(AF_INET, SOCK_STREAM, 0), &object), 0);
	cr_assert_eq(object.mode, S_IFSOCK);
	cr_assert(object.domain == AF_INET && object.type == SOCK_STREAM && object.protocol == IPPROTO_TCP);
	cr_assert_eq(object_of(socket(AF_UNIX, SOCK_SEQPACKET, 0), &object), 0);
	cr_assert(object.domain == AF_UNIX && object.type == SOCK_SEQPACKET && object.protocol == 0);
	cr_assert_eq(object_of(open("/dev/null", O_RDONLY), &object), 0);
	cr_assert(object.mode == S_IFCHR && object.domain == -1 && object.type == -1 && object.protocol == -1);
}

Test(tag, leaves_everything_as_it_was_for_a_descriptor_that_is_closed)
{
	struct object object = {.dev = 1, .ino = 2};

	errno = EDOM;
	cr_assert_eq(object_of(-1, &object), -EBADF);
	cr_assert_eq(object_of(1000000, &object), -EBADF);
	cr_assert(object.dev == 1 && object.ino == 2);
	cr_assert_not(object_still(&object, -1));
	cr_assert_eq(errno, EDOM);
}

Test(tag, recognises_a_duplicate_and_not_a_stranger_at_the_same_number)
{
	int fd = socket(AF_INET, SOCK_STREAM, 0), other;
	struct object was, now;

	cr_assert_eq(object_of(fd, &was), 0);
	cr_assert_eq(object_of(dup(fd), &now), 0);
	cr_assert(object_same(&was, &now));
	cr_assert(object_still(&was, fd));
	other = socket(AF_INET, SOCK_STREAM, 0);
	dup2(other, fd);
	cr_assert_eq(object_of(fd, &now), 0);
	cr_assert_not(object_same(&was, &now));
	cr_assert_not(object_still(&was, fd));
}

Test(tag, calls_objects_different_by_each_of_their_fields)
{
	const struct object one = {.dev = 1, .ino = 2, .mode = 3, .domain = 4, .type = 5, .protocol = 6};
	struct object other[] = {one, one, one, one, one, one};

	other[0].dev ^= (uint64_t)1 << 63;
	other[1].ino ^= (uint64_t)1 << 63;
	other[2].mode++;
	other[3].domain++;
	other[4].type++;
	other[5].protocol++;
	cr_assert(object_same(&one, &(struct object){1, 2, 3, 4, 5, 6}));
	for (int i = 0; i < 6; i++)
		cr_assert_not(object_same(&one, &other[i]), "field %d", i);
}

Test(tag, names_opened_paths_by_what_they_are)
{
	cr_assert_str_eq(tag_prefix(&(struct object){.mode = S_IFCHR}), "dev:");
	cr_assert_str_eq(tag_prefix(&(struct object){.mode = S_IFIFO}), "fifo:");
	cr_assert_str_eq(tag_prefix(&(struct object){.mode = S_IFREG}), "file:");
	cr_assert_null(tag_prefix(&(struct object){.mode = S_IFDIR}));
	cr_assert_null(tag_prefix(&(struct object){.mode = S_IFSOCK}));
	cr_assert_null(tag_prefix(&(struct object){.mode = S_IFBLK}));
	cr_assert_null(tag_prefix(&(struct object){.mode = S_IFLNK}));
}

Test(tag, knows_the_devices_that_keep_nothing)
{
	static const char *const stateless[] = {"null", "zero", "full", "random", "urandom", "tty", "ptmx", "console"};
	static const char *const others[] = {"ttyUSB0", "tty1", "nullx", "", "../dev/null"};
	char name[64];

	for (size_t i = 0; i < sizeof(stateless) / sizeof(stateless[0]); i++) {
		snprintf(name, sizeof(name), "dev:/dev/%s", stateless[i]);
		cr_assert(tag_stateless_device(name), "%s", name);
	}
	for (size_t i = 0; i < sizeof(others) / sizeof(others[0]); i++) {
		snprintf(name, sizeof(name), "dev:/dev/%s", others[i]);
		cr_assert_not(tag_stateless_device(name), "%s", name);
	}
	cr_assert_not(tag_stateless_device("file:/dev/null"));
}
