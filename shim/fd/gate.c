/* SPDX-License-Identifier: MIT */
/* Doors for listeners: made at bind(), exchanged when the gate opens or closes. */
#define _GNU_SOURCE
#include "fd/gate.h"

#include "base/io.h"
#include "process/guard.h"
#include "process/roster.h"
#include "base/log.h"
#include "base/next.h"
#include "base/pool.h"
#include "base/raw.h"
#include "fd/replay.h"
#include "fd/tagging.h"
#include "model/protocol.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define GATE_NAME TAGGING_HIDDEN "gate:"

enum {
	GREATEST_BACKLOG = 65535, /* the kernel cuts it to somaxconn */
	SILENT_MAX = 16,
};

_Atomic bool gate_is_closed;
_Atomic bool gate_has_left;
static bool claims; /* what is bound from here on gets a door */
static struct gate_hooks hooks;
static cpr_large char room[TAG_NAME_MAX + 1]; /* for a name; holding the guard */

/*
 * What stood at a number before the gate was closed; by number. It stays when the listener is given up: connections are
 * still known by it, and its path is another generation's.
 */
static struct left {
	int fd;
	uint64_t ino, path_dev, path_ino;
} *left;
static size_t left_count, left_room;

/*
 * ---- a listener behind the gate and what stands for it: two entries, of one id, whose names say which belong together
 * ----
 */

bool gate_hides(const struct entry *e)
{
	return e->flags & ENTRY_ORPHAN && !strncmp(e->name, GATE_NAME, strlen(GATE_NAME));
}

static struct entry *hidden_of(const struct entry *e)
{
	struct text t = TEXT_ON(room);

	text_add(&t, GATE_NAME);
	text_add(&t, e->name);
	return t.cut ? NULL : table_find(cpr__table, room, e->id);
}

/* NULL: the program has closed the door. */
static struct entry *shown_of(const struct entry *hidden)
{
	struct entry *e = table_find(cpr__table, hidden->name + strlen(GATE_NAME), hidden->id);

	return e && (!(e->flags & ENTRY_ORPHAN) || e->flags & ENTRY_INHERITED) && object_still(&e->object, e->fd)
		       ? e
		       : NULL;
}

/* The listener at `fd` is e's, and waits there. */
static struct entry *hide(const struct entry *e, int fd, const struct object *object)
{
	struct text t = TEXT_ON(room);
	struct entry *hidden;

	text_add(&t, GATE_NAME);
	text_add(&t, e->name);
	if (t.cut || table_add(cpr__table, room, e->id, fd, &hidden))
		return NULL;
	hidden->object = *object;
	hidden->kind = e->kind;
	hidden->path_dev = e->path_dev;
	hidden->path_ino = e->path_ino;
	hidden->flags |= ENTRY_KEPT; /* it goes on with the program's own exec */
	table_make_orphan(cpr__table, hidden);
	atomic_store(&gate_is_closed, true);
	return hidden;
}

/* ---- doors ---- */

static int bind_privately(int fd, const struct object *object)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_addr = in6addr_loopback};
	struct sockaddr_un un = {.sun_family = AF_UNIX};

	if (object->domain == AF_UNIX) /* the kernel finds an abstract name */
		return next_bind(fd, (struct sockaddr *)&un, sizeof(sa_family_t)) ? -errno : 0;
	if (object->domain == AF_INET)
		return next_bind(fd, (struct sockaddr *)&in, sizeof(in)) ? -errno : 0;
	if (object->domain != AF_INET6)
		return -EAFNOSUPPORT;
	if (!next_bind(fd, (struct sockaddr *)&in6, sizeof(in6)))
		return 0;
	/* ::ffff:127.0.0.1 */
	in6.sin6_addr = (struct in6_addr){.s6_addr = {[10] = 0xff, [11] = 0xff, [12] = 127, [15] = 1}};
	return next_bind(fd, (struct sockaddr *)&in6, sizeof(in6)) ? -errno : 0;
}

static bool has_nonblock(int fd)
{
	return next_fcntl(fd, F_GETFL, NULL) & O_NONBLOCK;
}

static void set_nonblock(int fd, bool on)
{
	int flags = next_fcntl(fd, F_GETFL, NULL);

	if (flags >= 0 && !(flags & O_NONBLOCK) != !on)
		next_fcntl(fd, F_SETFL, (void *)(long)(on ? flags | O_NONBLOCK : flags & ~O_NONBLOCK));
}

/* A socket like that one, at a private address, which nothing connects to. The descriptor, or -errno. */
static int make_door(const struct object *like, bool nonblock)
{
	cleanup_fd int fd =
		next_socket(like->domain, like->type | SOCK_CLOEXEC | (nonblock ? SOCK_NONBLOCK : 0), like->protocol);
	int r = fd < 0 ? -errno : bind_privately(fd, like);

	if (!r && like->type != SOCK_DGRAM && next_listen(fd, GREATEST_BACKLOG))
		r = -errno;
	return r ? r : steal_fd(&fd);
}

/* A FIFO that says nothing: a pipe of which each reader is a writer too, and so never sees an end. */
static int make_silent_pipe(bool nonblock)
{
	char path[32];
	struct text t = TEXT_ON(path);
	int pair[2], fd;

	if (next_sys(SYS_pipe2, pair, O_CLOEXEC))
		return -errno;
	text_format(&t, "/proc/self/fd/%d", pair[0]);
	fd = raw_open(path, O_RDWR | O_CLOEXEC | (nonblock ? O_NONBLOCK : 0), 0);
	if (fd < 0)
		fd = -errno;
	raw_close(pair[0]);
	raw_close(pair[1]);
	return fd;
}

/* To all numbers of e: what stands at `with`. */
static void put_over(struct entry *e, int with)
{
	for (int fd = e->fds > 1 ? table_next_fd(cpr__table, 0) : e->fd; fd >= 0;
	     fd = e->fds > 1 ? table_next_fd(cpr__table, fd + 1) : -1)
		if (table_by_fd(cpr__table, fd) == e)
			next_dup3(with, fd, next_fcntl(fd, F_GETFD, NULL) & FD_CLOEXEC ? O_CLOEXEC : 0);
}

/* ---- behind the gate from the start ---- */

void gate_begin(char **envp, const struct gate_hooks *given)
{
	const char *value = settings_env(envp, SETTINGS_GATE);
	char **to = envp;

	hooks = *given;
	claims = value && !strcmp(value, "closed");
	for (; envp && *envp; envp++)
		if (strncmp(*envp, SETTINGS_GATE "=", strlen(SETTINGS_GATE "=")))
			*to++ = *envp;
	if (to)
		*to = NULL;
}

bool gate_claims(void)
{
	return claims;
}

int gate_claim(struct entry *e, int fd, const struct object *fresh)
{
	struct object listener = e->object;
	int old = e->fd, r = bind_privately(fd, fresh);

	if (r)
		return r;
	if (table_by_fd(cpr__table, fd))
		table_forget_fd(cpr__table, fd);
	if (table_move(cpr__table, e, fd))
		return -ENOMEM;
	if (!hide(e, old, &listener)) {
		table_move(cpr__table, e, old);
		return -ENOMEM;
	}
	e->object = *fresh;
	table_adopt(cpr__table, e);
	e->flags &= (uint16_t)~(ENTRY_INHERITED | ENTRY_CLOEXEC);
	if (e->path_ino)
		tagging_has_paths = true;
	log_debug("%s/%d waits behind the gate, its door is descriptor %d", e->name, e->id, fd);
	return 0;
}

static bool add_door(struct entry *e)
{
	struct object listener = e->object, door;
	cleanup_fd int high = -1, made = -1;

	if (!claims || e->flags & ENTRY_ORPHAN || e->kind != ENTRY_STREAM || !object_still(&e->object, e->fd) ||
	    hidden_of(e))
		return false;
	made = make_door(&listener, has_nonblock(e->fd));
	high = next_fcntl(e->fd, F_DUPFD_CLOEXEC, NULL);
	if (made < 0 || high < 0 || object_of(made, &door))
		return false;
	high = io_move_up(high, PROTOCOL_HIGH);
	if (!hide(e, high, &listener))
		return false;
	high = -1;
	put_over(e, made);
	e->object = door;
	return true;
}

void gate_listens(int fd)
{
	struct guard_hold hold;
	struct entry *e;
	int saved_errno = errno;

	if (likely(!claims))
		return;
	if (pending_any(fd))
		pending_resolve(fd);
	if (tagging_knows(fd) && guard_lock(&hold)) {
		e = table_by_fd(cpr__table, fd);
		if (e && !(e->flags & ENTRY_STARTED_WITH))
			add_door(e);
		guard_unlock(&hold);
	}
	errno = saved_errno;
}

void gate_add_inherited(void)
{
	struct guard_hold hold;

	if (!guard_lock(&hold))
		return;
	for (struct entry *e = table_first(cpr__table); e; e = table_after(e)) {
		if (gate_hides(e))
			atomic_store(&gate_is_closed, true);
		else if (claims && e->flags & ENTRY_STARTED_WITH && e->flags & ENTRY_LISTENING)
			add_door(e);
	}
	guard_unlock(&hold);
}

bool gate_has_door(const struct entry *e)
{
	return gate_is_closed && hidden_of(e);
}

/* ---- opening ---- */

static bool is_listening(const struct entry *e)
{
	return e->kind == ENTRY_STREAM && e->flags & ENTRY_LISTENING && !(e->flags & ENTRY_ORPHAN);
}

static void open_one(struct entry *hidden)
{
	struct entry *e = shown_of(hidden);
	uint64_t door;
	bool nonblock;

	if (e) {
		door = e->object.ino;
		nonblock = has_nonblock(e->fd);
		put_over(e, hidden->fd);
		e->object = hidden->object;
		set_nonblock(e->fd, nonblock);
		replay_onto(e->fd, door);
		if (is_listening(e))
			/* clients that came while no generation accepted wait there: see gate_lower_backlogs */
			next_listen(e->fd, GREATEST_BACKLOG);
		hooks.listens(e->name, e->fd);
	}
	raw_close(hidden->fd);
	table_remove(cpr__table, hidden);
}

size_t gate_open(void)
{
	struct entry *e, *after;
	struct guard_hold hold;
	int saved_errno = errno;
	size_t n = 0;

	if (!guard_lock(&hold))
		return 0;
	claims = false;
	hooks.begin();
	for (e = table_first(cpr__table); e; e = after) {
		after = table_after(e);
		if (!gate_hides(e))
			continue;
		open_one(e);
		n++;
	}
	hooks.end();
	left_count = 0;
	atomic_store(&gate_has_left, false);
	atomic_store(&gate_is_closed, false);
	guard_unlock(&hold);
	errno = saved_errno;
	return n;
}

void gate_lower_backlogs(void)
{
	struct guard_hold hold;

	if (!guard_lock(&hold))
		return;
	for (const struct entry *e = table_first(cpr__table); e; e = table_after(e))
		if (is_listening(e) && e->backlog >= 0 && object_still(&e->object, e->fd))
			next_listen(e->fd, e->backlog);
	guard_unlock(&hold);
}

/* ---- closing ---- */

/* One silent door for all listeners that it can stand for. */
struct silent {
	int fd;
	struct object like, object;
	bool nonblock;
};

static struct silent *silent_for(struct silent *all, const struct entry *e)
{
	bool nonblock = has_nonblock(e->fd);
	struct silent *s = all;

	for (; s < all + SILENT_MAX && s->fd >= 0; s++)
		if (s->like.domain == e->object.domain && s->like.type == e->object.type &&
		    s->like.protocol == e->object.protocol && s->nonblock == nonblock)
			return s;
	if (s == all + SILENT_MAX) {
		errno = ENFILE;
		return NULL;
	}
	s->fd = e->kind == ENTRY_FIFO ? make_silent_pipe(nonblock) : make_door(&e->object, nonblock);
	if (s->fd < 0 || object_of(s->fd, &s->object)) {
		errno = s->fd < 0 ? -s->fd : EBADF;
		return NULL;
	}
	s->like = e->object;
	s->nonblock = nonblock;
	return s;
}

/* A client's datagram socket, bound to any port: what comes there is an answer to this process. */
static bool is_clients(const struct entry *e)
{
	size_t n = strlen(e->name);

	return e->kind == ENTRY_DATAGRAM && n > 2 && !strcmp(e->name + n - 2, ":0");
}

static bool has_a_gate(const struct entry *e)
{
	bool takes = (e->kind == ENTRY_STREAM && e->flags & ENTRY_LISTENING) ||
		     (e->kind == ENTRY_DATAGRAM && !is_clients(e)) || (e->kind == ENTRY_FIFO && e->access != O_WRONLY);

	return takes && e->flags & (ENTRY_KEPT | ENTRY_STARTED_WITH) && !(e->flags & ENTRY_ORPHAN) &&
	       object_still(&e->object, e->fd);
}

static bool make_room(void)
{
	size_t n = table_count(cpr__table) + 1;

	if (left_room < n) {
		left = pool_map(n * sizeof(*left)); /* an earlier one stays: a gate is not closed often */
		left_room = left ? n : 0;
	}
	return left;
}

static void note_left(const struct entry *e)
{
	size_t at = left_count++;

	for (; at && left[at - 1].fd > e->fd; at--)
		left[at] = left[at - 1];
	left[at] = (struct left){e->fd, e->object.ino, e->path_dev, e->path_ino};
}

static bool close_one(struct entry *e, struct silent *all)
{
	struct silent *s = silent_for(all, e);
	int high = s ? next_fcntl(e->fd, F_DUPFD_CLOEXEC, NULL) : -1;

	if (high < 0)
		return false;
	high = io_move_up(high, PROTOCOL_HIGH);
	if (!hide(e, high, &e->object)) {
		raw_close(high);
		errno = ENOMEM;
		return false;
	}
	note_left(e);
	put_over(e, s->fd);
	e->object = s->object;
	if (e->kind == ENTRY_STREAM)
		next_listen(high, GREATEST_BACKLOG); /* clients queue there for a moment */
	return true;
}

int gate_close(void)
{
	struct silent all[SILENT_MAX];
	struct guard_hold hold;
	int saved_errno = errno, r = 0;

	for (size_t i = 0; i < SILENT_MAX; i++)
		all[i].fd = -1;
	if (!guard_lock(&hold))
		return -EAGAIN;
	tagging_check_all(false);
	left_count = 0;
	r = make_room() ? 0 : -ENOMEM;
	hooks.begin();
	for (struct entry *e = table_first(cpr__table); e && !r; e = table_after(e))
		if (has_a_gate(e) && !hidden_of(e) && !close_one(e, all))
			r = -errno;
	hooks.end();
	atomic_store(&gate_has_left, true);
	for (size_t i = 0; i < SILENT_MAX; i++)
		io_close(&all[i].fd);
	guard_unlock(&hold);
	if (r)
		gate_open();
	errno = saved_errno;
	return r;
}

void gate_forget(void)
{
	struct entry *e, *after;
	struct guard_hold hold;

	if (!guard_lock(&hold))
		return;
	for (e = table_first(cpr__table); e; e = after) {
		after = table_after(e);
		if (!gate_hides(e))
			continue;
		raw_close(e->fd);
		table_remove(cpr__table, e);
	}
	atomic_store(&gate_is_closed, false);
	guard_unlock(&hold);
}

uint64_t gate_inode(const struct entry *e)
{
	size_t low = 0, high = left_count;

	while (low < high) {
		size_t middle = (low + high) / 2;

		if (left[middle].fd == e->fd)
			return left[middle].ino;
		if (left[middle].fd < e->fd)
			low = middle + 1;
		else
			high = middle;
	}
	return e->object.ino;
}

/* ---- what the program asks of a door ---- */

static struct entry *behind(int fd)
{
	struct entry *e = tagging_knows(fd) ? table_by_fd(cpr__table, fd) : NULL;

	return e && !(e->flags & ENTRY_ORPHAN) && object_still(&e->object, fd) ? hidden_of(e) : NULL;
}

bool gate_stands_at(int fd)
{
	struct guard_hold hold;
	bool stands;

	if (likely(!atomic_load_explicit(&gate_is_closed, memory_order_relaxed)) || !tagging_knows(fd) ||
	    !guard_lock(&hold))
		return false;
	stands = behind(fd) != NULL;
	guard_unlock(&hold);
	return stands;
}

bool gate_name(int fd, struct sockaddr *addr, socklen_t *len)
{
	struct guard_hold hold;
	struct entry *hidden;
	bool named = false;

	if (!tagging_knows(fd) || !guard_lock(&hold))
		return false;
	hidden = behind(fd);
	named = hidden && !next_getsockname(hidden->fd, addr, len);
	guard_unlock(&hold);
	return named;
}

/* A pid file that names another process than this family's: a next generation has written it. */
static bool is_pid_file_of_another(const char *path, const struct stat *st)
{
	char bytes[16];
	int pid = 0;

	if (!S_ISREG(st->st_mode) || !st->st_size || st->st_size >= (off_t)sizeof(bytes) ||
	    io_read_file(path, bytes, sizeof(bytes)) <= 0)
		return false;
	for (const char *at = bytes; *at && *at != '\n'; at++) {
		if (*at < '0' || *at > '9' || pid > 100000000)
			return false;
		pid = pid * 10 + (*at - '0');
	}
	return pid && pid != getpid() && pid != roster_owner();
}

bool gate_guards_path(const char *path)
{
	struct stat st;

	if (stat(path, &st))
		return false;
	if (gate_has_left && is_pid_file_of_another(path, &st))
		return true;
	for (size_t i = 0; i < left_count; i++)
		if (left[i].path_ino == st.st_ino && left[i].path_dev == st.st_dev)
			return true;
	for (const struct entry *e = gate_is_closed ? table_first(cpr__table) : NULL; e; e = table_after(e))
		if (gate_hides(e) && e->path_ino == st.st_ino && e->path_dev == st.st_dev)
			return true;
	return false;
}

static __attribute__((noinline)) void put_door(struct text *t, const struct entry *e)
{
	struct sockaddr_storage addr = {0};
	socklen_t len = sizeof(addr);

	if (next_getsockname(e->fd, (struct sockaddr *)&addr, &len) ||
	    tag_socket(&e->object, (struct sockaddr *)&addr, len, room))
		return;
	text_format(t, "door=%s %s", room, e->name);
	text_add(t, "\n");
}

void gate_put_doors(struct text *t)
{
	struct guard_hold hold;

	if (!guard_lock(&hold))
		return;
	for (const struct entry *h = table_first(cpr__table); h && t->used < t->size - 512; h = table_after(h)) {
		const struct entry *e = gate_hides(h) && h->kind == ENTRY_STREAM ? shown_of(h) : NULL;

		if (e)
			put_door(t, e);
	}
	guard_unlock(&hold);
}
