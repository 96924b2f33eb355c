/* SPDX-License-Identifier: MIT */
/*
 * How much stack the wrappers take: a thread of PTHREAD_STACK_MIN has 16 KiB, and a handler on an alternate stack less.
 */
#include "../support/sockets.h"

#include <pthread.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/select.h>
#include <sys/uio.h>
#include <sys/wait.h>

enum { STACK = 256 * 1024, PAINT = 0xa5, LIMIT = 2048 };

/* ---- what is called ---- */

static int fds[8];
static struct address here, unserved;
static char fifo[256], moved[256]; /* all is got ready before: snprintf() alone takes 1.6 KiB */
static char *const no_arguments[] = {"nothing", NULL};

static void open_fifo(void)
{
	fds[0] = MUST(open(fifo, O_RDWR | O_NONBLOCK | O_CLOEXEC));
}

static void open_fifo_by_relative_path(void)
{
	fds[0] = MUST(open("./fifo", O_RDWR | O_NONBLOCK | O_CLOEXEC));
}

static void fopen_file(void)
{
	FILE *file = fopen("/dev/null", "re");

	CHECK(file && !fclose(file));
}

static void bind_unix(void)
{
	MUST(bind(fds[0], &here.any, here.len));
}

static void prepare_unix(void)
{
	here = local(in_room("fresh"));
	unlink(here.un.sun_path);
	fds[0] = MUST(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
}

static void prepare_claim(void)
{
	here = local(in_room("kept"));
	if (generation() == 1)
		unlink(here.un.sun_path);
	fds[0] = MUST(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
}

static void prepare_inet(void)
{
	here = inet4("127.0.0.1", 0);
	fds[0] = MUST(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
}

static void listen_on_it(void)
{
	MUST(listen(fds[0], 10));
}

static void prepare_listener(void)
{
	prepare_inet();
	bind_unix();
}

static void prepare_client(void)
{
	here = inet4("127.0.0.1", 0);
	fds[1] = listening(here, SOCK_STREAM);
	here.len = sizeof(here.in);
	MUST(getsockname(fds[1], &here.any, &here.len));
	fds[2] = MUST(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
}

static void connect_it(void)
{
	MUST(connect(fds[2], &here.any, here.len));
}

static void connect_unserved(void)
{
	int fd = MUST(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));

	connect(fd, &unserved.any, unserved.len);
	close(fd);
}

static void prepare_accept(void)
{
	prepare_client();
	connect_it();
}

static void accept_it(void)
{
	fds[0] = MUST(accept4(fds[1], NULL, NULL, SOCK_CLOEXEC));
}

static void prepare_read(void)
{
	prepare_accept();
	accept_it();
	MUST(write(fds[2], "GET / HTTP/1.1\r\nHost: a\r\n\r\n", 27));
}

static void read_it(void)
{
	static char text[100];

	CHECK(read(fds[0], text, sizeof(text)) == 27);
}

static void write_it(void)
{
	CHECK(write(fds[0], "HTTP/1.1 204 No\r\n\r\n", 19) == 19);
}

static void close_it(void)
{
	MUST(close(fds[0]));
}

static void dup_it(void)
{
	fds[3] = MUST(dup(fds[0]));
	fds[4] = MUST(dup2(fds[0], 200));
	fds[5] = MUST(fcntl(fds[0], F_DUPFD_CLOEXEC, 0));
}

static void close_many(void)
{
	MUST(close_range(190, 300, 0));
}

static void pass_it(void)
{
	static char control[CMSG_SPACE(sizeof(int))], byte;
	static struct iovec iov = {&byte, 1};
	struct msghdr message = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
	struct cmsghdr *head = CMSG_FIRSTHDR(&message);

	head->cmsg_level = SOL_SOCKET;
	head->cmsg_type = SCM_RIGHTS;
	head->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(head), &fds[0], sizeof(int));
	CHECK(sendmsg(fds[6], &message, 0) == 1);
	CHECK(recvmsg(fds[7], &message, MSG_CMSG_CLOEXEC) == 1);
}

static void prepare_pass(void)
{
	prepare_read();
	MUST(socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, fds + 6));
}

static void epoll_it(void)
{
	struct epoll_event event = {.events = EPOLLIN};
	int epfd = MUST(epoll_create1(EPOLL_CLOEXEC));

	MUST(epoll_ctl(epfd, EPOLL_CTL_ADD, fds[0], &event));
	MUST(epoll_ctl(epfd, EPOLL_CTL_ADD, fds[1], &event));
	MUST(epoll_wait(epfd, &event, 1, 0));
	close(epfd);
}

static void poll_it(void)
{
	struct pollfd one = {fds[0], POLLIN, 0};
	struct timespec none = {0};

	MUST(poll(&one, 1, 0));
	MUST(ppoll(&one, 1, &none, NULL));
	MUST(select(0, NULL, NULL, NULL, &(struct timeval){0}));
}

static void sleep_a_little(void)
{
	MUST(nanosleep(&(struct timespec){0, 1000}, NULL));
	MUST(usleep(10));
}

static void signals(void)
{
	static struct sigaction action = {.sa_handler = SIG_IGN};
	static sigset_t set;

	sigfillset(&set);
	MUST(sigaction(SIGUSR1, &action, NULL));
	MUST(sigprocmask(SIG_BLOCK, &set, NULL));
}

static void rename_it(void)
{
	MUST(rename(here.un.sun_path, moved));
}

static void prepare_rename(void)
{
	prepare_unix();
	bind_unix();
}

static void unlink_it(void)
{
	MUST(unlink(moved));
}

static void memfd(void)
{
	MUST(memfd_create("a", MFD_CLOEXEC));
}

static void exec_nothing(void)
{
	CHECK(execve("/nonexistent/file", no_arguments, environ) < 0 && errno == ENOENT);
}

static void exec_nothing_in_path(void)
{
	CHECK(execvp("nonexistent-file", no_arguments) < 0 && errno == ENOENT);
}

static void exec_nothing_at(void)
{
	CHECK(execveat(AT_FDCWD, "nonexistent/file", no_arguments, environ, 0) < 0 && errno == ENOENT);
}

static void wait_for_no_child(void)
{
	CHECK(waitpid(-1, NULL, WNOHANG) < 0 && errno == ECHILD);
}

static void socket_option(void)
{
	set_option(fds[0], SOL_SOCKET, SO_KEEPALIVE, 1);
}

static const struct family {
	const char *name;
	void (*prepare)(void), (*call)(void);
} families[] = {
	{"open a FIFO", NULL, open_fifo},
	{"close a FIFO", NULL, close_it},
	{"open a FIFO by a relative path", NULL, open_fifo_by_relative_path},
	{"fopen", NULL, fopen_file},
	{"bind a unix socket", prepare_unix, bind_unix},
	{"bind a unix socket that is kept", prepare_claim, bind_unix},
	{"bind a TCP socket", prepare_inet, bind_unix},
	{"listen", prepare_listener, listen_on_it},
	{"close a listener", NULL, close_it},
	{"connect", prepare_client, connect_it},
	{"connect to an unserved path", NULL, connect_unserved},
	{"accept", prepare_accept, accept_it},
	{"read", prepare_read, read_it},
	{"write", NULL, write_it},
	{"setsockopt", NULL, socket_option},
	{"epoll", NULL, epoll_it},
	{"poll", NULL, poll_it},
	{"dup", NULL, dup_it},
	{"close_range", NULL, close_many},
	{"pass a connection", prepare_pass, pass_it},
	{"close a connection", NULL, close_it},
	{"rename", prepare_rename, rename_it},
	{"unlink", NULL, unlink_it},
	{"memfd_create", NULL, memfd},
	{"sleep", NULL, sleep_a_little},
	{"signals", NULL, signals},
	{"execve", NULL, exec_nothing},
	{"execvp", NULL, exec_nothing_in_path},
	{"execveat", NULL, exec_nothing_at},
	{"waitpid", NULL, wait_for_no_child},
};

/* ---- how deep it goes ---- */

static unsigned char *stack;
static long depth;

/*
 * By libc itself: the frame of a ring's handler would be measured with the rest, and a wrapper leaves the doorbell out.
 */
static void block_rings(void)
{
	int (*mask)(int, const sigset_t *, sigset_t *) = (int (*)(int, const sigset_t *, sigset_t *))dlsym(
		dlopen("libc.so.6", RTLD_NOW | RTLD_NOLOAD), "sigprocmask");
	sigset_t all;

	sigfillset(&all);
	CHECK(mask && !mask(SIG_BLOCK, &all, NULL));
}

static void *call_on_paint(void *arg)
{
	const struct family *family = arg;
	unsigned char *frame = __builtin_frame_address(0), *at = stack;

	block_rings();
	memset(stack, PAINT, (size_t)(frame - stack) - 256); /* but for what this and memset() take themselves */
	family->call();
	while (*at == PAINT)
		at++;
	depth = frame - at;
	return NULL;
}

static long depth_of(const struct family *family)
{
	pthread_attr_t attributes;
	pthread_t thread;

	stack = mmap(NULL, STACK, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	CHECK(stack != MAP_FAILED);
	pthread_attr_init(&attributes);
	CHECK_INT(pthread_attr_setstack(&attributes, stack, STACK), 0);
	CHECK_INT(pthread_create(&thread, &attributes, call_on_paint, (void *)family), 0);
	CHECK_INT(pthread_join(thread, NULL), 0);
	munmap(stack, STACK);
	return depth;
}

TEST(no_wrapper_takes_more_than_2_KiB_of_stack, BOTH, "WARNS=1;LD_BIND_NOW=1;CPR_RULES=drop tcp:*")
{
	int too_deep = 0;

	MUST(chdir(getenv("WRAP_ROOM")));
	snprintf(fifo, sizeof(fifo), "%s", in_room("fifo"));
	snprintf(moved, sizeof(moved), "%s", in_room("renamed"));
	unserved = local(in_room("kept2"));
	mkfifo("fifo", 0600);
	for (size_t i = 0; i < sizeof(families) / sizeof(families[0]); i++) {
		long taken;

		if (families[i].prepare)
			families[i].prepare();
		taken = depth_of(&families[i]);
		if (taken > LIMIT || getenv("SHOW"))
			fprintf(stderr, "generation %d: %s takes %ld bytes\n", generation(), families[i].name, taken);
		too_deep += taken > LIMIT;
	}
	CHECK_INT(too_deep, 0);
	if (generation() == 1) {
		here = local(in_room("kept2")); /* an orphan that stays */
		MUST(listen(bound(here, SOCK_STREAM), 1));
		MUST(open("fifo", O_RDWR | O_NONBLOCK | O_CLOEXEC));
		here = local(in_room("kept"));
		MUST(unlink(here.un.sun_path));
		MUST(listen(bound(here, SOCK_STREAM), 1));
		next_generation();
	}
}
