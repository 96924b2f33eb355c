/* SPDX-License-Identifier: MIT */
/* Leaving, in the order of the design; and undoing it in reverse when exec comes back. */
#define _GNU_SOURCE
#include "restart/exec.h"

#include "restart/arrive.h"
#include "drain/carry.h"
#include "process/roster.h"
#include "process/page.h"
#include "process/birth.h"
#include "process/children.h"
#include "deliver/queue.h"
#include "base/fds.h"
#include "process/guard.h"
#include "base/io.h"
#include "base/log.h"
#include "base/next.h"
#include "process/startup.h"
#include "base/pool.h"
#include "base/raw.h"
#include "restart/retire.h"
#include "restart/exec_workers.h"
#include "fd/tagging.h"
#include "restart/drain_owner.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <sched.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum {
	TASK_STACK = 128 * 1024,
	ASYNC_MAX = 4096,
	TURN_MS = 10000, /* longer than any exec takes to fail */
};

/* What the task that execs is given, and what it leaves behind if it could not. */
struct plan {
	const char *path;
	char *const *argv;
	char **envp;
	int state_fd;
	int page_fd;  /* that goes with it; 0: none */
	bool restart; /* by the doorbell: everything as at start. Else the program's own exec: everything as the program left it */
	int parent_death_signal; /* of the program's own exec: a new task has none */
	int64_t check_at, write_at, flags_at; /* when these began, for the log */
	int error;
};

static atomic_flag leaving = ATOMIC_FLAG_INIT;
static _Atomic bool under_way;
static char *stack;
static char **restart_env; /* cpr__startup.envp with one place more */
static char state_variable[32];
enum { PASSED_MAX = 1 << 17 }; /* what is beyond is closed by exec */

static struct lists {
	struct passed passed[PASSED_MAX]; /* connections that go with the state */
	struct worker workers[ROSTER_MAX];
	struct child children[CHILDREN_MAX];
	int pids[ROSTER_MAX];
} *lists; /* not at the start: what is mapped makes every fork dearer */
static size_t passed_count;


int leave_init(void)
{
	size_t n = 0;

	while (cpr__startup.envp[n])
		n++;
	restart_env = pool_alloc((n + 2) * sizeof(char *));
	stack = pool_page(TASK_STACK);
	if (!restart_env || !stack)
		return -ENOMEM;
	memcpy(restart_env, cpr__startup.envp, n * sizeof(char *));
	restart_env[n] = state_variable;
	return 0;
}

bool leave_under_way(void)
{
	return atomic_load(&under_way);
}

/* ---- in the task ---- */

static void close_at_exec(int fd, void *arg)
{
	(void)arg;
	if (fd > STDERR_FILENO)
		next_fcntl(fd, F_SETFD, (void *)(long)FD_CLOEXEC);
}

/* 0, 1 and 2 must be open where they were at start, or the next generation's first sockets would become its stdin and stdout. */
static void fill_standard(void)
{
	for (int fd = STDIN_FILENO; fd <= STDERR_FILENO; fd++) {
		int null;

		if (startup_is_heirloom(fd) || table_tracks(cpr__table, fd))
			continue;
		if (next_fcntl(fd, F_GETFD, NULL) < 0)
			continue; /* closed: by the program, and it was not open at the start either, or it wants it so */
		null = raw_open("/dev/null", O_RDWR, 0);
		if (null >= 0 && null != fd) {
			next_dup2(null, fd);
			raw_close(null);
		}
	}
}

static bool must_be_cleared(const struct plan *plan, const struct entry *e)
{
	return e->flags & ENTRY_KEPT && (plan->restart || e->flags & (ENTRY_CLOEXEC | ENTRY_ORPHAN));
}

static void set_flags(const struct plan *plan)
{
	if (plan->restart) {
		if (next_close_range(STDERR_FILENO + 1, ~0U, CLOSE_RANGE_CLOEXEC))
			fds_walk(close_at_exec, NULL); /* before Linux 5.11 */
		fill_standard();
		for (size_t i = 0; i < cpr__startup.heirloom_count; i++)
			if (startup_is_heirloom(cpr__startup.heirlooms[i].fd))
				next_fcntl(cpr__startup.heirlooms[i].fd, F_SETFD, NULL);
	}
	for (const struct entry *e = table_first(cpr__table); e; e = table_after(e)) {
		if (!must_be_cleared(plan, e))
			continue;
		/* looked at again: other threads have gone on until this table was copied */
		if (birth_is_single_threaded() || object_still(&e->object, e->fd))
			next_fcntl(e->fd, F_SETFD, NULL);
	}
	for (size_t i = 0; i < passed_count; i++) {
		struct stat st;

		if (!fstat(lists->passed[i].fd, &st) && st.st_ino == lists->passed[i].ino)
			next_fcntl(lists->passed[i].fd, F_SETFD, NULL);
	}
	if (plan->page_fd > 0)
		next_fcntl(plan->page_fd, F_SETFD, NULL);
	next_fcntl(plan->state_fd, F_SETFD, NULL);
}

static long long us_between(int64_t from, int64_t to)
{
	return (to - from) / 1000;
}

static void clear_flags(struct plan *plan)
{
	plan->flags_at = io_now();
	set_flags(plan);
	log_debug("leaving: checked in %lld us, state written in %lld us, flags set in %lld us", us_between(plan->check_at, plan->write_at),
		  us_between(plan->write_at, plan->flags_at), us_between(plan->flags_at, io_now()));
}

static int task(void *arg)
{
	struct plan *plan = arg;

	if (plan->restart)
		startup_restore_directory();
	clear_flags(plan);
	if (plan->restart)
		startup_restore_process(cpr__settings.signal);
	else
		prctl(PR_SET_PDEATHSIG, plan->parent_death_signal);
	next_execve(plan->path, plan->argv, plan->envp);
	plan->error = errno;
	if (plan->restart)
		startup_put_back();
	next_sys(SYS_exit, 0); /* this task only */
	return 0;
}

/*
 * The obvious code clears close-on-exec on the kept descriptors and calls execve. But descriptors' flags are the whole process's: a fork, or a
 * spawn inside libc's system(), in another thread at that moment would carry the listeners into a stranger, and a failed exec has to put
 * a thousand flags back while other threads go on opening and closing. So the exec is done by a task with a descriptor table and a working directory
 * of its own, as vfork's child has, that is yet a thread of this process (so the pid stays): what it changes nobody else sees, and when exec
 * fails there is nothing to put back but what is in startup_put_back.
 */
static int exec_in_task(struct plan *plan)
{
	int saved_errno = errno;

	if (clone(task, stack + TASK_STACK, CLONE_VM | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM | CLONE_VFORK, plan) < 0)
		plan->error = errno;
	errno = saved_errno;
	return -plan->error;
}

/*
 * All that does not hold for a program of one thread that execs itself: nobody can start a child meanwhile, and what is cleared is known to have been set, and is put back. And the
 * kernel need not copy a thousand descriptors to a task, and close them again with the process that is left behind. (Of connections, and of orphans that were inherited, it is not known.)
 */
static bool may_exec_here(const struct plan *plan)
{
	return !plan->restart && !passed_count && !table_orphans(cpr__table) && birth_is_single_threaded();
}

static int exec_here(struct plan *plan)
{
	struct fds_row row = FDS_NO_ROW;
	int saved_errno = errno;

	clear_flags(plan);
	next_execve(plan->path, plan->argv, plan->envp);
	plan->error = errno;
	for (const struct entry *e = table_first(cpr__table); e; e = table_after(e))
		if (must_be_cleared(plan, e))
			fds_row_close_at_exec(&row, e->fd);
	fds_row_end(&row);
	if (plan->page_fd > 0)
		next_fcntl(plan->page_fd, F_SETFD, (void *)(long)FD_CLOEXEC);
	errno = saved_errno;
	return -plan->error;
}

/* ---- before it ---- */

/*
 * While nobody accepts, a queue of 5 is full at once, the kernel drops SYNs, and a client waits a second for its retransmission. The next
 * generation's own listen() sets it back.
 */
static void set_backlogs(bool raise)
{
	for (const struct entry *e = table_first(cpr__table); e; e = table_after(e))
		if (e->kind == ENTRY_STREAM && e->flags & ENTRY_LISTENING && e->flags & ENTRY_KEPT)
			next_listen(e->fd, raise || e->backlog < 0 ? 65535 : e->backlog); /* the kernel cuts it to somaxconn */
}

void leave_raise_backlogs(bool raise)
{
	struct guard_hold hold;

	if (!guard_lock(&hold))
		return;
	set_backlogs(raise);
	guard_unlock(&hold);
}

static bool have_lists(void)
{
	lists = lists ? lists : pool_map(sizeof(*lists));
	return lists;
}

static size_t note_workers(void)
{
	size_t n = roster_workers(lists->pids, ROSTER_MAX), used = 0;

	used = retire_unfinished(lists->workers, ROSTER_MAX);
	for (size_t i = 0; i < n && used < ROSTER_MAX; i++) {
		int pid = lists->pids[i];

		lists->workers[used] = (struct worker){.pid = pid, .start_time = roster_start_time(pid), .empty = drain_owner_is_empty(pid)};
		used += lists->workers[used].start_time != 0;
	}
	return used;
}

static int write_state(struct state *state, struct plan *plan)
{
	struct text t = TEXT_ON(state_variable);

	state->generation = (uint32_t)arrive_generation();
	state->first_at = arrive_first_at();
	state->table = cpr__table;
	state->heirlooms = cpr__startup.heirlooms;
	state->heirloom_count = cpr__startup.heirloom_count;
	state->left_at = plan->write_at = io_now();
	plan->state_fd = state_write(state, false);
	if (plan->state_fd < 0)
		return plan->state_fd;
	text_format(&t, "CPR_STATE_FD=%d", plan->state_fd);
	return 0;
}

static size_t stop_async(int fd, int *fds, size_t count)
{
	int flags = next_fcntl(fd, F_GETFL, NULL);

	if (flags < 0 || !(flags & O_ASYNC))
		return count;
	next_fcntl(fd, F_SETFL, (void *)(long)(flags & ~O_ASYNC));
	if (count < ASYNC_MAX)
		fds[count++] = fd;
	return count;
}

/*
 * Signal-driven I/O belongs to the description, and would ring the next image before it has a handler: SIGIO ends who does not expect it. Off, and if the exec fails, on again.
 */
static void set_async(bool on)
{
	static cpr_large int fds[ASYNC_MAX];
	static size_t count;

	for (size_t i = 0; on && i < count; i++)
		next_fcntl(fds[i], F_SETFL, (void *)(long)(next_fcntl(fds[i], F_GETFL, NULL) | O_ASYNC));
	for (const struct entry *e = on ? NULL : table_first(cpr__table); e; e = table_after(e))
		if (e->flags & ENTRY_KEPT && (e->kind == ENTRY_STREAM || e->kind == ENTRY_DATAGRAM || e->kind == ENTRY_FIFO))
			count = stop_async(e->fd, fds, count);
	for (size_t i = 0; !on && i < passed_count; i++)
		count = stop_async(lists->passed[i].fd, fds, count);
	if (on)
		count = 0;
}

/* While nobody else goes on, one look at what the API saved is enough, and it is the next generation's, which must look in any case. */
static void check_all(struct state *state)
{
	state->unseen = birth_is_single_threaded();
	tagging_check_all(state->unseen);
}

/* With the guard held: the state, then the exec. Returns only if it failed. */
static int leave_now(struct state *state, struct plan *plan, const struct leave_request *request, struct text *why)
{
	int r = write_state(state, plan);

	if (r < 0) {
		errno = -r;
		text_format(why, "the state could not be written: %m");
		return r;
	}
	set_backlogs(true);
	if (request && request->leaving)
		request->leaving(request->arg);
	if (plan->restart) {
		set_async(false);
	}
	r = may_exec_here(plan) ? exec_here(plan) : exec_in_task(plan);
	errno = -r;
	text_format(why, "exec of %s failed: %m", plan->path);
	set_backlogs(false);
	if (plan->restart)
		set_async(true);
	raw_close(plan->state_fd);
	return r;
}

static bool begin(struct guard_hold *hold)
{
	if (atomic_flag_test_and_set(&leaving))
		return false;
	atomic_store(&under_way, true);
	if (!guard_lock(hold)) {
		atomic_store(&under_way, false);
		atomic_flag_clear(&leaving);
		return false;
	}
	return true;
}

static void give_up(const struct guard_hold *hold)
{
	atomic_store(&under_way, false);
	guard_unlock(hold);
	atomic_flag_clear(&leaving);
}

int leave_restart(const struct leave_request *request, struct text *why)
{
	struct plan plan = {.path = request->path ? request->path : cpr__startup.path, .argv = cpr__startup.argv, .envp = restart_env, .restart = true};
	struct state state = {.nonce = request->nonce, .asked_at = request->asked_at, .drained_at = io_now()};
	struct carry_count count;
	struct guard_hold hold;
	int r;

	if (!begin(&hold))
		return -EBUSY;
	if (!startup_unchanged(why)) {
		give_up(&hold);
		return -EPERM;
	}
	if (!have_lists()) {
		text_add(why, "out of memory");
		give_up(&hold);
		return -ENOMEM;
	}
	plan.check_at = io_now();
	check_all(&state);
	passed_count = carry_choose(lists->passed, deliver_take_back(lists->passed, PASSED_MAX), PASSED_MAX, true, &count);
	passed_count += drain_owner_passed(lists->passed + passed_count, PASSED_MAX - passed_count, &count);
	state.passed = lists->passed;
	state.passed_count = passed_count;
	state.carried = (uint32_t)count.carried;
	state.closed = (uint32_t)count.closed;
	state.cut = (uint32_t)count.cut;
	state.page = plan.page_fd = page_fd_of(&state.page_ino); /* by it the next image tells the workers that this one is gone */
	if (state.page < 0)
		state.page_ino = 0;
	state.workers = lists->workers;
	state.worker_count = note_workers();
	state.children = lists->children;
	state.child_count = children_all(lists->children);
	exec_workers_add(lists->workers, &state.worker_count, lists->children, &state.child_count, ROSTER_MAX);
	r = leave_now(&state, &plan, request, why);
	deliver_call_off();
	give_up(&hold);
	return r;
}

/* ---- the program's own exec ---- */

static bool same_file(const char *a, const char *b)
{
	struct stat x, y;

	return !stat(a, &x) && !stat(b, &y) && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

static __attribute__((noinline)) bool is_own(const char *path, char *const argv[])
{
	char absolute[TAG_NAME_MAX + 1];
	int saved_errno = errno;
	bool own = false;

	if (tag_path(AT_FDCWD, path, absolute))
		goto out;
	if (!strcmp(absolute, cpr__startup.path) || same_file(absolute, cpr__startup.path) || same_file(absolute, "/proc/self/exe"))
		own = true;
	/* the script itself is exec'ed, or its interpreter with the same script in front of other arguments */
	if (own && cpr__startup.script && strcmp(absolute, cpr__startup.path) == 0 && !strcmp(cpr__startup.script, cpr__startup.path))
		goto out;
	if (own && cpr__startup.script) {
		own = false;
		for (int i = 1; argv[0] && argv[i] && !own; i++)
			own = same_file(argv[i], cpr__startup.script);
	}
out:
	errno = saved_errno;
	return own;
}

/* The paths' room is taken only where it is needed: a child's stack, between fork and exec, may be small. */
__attribute__((hot)) bool leave_is_own(const char *path, char *const argv[])
{
	return cpr__table && path && argv && roster_elect() && is_own(path, argv);
}

static bool is_ours(const char *variable)
{
	return !strncmp(variable, "CPR_", 4) || !strncmp(variable, "LD_PRELOAD=", 11);
}

static bool has(char *const envp[], const char *variable)
{
	size_t n = strcspn(variable, "=") + 1;

	for (; *envp; envp++)
		if (!strncmp(*envp, variable, n))
			return true;
	return false;
}

/* The program's environment, with what it dropped of ours (nginx clears everything) and the state. One block of `*size` bytes. */
static char **own_environment(char *const envp[], size_t *size)
{
	static char *const nothing[] = {NULL};
	size_t n = 0, ours = 0, used = 0;
	char **room;

	envp = envp ? envp : nothing;
	while (envp[n])
		n++;
	while (cpr__startup.envp[ours])
		ours++;
	*size = (n + ours + 2) * sizeof(char *);
	room = pool_map(*size);
	if (!room)
		return NULL;
	for (size_t i = 0; i < n; i++)
		if (strncmp(envp[i], "CPR_STATE_FD=", 13))
			room[used++] = envp[i];
	for (size_t i = 0; i < ours; i++)
		if (is_ours(cpr__startup.envp[i]) && !has(envp, cpr__startup.envp[i]))
			room[used++] = cpr__startup.envp[i];
	room[used] = state_variable;
	return room;
}

/* What is open across the program's own exec anyway is the next image's to use as it is: never hidden, never closed by us. */
static void mark_inherited(bool on)
{
	for (struct entry *e = table_first(cpr__table); e; e = table_after(e))
		if (on && !(e->flags & (ENTRY_CLOEXEC | ENTRY_ORPHAN)))
			e->flags |= ENTRY_INHERITED;
		else if (!on && !(e->flags & ENTRY_ORPHAN))
			e->flags &= (uint16_t)~ENTRY_INHERITED;
}

/* Another thread is trying: if its exec fails, it is our turn. (To exec as a stranger meanwhile would lose everything, if we came first.) */
static bool begin_in_turn(struct guard_hold *hold)
{
	struct timespec ms = {0, 1000000};

	for (int i = 0; i < TURN_MS; i++) {
		if (begin(hold))
			return true;
		if (!leave_under_way() && !birth_own_memory())
			return false;
		next_sys(SYS_nanosleep, &ms, NULL);
	}
	return false;
}

int leave_by_itself(const char *path, char *const argv[], char *const envp[])
{
	struct plan plan = {.path = path, .argv = argv};
	struct state state = {.nonce = 0};
	char reason[256];
	struct text why = TEXT_ON(reason);
	struct guard_hold hold;
	size_t size;
	int r;

	if (!begin_in_turn(&hold))
		return next_execve(path, argv, envp), -errno;
	plan.envp = have_lists() ? own_environment(envp, &size) : NULL;
	if (!plan.envp) {
		give_up(&hold);
		return -ENOMEM;
	}
	plan.check_at = io_now();
	check_all(&state);
	mark_inherited(true);
	prctl(PR_GET_PDEATHSIG, &plan.parent_death_signal);
	/* nothing is let through before the exec: a handler would meet the guard held, or open and close in the task's own table. The next image's constructor does it */
	state.has_mask = true;
	memcpy(&state.mask, &hold.mask, sizeof(state.mask));
	state.given = startup_given();
	state.page = plan.page_fd = page_fd_of(&state.page_ino);
	if (state.page < 0)
		state.page_ino = 0;
	state.passed = lists->passed;
	state.passed_count = passed_count = deliver_hand_on(lists->passed, PASSED_MAX);
	arrive_hand_on(&state); /* a restart that is not over yet, or workers that are not gone */
	state.workers = lists->workers;
	state.worker_count = retire_unfinished(lists->workers, ROSTER_MAX);
	state.children = lists->children;
	state.child_count = children_unknown(lists->children); /* the others are the program's own, also in its next image */
	r = leave_now(&state, &plan, NULL, &why);
	deliver_call_off();
	mark_inherited(false);
	pool_unmap(plan.envp, size);
	give_up(&hold);
	return r;
}
