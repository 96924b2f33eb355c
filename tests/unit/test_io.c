/* SPDX-License-Identifier: MIT */
/* io: whole reads and writes whatever interrupts them, and descriptors that neither leak nor show. */
#include "base/io.h"

#include "../support/files.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <sys/wait.h>

static void noticed(int sig)
{
	(void)sig;
}

/* A signal every 200 µs, without SA_RESTART. */
static void be_interrupted(void)
{
	struct sigaction action = {.sa_handler = noticed};
	struct itimerval often = {{0, 200}, {0, 200}};

	cr_assert_eq(sigaction(SIGALRM, &action, NULL), 0);
	cr_assert_eq(setitimer(ITIMER_REAL, &often, NULL), 0);
}

enum { BULK = 8 << 20 };

static void *drain(void *arg)
{
	static char bytes[4096];
	size_t sum = 0;
	ssize_t n;
	sigset_t alarms;

	sigemptyset(&alarms);
	sigaddset(&alarms, SIGALRM);
	pthread_sigmask(SIG_BLOCK, &alarms, NULL);
	while (sum < BULK && (n = read(*(int *)arg, bytes, sizeof(bytes))) > 0)
		sum += (size_t)n;
	return (void *)sum;
}

Test(io, writes_all_of_it_through_a_small_pipe_under_signals)
{
	char *bulk = calloc(1, BULK);
	int ends[2];
	pthread_t reader;
	void *sum;

	cr_assert_eq(pipe(ends), 0);
	cr_assert_eq(pthread_create(&reader, NULL, drain, &ends[0]), 0);
	be_interrupted();
	cr_assert_eq(io_write_all(ends[1], bulk, BULK), 0);
	pthread_join(reader, &sum);
	cr_assert_eq((size_t)sum, (size_t)BULK);
}

static void *feed(void *arg)
{
	struct timespec pause = {0, 1000000};
	sigset_t alarms;

	sigemptyset(&alarms);
	sigaddset(&alarms, SIGALRM);
	pthread_sigmask(SIG_BLOCK, &alarms, NULL);
	for (int i = 0; i < 100; i++) {
		nanosleep(&pause, NULL);
		if (write(*(int *)arg, "0123456789", 10) != 10)
			break;
	}
	close(*(int *)arg);
	return NULL;
}

Test(io, reads_to_the_end_of_what_arrives_in_pieces_under_signals)
{
	char bytes[2000];
	int ends[2];
	pthread_t writer;

	cr_assert_eq(pipe(ends), 0);
	cr_assert_eq(pthread_create(&writer, NULL, feed, &ends[1]), 0);
	be_interrupted();
	cr_assert_eq(io_read_all(ends[0], bytes, sizeof(bytes)), 1000);
	pthread_join(writer, NULL);
}

Test(io, reads_no_more_than_there_is_room_for)
{
	char bytes[8] = "#######";
	int ends[2];

	cr_assert_eq(pipe(ends), 0);
	cr_assert_eq(io_write_all(ends[1], "abcdefgh", 8), 0);
	cr_assert_eq(io_read_all(ends[0], bytes, 3), 3);
	cr_assert_eq(memcmp(bytes, "abc####", 8), 0);
	cr_assert_eq(io_read_all(ends[0], bytes, 0), 0);
}

Test(io, says_why_it_could_not_read_or_write)
{
	char byte;

	cr_assert_eq(io_write_all(-1, "x", 1), -EBADF);
	cr_assert_eq(io_read_all(-1, &byte, 1), -EBADF);
	cr_assert_eq(io_write_all(-1, "", 0), 0);
	cr_assert_eq(io_read_file("/nowhere", &byte, 1), -ENOENT);
}

Test(io, reads_a_file_whole_or_as_far_as_there_is_room)
{
	char dir[4096], bytes[16];
	int fd;

	scratch_enter(dir);
	fd = open("f", O_WRONLY | O_CREAT, 0600);
	cr_assert_eq(io_write_all(fd, "0123456789", 10), 0);
	cr_assert_eq(io_read_file("f", bytes, sizeof(bytes)), 10);
	cr_assert_str_eq(bytes, "0123456789");
	cr_assert_eq(io_read_file("f", bytes, 5), 4);
	cr_assert_str_eq(bytes, "0123");
	cr_assert_eq(io_read_file("f", bytes, 1), 0);
	cr_assert_str_empty(bytes);
	scratch_leave(dir);
}

static void pair(int ends[2])
{
	cr_assert_eq(socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, ends), 0);
}

Test(io, passes_a_descriptor_beside_a_message)
{
	int ends[2], passed, file = memfd_create("here", 0);
	struct stat sent, got;
	char bytes[16];

	pair(ends);
	cr_assert_eq(io_send(ends[0], "list", 4, file), 0);
	cr_assert_eq(io_receive(ends[1], bytes, sizeof(bytes), &passed), 4);
	cr_assert_geq(passed, 0);
	cr_assert_eq(fcntl(passed, F_GETFD), FD_CLOEXEC);
	fstat(file, &sent);
	fstat(passed, &got);
	cr_assert_eq(sent.st_ino, got.st_ino);
}

Test(io, says_minus_one_when_no_descriptor_came)
{
	int ends[2], passed = 77;
	char bytes[16];

	pair(ends);
	cr_assert_eq(io_send(ends[0], "x", 1, -1), 0);
	cr_assert_eq(io_receive(ends[1], bytes, sizeof(bytes), &passed), 1);
	cr_assert_eq(passed, -1);
	close(ends[0]);
	cr_assert_eq(io_receive(ends[1], bytes, sizeof(bytes), &passed), 0);
	cr_assert_eq(passed, -1);
}

static void send_descriptors(int sock, const int *fds, size_t n)
{
	union {
		struct cmsghdr align;
		char room[CMSG_SPACE(8 * sizeof(int))];
	} control = {0};
	struct iovec iov = {"x", 1};
	struct msghdr message = {.msg_iov = &iov,
				 .msg_iovlen = 1,
				 .msg_control = control.room,
				 .msg_controllen = CMSG_SPACE(n * sizeof(int))};

	control.align.cmsg_level = SOL_SOCKET;
	control.align.cmsg_type = SCM_RIGHTS;
	control.align.cmsg_len = CMSG_LEN(n * sizeof(int));
	memcpy(CMSG_DATA(&control.align), fds, n * sizeof(int));
	cr_assert_eq(sendmsg(sock, &message, 0), 1);
}

Test(io, keeps_no_descriptor_that_it_does_not_hand_on)
{
	const int many[] = {0, 0, 0, 0, 0};

	for (size_t n = 2; n <= 5; n++) {
		int ends[2], passed, before;
		char bytes[16];

		pair(ends);
		before = open_descriptors();
		send_descriptors(ends[0], many, n);
		cr_assert_eq(io_receive(ends[1], bytes, sizeof(bytes), &passed), 1);
		cr_assert_geq(passed, 0);
		close(passed);
		cr_assert_eq(open_descriptors(), before, "of %zu descriptors, %d stayed open", n,
			     open_descriptors() - before);
		close(ends[0]);
		close(ends[1]);
	}
}

Test(io, takes_no_descriptor_where_none_is_wanted)
{
	int ends[2], before;
	char bytes[16];

	pair(ends);
	before = open_descriptors();
	cr_assert_eq(io_send(ends[0], "x", 1, 0), 0);
	cr_assert_eq(io_receive(ends[1], bytes, sizeof(bytes), NULL), 1);
	cr_assert_eq(open_descriptors(), before);
}

Test(io, sends_to_no_reader_without_a_signal)
{
	int ends[2];

	pair(ends);
	close(ends[1]);
	cr_assert_eq(io_send(ends[0], "x", 1, -1), -EPIPE);
}

enum { TAKERS = 4, ROUNDS = 200, SECONDS = 20 };

/* One client a round, and all look for it. */
static void take_in_each_round(const int *listener, _Atomic bool *taken)
{
	for (int i = 0; i < ROUNDS; i++)
		while (!taken[i]) {
			int fd = io_accept_soon(listener[i]);

			taken[i] |= fd >= 0;
			if (fd >= 0)
				close(fd);
			else if (fd != -EAGAIN)
				_exit(2);
		}
	_exit(0);
}

static int listening_at(struct sockaddr_un *un)
{
	int listener = socket(AF_UNIX, SOCK_STREAM, 0);
	socklen_t len = sizeof(*un);

	un->sun_family = AF_UNIX;
	cr_assert_eq(bind(listener, (struct sockaddr *)un, sizeof(sa_family_t)), 0); /* the kernel gives it a name */
	cr_assert_eq(listen(listener, 1), 0);
	cr_assert_eq(getsockname(listener, (struct sockaddr *)un, &len), 0);
	return listener;
}

static void knock_once(const struct sockaddr_un *un)
{
	int client = socket(AF_UNIX, SOCK_STREAM, 0);

	cr_assert_eq(connect(client, (const struct sockaddr *)un, sizeof(sa_family_t) + 6), 0);
	close(client);
}

/* With poll() and then accept() alone, most of these sleep for good. */
Test(io, accepts_from_a_blocking_listener_that_others_accept_from, .timeout = 2 * SECONDS)
{
	_Atomic bool *taken = mmap(NULL, ROUNDS, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	struct sockaddr_un un[ROUNDS] = {0};
	int listener[ROUNDS], status, asleep = 0;
	struct timeval timeout;
	socklen_t len = sizeof(timeout);

	for (int i = 0; i < ROUNDS; i++)
		listener[i] = listening_at(&un[i]);
	for (int i = 0; i < TAKERS; i++)
		if (!fork()) {
			alarm(SECONDS);
			take_in_each_round(listener, taken);
		}
	for (int i = 0; i < ROUNDS; i++) {
		knock_once(&un[i]);
		while (!taken[i])
			usleep(100);
	}
	for (int i = 0; i < TAKERS; i++) {
		cr_assert_gt(wait(&status), 0);
		asleep += status != 0;
	}
	cr_assert_eq(asleep, 0, "%d processes sleep in accept()", asleep);
	for (int i = 0; i < ROUNDS; i++) {
		cr_assert_eq(getsockopt(listener[i], SOL_SOCKET, SO_RCVTIMEO, &timeout, &len), 0);
		cr_assert(!timeout.tv_sec && !timeout.tv_usec, "the timeout stays");
		cr_assert_eq(fcntl(listener[i], F_GETFL), O_RDWR);
	}
}

Test(io, makes_memfds_that_can_be_sealed_and_do_not_leak)
{
	int fd = io_memfd("cpr.test");

	cr_assert_geq(fd, 0);
	cr_assert_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
	cr_assert_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_SEAL), 0);
}

Test(io, moves_a_descriptor_up_and_leaves_the_old_number_free)
{
	int fd = open("/dev/null", O_RDONLY), up = io_move_up(fd, 100);

	cr_assert_geq(up, 100);
	cr_assert_eq(fcntl(up, F_GETFD), FD_CLOEXEC);
	cr_assert_eq(fcntl(fd, F_GETFD), -1);
}

Test(io, leaves_a_descriptor_where_it_is_when_there_is_no_room_above)
{
	int fd = open("/dev/null", O_RDONLY);

	cr_assert_eq(io_move_up(fd, 1 << 30), fd);
	cr_assert_eq(fcntl(fd, F_GETFD), 0);
}

Test(io, closes_what_is_open_and_keeps_errno)
{
	int fd = open("/dev/null", O_RDONLY), none = -1;

	errno = EDOM;
	io_close(&none);
	io_close(&fd);
	cr_assert_eq(fcntl(fd, F_GETFD), -1);
	errno = EDOM;
	io_close(&fd); /* closed behind our back */
	cr_assert_eq(errno, EDOM);
}

Test(io, counts_time_forwards)
{
	int64_t before = io_now();

	cr_assert_gt(before, 0);
	cr_assert_geq(io_now(), before);
}
