/* SPDX-License-Identifier: MIT */
/* Rings the doorbell of a process under cpr, and receives its answers. */
#define _GNU_SOURCE
#include "client.h"

#include "base/attr.h"
#include "base/io.h"
#include "patience.h"
#include "proc.h"
#include "utf8.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sched.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define SECOND INT64_C(1000000000)

enum { PAUSE_MS = 5 };

#define RING_AGAIN_NS INT64_C(300000000)

static const int64_t successor_time = 3 * SECOND; /* for the child of a daemonising process that died to report */

static enum outcome fail(enum outcome outcome, struct text *why, const char *format, ...)
	__attribute__((format(printf, 3, 4)));
static enum outcome fail(enum outcome outcome, struct text *why, const char *format, ...)
{
	va_list args;

	va_start(args, format);
	text_vformat(why, format, args);
	va_end(args);
	return outcome;
}

/* ---- may it be rung? ---- */

static enum outcome not_permitted(pid_t pid, uid_t uid, struct text *why)
{
	fail(OUTCOME_FAILED, why, "not permitted: PID %d belongs to ", (int)pid);
	proc_user(uid, why);
	text_add(why, "; be that user, or root");
	return OUTCOME_FAILED;
}

/* Seccomp filters of our own: a container has them, and what they forbid is forbidden to its processes and not a
 * surprise to them. */
static int own_filters(void)
{
	struct proc own;

	return proc_read(getpid(), &own) ? 0 : own.filters;
}

enum { EXEC_MS = 100 };

/* In the middle of an exec that another thread than its first has made, a process looks dead for a moment. */
static int read_settled(pid_t pid, struct proc *proc)
{
	struct timespec ms = {0, 1000000};
	int r = proc_read(pid, proc);

	for (int i = 0; !r && (proc->state == 'Z' || proc->state == 'X') && i < EXEC_MS; i++) {
		nanosleep(&ms, NULL);
		r = proc_read(pid, proc);
	}
	return r;
}

/* The signal's default action ends a process, so it is only sent where it is caught. OUTCOME_SILENT: try again, it is
 * just starting. */
static enum outcome look(struct client *c, struct text *why)
{
	struct proc_page page = {.signo = SIGRTMAX - PROTOCOL_SIGNAL_DEFAULT_BELOW_MAX, .filters = -1};
	struct proc proc;
	int r = read_settled(c->pid, &proc);

	if (r)
		return fail(OUTCOME_ABSENT, why, "no process has the PID %d", (int)c->pid);
	if (proc.tgid != c->pid)
		return fail(OUTCOME_ABSENT, why, "%d is a thread of process %d: give that one", (int)c->pid,
			    (int)proc.tgid);
	if (proc.state == 'Z' || proc.state == 'X')
		return fail(OUTCOME_ABSENT, why, "PID %d has ended, its parent has not taken note of it yet",
			    (int)c->pid);
	c->uid = proc.uid;
	c->gid = proc.gid;
	r = proc_page(c->pid, &page);
	if (r == -EACCES || r == -EPERM)
		return not_permitted(c->pid, proc.uid, why);
	if (r == -ESRCH)
		return fail(OUTCOME_ABSENT, why, "no process has the PID %d", (int)c->pid);
	c->signo = page.signo;
	c->supervisor = page.supervisor;
	if (!r && proc.filters > (page.filters >= 0 ? page.filters : own_filters()))
		return fail(OUTCOME_FAILED, why,
			    "PID %d has put itself under a seccomp filter, which may kill it for answering: it is left "
			    "alone; start it "
			    "anew to restart it",
			    (int)c->pid);
	if (!r && proc_has_signal(proc.caught, page.signo))
		return OUTCOME_DONE;
	if (r && proc_read(c->pid, &proc)) /* it may have begun to exec between the two looks */
		return fail(OUTCOME_ABSENT, why, "no process has the PID %d", (int)c->pid);
	if (proc_has_signal(proc.blocked, page.signo) || (r && proc_has_signal(proc.caught, page.signo)))
		return OUTCOME_SILENT;
	if (r)
		return fail(OUTCOME_ABSENT, why,
			    "PID %d is not under cpr: start it with cpr-exec, `cprctl ps` shows what is", (int)c->pid);
	return fail(OUTCOME_FAILED, why, "PID %d is under cpr, but does not listen: it does not catch signal %d",
		    (int)c->pid, c->signo);
}

enum outcome client_open(struct client *client, pid_t pid, bool patient, struct text *why)
{
	struct client c = CLIENT_NONE;
	int64_t until = io_now() + (patient ? SECOND : 0);
	enum outcome outcome;

	c.pid = pid;
	c.pidfd = (int)syscall(SYS_pidfd_open, pid, 0);
	/* EINVAL: a thread, which look() explains. The rest needs no pidfd: ESRCH is what look() will find too */
	while ((outcome = look(&c, why)) == OUTCOME_SILENT && io_now() < until)
		if (patience_poll(NULL, 0, PAUSE_MS) < 0 && errno == ECANCELED)
			break;
	if (outcome == OUTCOME_SILENT)
		outcome = fail(OUTCOME_ABSENT, why,
			       "PID %d is not under cpr, or does not get to listen: it keeps all signals blocked",
			       (int)pid);
	if (!outcome && c.pidfd < 0)
		outcome = fail(OUTCOME_FAILED, why,
			       "PID %d: the kernel gives no pidfd of it; Linux 5.11 or newer is needed", (int)pid);
	if (outcome) {
		io_close(&c.pidfd);
		return outcome;
	}
	*client = c;
	return OUTCOME_DONE;
}

void client_close(struct client *client)
{
	io_close(&client->line);
	io_close(&client->listener);
	io_close(&client->pidfd);
	*client = CLIENT_NONE;
}

/* ---- ringing ---- */

/* Abstract addresses belong to a network namespace: the socket must be of the process's. The socket, or -errno. */
static int socket_in_network_of(pid_t pid)
{
	const int type = SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK;
	cleanup_fd int ours = open("/proc/self/ns/net", O_RDONLY | O_CLOEXEC);
	cleanup_fd int theirs = -1;
	struct stat here, there;
	char path[64];
	int sock;

	snprintf(path, sizeof(path), "/proc/%d/ns/net", (int)pid);
	theirs = open(path, O_RDONLY | O_CLOEXEC);
	if (ours < 0 || theirs < 0 || fstat(ours, &here) || fstat(theirs, &there))
		return -errno;
	if (here.st_ino == there.st_ino && here.st_dev == there.st_dev)
		theirs = (close(theirs), -1);
	if (theirs >= 0 && setns(theirs, CLONE_NEWNET))
		return -errno;
	sock = socket(AF_UNIX, type, 0);
	if (sock < 0)
		sock = -errno;
	if (theirs >= 0 &&
	    setns(ours, CLONE_NEWNET)) { /* nothing else here minds the wrong network, but let it not go on unseen */
		int error = errno;

		if (sock >= 0)
			close(sock);
		return -error;
	}
	return sock;
}

/* Listens at the address of a fresh nonce. 0, or -errno. */
static int listen_for(struct client *c, uint64_t *nonce)
{
	cleanup_fd int sock = socket_in_network_of(c->pid);
	struct sockaddr_un addr;
	socklen_t len;

	if (sock < 0)
		return sock;
	do {
		if (getrandom(nonce, sizeof(*nonce), 0) != sizeof(*nonce))
			return -errno;
		*nonce >>= 1; /* 63 bits */
		len = protocol_address(*nonce, &addr);
	} while (!*nonce || (bind(sock, (struct sockaddr *)&addr, len) && errno == EADDRINUSE));
	if (listen(sock, SOMAXCONN)) /* all workers of a generation connect at once */
		return -errno;
	c->listener = steal_fd(&sock);
	return 0;
}

/* By its pidfd: the pid cannot have become another process's. */
static int queue_signal(const struct client *c, uint64_t nonce)
{
	siginfo_t info;

	memset(&info, 0, sizeof(info));
	info.si_signo = c->signo;
	info.si_code = SI_QUEUE;
	info.si_pid = getpid();
	info.si_uid = getuid();
	info.si_value.sival_ptr = (void *)(uintptr_t)nonce;
	return syscall(SYS_pidfd_send_signal, c->pidfd, c->signo, &info, 0) ? -errno : 0;
}

enum outcome client_ring(struct client *c, const struct protocol_request *request, struct text *why)
{
	int r;

	io_close(&c->line);
	io_close(&c->listener);
	c->line = c->listener = -1;
	c->asked = c->holds = false;
	c->speaker = 0;
	c->request = *request;
	c->request.magic = PROTOCOL_MAGIC;
	r = listen_for(c, &c->nonce);
	if (r == -EPERM)
		return fail(OUTCOME_FAILED, why,
			    "PID %d is in another network namespace: only root may enter it to ask", (int)c->pid);
	if (!r)
		r = queue_signal(c, c->nonce);
	c->rung_at = io_now();
	if (!r)
		return OUTCOME_DONE;
	if (r == -ESRCH)
		return fail(OUTCOME_ABSENT, why, "PID %d has just ended", (int)c->pid);
	if (r == -EPERM)
		return not_permitted(c->pid, c->uid, why);
	errno = -r;
	return fail(OUTCOME_FAILED, why, "PID %d cannot be rung: %m", (int)c->pid);
}

/* ---- hearing ---- */

/*
 * The first to talk must be the process itself. After that its next generation may be another process: a server that
 * becomes a daemon. A process that guessed the address is neither, unless it is the same user's or root's, which could
 * do worse.
 */
static bool welcome(const struct client *c, const struct ucred *peer)
{
	return peer->pid == c->pid || (c->asked && (peer->uid == c->uid || peer->uid == 0));
}

static void answer_the_door(struct client *c)
{
	cleanup_fd int line = accept4(c->listener, NULL, NULL, SOCK_CLOEXEC);
	struct ucred peer;
	socklen_t len = sizeof(peer);

	if (line < 0 || getsockopt(line, SOL_SOCKET, SO_PEERCRED, &peer, &len) || !welcome(c, &peer))
		return;
	if (!c->asked && !c->holds) {
		if (io_send(line, &c->request, sizeof(c->request), c->passed))
			return;
		c->asked = true;
	}
	io_close(&c->line);
	c->line = steal_fd(&line);
	c->speaker = peer.pid;
}

/* Milliseconds to wait, rounded up; 0: the time has come. */
static int wait_ms(int64_t until)
{
	int64_t left = until - io_now();

	return left > 0 ? (int)((left + 999999) / 1000000) : 0;
}

static int64_t earlier(int64_t a, int64_t b)
{
	return a < b ? a : b;
}

/*
 * A ring can be lost: a thread of the program takes it, and the process execs in that moment; or its queue of signals
 * is full. So the process is rung again until the request is sent. It ignores a nonce that it has answered.
 */
static int64_t next_ring(struct client *c, int64_t until)
{
	int64_t due = c->rung_at + RING_AGAIN_NS;

	if (c->asked || c->died || c->supervisor)
		return until;
	if (io_now() >= due) {
		char reason[256];
		struct text why = TEXT_ON(reason);

		if (look(c, &why) == OUTCOME_DONE) /* still: it may have become another program */
			queue_signal(c, c->nonce);
		c->rung_at = io_now();
		due = c->rung_at + RING_AGAIN_NS;
	}
	return earlier(due, until);
}

static enum outcome fail_to_wait(const struct client *c, struct text *why)
{
	if (errno == ECANCELED)
		return fail(OUTCOME_FAILED, why, "PID %d is not waited for any more", (int)c->pid);
	return fail(OUTCOME_FAILED, why, "poll: %s", strerror(errno));
}

enum outcome client_meet(struct client *c, const struct protocol_request *request, int64_t until, struct text *why)
{
	enum outcome outcome = client_ring(c, request, why);

	c->holds = true;
	while (!outcome && c->line < 0) {
		struct pollfd on[] = {{.fd = c->listener, .events = POLLIN}, {.fd = c->pidfd, .events = POLLIN}};
		int n = patience_poll(on, countof(on), wait_ms(next_ring(c, until)));

		if (n < 0 && errno != EINTR)
			return fail_to_wait(c, why);
		if (n > 0 && on[0].revents)
			answer_the_door(c);
		else if (n > 0)
			return fail(OUTCOME_ABSENT, why, "PID %d has ended", (int)c->pid);
		else if (io_now() >= until)
			return fail(OUTCOME_SILENT, why, "PID %d does not answer", (int)c->pid);
	}
	return outcome;
}

enum outcome client_ask_now(struct client *c, struct text *why)
{
	int r = io_send(c->line, &c->request, sizeof(c->request), c->passed);

	c->holds = false;
	c->asked = !r;
	return r ? fail(OUTCOME_FAILED, why, "PID %d cannot be asked: %s", (int)c->pid, strerror(-r)) : OUTCOME_DONE;
}

/* True: a message is in *answer. Otherwise the line has ended. */
static bool take_message(struct client *c, struct answer *answer)
{
	char bytes[sizeof(answer->text)];
	int passed = -1;
	ssize_t n = io_receive(c->line, bytes, sizeof(bytes) - 1, &passed);

	if (n <= 0) {
		io_close(&passed);
		io_close(&c->line);
		c->line = -1;
		return false;
	}
	memcpy(answer->text, bytes, (size_t)n);
	answer->text[n] = '\0';
	io_close(&answer->fd);
	answer->fd = passed;
	return true;
}

enum outcome client_hear(struct client *c, int64_t until, struct answer *answer, struct text *why)
{
	for (;;) {
		struct pollfd on[] = {
			{.fd = c->line, .events = POLLIN},
			{.fd = c->listener, .events = POLLIN},
			{.fd = c->died ? -1 : c->pidfd, .events = POLLIN},
		};
		int64_t patience = c->request.verb == PROTOCOL_RESTART && !c->supervisor ? successor_time : 0;
		int n = patience_poll(on, countof(on),
				      wait_ms(c->died ? earlier(until, c->died + patience) : next_ring(c, until)));

		if (n < 0 && errno != EINTR)
			return fail_to_wait(c, why);
		if (n < 0)
			continue;
		if (on[0].revents) {
			if (take_message(c, answer))
				return OUTCOME_DONE;
		} else if (on[1].revents) {
			answer_the_door(c);
		} else if (on[2].revents) {
			c->died = io_now();
		} else if (c->died && io_now() >= c->died + patience) {
			return fail(OUTCOME_ABSENT, why, "PID %d has ended", (int)c->pid);
		} else if (io_now() >= until) {
			return fail(OUTCOME_SILENT, why, "PID %d does not answer", (int)c->pid);
		}
	}
}

/* Rings, and receives one answer, which must be "ok". */
static enum outcome call(struct client *client, const struct protocol_request *request, int64_t until,
			 struct answer *answer, struct text *why)
{
	enum outcome outcome = client_ring(client, request, why);

	if (!outcome)
		outcome = client_hear(client, until, answer, why);
	if (outcome || answer_is(answer->text, "ok"))
		return outcome;
	answer_reason(answer->text, why);
	return OUTCOME_FAILED;
}

enum outcome client_call_again(struct client *client, enum protocol_verb verb, int64_t until, struct answer *answer,
			       struct text *why)
{
	const struct protocol_request request = {.verb = verb};

	return call(client, &request, until, answer, why);
}

enum outcome client_call_with(struct client *client, pid_t pid, const struct protocol_request *request, int64_t until,
			      struct answer *answer, struct text *why)
{
	enum outcome outcome = client_open(client, pid, true, why);

	return outcome ? outcome : call(client, request, until, answer, why);
}

enum outcome client_call(struct client *client, pid_t pid, enum protocol_verb verb, int64_t until,
			 struct answer *answer, struct text *why)
{
	const struct protocol_request request = {.verb = verb};

	return client_call_with(client, pid, &request, until, answer, why);
}

enum outcome client_ask(pid_t pid, enum protocol_verb verb, int timeout_ms, bool patient, struct answer *answer,
			struct text *why)
{
	cleanup_client struct client client = CLIENT_NONE;
	const struct protocol_request request = {.verb = verb};
	enum outcome outcome = client_open(&client, pid, patient, why);

	if (!outcome)
		outcome = client_ring(&client, &request, why);
	if (!outcome)
		outcome = client_hear(&client, io_now() + timeout_ms * INT64_C(1000000), answer, why);
	if (outcome || answer_is(answer->text, "ok") || answer_is(answer->text, "worker"))
		return outcome;
	fail(OUTCOME_FAILED, why, "PID %d: ", (int)pid);
	answer_reason(answer->text, why);
	return OUTCOME_FAILED;
}

/* ---- what was said ---- */

void answer_show(const char *answer, const char *key, struct text *t)
{
	char value[PROTOCOL_ANSWER_MAX + 1];

	if (!protocol_get(answer, key, value, sizeof(value)))
		utf8_add_printable(t, value);
}

bool answer_is(const char *answer, const char *result)
{
	char value[32];

	return !protocol_get(answer, "result", value, sizeof(value)) && !strcmp(value, result);
}

void answer_reason(const char *answer, struct text *t)
{
	char unused[2];

	if (!protocol_get(answer, "reason", unused, sizeof(unused)))
		answer_show(answer, "reason", t);
	else if (answer_is(answer, "busy"))
		text_add(t, "a restart is under way already");
	else if (!protocol_get(answer, "result", unused, sizeof(unused)))
		answer_show(answer, "result", t);
	else
		text_add(t, "it answered something that this cprctl does not understand");
}

void answer_close(struct answer *answer)
{
	io_close(&answer->fd);
	answer->fd = -1;
}
