/* SPDX-License-Identifier: MIT */
/* The things that cross a restart: one row each, in the order in which they depend on each other. */
#define _GNU_SOURCE
#include "restart/parts.h"

#include "base/fds.h"
#include "base/full.h"
#include "base/guarded.h"
#include "base/io.h"
#include "base/log.h"
#include "base/next.h"
#include "base/pool.h"
#include "deliver/queue.h"
#include "drain/carry.h"
#include "fd/inherited.h"
#include "fd/tagging.h"
#include "process/children.h"
#include "process/birth.h"
#include "process/guard.h"
#include "process/page.h"
#include "process/procinfo.h"
#include "process/roster.h"
#include "process/startup.h"
#include "restart/arrive.h"
#include "restart/backlog.h"
#include "restart/drain_owner.h"
#include "restart/exec_workers.h"
#include "restart/pidfiles.h"
#include "restart/ready.h"
#include "restart/retire.h"
#include "restart/take.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { ASYNC_MAX = 4096 };

/* What the state points to. Not mapped at the start: each mapping makes every fork dearer. */
static struct lists {
	struct passed passed[PARTS_PASSED_MAX];
	struct worker workers[ROSTER_MAX];
	struct child children[CHILDREN_MAX];
	int pids[ROSTER_MAX];
} *lists;

static bool is_own_exec(const struct crossing *c)
{
	return c->state.passage == BY_OWN_EXEC;
}

/* ---- descriptors ---- */

/* After the program's own exec, the next image uses what was open across it as it is. We never hide or close that. */
static void mark_inherited(bool on)
{
	for (struct entry *e = table_first(cpr__table); e; e = table_after(e))
		if (on && !(e->flags & (ENTRY_CLOEXEC | ENTRY_ORPHAN)))
			e->flags |= ENTRY_INHERITED;
		else if (!on && !(e->flags & ENTRY_ORPHAN))
			e->flags &= (uint16_t)~ENTRY_INHERITED;
}

/*
 * What two generations in a row have not asked for goes no further. Else the orphans of restarts that follow each other
 * within grace add up: samba leaves five at each. What workers have claimed is an orphan in their owner, and stays.
 */
static void keep_stale(bool keep)
{
	for (struct entry *e = table_first(cpr__table); e && !roster_claims(); e = table_after(e))
		if ((e->flags & (ENTRY_ORPHAN | ENTRY_STALE)) == (ENTRY_ORPHAN | ENTRY_STALE))
			e->flags = (uint16_t)(keep ? e->flags | ENTRY_KEPT : e->flags & ~ENTRY_KEPT);
}

/*
 * With one thread nothing changes before the exec. So the API's descriptors are looked at once, and by the next image,
 * which must do so in any case.
 */
static int collect_descriptors(struct crossing *c)
{
	c->state.unseen = birth_is_single_threaded();
	tagging_check_all(c->state.unseen);
	if (is_own_exec(c))
		mark_inherited(true);
	else
		keep_stale(false);
	c->state.table = cpr__table;
	return 0;
}

static void undo_descriptors(struct crossing *c)
{
	if (is_own_exec(c))
		mark_inherited(false);
	else
		keep_stale(true);
}

static int arrive_descriptors(struct crossing *c)
{
	return arrive_adopt(&c->state);
}

/* ---- the page that workers share with their owner ---- */

static int collect_page(struct crossing *c)
{
	c->state.page = page_fd_of(&c->state.page_ino);
	if (c->state.page < 0)
		c->state.page_ino = 0;
	return 0;
}

/* By a restart: through its page the workers of the last generation learn that this one has come. */
static int arrive_page(struct crossing *c)
{
	if (c->state.page_ino && is_own_exec(c))
		roster_inherit(c->state.page, c->state.page_ino);
	else if (!is_own_exec(c))
		page_let_go(c->state.page, c->state.page_ino);
	return 0;
}

/* ---- how the program was started ---- */

/*
 * No pending signal is delivered before the exec: its handler would run in the task, find the guard held, and open and
 * close descriptors in the exec's own table. A handler that loops would hang the service. (A CGI starter reaps in its
 * handler of SIGCHLD.) The next image's constructor sets the mask.
 */
static int collect_start(struct crossing *c)
{
	c->state.generation = (uint32_t)(generation_number() - c->wrapper);
	c->state.first_at = generation_first_at();
	c->state.heirlooms = cpr__startup.heirlooms;
	c->state.heirloom_count = cpr__startup.heirloom_count;
	if (is_own_exec(c)) {
		memcpy(&c->state.mask, c->mask, sizeof(c->state.mask));
		c->state.given = startup_given();
	} else {
		c->state.mask = startup_given().mask;
	}
	return 0;
}

static int arrive_start(struct crossing *c)
{
	int r;

	if (c->state.generation && c->state.passage != BY_HANDOVER)
		startup_let_through(c->state.mask, !is_own_exec(c));
	r = startup_init(c->state.generation ? &c->state : NULL);
	if (!r)
		inherited_begin();
	return r;
}

/* ---- the queue of connections that were carried here and are not accepted yet ---- */

static int collect_queue(struct crossing *c)
{
	struct state *state = &c->state;

	if (is_own_exec(c))
		take_rest();
	state->passed = lists->passed;
	state->passed_count = is_own_exec(c) ? deliver_hand_on(lists->passed, PARTS_PASSED_MAX)
					     : deliver_take_back(lists->passed, PARTS_PASSED_MAX);
	return 0;
}

static void undo_queue(struct crossing *c)
{
	(void)c;
	deliver_call_off();
}

/* ---- connections ---- */

/* After the program's own exec its connections are the next image's to use. */
static int collect_connections(struct crossing *c)
{
	struct state *state = &c->state;
	struct carry_count count;
	size_t n;

	if (is_own_exec(c))
		return 0;
	n = carry_choose(lists->passed, state->passed_count, PARTS_PASSED_MAX, true, &count);
	n += drain_owner_passed(lists->passed + n, PARTS_PASSED_MAX - n, &count);
	if (n == PARTS_PASSED_MAX)
		full_note(FULL_PASSED, PARTS_PASSED_MAX);
	state->passed_count = n;
	state->carried = (uint32_t)count.carried;
	state->closed = (uint32_t)count.closed;
	state->cut = (uint32_t)count.cut;
	return 0;
}

static int arrive_connections(struct crossing *c)
{
	deliver_adopt(c->state.passed, c->state.passed_count);
	return 0;
}

/* ---- workers ---- */

static size_t note_workers(void)
{
	size_t n = roster_workers(lists->pids, ROSTER_MAX), used = retire_unfinished(lists->workers, ROSTER_MAX);

	for (size_t i = 0; i < n && used < ROSTER_MAX; i++) {
		int pid = lists->pids[i];

		lists->workers[used] = (struct worker){
			.pid = pid, .start_time = procinfo_start_time(pid), .empty = drain_owner_is_empty(pid)};
		used += lists->workers[used].start_time != 0;
	}
	return used;
}

static int collect_workers(struct crossing *c)
{
	c->state.workers = lists->workers;
	c->state.worker_count = is_own_exec(c) ? retire_unfinished(lists->workers, ROSTER_MAX) : note_workers();
	return 0;
}

static int arrive_workers(struct crossing *c)
{
	if (!is_own_exec(c))
		retire_ring(c->state.workers, c->state.worker_count);
	retire_adopt(c->state.workers, c->state.worker_count);
	return 0;
}

/* ---- children ---- */

/* After the program's own exec, its children are known to its next image. */
static int collect_children(struct crossing *c)
{
	c->state.children = lists->children;
	c->state.child_count = is_own_exec(c) ? children_unknown(lists->children) : children_all(lists->children);
	return 0;
}

static int arrive_children(struct crossing *c)
{
	if (is_own_exec(c))
		children_adopt(c->state.children, c->state.child_count);
	else
		children_adopt_all(c->state.children, c->state.child_count);
	return 0;
}

/* ---- descendants that have exec'ed and serve: they travel as workers and children ---- */

static int collect_exec_workers(struct crossing *c)
{
	if (!is_own_exec(c))
		exec_workers_add(lists->workers, &c->state.worker_count, lists->children, &c->state.child_count,
				 ROSTER_MAX);
	return 0;
}

/* ---- the answer to the caller, and the times ---- */

static int collect_answer(struct crossing *c)
{
	if (is_own_exec(c))
		ready_hand_on(&c->state);
	return 0;
}

static int arrive_answer(struct crossing *c)
{
	ready_await(&c->state);
	return 0;
}

/* ---- the queues of the listeners ---- */

static int collect_backlogs(struct crossing *c)
{
	(void)c;
	backlog_raise_all(true);
	return 0;
}

static void undo_backlogs(struct crossing *c)
{
	(void)c;
	backlog_raise_all(false);
}

/* ---- signal-driven I/O ---- */

static cpr_large int async[ASYNC_MAX];
static size_t async_count;

static void stop_async(int fd, void *arg)
{
	int flags = next_fcntl(fd, F_GETFL, NULL);

	(void)arg;
	if (flags < 0 || !(flags & O_ASYNC))
		return;
	next_fcntl(fd, F_SETFL, (void *)(long)(flags & ~O_ASYNC));
	if (async_count < ASYNC_MAX)
		async[async_count++] = fd;
	else
		full_note(FULL_ASYNC, ASYNC_MAX);
}

/*
 * O_ASYNC belongs to the open file description. It would send SIGIO to the next image before that has a handler, and
 * SIGIO's default ends it. Kept descriptors are not the only ones: nginx's master has a channel to each worker, of
 * which the other workers hold copies beyond the exec. A worker that ended then ended the new master with it.
 */
static int collect_async(struct crossing *c)
{
	async_count = 0;
	if (!is_own_exec(c))
		fds_walk(stop_async, NULL);
	return 0;
}

static void undo_async(struct crossing *c)
{
	(void)c;
	for (size_t i = 0; i < async_count; i++)
		next_fcntl(async[i], F_SETFL, (void *)(long)(next_fcntl(async[i], F_GETFL, NULL) | O_ASYNC));
	async_count = 0;
}

/* ---- files that the next generation must not find ---- */

static int collect_files(struct crossing *c)
{
	if (!is_own_exec(c))
		pidfiles_take_away();
	return 0;
}

static void undo_files(struct crossing *c)
{
	(void)c;
	pidfiles_put_back();
}

static int arrive_files(struct crossing *c)
{
	if (!is_own_exec(c))
		arrive_remove_files();
	return 0;
}

/* ---- the table ---- */

static const struct part {
	const char *what;
	int (*collect)(struct crossing *c);
	void (*undo)(struct crossing *c);
	int (*arrive)(struct crossing *c);
	bool from_nothing; /* generation 1, which was left nothing, makes its own */
} parts[] = {
	{"descriptors", collect_descriptors, undo_descriptors, arrive_descriptors, true},
	{"page", collect_page, NULL, arrive_page, false},
	{"start", collect_start, NULL, arrive_start, true},
	{"files", collect_files, undo_files, arrive_files, false},
	{"answer", collect_answer, NULL, arrive_answer, true},
	{"queue", collect_queue, undo_queue, NULL, false}, /* it arrives with the connections */
	{"connections", collect_connections, NULL, arrive_connections, false},
	{"workers", collect_workers, NULL, arrive_workers, false},
	{"children", collect_children, NULL, arrive_children, false},
	{"exec'ed workers", collect_exec_workers, NULL, NULL, false},
	{"backlogs", collect_backlogs, undo_backlogs, NULL, false},
	{"signal-driven I/O", collect_async, undo_async, NULL, false},
};

static void undo_first(struct crossing *c, size_t n)
{
	while (n--)
		if (parts[n].undo)
			parts[n].undo(c);
}

int parts_collect(struct crossing *c, struct text *why)
{
	assert_guarded();
	lists = lists ? lists : pool_map(sizeof(*lists));
	if (!lists) {
		text_add(why, "out of memory");
		return -ENOMEM;
	}
	for (size_t i = 0; i < countof(parts); i++) {
		int r = parts[i].collect ? parts[i].collect(c) : 0;

		if (!r)
			continue;
		errno = -r;
		text_format(why, "its %s could not be made ready: %m", parts[i].what);
		undo_first(c, i);
		return r;
	}
	return 0;
}

void parts_undo(struct crossing *c)
{
	assert_guarded();
	undo_first(c, countof(parts));
}

int parts_arrive(struct crossing *c)
{
	int r = 0;

	for (size_t i = 0; i < countof(parts) && !r; i++)
		if (parts[i].arrive && (c->state.generation || parts[i].from_nothing))
			r = parts[i].arrive(c);
	return r;
}
