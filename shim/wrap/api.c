/* SPDX-License-Identifier: MIT */
/* The public API over the process's table. */
#define _GNU_SOURCE
#include "cpr.h"

#include "base/guarded.h"
#include "restart/arrive.h"
#include "fd/claim.h"
#include "process/birth.h"
#include "process/guard.h"
#include "process/light.h"
#include "wrap/init.h"
#include "base/log.h"
#include "base/next.h"
#include "fd/pending.h"
#include "process/startup.h"
#include "fd/tagging.h"

#include <errno.h>
#include <pthread.h>
#include <string.h>

#ifndef CPR_VERSION
#define CPR_VERSION "0"
#endif

static cpr_thread bool walking;

/* 0 or -errno to what the caller of the API sees. */
static int outwards(int r)
{
	if (r >= 0)
		return r;
	errno = -r;
	return -1;
}

static int check_name(const char *name)
{
	return !name || !*name || strnlen(name, TAG_NAME_MAX + 1) > TAG_NAME_MAX ? -EINVAL : 0;
}

/* 0 with the guard held, or -errno. */
static int api_begin(const char *name, struct guard_hold *hold)
{
	int r = check_name(name);

	if (r)
		return r;
	begin_if_light();
	if (walking)
		return -EDEADLK;
	return guard_lock(hold) ? 0 : -EPERM;
}

CPR_EXPORT int cpr_state_init(void)
{
	return outwards(cpr__init());
}

/* The tag is in the way, if it is not there any more as it says. `agrees`: it is this very descriptor's. */
static int free_tag(const char *name, int id, int fd, bool *agrees)
{
	struct entry *e = table_find(cpr__table, name, id);

	if (!e)
		return 0;
	*agrees = e->fd == fd;
	if (object_still(&e->object, e->fd))
		return -EEXIST;
	*agrees = false; /* closed behind our back */
	table_remove(cpr__table, e);
	return 0;
}

/*
 * The tag to stand beside, NULL: none. What only the wrappers called the descriptor goes: the program's own name is the
 * better one. And so does what was said of a duplicate's original: that has its own number.
 */
static int api_make_room(int fd, struct entry **beside)
{
	struct entry *e = table_by_fd(cpr__table, fd);

	*beside = NULL;
	if (e && object_still(&e->object, fd)) {
		if (e->flags & ENTRY_ORPHAN)
			return -EEXIST; /* not the program's, before it has found it */
		if (e->kind == ENTRY_API && e->fd == fd) {
			*beside = e;
			return 0;
		}
	}
	table_forget_fd(cpr__table, fd);
	return 0;
}

static int api_save(const char *name, int id, int fd, bool agree)
{
	struct entry *e, *beside;
	struct object object;
	bool agrees = false;
	int r = object_of(fd, &object);

	if (r)
		return r;
	r = table_add(cpr__table, name, id, fd, &e);
	if (r == -EEXIST) {
		r = free_tag(name, id, fd, &agrees);
		if (r)
			return agree && agrees ? 0 : r;
		r = api_make_room(fd, &beside);
		if (!r)
			r = beside ? table_add_beside(cpr__table, name, id, beside, &e)
				   : table_add(cpr__table, name, id, fd, &e);
	}
	if (r)
		return r;
	e->kind = ENTRY_API;
	e->object = object;
	e->flags |= ENTRY_KEPT; /* the rules are asked when the state is written */
	return 0;
}

static int save_locked(const char *name, int id, int fd, bool agree)
{
	struct guard_hold hold;
	int r = api_begin(name, &hold);

	if (r)
		return r;
	r = api_save(name, id, fd, agree);
	guard_unlock(&hold);
	return r;
}

CPR_EXPORT int cpr_save_fd(const char *name, int id, int fd)
{
	return outwards(save_locked(name, id, fd, false));
}

CPR_EXPORT int cpr_resave_fd(const char *name, int id, int fd)
{
	return outwards(save_locked(name, id, fd, true));
}

/* What was opened or bound a moment ago may not be in the table yet. Holding the guard. */
static struct entry *find_tag(const char *name, int id)
{
	assert_guarded();
	struct entry *e = table_find(cpr__table, name, id);

	if (!e && pending_may_name(name)) {
		pending_resolve_all();
		e = table_find(cpr__table, name, id);
	}
	return e;
}

/* Checks the object now: it was last checked when it was loaded or arrived. */
static bool is_what_was_left(const struct entry *e)
{
	struct object now;

	return !object_of(e->fd, &now) && object_same(&now, &e->object);
}

/* With the lock: claims what is an orphan. */
static int find_locked(const char *name, int id)
{
	struct guard_hold hold;
	struct entry *e;
	int r = api_begin(name, &hold);

	if (r)
		return r;
	e = find_tag(name, id);
	if (e && e->flags & ENTRY_ORPHAN && !is_what_was_left(e)) {
		log_warn("descriptor %d of %s/%d is not what the last generation left: not taken", e->fd, e->name,
			 e->id);
		table_remove(cpr__table, e);
		e = NULL;
	}
	if (e)
		claim_entry(e);
	r = e ? e->fd : -ENOENT;
	guard_unlock(&hold);
	return r;
}

/*
 * Finds the program's own tag without the lock and without a system call, wherever the table may be read. An orphan is
 * claimed without the lock, but only after getpid() has shown that this is no vfork child: its claim would change the
 * parent's table.
 */
static int api_find(const char *name, int id)
{
	size_t len;
	int fd;

	if (unlikely(!name || walking || !guard_may_read()))
		return find_locked(name, id);
	len = strnlen(name, TAG_NAME_MAX + 1);
	if (unlikely(!len || len > TAG_NAME_MAX))
		return -EINVAL;
	fd = table_peek(cpr__table, name, len, id);
	if (unlikely(fd == -EAGAIN) && birth_own_memory())
		fd = table_claim(cpr__table, name, len, id);
	return unlikely(fd == -EAGAIN) || (unlikely(fd == -ENOENT) && pending_may_name(name)) ? find_locked(name, id)
											      : fd;
}

CPR_EXPORT int cpr_find_fd(const char *name, int id)
{
	return outwards(api_find(name, id));
}

CPR_EXPORT int cpr_delete_fd(const char *name, int id)
{
	struct guard_hold hold;
	struct entry *e;
	int r = api_begin(name, &hold);

	if (r)
		return outwards(r);
	e = find_tag(name, id);
	if (e) {
		claim_entry(e);
		table_remove(cpr__table, e);
	}
	guard_unlock(&hold);
	return outwards(e ? 0 : -ENOENT);
}

CPR_EXPORT int cpr_open_fd(const char *path, int flags, mode_t mode, const char *name, int id)
{
	int fd = api_find(name, id), r;

	if (fd != -ENOENT)
		return outwards(fd);
	fd = next_open(path, flags, mode);
	if (fd < 0)
		return -1;
	r = save_locked(name, id, fd, false);
	if (!r)
		return fd;
	next_close(fd);
	return outwards(r);
}

CPR_EXPORT int cpr_walk_fd(bool (*cb)(const char *name, int id, int fd, void *arg), void *arg)
{
	struct guard_hold hold;
	bool go_on = true;
	int cancel;

	if (!cb)
		return outwards(-EINVAL);
	if (walking)
		return outwards(-EDEADLK);
	begin_if_light();
	/* what is called back may call close(), and must not end, nor wait for its end, with the lock */
	pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel);
	if (!guard_lock(&hold)) {
		pthread_setcancelstate(cancel, NULL);
		return outwards(-EPERM);
	}
	pending_resolve_all();
	walking = true;
	for (const struct entry *e = table_first(cpr__table); e && go_on; e = table_after(e))
		go_on = e->flags & ENTRY_STARTED_WITH || cb(e->name, e->id, e->fd, arg);
	walking = false;
	guard_unlock(&hold);
	pthread_setcancelstate(cancel, NULL);
	return go_on ? 0 : 1;
}

CPR_EXPORT int cpr_state_save(void)
{
	struct state state = {.generation = (uint32_t)generation_number(),
			      .first_at = generation_first_at(),
			      .heirlooms = cpr__startup.heirlooms,
			      .heirloom_count = cpr__startup.heirloom_count};
	struct guard_hold hold;
	int fd = api_begin("-", &hold);

	if (fd)
		return outwards(fd);
	tagging_check_all(false);
	state.table = cpr__table;
	fd = state_write(&state, false);
	guard_unlock(&hold);
	return outwards(fd);
}

/* All of them sound and free here? Nothing is taken by halves. */
static int check_load(const struct table *from)
{
	for (const struct entry *e = table_first(from); e; e = table_after(e)) {
		struct object now;

		if (table_find(cpr__table, e->name, e->id) || table_by_fd(cpr__table, e->fd))
			return -EEXIST;
		if (object_of(e->fd, &now) || !object_same(&now, &e->object))
			return -EBADF;
	}
	return 0;
}

static int take_load(const struct table *from)
{
	int r = 0;

	table_change_begin(cpr__table); /* none may be found that is not an orphan yet */
	for (const struct entry *e = table_first(from); e; e = table_after(e)) {
		struct entry *mine;

		/* beside one of these, as check_load saw */
		r = table_add_also(cpr__table, e->name, e->id, e->fd, &mine);
		if (r)
			break;
		mine->kind = e->kind;
		mine->flags = e->flags & ~(unsigned)ENTRY_ORPHAN;
		mine->backlog = e->backlog;
		mine->access = e->access;
		mine->object = e->object;
		mine->path_dev = e->path_dev;
		mine->path_ino = e->path_ino;
		table_make_orphan(cpr__table, mine);
	}
	table_change_end(cpr__table);
	return r;
}

CPR_EXPORT int cpr_state_load(int fd)
{
	struct guard_hold hold;
	struct state state;
	char reason[256];
	struct text why = TEXT_ON(reason);
	int r = api_begin("-", &hold);

	if (r)
		return outwards(r);
	r = state_read(fd, false, &state, &why);
	if (!r) {
		r = check_load(state.table);
		if (!r)
			r = take_load(state.table);
		state_free(&state);
	}
	guard_unlock(&hold);
	return outwards(r);
}

CPR_EXPORT int cpr_generation(void)
{
	return generation_number();
}

CPR_EXPORT const char *cpr_version(void)
{
	return CPR_VERSION;
}
