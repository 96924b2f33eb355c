/* SPDX-License-Identifier: MIT */
/* Families: the list of them. */
#define _GNU_SOURCE
#include "deliver/family.h"

#include "base/guarded.h"
#include "base/pool.h"
#include "deliver/queue.h"
#include "deliver/take.h"

#include <string.h>

struct family *family_all;
_Atomic bool deliver_waiting, deliver_expects;

struct family *family_named(const char *name)
{
	for (struct family *f = family_all; f; f = f->after)
		if (!strcmp(f->name, name))
			return f;
	return NULL;
}

struct family *family_for(const char *name, size_t most)
{
	struct family *f = family_named(name);
	size_t len = strlen(name) + 1;

	if (f)
		return f;
	f = pool_alloc(sizeof(*f));
	if (!f)
		return NULL;
	f->name = pool_alloc(len);
	f->fds = pool_alloc(most * sizeof(int));
	if (!f->name || !f->fds)
		return NULL;
	memcpy(f->name, name, len);
	f->room = most;
	f->after = family_all;
	family_all = f;
	return f;
}

bool family_has_room(struct family *f, size_t n)
{
	size_t more = f->count + (n > f->count ? n : f->count); /* twice as many: they may come one by one */
	int *fds;

	if (f->room - f->count >= n)
		return true;
	fds = pool_alloc(more * sizeof(int));
	if (!fds)
		return false;
	memcpy(fds, f->fds, f->count * sizeof(int));
	pool_free(f->fds, f->room * sizeof(int));
	f->fds = fds;
	f->room = more;
	return true;
}

bool family_any_joined(void)
{
	for (const struct family *f = family_all; f; f = f->after)
		if (f->joined && f->flight.pair_count)
			return true;
	return false;
}
