/* SPDX-License-Identifier: MIT */
/* Claims of TCP and UDP sockets: the next generation asks as the last one did, and gets the very socket. */
#include "../support/sockets.h"

#include <netinet/tcp.h>
#include <sys/epoll.h>

/*
 * Generation 1 leaves this socket with a client in its queue; generation 2 asks anew, and must get the same, client and
 * all.
 */
static void is_claimed(struct address a, const char *client)
{
	int fd, peer;

	if (generation() == 1) {
		fd = listening(a, SOCK_STREAM);
		put("inode", inode_of(fd));
		CHECK_INT(atoi(ask("connect %s", client)), 0);
		CHECK(!strcmp(ask("send 0 queued"), "ok"));
		next_generation();
	}
	fd = listening(a, SOCK_STREAM);
	CHECK_INT(inode_of(fd), get("inode"));
	peer = MUST(accept4(fd, NULL, NULL, SOCK_CLOEXEC));
	check_text(peer, "queued");
	if (generation() == 2) {
		CHECK_INT(atoi(ask("connect %s", client)), 1);
		CHECK(!strcmp(ask("send 1 queued"), "ok"));
		next_generation();
	}
}

TEST(tcp4_listener_is_claimed_with_its_queue, BOTH)
{
	char client[64];

	snprintf(client, sizeof(client), "tcp 127.0.0.1 %d", port(0));
	is_claimed(inet4("127.0.0.1", port(0)), client);
}

TEST(tcp4_wildcard_listener_is_claimed, BOTH)
{
	char client[64];

	snprintf(client, sizeof(client), "tcp 127.0.0.1 %d", port(0));
	is_claimed(inet4("0.0.0.0", port(0)), client);
}

TEST(tcp6_listener_is_claimed, BOTH)
{
	char client[64];

	snprintf(client, sizeof(client), "tcp ::1 %d", port(0));
	is_claimed(inet6("::1", port(0)), client);
}

/* An IPv6 wildcard listener with the given answer to "v6 only?". */
static int wildcard6(bool v6only)
{
	return listening_with(inet6("::", port(0)), IPPROTO_IPV6, IPV6_V6ONLY, v6only);
}

static void v6only_changes(bool before, bool after)
{
	int fd;

	if (generation() == 1) {
		put("inode", inode_of(wildcard6(before)));
		next_generation();
	}
	fd = wildcard6(after);
	CHECK_INT(!!get_option(fd, IPPROTO_IPV6, IPV6_V6ONLY), after);
	CHECK_INT(inode_of(fd) == get("inode"), before == after);
	CHECK(is_connection(ask("connect tcp ::1 %d", port(0))));
	CHECK_INT(is_connection(ask("connect tcp 127.0.0.1 %d", port(0))), !after);
}

TEST(v6only_is_claimed_by_v6only, BOTH)
{
	v6only_changes(true, true);
}

TEST(dual_stack_is_claimed_by_dual_stack, BOTH)
{
	v6only_changes(false, false);
}

TEST(v6only_is_not_claimed_by_dual_stack, BOTH, "WARNS=1")
{
	v6only_changes(true, false);
}

TEST(dual_stack_is_not_claimed_by_v6only, BOTH, "WARNS=1")
{
	v6only_changes(false, true);
}

TEST(v4_and_v6_on_one_port_do_not_meet, BOTH)
{
	int four, six;

	if (generation() == 1) {
		put("four", inode_of(listening(inet4("0.0.0.0", port(0)), SOCK_STREAM)));
		put("six", inode_of(listening(inet6("::", port(0)), SOCK_STREAM)));
		next_generation();
	}
	six = listening(inet6("::", port(0)), SOCK_STREAM);
	four = listening(inet4("0.0.0.0", port(0)), SOCK_STREAM);
	CHECK_INT(inode_of(four), get("four"));
	CHECK_INT(inode_of(six), get("six"));
}

TEST(tcp_and_udp_on_one_port_do_not_meet, BOTH)
{
	struct address a = inet4("127.0.0.1", port(0));
	int tcp, udp;

	if (generation() == 1) {
		put("tcp", inode_of(listening(a, SOCK_STREAM)));
		put("udp", inode_of(bound(a, SOCK_DGRAM)));
		next_generation();
	}
	udp = bound(a, SOCK_DGRAM);
	tcp = listening(a, SOCK_STREAM);
	CHECK_INT(inode_of(tcp), get("tcp"));
	CHECK_INT(inode_of(udp), get("udp"));
}

TEST(port_zero_stays_the_same_port, BOTH)
{
	struct address a = inet4("127.0.0.1", 0);
	int first, second;

	if (generation() == 1) {
		first = listening(a, SOCK_STREAM);
		second = listening(a, SOCK_STREAM);
		put("first", port_of(first));
		put("second", port_of(second));
		next_generation();
	}
	first = listening(a, SOCK_STREAM);
	second = listening(a, SOCK_STREAM);
	CHECK_INT(port_of(first), get("first"));
	CHECK_INT(port_of(second), get("second"));
	if (generation() < 4)
		next_generation();
}

static int sharing(void)
{
	struct address a = inet4("127.0.0.1", port(0));
	int fd = socket_for(&a, SOCK_STREAM);

	set_option(fd, SOL_SOCKET, SO_REUSEPORT, 1);
	MUST(bind(fd, &a.any, a.len));
	MUST(listen(fd, 16));
	return fd;
}

TEST(reuseport_listeners_are_claimed_in_order, BOTH)
{
	char key[16];

	for (int i = 0; i < 4; i++) {
		int fd = sharing();

		snprintf(key, sizeof(key), "inode%d", i);
		if (generation() == 1)
			put(key, inode_of(fd));
		else
			CHECK_INT(inode_of(fd), get(key));
	}
	if (generation() < 3)
		next_generation();
	CHECK(inode_of(sharing()) != get("inode0")); /* a fifth is a new one */
}

/* The second of three is closed: the ids that are left are 0 and 2, and go to the first and second that ask. */
TEST(reuseport_ids_may_have_a_gap, BOTH)
{
	int first, second;

	if (generation() == 1) {
		int gone;

		put("first", inode_of(sharing()));
		gone = sharing();
		put("second", inode_of(sharing()));
		close(gone);
		next_generation();
	}
	first = sharing();
	second = sharing();
	CHECK_INT(inode_of(first), get("first"));
	CHECK_INT(inode_of(second), get("second"));
}

TEST(udp_socket_is_claimed_with_its_queue, BOTH)
{
	struct address a = inet4("127.0.0.1", port(0));
	int fd = bound(a, SOCK_DGRAM);

	if (generation() == 1) {
		put("inode", inode_of(fd));
		ask("connect udp 127.0.0.1 %d", port(0));
		ask("send 0 one");
		ask("send 0 two");
		next_generation();
	}
	CHECK_INT(inode_of(fd), get("inode"));
	check_text(fd, "one");
	check_text(fd, "two");
}

/* A client's: a program that binds it anew would hear only the last generation's peer. */
static void connected_is_not_kept(int at)
{
	struct address a = inet4("127.0.0.1", at), peer = inet4("127.0.0.1", port(1));
	int fd = bound(a, SOCK_DGRAM);

	if (generation() == 1) {
		put("inode", inode_of(fd));
		MUST(connect(fd, &peer.any, peer.len));
		next_generation();
	}
	CHECK(inode_of(fd) != get("inode"));
	CHECK_FAILS(getpeername(fd, &peer.any, &peer.len), ENOTCONN);
}

TEST(a_connected_udp_socket_is_not_kept, BOTH)
{
	connected_is_not_kept(port(0));
}

TEST(a_connected_ephemeral_udp_socket_is_not_kept, BOTH)
{
	connected_is_not_kept(0);
}

TEST(v4_and_v4_mapped_do_not_meet, BOTH, "WARNS=1")
{
	int fd;

	if (generation() == 1) {
		struct address a = inet6("::ffff:127.0.0.1", port(0));

		fd = socket_for(&a, SOCK_STREAM);
		set_option(fd, IPPROTO_IPV6, IPV6_V6ONLY, 0);
		MUST(bind(fd, &a.any, a.len));
		MUST(listen(fd, 16));
		put("inode", inode_of(fd));
		next_generation();
	}
	fd = listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);
	CHECK(inode_of(fd) != get("inode"));
	CHECK_INT(get_option(fd, SOL_SOCKET, SO_DOMAIN), AF_INET);
}

TEST(bound_but_never_listening_is_not_kept, BOTH)
{
	int fd = bound(inet4("127.0.0.1", port(0)), SOCK_STREAM);

	if (generation() == 1) {
		put("inode", inode_of(fd));
		next_generation();
	}
	CHECK(inode_of(fd) != get("inode"));
}

/*
 * The listener's and the connection's owner is the process, which has no handler yet when it becomes the next
 * generation.
 */
TEST(signal_driven_io_does_not_end_the_next_generation, BELL)
{
	int fd = listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);

	if (generation() == 1) {
		MUST(fcntl(fd, F_SETOWN, getpid()));
		MUST(fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_ASYNC));
		put("inode", inode_of(fd));
		next_generation();
	}
	CHECK_INT(inode_of(fd), get("inode"));
	CHECK(!(fcntl(fd, F_GETFL) & O_ASYNC));
	ask("connect tcp 127.0.0.1 %d", port(0));
	close(MUST(accept4(fd, NULL, NULL, SOCK_CLOEXEC)));
}

/* As nginx's channels are: neither end is kept, and a child that stays has copies of them. */
static void await_file(const char *key)
{
	for (int i = 0; i < 5000 && access(in_room(key), F_OK); i++)
		usleep(1000);
	MUST(access(in_room(key), F_OK));
}

static void write_to_the_next(const int *channel)
{
	await_file("next");
	MUST(write(channel[1], "", 1));
	put("written", 1);
	pause();
}

TEST(signal_driven_io_of_what_is_not_kept_ends_no_generation, BELL)
{
	int fd = listening(inet4("127.0.0.1", port(0)), SOCK_STREAM), channel[2];

	if (generation() == 1) {
		MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, channel));
		MUST(fcntl(channel[0], F_SETOWN, getpid()));
		MUST(fcntl(channel[0], F_SETFL, fcntl(channel[0], F_GETFL) | O_ASYNC));
		if (!MUST(fork()))
			write_to_the_next(channel);
		next_generation();
	}
	put("next", 1);
	await_file("written");
	close(fd);
}

/* CherryPy asks so whether its port is free. */
static void nothing_answers(struct address listener, struct address asked)
{
	int probe, fd;

	if (generation() > 1) {
		probe = socket_for(&asked, SOCK_STREAM);
		CHECK_FAILS(connect(probe, &asked.any, asked.len), ECONNREFUSED);
		close(probe);
		probe = socket_for(&asked, SOCK_STREAM | SOCK_NONBLOCK);
		CHECK_FAILS(connect(probe, &asked.any, asked.len), ECONNREFUSED);
		close(probe);
	}
	fd = listening(listener, SOCK_STREAM);
	if (generation() == 1) {
		put("inode", inode_of(fd));
		next_generation();
	}
	CHECK_INT(inode_of(fd), get("inode"));
	probe = socket_for(&asked, SOCK_STREAM);
	CHECK_INT(connect(probe, &asked.any, asked.len), 0); /* now it is the program's own */
	close(probe);
}

TEST(nothing_answers_at_an_address_before_it_is_claimed, BOTH)
{
	nothing_answers(inet4("127.0.0.1", port(0)), inet4("127.0.0.1", port(0)));
}

TEST(nothing_answers_at_a_wildcard_before_it_is_claimed, BOTH)
{
	nothing_answers(inet4("0.0.0.0", port(0)), inet4("127.0.0.1", port(0)));
}

TEST(nothing_answers_at_a_v6_wildcard_before_it_is_claimed, BOTH)
{
	nothing_answers(inet6("::", port(0)), inet6("::1", port(0)));
}

/* Of an unknown protocol, once something was said on it: FIN, and no reset. */
TEST(a_connection_ends_with_its_generation, BOTH)
{
	int fd = listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);
	char byte;

	if (generation() == 1) {
		int connection;

		ask("connect tcp 127.0.0.1 %d", port(0));
		connection = MUST(accept4(fd, NULL, NULL, SOCK_CLOEXEC));
		ask("send 0 ?");
		CHECK_INT(read(connection, &byte, 1), 1);
		CHECK_INT(write(connection, "!", 1), 1);
		CHECK(strstr(ask("recv 0"), "!") != NULL);
		next_generation();
	}
	CHECK(!strcmp(ask("recv 0"), "eof"));
}

TEST(options_set_before_bind_are_set_on_what_is_claimed, BOTH)
{
	struct address a = inet4("127.0.0.1", port(0));
	int fd = socket_for(&a, SOCK_STREAM);

	set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, generation() == 1 ? 100 : 200);
	set_option(fd, SOL_SOCKET, SO_KEEPALIVE, generation() == 1);
	MUST(bind(fd, &a.any, a.len));
	MUST(listen(fd, 16));
	if (generation() == 1) {
		set_option(fd, IPPROTO_TCP, TCP_DEFER_ACCEPT, 7);
		put("inode", inode_of(fd));
		next_generation();
	}
	CHECK_INT(inode_of(fd), get("inode"));
	CHECK_INT(get_option(fd, IPPROTO_TCP, TCP_KEEPIDLE), 200);
	CHECK_INT(get_option(fd, SOL_SOCKET, SO_KEEPALIVE), 0);
}

TEST(epoll_registration_before_bind_moves_to_what_is_claimed, BOTH)
{
	struct address a = inet4("127.0.0.1", port(0));
	struct epoll_event event = {.events = EPOLLIN, .data.u64 = 0x1234567890};
	int epfd = MUST(epoll_create1(EPOLL_CLOEXEC)), fd = socket_for(&a, SOCK_STREAM);

	MUST(epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event));
	MUST(bind(fd, &a.any, a.len));
	MUST(listen(fd, 16));
	if (generation() == 1) {
		put("inode", inode_of(fd));
		next_generation();
	}
	CHECK_INT(inode_of(fd), get("inode"));
	ask("connect tcp 127.0.0.1 %d", port(0));
	event.data.u64 = 0;
	CHECK_INT(epoll_wait(epfd, &event, 1, 5000), 1);
	CHECK(event.data.u64 == 0x1234567890);
}

/* The flags of generation 1 are the opposite of generation 2's. */
static void flags_follow(int type1, int type2)
{
	struct address a = inet4("127.0.0.1", port(0));
	int wanted = generation() == 1 ? type1 : type2, fd = MUST(socket(AF_INET, SOCK_STREAM | wanted, 0));

	set_option(fd, SOL_SOCKET, SO_REUSEADDR, 1);
	MUST(bind(fd, &a.any, a.len));
	MUST(listen(fd, 16));
	if (generation() == 1) {
		put("inode", inode_of(fd));
		next_generation();
	}
	CHECK_INT(inode_of(fd), get("inode"));
	CHECK_INT(has_status(fd, O_NONBLOCK), !!(wanted & SOCK_NONBLOCK));
	CHECK_INT(is_cloexec(fd), !!(wanted & SOCK_CLOEXEC));
}

TEST(blocking_follows_a_nonblocking_generation, BOTH)
{
	flags_follow(SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
}

TEST(nonblocking_follows_a_blocking_generation, BOTH)
{
	flags_follow(0, SOCK_NONBLOCK | SOCK_CLOEXEC);
}

TEST(two_listeners_may_swap_their_numbers, BOTH)
{
	int offset = generation() == 1 ? 0 : 1, a, b;

	a = listening(inet4("127.0.0.1", port(offset)), SOCK_STREAM);
	b = listening(inet4("127.0.0.1", port(!offset)), SOCK_STREAM);
	if (generation() == 1) {
		put("a", inode_of(a));
		put("b", inode_of(b));
		next_generation();
	}
	CHECK_INT(inode_of(a), get("b"));
	CHECK_INT(inode_of(b), get("a"));
}

TEST(kept_through_twenty_generations, BOTH)
{
	int fd = listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);

	if (generation() == 1)
		put("inode", inode_of(fd));
	CHECK_INT(inode_of(fd), get("inode"));
	CHECK(fd <= 4); /* the orphan waits at 3 or 4, the fresh socket comes at the other: nothing piles up */
	if (generation() < (by_exec() ? 20 : 5))
		next_generation();
}
