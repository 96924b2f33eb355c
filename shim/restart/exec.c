/* SPDX-License-Identifier: MIT */
/* The exec itself: flags of descriptors, what a restart restores, and execve. */
#define _GNU_SOURCE
#include "restart/exec.h"

#include "base/guarded.h"
#include "base/fds.h"
#include "base/io.h"
#include "base/log.h"
#include "base/next.h"
#include "base/pool.h"
#include "base/raw.h"
#include "fd/tagging.h"
#include "process/birth.h"
#include "process/guard.h"
#include "process/page.h"
#include "process/startup.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <sched.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { TASK_STACK = 128 * 1024 };

static char *stack;

int exec_init(void)
{
	stack = pool_page(TASK_STACK);
	return stack ? 0 : -ENOMEM;
}

static bool is_restart(const struct exec_plan *plan)
{
	return plan->state->passage != BY_OWN_EXEC;
}

/* ---- in the task ---- */

static void close_at_exec(int fd, void *arg)
{
	(void)arg;
	if (fd > STDERR_FILENO)
		next_fcntl(fd, F_SETFD, (void *)(long)FD_CLOEXEC);
}

/*
 * 0, 1 and 2 must be open where they were at start, or the next generation's first sockets would become its stdin and
 * stdout.
 */
static void fill_standard(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
		int null;

		if (startup_is_heirloom(fd) || table_tracks(cpr__table, fd))
			continue;
		if (next_fcntl(fd, F_GETFD, NULL) < 0)
			/* closed by the program: it was not open at the start either, or the program wants it so */
			continue;
		null = raw_open("/dev/null", O_RDWR, 0);
		if (null >= 0 && null != fd) {
			next_dup2(null, fd);
			raw_close(null);
		}
	}
}

static bool must_be_cleared(const struct exec_plan *plan, const struct entry *e)
{
	return e->flags & ENTRY_KEPT && (is_restart(plan) || e->flags & (ENTRY_CLOEXEC | ENTRY_ORPHAN));
}

/* Close-on-exec on everything, and off on the heirlooms. */
static void close_what_stays(void)
{
	if (next_close_range(STDERR_FILENO + 1, ~0U, CLOSE_RANGE_CLOEXEC))
		fds_walk(close_at_exec, NULL); /* before Linux 5.11 */
	fill_standard();
	for (size_t i = 0; i < cpr__startup.heirloom_count; i++)
		if (startup_is_heirloom(cpr__startup.heirlooms[i].fd))
			next_fcntl(cpr__startup.heirlooms[i].fd, F_SETFD, NULL);
}

static void set_flags(const struct exec_plan *plan)
{
	const struct state *state = plan->state;

	if (is_restart(plan))
		close_what_stays();
	for (const struct entry *e = table_first(cpr__table); e; e = table_after(e)) {
		if (!must_be_cleared(plan, e))
			continue;
		/* looked at again: other threads have gone on until this table was copied */
		if (birth_is_single_threaded() || object_still(&e->object, e->fd))
			next_fcntl(e->fd, F_SETFD, NULL);
	}
	for (size_t i = 0; i < state->passed_count; i++) {
		struct stat st;

		if (!fstat(state->passed[i].fd, &st) && st.st_ino == state->passed[i].ino)
			next_fcntl(state->passed[i].fd, F_SETFD, NULL);
	}
	if (state->page_ino)
		next_fcntl(state->page, F_SETFD, NULL);
	next_fcntl(plan->state_fd, F_SETFD, NULL);
}

static long long us_between(int64_t from, int64_t to)
{
	return (to - from) / 1000;
}

static void exec_clear_flags(struct exec_plan *plan)
{
	plan->flags_at = io_now();
	set_flags(plan);
	log_debug("leaving: checked in %lld us, state written in %lld us, flags set in %lld us",
		  us_between(plan->check_at, plan->write_at), us_between(plan->write_at, plan->flags_at),
		  us_between(plan->flags_at, io_now()));
}

static int task(void *arg)
{
	struct exec_plan *plan = arg;

	if (is_restart(plan))
		startup_restore_directory();
	exec_clear_flags(plan);
	if (is_restart(plan))
		startup_restore_process();
	else
		next_prctl(PR_SET_PDEATHSIG, (unsigned long)plan->parent_death_signal, 0, 0, 0);
	next_execve(plan->path, plan->argv, plan->envp);
	plan->error = errno;
	if (is_restart(plan))
		startup_put_back();
	next_sys(SYS_exit, 0); /* this task only */
	return 0;
}

/*
 * The obvious code clears close-on-exec on the kept descriptors and calls execve. But the flags belong to the whole
 * process. A fork in another thread at that moment, or a spawn inside libc's system(), would give the listeners to a
 * foreign program. And after a failed exec a thousand flags would have to be restored, while other threads open and
 * close descriptors. So a task execs. Like a vfork child it has a descriptor table and a working directory of its own,
 * but it is a thread of this process, so the pid stays. No other thread sees its changes. After a failed exec only
 * startup_put_back has something to restore.
 */
static int exec_in_task(struct exec_plan *plan)
{
	int saved_errno = errno;

	if (clone(task, stack + TASK_STACK, CLONE_VM | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_VFORK,
		  plan) < 0)
		plan->error = errno;
	errno = saved_errno;
	return -plan->error;
}

/*
 * A program of one thread that execs itself needs no task. Nothing can start a child meanwhile. Each flag that is
 * cleared was set before, and is restored. That saves a copy of a thousand descriptors, and closing them with the
 * process that stays behind. (For connections, and for inherited orphans, the flag is not known.)
 */
static bool may_exec_here(const struct exec_plan *plan)
{
	return !is_restart(plan) && !plan->state->passed_count && !table_orphans(cpr__table) &&
	       birth_is_single_threaded();
}

static int exec_here(struct exec_plan *plan)
{
	struct fds_row row = FDS_NO_ROW;
	int saved_errno = errno;

	exec_clear_flags(plan);
	next_execve(plan->path, plan->argv, plan->envp);
	plan->error = errno;
	for (const struct entry *e = table_first(cpr__table); e; e = table_after(e))
		if (must_be_cleared(plan, e))
			fds_row_close_at_exec(&row, e->fd);
	fds_row_end(&row);
	if (plan->state->page_ino)
		next_fcntl(plan->state->page, F_SETFD, (void *)(long)FD_CLOEXEC);
	errno = saved_errno;
	return -plan->error;
}

int exec_next(struct exec_plan *plan)
{
	assert_guarded();
	return may_exec_here(plan) ? exec_here(plan) : exec_in_task(plan);
}
