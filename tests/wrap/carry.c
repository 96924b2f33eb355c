/* SPDX-License-Identifier: MIT */
/*
 * A connection goes on in the next generation, whichever calls the program reads and writes it with. What passes by one
 * of them unseen ends the connection.
 */
#include "carried.h"

#include <pthread.h>
#include <sys/resource.h>
#include <sys/sendfile.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

static void is_carried(taker *take, giver *give)
{
	serve(accepted(), take, give);
	if (generation() < 3)
		next_generation();
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

/* ---- streams: each is made when it is first asked for, and a generation serves one connection ---- */

static FILE *stream_on(int fd, const char *mode)
{
	FILE *stream = fdopen(fd, mode);

	CHECK(stream);
	CHECK_INT(fileno(stream), fd);
	return stream;
}

static ssize_t by_fgets(int fd, char *bytes, size_t n)
{
	static FILE *stream;

	stream = stream ? stream : stream_on(fd, "r");
	CHECK(fgets(bytes, (int)n, stream));
	return (ssize_t)strlen(bytes);
}

static ssize_t print_on(FILE *stream, const char *bytes, size_t n)
{
	int r = fprintf(stream, "%.*s", (int)n, bytes);

	CHECK_INT(fflush(stream), 0);
	return r;
}

static ssize_t by_fprintf(int fd, const char *bytes, size_t n)
{
	static FILE *stream;

	stream = stream ? stream : stream_on(fd, "w");
	return print_on(stream, bytes, n);
}

/* As programs do that close input and output apart. */
static ssize_t by_fprintf_to_a_dup(int fd, const char *bytes, size_t n)
{
	static FILE *stream;

	stream = stream ? stream : stream_on(MUST(dup(fd)), "w");
	return print_on(stream, bytes, n);
}

static ssize_t by_dprintf(int fd, const char *bytes, size_t n)
{
	return dprintf(fd, "%.*s", (int)n, bytes);
}

static ssize_t print_args(int fd, const char *format, ...)
{
	va_list args;
	int r;

	va_start(args, format);
	r = vdprintf(fd, format, args);
	va_end(args);
	return r;
}

static ssize_t by_vdprintf(int fd, const char *bytes, size_t n)
{
	return print_args(fd, "%.*s", (int)n, bytes);
}

/* ---- other numbers of the same connection ---- */

static ssize_t by_dup(int fd, const char *bytes, size_t n)
{
	static int other;

	other = other ? other : MUST(dup(fd));
	return write(other, bytes, n);
}

static ssize_t by_fcntl_dup(int fd, const char *bytes, size_t n)
{
	static int other;

	other = other ? other : MUST(fcntl(fd, F_DUPFD_CLOEXEC, 200));
	return write(other, bytes, n);
}

/* A number for each answer, closed behind it. */
static ssize_t by_dup_of_the_moment(int fd, const char *bytes, size_t n)
{
	int other = MUST(dup(fd));
	ssize_t r = write(other, bytes, n);

	close(other);
	return r;
}

#define CARRIED(take, give)                                                                                            \
	TEST(a_connection_served_by_##take##_and_##give##_is_carried, BELL)                                            \
	{                                                                                                              \
		is_carried(by_##take, by_##give);                                                                      \
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
CARRIED(fgets, fprintf)
CARRIED(fgets, fprintf_to_a_dup)
CARRIED(fgets, dprintf)
CARRIED(read, dprintf)
CARRIED(read, vdprintf)
CARRIED(read, dup)
CARRIED(read, fcntl_dup)
CARRIED(read, dup_of_the_moment)

/* It is served by another number than that of accept(), which is closed. */
#define CARRIED_BY_ANOTHER_NUMBER(name, move)                                                                          \
	TEST(a_connection_that_##name##_moved_is_carried, BELL)                                                        \
	{                                                                                                              \
		int first = accepted(), other = MUST(move);                                                            \
                                                                                                                       \
		close(first);                                                                                          \
		serve(other, by_read, by_write);                                                                       \
		if (generation() < 3)                                                                                  \
			next_generation();                                                                             \
	}

CARRIED_BY_ANOTHER_NUMBER(dup, dup(first))
CARRIED_BY_ANOTHER_NUMBER(dup2, dup2(first, 90))
CARRIED_BY_ANOTHER_NUMBER(dup3, dup3(first, 90, O_CLOEXEC))
CARRIED_BY_ANOTHER_NUMBER(fcntl, fcntl(first, F_DUPFD, 200))

TEST(a_connection_of_four_numbers_is_carried, BELL)
{
	int first = accepted(), second = MUST(dup(first)), third = MUST(dup(second)), fourth = MUST(dup2(third, 90));

	close(second);
	serve(third, by_read, by_dup);
	close(first);
	serve(fourth, by_read, by_write);
	if (generation() < 3)
		next_generation();
}

TEST(a_stream_on_a_connection_writes_the_rest_and_closes_when_it_is_closed, ONCE)
{
	int connection = accepted();
	FILE *stream = stream_on(connection, "r+");

	ask("request 0 /");
	for (char line[64] = "";
	     strcmp(line, "\r\n");) /* to the last: libc has it that a writer has nothing left to read */
		CHECK(fgets(line, sizeof(line), stream));
	CHECK(fputs("what was buffered", stream) >= 0);
	CHECK_INT(fclose(stream), 0);
	CHECK_FAILS(fcntl(connection, F_GETFD), EBADF);
	CHECK(!strcmp(ask("recv 0"), "what was buffered"));
}

static FILE *stream_on_connection(const char *mode)
{
	FILE *stream = fdopen(accepted(), mode);

	CHECK(stream);
	return stream;
}

TEST(a_stream_on_a_connection_may_be_opened_anew, ONCE)
{
	FILE *stream = stream_on_connection("r+");
	int fd = fileno(stream);

	CHECK(freopen(in_room("anew"), "we", stream) == stream);
	CHECK_INT(fileno(stream), fd);
	CHECK(fputs("anew", stream) >= 0 && !fclose(stream));
	CHECK(!strcmp(ask("recv 0"), "eof"));
	CHECK(!access(in_room("anew"), R_OK));
}

TEST(a_stream_on_a_connection_takes_every_mode, ONCE)
{
	FILE *stream = stream_on_connection("re+");

	CHECK(fputs("said", stream) >= 0 && !fflush(stream));
	CHECK(!strcmp(ask("recv 0"), "said"));
	CHECK(!fclose(stream));
}
