/* SPDX-License-Identifier: MIT */
/* Leaving, in the order of the design; and the way back when exec fails. */
#define _GNU_SOURCE
#include "restart/leave.h"

#include "base/guarded.h"
#include "base/io.h"
#include "base/next.h"
#include "base/pool.h"
#include "base/raw.h"
#include "base/room.h"
#include "fd/gate.h"
#include "fd/offered.h"
#include "fd/tagging.h"
#include "process/birth.h"
#include "process/guard.h"
#include "process/roster.h"
#include "process/identity.h"
#include "process/startup.h"
#include "restart/exec.h"
#include "restart/grace.h"
#include "restart/parts.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { TURN_MS = 10000 }; /* longer than any exec takes to fail */

static atomic_flag leaving = ATOMIC_FLAG_INIT;
static _Atomic bool under_way;
static char **restart_env; /* cpr__startup.envp, and the state */
static char state_variable[32];

int leave_init(void)
{
	size_t n = 0;

	while (cpr__startup.envp[n])
		n++;
	restart_env = pool_alloc((n + 2) * sizeof(char *));
	if (!restart_env)
		return -ENOMEM;
	memcpy(restart_env, cpr__startup.envp, n * sizeof(char *));
	restart_env[n] = state_variable;
	return exec_init();
}

bool leave_under_way(void)
{
	return atomic_load(&under_way);
}

static bool leave_begin(struct guard_hold *hold)
{
	if (atomic_flag_test_and_set(&leaving))
		return false;
	atomic_store(&under_way, true);
	guard_close(true);
	if (!guard_lock(hold)) {
		guard_close(false);
		atomic_store(&under_way, false);
		atomic_flag_clear(&leaving);
		return false;
	}
	return true;
}

static void leave_give_up(const struct guard_hold *hold)
{
	guard_close(false);
	atomic_store(&under_way, false);
	guard_unlock(hold);
	atomic_flag_clear(&leaving);
}

static int write_state(struct state *state, struct exec_plan *plan, struct text *why)
{
	struct text t = TEXT_ON(state_variable);

	state->left_at = plan->write_at = io_now();
	plan->state_fd = state_write(state, false);
	if (plan->state_fd < 0) {
		errno = -plan->state_fd;
		text_format(why, "the state could not be written: %m");
		return plan->state_fd;
	}
	text_format(&t, "CPR_STATE_FD=%d", plan->state_fd);
	return 0;
}

/* Collects, writes the state, execs. Returns only if that failed, with all undone. Holding the guard. */
static int leave_now(struct crossing *crossing, struct exec_plan *plan, const struct leave_request *request,
		     struct text *why)
{
	assert_guarded();
	int r;

	plan->check_at = io_now();
	plan->state = &crossing->state;
	r = parts_collect(crossing, why);
	if (r)
		return r;
	r = write_state(&crossing->state, plan, why);
	if (!r) {
		if (request && request->leaving)
			request->leaving(request->arg);
		r = exec_next(plan);
		errno = -r;
		text_format(why, "exec of %s failed: %m", plan->path);
		raw_close(plan->state_fd);
	}
	parts_undo(crossing);
	return r;
}

int leave_restart(const struct leave_request *request, struct text *why)
{
	struct exec_plan plan = {.path = request->path ? request->path : cpr__startup.path,
				 .argv = cpr__startup.argv,
				 .envp = restart_env};
	struct crossing crossing = {.state = {.passage = BY_RESTART,
					      .nonce = request->nonce,
					      .asked_at = request->asked_at,
					      .drained_at = io_now()}};
	struct guard_hold hold;
	int r;

	if (!leave_begin(&hold))
		return -EBUSY;
	for (char **word = restart_env; *word; word++)
		*word = offered_word(*word);
	r = identity_unchanged(why) ? leave_now(&crossing, &plan, request, why) : -EPERM;
	leave_give_up(&hold);
	return r;
}

/* ---- the program's own exec ---- */

static __attribute__((noinline)) bool leave_is_own_image(const char *path, char *const argv[])
{
	cleanup_room char *absolute = room_take();
	int saved_errno = errno;
	bool own = false;

	if (!absolute || tag_path(AT_FDCWD, path, absolute))
		goto out;
	if (!strcmp(absolute, cpr__startup.path) || io_same_file(absolute, cpr__startup.path) ||
	    io_same_file(absolute, "/proc/self/exe"))
		own = true;
	/* either the script itself is exec'ed, or its interpreter, with the same script in front of other arguments */
	if (own && cpr__startup.script && strcmp(absolute, cpr__startup.path) == 0 &&
	    !strcmp(cpr__startup.script, cpr__startup.path))
		goto out;
	if (own && cpr__startup.script) {
		own = false;
		for (int i = 1; argv[0] && argv[i] && !own; i++)
			own = io_same_file(argv[i], cpr__startup.script);
	}
out:
	errno = saved_errno;
	return own;
}

/*
 * A script that execs the server, under a supervisor, which starts that script each time: what was handed to it is the
 * server's. It has asked for nothing of it. (In exec mode it is the server that comes again, and not the script.)
 */
static bool is_wrapper(void)
{
	return cpr__settings.supervisor && table_orphans(cpr__table) == table_count(cpr__table) && grace_unclaimed();
}

/* Room for the paths is taken only where it is needed: a child's stack, between fork and exec, may be small. */
__attribute__((hot)) bool leave_is_own(const char *path, char *const argv[])
{
	return cpr__table && path && argv && roster_elect() && (leave_is_own_image(path, argv) || is_wrapper());
}

static bool leave_is_ours(const char *variable)
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

/* The variable of the present supervisor: the one in the environment may be dead, and another may have adopted us. */
static char *supervisor_variable(void)
{
	static char variable[64];
	struct text t = TEXT_ON(variable);

	if (!cpr__settings.supervisor)
		return NULL;
	text_format(&t, SETTINGS_SUPERVISOR "=%d:%llx", cpr__settings.supervisor,
		    (unsigned long long)cpr__settings.supervisor_nonce);
	return variable;
}

static bool is_replaced(const char *variable, const char *supervisor)
{
	return !strncmp(variable, "CPR_STATE_FD=", 13) ||
	       (supervisor && !strncmp(variable, supervisor, strlen(SETTINGS_SUPERVISOR "=")));
}

/*
 * The program's environment, with our variables that it dropped (nginx clears everything), and the state. One block of
 * `*size` bytes.
 */
static char **own_environment(char *const envp[], size_t *size)
{
	static char *const nothing[] = {NULL};
	static char gate_variable[] = SETTINGS_GATE "=closed";
	size_t n = 0, ours = 0, used = 0;
	char **room, *supervisor = supervisor_variable();

	envp = envp ? envp : nothing;
	while (envp[n])
		n++;
	while (cpr__startup.envp[ours])
		ours++;
	*size = (n + ours + 4) * sizeof(char *);
	room = pool_map(*size);
	if (!room)
		return NULL;
	for (size_t i = 0; i < n; i++)
		if (!is_replaced(envp[i], supervisor))
			room[used++] = envp[i];
	for (size_t i = 0; i < ours; i++)
		if (leave_is_ours(cpr__startup.envp[i]) && !has(envp, cpr__startup.envp[i]) &&
		    !is_replaced(cpr__startup.envp[i], supervisor))
			room[used++] = cpr__startup.envp[i];
	if (supervisor)
		room[used++] = supervisor;
	if (gate_claims())
		room[used++] = gate_variable;
	room[used] = state_variable;
	return room;
}

/*
 * While another thread is trying, its exec may fail, and then it is this one's turn. To exec as a foreign program
 * meanwhile would lose everything, if this thread came first.
 */
static bool begin_in_turn(struct guard_hold *hold)
{
	struct timespec ms = {0, 1000000};

	for (int i = 0; i < TURN_MS; i++) {
		if (leave_begin(hold))
			return true;
		if (!leave_under_way() && !birth_own_memory())
			return false;
		next_sys(SYS_nanosleep, &ms, NULL);
	}
	return false;
}

int leave_by_itself(const char *path, char *const argv[], char *const envp[])
{
	struct exec_plan plan = {.path = path, .argv = argv};
	struct crossing crossing = {.state = {.passage = BY_OWN_EXEC}, .wrapper = is_wrapper()};
	char reason[256];
	struct text why = TEXT_ON(reason);
	struct guard_hold hold;
	size_t size;
	int r;

	if (!begin_in_turn(&hold))
		return next_execve(path, argv, envp), -errno;
	plan.envp = own_environment(envp, &size);
	if (!plan.envp) {
		leave_give_up(&hold);
		return -ENOMEM;
	}
	crossing.mask = &hold.mask;
	next_prctl(PR_GET_PDEATHSIG, (unsigned long)&plan.parent_death_signal, 0, 0, 0);
	r = leave_now(&crossing, &plan, NULL, &why);
	pool_unmap(plan.envp, size);
	leave_give_up(&hold);
	return r;
}
