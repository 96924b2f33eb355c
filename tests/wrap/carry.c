/* SPDX-License-Identifier: MIT */
/* A connection goes on in the next generation, whichever calls the program reads and writes it with: what passes by one of them unseen ends the connection. */
#include "../support/sockets.h"

#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/uio.h>

/* Takes at most n bytes; gives n bytes, all of them. */
typedef ssize_t taker(int fd, char *bytes, size_t n);
typedef ssize_t giver(int fd, const char *bytes, size_t n);

static void answer(int fd, taker *take, giver *give)
{
	char request[512], response[128];
	size_t have = 0;
	int n;

	for (request[0] = '\0'; !strstr(request, "\r\n\r\n"); request[have] = '\0')
		have += (size_t)MUST(take(fd, request + have, sizeof(request) - 1 - have));
	CHECK(!strncmp(request, "GET /", 5));
	request[strcspn(request + 4, " ") + 4] = '\0';
	n = snprintf(response, sizeof(response), "HTTP/1.1 200 OK\r\nContent-Length: %zu\r\n\r\n%s", strlen(request + 4), request + 4);
	CHECK_INT(give(fd, response, (size_t)n), n);
}

static void is_carried(taker *take, giver *give)
{
	int fd = listening(inet4("127.0.0.1", port(0)), SOCK_STREAM), connection;
	struct sockaddr_in peer;
	socklen_t len = sizeof(peer);

	if (generation() == 1)
		ask("connect tcp 127.0.0.1 %d", port(0));
	connection = MUST(accept4(fd, (struct sockaddr *)&peer, &len, SOCK_CLOEXEC));
	if (generation() == 1) {
		put("port", ntohs(peer.sin_port));
		put("inode", inode_of(connection));
	}
	CHECK_INT(ntohs(peer.sin_port), get("port"));
	CHECK_INT(inode_of(connection), get("inode"));
	for (int i = 0; i < 3; i++) {
		ask("request 0 /%d/%d", generation(), i);
		answer(connection, take, give);
		CHECK_INT(atoi(ask("response 0") + 1), generation());
	}
	if (generation() < 3)
		next_generation();
}

static ssize_t by_read(int fd, char *bytes, size_t n)
{
	return read(fd, bytes, n);
}

static ssize_t by_write(int fd, const char *bytes, size_t n)
{
	return write(fd, bytes, n);
}

static ssize_t by_recv(int fd, char *bytes, size_t n)
{
	MUST(recv(fd, bytes, n, MSG_PEEK)); /* takes nothing */
	return recv(fd, bytes, n, 0);
}

static ssize_t by_send(int fd, const char *bytes, size_t n)
{
	return send(fd, bytes, n, MSG_NOSIGNAL);
}

static ssize_t by_recvfrom(int fd, char *bytes, size_t n)
{
	return recvfrom(fd, bytes, n, 0, NULL, NULL);
}

static ssize_t by_sendto(int fd, const char *bytes, size_t n)
{
	return sendto(fd, bytes, n, MSG_NOSIGNAL, NULL, 0);
}

/* In two parts, the first of one byte. */
static struct iovec *parts(const char *bytes, size_t n)
{
	static struct iovec iov[2];

	iov[0] = (struct iovec){(char *)bytes, 1};
	iov[1] = (struct iovec){(char *)bytes + 1, n - 1};
	return iov;
}

static ssize_t by_readv(int fd, char *bytes, size_t n)
{
	return readv(fd, parts(bytes, n), 2);
}

static ssize_t by_writev(int fd, const char *bytes, size_t n)
{
	return writev(fd, parts(bytes, n), 2);
}

static ssize_t by_preadv2(int fd, char *bytes, size_t n)
{
	return preadv2(fd, parts(bytes, n), 2, -1, 0);
}

static ssize_t by_pwritev2(int fd, const char *bytes, size_t n)
{
	return pwritev2(fd, parts(bytes, n), 2, -1, 0);
}

static ssize_t by_recvmsg(int fd, char *bytes, size_t n)
{
	struct msghdr message = {.msg_iov = parts(bytes, n), .msg_iovlen = 2};

	return recvmsg(fd, &message, 0);
}

static ssize_t by_sendmsg(int fd, const char *bytes, size_t n)
{
	struct msghdr message = {.msg_iov = parts(bytes, n), .msg_iovlen = 2};

	return sendmsg(fd, &message, MSG_NOSIGNAL);
}

static ssize_t by_recvmmsg(int fd, char *bytes, size_t n)
{
	struct mmsghdr message = {.msg_hdr = {.msg_iov = parts(bytes, n), .msg_iovlen = 2}};

	return MUST(recvmmsg(fd, &message, 1, 0, NULL)) ? (ssize_t)message.msg_len : 0;
}

static ssize_t by_sendmmsg(int fd, const char *bytes, size_t n)
{
	struct mmsghdr message = {.msg_hdr = {.msg_iov = parts(bytes, n), .msg_iovlen = 2}};

	return MUST(sendmmsg(fd, &message, 1, MSG_NOSIGNAL)) ? (ssize_t)message.msg_len : 0;
}

static ssize_t by_read_number(int fd, char *bytes, size_t n)
{
	return syscall(SYS_read, fd, bytes, n);
}

static ssize_t by_write_number(int fd, const char *bytes, size_t n)
{
	return syscall(SYS_write, fd, bytes, n);
}

static ssize_t by_recvmsg_number(int fd, char *bytes, size_t n)
{
	struct msghdr message = {.msg_iov = parts(bytes, n), .msg_iovlen = 2};

	return syscall(SYS_recvmsg, fd, &message, 0);
}

static ssize_t by_writev_number(int fd, const char *bytes, size_t n)
{
	return syscall(SYS_writev, fd, parts(bytes, n), 2);
}

static ssize_t by_recvfrom_number(int fd, char *bytes, size_t n)
{
	return syscall(SYS_recvfrom, fd, bytes, n, 0, NULL, NULL);
}

static ssize_t by_sendto_number(int fd, const char *bytes, size_t n)
{
	return syscall(SYS_sendto, fd, bytes, n, MSG_NOSIGNAL, NULL, 0);
}

/* The head written, the rest sent from a file. */
static ssize_t by_sendfile(int fd, const char *bytes, size_t n)
{
	size_t head = (size_t)(strstr(bytes, "\r\n\r\n") + 4 - bytes);
	int file = MUST(open(in_room("body"), O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600));
	off_t at = 0;

	CHECK_INT(write(file, bytes + head, n - head), n - head);
	CHECK_INT(write(fd, bytes, head), head);
	CHECK_INT(sendfile(fd, file, &at, n - head), n - head);
	close(file);
	return (ssize_t)n;
}

/* The head written, the rest spliced from a pipe. */
static ssize_t by_splice(int fd, const char *bytes, size_t n)
{
	size_t head = (size_t)(strstr(bytes, "\r\n\r\n") + 4 - bytes);
	int pipes[2];

	MUST(pipe2(pipes, O_CLOEXEC));
	CHECK_INT(write(pipes[1], bytes + head, n - head), n - head);
	CHECK_INT(write(fd, bytes, head), head);
	CHECK_INT(splice(pipes[0], NULL, fd, NULL, n - head, 0), n - head);
	close(pipes[0]);
	close(pipes[1]);
	return (ssize_t)n;
}

#define CARRIED(take, give)                                                                                                                \
	TEST(a_connection_served_by_##take##_and_##give##_is_carried, BELL)                                                                \
	{                                                                                                                                  \
		is_carried(by_##take, by_##give);                                                                                          \
	}

CARRIED(read, write)
CARRIED(recv, send)
CARRIED(recvfrom, sendto)
CARRIED(readv, writev)
CARRIED(preadv2, pwritev2)
CARRIED(recvmsg, sendmsg)
CARRIED(recvmmsg, sendmmsg)
CARRIED(read, sendfile)
CARRIED(read, splice)
CARRIED(read_number, write_number)
CARRIED(recvmsg_number, writev_number)
CARRIED(recvfrom_number, sendto_number)
