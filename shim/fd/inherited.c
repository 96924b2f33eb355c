/* SPDX-License-Identifier: MIT */
/* Listeners that this program was started with, and the way up to the process that binds them. */
#define _GNU_SOURCE
#include "fd/inherited.h"

#include "fd/entry.h"
#include "base/full.h"
#include "base/io.h"
#include "process/guard.h"
#include "process/birth.h"
#include "process/procinfo.h"
#include "base/log.h"
#include "base/next.h"
#include "process/startup.h"
#include "base/raw.h"
#include "fd/offered.h"
#include "base/room.h"
#include "fd/tagging.h"
#include "model/protocol.h"

#include <errno.h>
#include <netinet/in.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
	GENERATIONS = 8,   /* of ancestors */
	PATIENCE_MS = 1000,
	LISTENERS_MAX = 32,
};

enum { ASKED, UNASKED, ASKING };

enum { UNKNOWN = -1 };

_Atomic int inherited_unasked;
static _Atomic bool passes;
static _Atomic int ancestor = UNKNOWN;

static bool is_bound(int fd, const struct object *object, char name[TAG_NAME_MAX + 1])
{
	struct sockaddr_storage here = {0}, peer;
	socklen_t len = sizeof(here), peer_len = sizeof(peer);

	/* of datagram sockets those that a manager has passed: any other may be a client's, or the log's */
	if (object->domain < 0 || (object->type == SOCK_DGRAM && !offered_was_given(fd)) ||
	    (object->type != SOCK_STREAM && object->type != SOCK_SEQPACKET && object->type != SOCK_DGRAM) ||
	    !getpeername(fd, (struct sockaddr *)&peer, &peer_len))
		return false;
	if (next_getsockname(fd, (struct sockaddr *)&here, &len) ||
	    tag_socket(object, (struct sockaddr *)&here, len, name))
		return false;
	/* in both families it stands there */
	return (here.ss_family != AF_INET && here.ss_family != AF_INET6) || ((struct sockaddr_in *)&here)->sin_port;
}

static bool is_kept(uint64_t ino)
{
	for (const struct entry *e = table_first(cpr__table); e; e = table_after(e))
		if (e->flags & ENTRY_ORPHAN && e->object.ino == ino)
			return true;
	return false;
}

static __attribute__((noinline)) bool inherited_look_at(int fd)
{
	cleanup_room char *name = room_take();
	struct guard_hold hold;
	struct object object;
	struct entry *e = NULL;

	if (!name || object_of(fd, &object) || !is_bound(fd, &object, name) || !guard_lock(&hold))
		return false;
	/* a kept one is the same socket: the last generation did not know it by its number */
	if (!table_by_fd(cpr__table, fd) && !is_kept(object.ino) && !table_add_next(cpr__table, name, fd, &e)) {
		e->kind = object.type == SOCK_DGRAM ? ENTRY_DATAGRAM : ENTRY_STREAM;
		e->object = object;
		e->flags |= ENTRY_STARTED_WITH;
		entry_look_at_socket(e, -1);
	}
	guard_unlock(&hold);
	return e;
}

/*
 * Not by CPR_PID: a daemon has another pid than what was started. And not at the start: a script that was given a
 * listener by mistake has no use for it.
 */
static int find_ancestor(void)
{
	char mark[32];
	struct text t = TEXT_ON(mark);
	struct procinfo proc;
	int pid = getppid();

	text_format(&t, "/memfd:" PROTOCOL_PAGE_NAME "%d.", cpr__settings.signal);
	for (int depth = 0; depth < GENERATIONS && pid > 1; depth++) {
		if (procinfo_maps(pid, mark))
			return pid;
		pid = procinfo_look(pid, &proc) ? proc.parent : 0;
	}
	return 0;
}

int inherited_ancestor(void)
{
	if (atomic_load(&ancestor) == UNKNOWN)
		atomic_store(&ancestor, find_ancestor());
	return atomic_load(&ancestor);
}

/* A process with fewer rights than its ancestor may not see what that is; but it has its pid. */
static bool was_started_by_another(void)
{
	const char *value = settings_env(cpr__startup.envp, SETTINGS_PID);
	int pid = 0;

	for (; value && *value >= '0' && *value <= '9' && pid < 100000000; value++)
		pid = pid * 10 + (*value - '0');
	return pid && pid != getpid() && procinfo_descends(getpid(), pid);
}

bool inherited_is_carried(void)
{
	return atomic_load(&passes) || (!inherited_ancestor() && !was_started_by_another());
}

void inherited_pass(bool on)
{
	atomic_store(&passes, on);
}

void inherited_begin(void)
{
	int saved_errno = errno;
	bool any = false;

	offered_read();
	for (size_t i = 0; i < cpr__startup.heirloom_count; i++)
		if (startup_is_heirloom(cpr__startup.heirlooms[i].fd))
			any |= inherited_look_at(cpr__startup.heirlooms[i].fd);
	if (any)
		inherited_ask_again();
	offered_begin();
	errno = saved_errno;
}

void inherited_came(int fd)
{
	if (inherited_look_at(fd))
		inherited_ask_again();
}

/* ---- asking ---- */

static void take_nothing(int sock, uint64_t ino)
{
	(void)sock, (void)ino;
}

static void (*on_answer)(int sock, uint64_t ino) = take_nothing;

void inherited_on_answer(void (*join)(int sock, uint64_t ino))
{
	on_answer = join;
}

/* Rings it as the tools do; not a process that has its number now. A socket on which it waits for a request, or -1. */
static int ring(int pid)
{
	struct timeval patience = {PATIENCE_MS / 1000, 0};
	struct sockaddr_un addr;
	uint64_t nonce = 0;
	socklen_t len;
	struct ucred peer = {0};
	socklen_t peer_len = sizeof(peer);
	cleanup_fd int door = -1;
	int sock;

	if (raw_getrandom(&nonce, sizeof(nonce), GRND_NONBLOCK) != sizeof(nonce))
		return -1;
	nonce |= 1;
	len = protocol_address(nonce, &addr);
	door = next_socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0);
	if (door < 0 || next_bind(door, (struct sockaddr *)&addr, len) || next_listen(door, 1) ||
	    !procinfo_descends(getpid(), pid) ||
	    sigqueue(pid, cpr__settings.signal, (union sigval){.sival_ptr = (void *)(uintptr_t)nonce}) ||
	    !io_await_input(door, PATIENCE_MS))
		return -1;
	sock = raw_accept4(door, NULL, NULL, SOCK_CLOEXEC);
	if (sock >= 0 && (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &peer_len) || peer.pid != pid)) {
		raw_close(sock);
		sock = -1;
	}
	if (sock >= 0)
		next_setsockopt(sock, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	return sock;
}

static void ask_for(uint64_t ino)
{
	static cpr_large struct protocol_request request; /* one thread asks at a time */
	cleanup_fd int sock = ring(inherited_ancestor());

	request = (struct protocol_request){.magic = PROTOCOL_MAGIC, .verb = PROTOCOL_JOIN, .join.ino = ino};
	if (sock < 0)
		log_warn("process %d, which started this one, was asked for what it has carried, and did not answer",
			 inherited_ancestor());
	else if (!io_send(sock, &request, sizeof(request), -1))
		on_answer(sock, ino);
}

static __attribute__((noinline)) void ask(void)
{
	uint64_t inos[LISTENERS_MAX];
	struct guard_hold hold;
	size_t n = 0;

	if (!inherited_ancestor() || !guard_lock(&hold))
		return;
	for (const struct entry *e = table_first(cpr__table); e; e = table_after(e))
		if (!(e->flags & ENTRY_STARTED_WITH) || e->kind != ENTRY_STREAM || !object_still(&e->object, e->fd))
			continue;
		else if (n == LISTENERS_MAX)
			full_note(FULL_INHERITED, LISTENERS_MAX);
		else
			inos[n++] = e->object.ino;
	guard_unlock(&hold);
	for (size_t i = 0; i < n; i++)
		ask_for(inos[i]);
}

/*
 * One thread asks, and the others wait for it: a knock that one of them accepted meanwhile would be taken for a client.
 */
void inherited_ask(void)
{
	struct timespec ms = {0, 1000000};
	int unasked = UNASKED, saved_errno = errno;

	if (!birth_own_memory())
		return;
	offered_settle();
	if (atomic_compare_exchange_strong(&inherited_unasked, &unasked, ASKING)) {
		ask();
		atomic_store(&inherited_unasked, ASKED);
	}
	for (int i = 0; atomic_load(&inherited_unasked) == ASKING; i++) {
		if (i == 2 * PATIENCE_MS) /* this is a child, and the thread that asks its parent's */
			atomic_store(&inherited_unasked, UNASKED);
		next_sys(SYS_nanosleep, &ms, NULL);
	}
	errno = saved_errno;
}

void inherited_ask_again(void)
{
	atomic_store(&inherited_unasked, UNASKED);
}
