/* SPDX-License-Identifier: MIT */
/* Paths of unix sockets: programs remove a stale one before they bind; one that is handed over is not stale. */
#define _GNU_SOURCE
#include "fd/claim.h"
#include "fd/gate.h"
#include "base/next.h"
#include "base/readable.h"
#include "restart/pidfiles.h"
#include "fd/tagging.h"
#include "wrap/wrap.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

/* Only with orphans, or behind a closed gate, is there a reason to look at a path before the kernel has. */
static bool is_path(const char *path)
{
	return (unlikely(claim_may()) || unlikely(gate_has_left)) && path && readable_string(path);
}

static bool guards(int dir, const char *path)
{
	return is_path(path) && claim_guards_path(dir, path);
}

CPR_EXPORT int unlink(const char *path)
{
	return unlikely(guards(AT_FDCWD, path)) ? 0 : next_unlink(path);
}

CPR_EXPORT int unlinkat(int dir, const char *path, int flags)
{
	return unlikely(!(flags & AT_REMOVEDIR) && guards(dir, path)) ? 0 : next_unlinkat(dir, path, flags);
}

CPR_EXPORT int remove(const char *path)
{
	return unlikely(guards(AT_FDCWD, path)) ? 0 : next_remove(path);
}

/* Moving a stale path aside, or another file over it, would take it from under the next bind just as removing does. */
static bool guarded(int fromdir, const char *from, int todir, const char *to)
{
	return is_path(from) && is_path(to) &&
	       (claim_rename(fromdir, from, todir, to) ||
		(claim_guards_path(fromdir, from) && !claim_has_path(fromdir, from)) || claim_guards_path(todir, to));
}

static int path_renamed(int fromdir, const char *from, int todir, const char *to, int r)
{
	if (!r) {
		claim_renamed(fromdir, from, todir, to);
		pidfiles_note(todir, to);
	}
	return r;
}

CPR_EXPORT int rename(const char *from, const char *to)
{
	return guarded(AT_FDCWD, from, AT_FDCWD, to)
		       ? 0
		       : path_renamed(AT_FDCWD, from, AT_FDCWD, to, next_rename(from, to));
}

CPR_EXPORT int renameat(int fromdir, const char *from, int todir, const char *to)
{
	return guarded(fromdir, from, todir, to)
		       ? 0
		       : path_renamed(fromdir, from, todir, to, next_renameat(fromdir, from, todir, to));
}

CPR_EXPORT int renameat2(int fromdir, const char *from, int todir, const char *to, unsigned flags)
{
	return guarded(fromdir, from, todir, to)
		       ? 0
		       : path_renamed(fromdir, from, todir, to, next_renameat2(fromdir, from, todir, to, flags));
}
