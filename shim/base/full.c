/* SPDX-License-Identifier: MIT */
/* What each full table means for a restart, in words. */
#include "base/full.h"

#include "base/attr.h"
#include "base/log.h"

#include <stdatomic.h>
#include <stdbool.h>

static const struct {
	const char *name, *holds, *then;
} tables[FULLS] = {
	[FULL_REGISTRATIONS] = {"registrations", "registrations of listeners in epoll sets",
				"a listener beyond them wakes its program in vain during a restart"},
	[FULL_WAITED_SETS] = {"waited-sets", "epoll sets that are waited on",
			      "connections in other sets may be waited for until --drain"},
	[FULL_CHANNELS] = {"channels", "sockets by which connections are given away",
			   "what is on its way through another one may be cut by a restart"},
	[FULL_EXEC_LISTENERS] = {"exec-listeners", "listeners to look for in processes that have exec'ed",
				 "one that holds only others is not asked for its connections"},
	[FULL_FAMILY] = {"family", "descendants to look at", "one beyond them is not asked for its connections"},
	[FULL_ASKED] = {"asked", "processes that have exec'ed and are asked for their connections",
			"those of others may be cut by a restart"},
	[FULL_KEYS] = {"keys", "listeners in a question to a process that has exec'ed",
		       "its connections of others may be cut by a restart"},
	[FULL_ADOPTED] = {"adopted", "listeners that are the workers' alone", "one beyond them is closed by a restart"},
	[FULL_PASSED] = {"passed", "connections that cross one restart", "one beyond them is closed"},
	[FULL_MEMBERS] = {"members", "workers", "one beyond them is not told of a restart"},
	[FULL_CHILDREN] = {"children", "children to tell from the next generation's",
			   "the next generation may meet the end of one that it has not started"},
	[FULL_THREADS] = {"threads", "threads inside a call on a connection",
			  "what one beyond them serves may be cut by a restart"},
	[FULL_SERVED] = {"served", "carried connections whose request is awaited before the next knock",
			 "one beyond them is not awaited"},
	[FULL_ASYNC] = {"async", "descriptors with O_ASYNC", "one beyond them has lost the flag if the restart fails"},
	[FULL_INHERITED] = {"inherited", "listeners of another program that this one was started with",
			    "connections of one beyond them are not asked for"},
	[FULL_PIDFILES] = {"pidfiles", "pid files of the program's own",
			   "the next generation may find the oldest, and say that it runs already"},
	[FULL_REPLAY] = {"replay", "options and registrations of one socket that was not bound yet",
			 "its listener may lack the first of them"},
	[FULL_CALLERS] = {"callers", "callers that ring at once", "one beyond them gets no answer, and rings again"},
};

static _Atomic bool full[FULLS]; /* a child has a copy */

void full_note(enum full table, int most)
{
	if (!atomic_exchange(&full[table], true))
		log_warn("there is no room for more than %d %s: %s", most, tables[table].holds, tables[table].then);
}

void full_list(struct text *t)
{
	bool any = false;

	for (int i = 0; i < FULLS; i++) {
		if (!atomic_load(&full[i]))
			continue;
		text_add(t, any ? "," : "");
		text_add(t, tables[i].name);
		any = true;
	}
}
