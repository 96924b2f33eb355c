/* SPDX-License-Identifier: MIT */
/* A program that sandboxes itself makes no new system call because of us. */
#include "../support/sockets.h"

#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <pthread.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>

/* ---- a filter that ends the process for all that a server does not call itself ---- */

static const long allowed[] = {
	SYS_read,     SYS_write,      SYS_recvfrom,    SYS_sendto,  SYS_recvmsg,
	SYS_sendmsg,  SYS_writev,     SYS_readv,       SYS_accept4, SYS_close,
	SYS_shutdown, SYS_epoll_ctl,  SYS_epoll_pwait, SYS_exit,    SYS_exit_group,
#ifdef SYS_poll
	SYS_poll,     SYS_epoll_wait, SYS_accept,
#endif
};

enum { ALLOWED = sizeof(allowed) / sizeof(allowed[0]) };

/* The number of the call becomes the status. */
static void caught(int sig, siginfo_t *info, void *context)
{
	(void)sig;
	(void)context;
	syscall(SYS_exit_group, info->si_syscall);
}

static void install_filter(bool by_number)
{
	struct sock_filter code[2 * ALLOWED + 2];
	struct sock_fprog program = {0, code};

	code[program.len++] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
	for (int i = 0; i < ALLOWED; i++) {
		code[program.len++] =
			(struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)allowed[i], 0, 1);
		code[program.len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
	}
	code[program.len++] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRAP);
	MUST(sigaction(SIGSYS, &(struct sigaction){.sa_sigaction = caught, .sa_flags = SA_SIGINFO}, NULL));
	MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	if (by_number)
		MUST(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &program));
	else
		MUST(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program));
}

/* ---- a server, and a client that asks it three times ---- */

static int listener, client;

static void prepare(void)
{
	struct address a = inet4("127.0.0.1", 0);

	listener = listening(a, SOCK_STREAM);
	MUST(getsockname(listener, &a.any, &a.len));
	client = MUST(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
	MUST(connect(client, &a.any, a.len));
	MUST(write(client, "one", 3));
}

/* Whatever is wrong shows in the status: nothing may be said from within. */
__attribute__((noreturn)) static void leave(int status)
{
	syscall(SYS_exit_group, status);
	__builtin_unreachable();
}

static void must(bool holds, int status)
{
	if (!holds)
		leave(status);
}

static void serve(void)
{
	char text[64], control[64];
	struct iovec iov = {text, sizeof(text)};
	struct msghdr message = {
		.msg_iov = &iov, .msg_iovlen = 1, .msg_control = control, .msg_controllen = sizeof(control)};
	struct epoll_event event = {.events = EPOLLIN};
	static int epfd; /* made before the filter */
	struct address peer = {.len = sizeof(peer.un)};
	int fd = accept(listener, &peer.any, &peer.len);
	struct pollfd one = {fd, POLLIN, 0};

	must(fd >= 0 && peer.any.sa_family == AF_INET, 10);
	must(poll(&one, 1, 1000) == 1, 11);
	must(read(fd, text, sizeof(text)) == 3, 12);
	must(write(fd, "HTTP/1.1 204 No\r\n\r\n", 19) == 19, 13);
	must(send(fd, "x", 1, MSG_NOSIGNAL) == 1, 14);
	must(recv(fd, text, sizeof(text), MSG_DONTWAIT) < 0 && errno == EAGAIN, 15);
	must(recvmsg(fd, &message, MSG_DONTWAIT) < 0 && errno == EAGAIN, 16);
	iov.iov_len = 2;
	message.msg_controllen = 0;
	must(sendmsg(fd, &message, MSG_NOSIGNAL) == 2, 17);
	must(writev(fd, &iov, 1) == 2, 18);
	must(epoll_ctl(epfd, EPOLL_CTL_ADD, fd, &event) < 0, 19);
	must(shutdown(fd, SHUT_WR) == 0, 20);
	must(close(fd) == 0, 21);
}

static int status_of(int pid)
{
	int status;

	CHECK_INT(waitpid(pid, &status, 0), pid);
	return status;
}

static void serves_in_a_filter(bool by_number)
{
	int pid;

	prepare();
	pid = MUST(fork());
	if (!pid) {
		install_filter(by_number);
		serve();
		leave(0);
	}
	CHECK_INT(status_of(pid), 0);
}

TEST(a_filter_sees_no_call_of_ours, ONCE)
{
	serves_in_a_filter(false);
}

TEST(a_filter_by_number_sees_no_call_of_ours, ONCE)
{
	serves_in_a_filter(true);
}

/* As memcached: a thread installs its own, and is the first to serve a client. */
static void *serve_in_thread(void *arg)
{
	install_filter(true);
	serve();
	for (;;) /* a thread's end is not foreseen by the filter */
		poll(NULL, 0, -1);
	return arg;
}

TEST(a_thread_with_a_filter_of_its_own_serves, ONCE)
{
	int pid;

	prepare();
	pid = MUST(fork());
	if (!pid) {
		pthread_t thread;

		alarm(20);
		MUST(pthread_create(&thread, NULL, serve_in_thread, NULL));
		for (;;)
			if (recv(client, (char[64]){0}, 64, 0) <= 0)
				leave(0);
	}
	close(client);
	CHECK_INT(status_of(pid), 0);
}

/* Nothing but read, write, exit and sigreturn. */
TEST(an_accepted_connection_is_read_in_strict_mode, ONCE)
{
	char text[16];
	int fd, pid;

	prepare();
	fd = MUST(accept(listener, NULL, NULL));
	pid = MUST(fork());
	if (!pid) {
		MUST(prctl(PR_SET_SECCOMP, SECCOMP_MODE_STRICT));
		must(read(fd, text, sizeof(text)) == 3, 10);
		must(write(fd, "three", 5) == 5, 11);
		syscall(SYS_exit, 0);
	}
	CHECK_INT(status_of(pid), 0);
	CHECK_INT(read(client, text, sizeof(text)), 5);
}

/* A filter that the kernel refuses changes nothing: what is bound afterwards is still tagged. */
TEST(a_refused_filter_leaves_all_as_it_was, BOTH)
{
	struct address a = inet4("127.0.0.1", port(0));
	int fd = listening(a, SOCK_STREAM);

	CHECK_FAILS(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, NULL), EFAULT);
	if (generation() == 1) {
		put("inode", (long)inode_of(fd));
		next_generation();
	}
	CHECK_INT(inode_of(fd), get("inode"));
}
