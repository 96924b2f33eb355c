/* SPDX-License-Identifier: MIT */
/* The supervisor's beginning, its loop, and its end. */
#define _GNU_SOURCE
#include "supervisor_inside.h"

#include "launch.h"
#include "lingering.h"
#include "proc.h"
#include "watch.h"

#include <err.h>
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	SEARCH_MS = 20,
	LEAVING_LOOK_MS = 100, /* while processes of a generation without an owner are awaited */
	AGAIN_MS = 10000,      /* until the next try to start a server, when there is no memory for it */
};

/* ---- the beginning ---- */

/* What the tools find in /proc/PID/maps. */
static int show_page(struct supervisor *s)
{
	char name[48];
	struct proc self;
	cleanup_fd int memfd = -1;

	snprintf(name, sizeof(name), PROTOCOL_SUPERVISOR_PAGE_NAME "%d.%d", s->options.doorbell,
		 proc_read(getpid(), &self) ? 0 : self.filters);
	memfd = io_memfd(name);
	if (memfd < 0 || ftruncate(memfd, 1))
		return -errno;
	s->page = mmap(NULL, 1, PROT_READ, MAP_SHARED, memfd, 0);
	if (s->page == MAP_FAILED)
		return -errno;
	madvise(s->page, 1, MADV_DONTFORK); /* a child is no supervisor */
	return 0;
}

/* The directory by the path that led there: a link that a deployment moves is followed anew. */
static const char *directory(void)
{
	const char *pwd = getenv("PWD");
	struct stat a, b;

	if (pwd && *pwd == '/' && !stat(pwd, &a) && !stat(".", &b) && a.st_dev == b.st_dev && a.st_ino == b.st_ino)
		return strdup(pwd);
	return getcwd(NULL, 0);
}

/* Listeners of ours are as many as the server's, and more while they change. */
static void raise_files(struct supervisor *s)
{
	struct rlimit most;

	getrlimit(RLIMIT_NOFILE, &s->recipe.files);
	most = (struct rlimit){s->recipe.files.rlim_max, s->recipe.files.rlim_max};
	setrlimit(RLIMIT_NOFILE, &most);
}

static int take_attached(struct supervisor *s)
{
	char reason[REASON_SIZE];
	struct text why = TEXT_ON(reason);

	if (attach_take(s->options.attach, &s->holdings, &why) < 0) {
		launch_pidfile_remove();
		errx(EXIT_FAILURE, "%s", reason);
	}
	return attach_become(s->options.attach);
}

static int begin(struct supervisor *s)
{
	int r = s->options.adopt ? 0 : holdings_begin(&s->holdings);

	if (s->options.adopt)
		s->holdings = s->options.adopt->holdings;

	if (!r && s->options.attach)
		r = take_attached(s);

	s->signals = s->address = s->notify.sock = s->files = s->reexec.output = -1;
	s->started_at = io_now();
	for (size_t i = 0; i < CALLERS_MAX; i++)
		s->callers[i].line = -1;
	for (size_t i = 0; i < REPORTERS_MAX; i++)
		s->reporters[i].line = -1;
	s->handover.check_output = s->watch.output = -1;
	s->recipe.path = s->options.path;
	s->recipe.argv = s->options.argv;
	s->recipe.comes_back = s->options.rollback_s || s->options.one_at_a_time || s->options.canary_percent;
	s->recipe.directory = directory();
	raise_files(s);
	if (!r && prctl(PR_SET_CHILD_SUBREAPER, 1))
		r = -errno;
	if (!r)
		r = gateless_begin(s);
	if (!r)
		r = signals_open(s, &s->recipe.mask);
	sigaddset(&s->recipe.mask, s->options.doorbell); /* until the library in the program hangs it */
	if (!r)
		r = reports_listen(s);
	if (!r)
		r = notify_open(s);
	if (!r)
		fdstore_take(s);
	if (!r && s->options.watched_count) {
		s->files = watch_open(s->options.watched, s->options.watched_count);
		r = s->files < 0 ? s->files : 0;
	}
	return r ? r : show_page(s);
}

/* What another image of this process has begun. */
static int go_on(struct supervisor *s, char **argv)
{
	bool changed = false;
	int r;

	s->options.argv = s->recipe.argv = argv;
	s->handover.check_output = s->watch.output = s->reexec.output = -1;
	notify_resume(s);
	r = gateless_begin(s);
	if (!r)
		r = signals_open(s, NULL);
	if (!r && s->files >= 0)
		r = watch_resume(s->files, s->options.watched, s->options.watched_count, &changed);
	if (changed)
		s->changed_at = io_now() + CHANGED_MS * MS;
	return r ? r : show_page(s);
}

/* ---- time ---- */

static void leave_tick(struct supervisor *s, struct generation *g, int64_t now)
{
	if (g->ended && !generation_signal_members(g, 0)) {
		if (g != s->handover.next)
			lives_remove(s, g);
		return;
	}
	if (!g->leave_by || now < g->leave_by)
		return;
	g->leave_by = now + KILL_AFTER_S * SECOND;
	if (!g->ended)
		generation_signal(g, SIGKILL);
	generation_signal_members(g, SIGKILL);
}

/* Its time to drain is over, or to be kept. */
static void drain_tick(struct supervisor *s, struct generation *g, int64_t now)
{
	if (g->phase == GENERATION_DRAINING && g->leave_by && now >= g->leave_by) {
		g->leave_by = 0;
		turn_cut(s, g);
		lives_retire(s, g, s->options.retire_signal);
	}
}

void supervisor_restart_unasked(struct supervisor *s)
{
	char reason[REASON_SIZE];
	struct text why = TEXT_ON(reason);
	int r = handover_begin(s, NULL, &why);

	s->changed_at = r == -EBUSY && !s->ending ? io_now() + CHANGED_MS * MS : 0;
	if (r && r != -EBUSY)
		supervisor_say("the restart for a changed file or a signal was called off: %s", reason);
}

static void tick(struct supervisor *s)
{
	int64_t now = io_now();

	for (struct generation *g = s->generations, *next; g; g = next) {
		next = g->next;
		if (g->search_until)
			lives_search(s, g, now);
		drain_tick(s, g, now);
		passing_tick(s, g, now);
		if (g->phase == GENERATION_RETIRING || g->phase == GENERATION_FAILED)
			leave_tick(s, g, now);
	}
	if (s->refresh_at && now >= s->refresh_at)
		reports_refresh(s);
	if (s->start_again_at && now >= s->start_again_at && !lives_start(s))
		s->start_again_at = now + AGAIN_MS * MS;
	if (s->changed_at && now >= s->changed_at)
		supervisor_restart_unasked(s);
	notify_tick(s, now);
	fdstore_tick(s);
	gateless_tick(s, now);
	lingering_tick(&s->lingering, now);
	handover_tick(s, now);
	locks_tick(s, now);
	rollback_tick(s, now);
	callers_tick(s, now);
	reports_tick(s, now);
	reexec_tick(s, now);
}

/* Until something is due; NULL: nothing is. */
static const struct timespec *timeout(const struct supervisor *s, struct timespec *room)
{
	int64_t now = io_now(), at = 0;

	for (const struct generation *g = s->generations; g; g = g->next) {
		bool leaves = g->phase == GENERATION_RETIRING || g->phase == GENERATION_FAILED;

		due(&at, g->leave_by);
		due(&at, g->passing.sweep_by);
		due(&at, g->passing.look_at);
		due(&at, g->passing.graceful_at);
		due(&at, g->helpers_at);
		if (g->search_until)
			due(&at, now + SEARCH_MS * MS);
		if (g->ended && leaves)
			due(&at, now + LEAVING_LOOK_MS * MS);
	}
	due(&at, s->refresh_at);
	due(&at, s->start_again_at);
	due(&at, s->changed_at);
	due(&at, gateless_due(s));
	due(&at, lingering_due(s->lingering));
	due(&at, handover_due(s));
	due(&at, locks_due(s));
	due(&at, s->watch.at);
	due(&at, notify_due(s));
	due(&at, callers_due(s));
	due(&at, reports_due(s));
	due(&at, reexec_due(s));
	if (!at)
		return NULL;
	at = at <= now ? 0 : at - now;
	*room = (struct timespec){at / SECOND, at % SECOND};
	return room;
}

/* ---- the loop ---- */

/* One descriptor that is polled, and what it belongs to. */
struct source {
	struct generation *generation;
	struct caller *caller;
	struct reporter *reporter;
};

struct sources {
	struct pollfd *on;
	struct source *of;
	size_t count, room;
};

static void add_source(struct sources *all, int fd, short events, struct source of)
{
	if (fd < 0)
		return;
	if (all->count == all->room) {
		all->room = all->room ? 2 * all->room : 32;
		all->on = reallocarray(all->on, all->room, sizeof(*all->on));
		all->of = reallocarray(all->of, all->room, sizeof(*all->of));
		if (!all->on || !all->of)
			err(EXIT_FAILURE, NULL);
	}
	all->on[all->count] = (struct pollfd){.fd = fd, .events = events};
	all->of[all->count++] = of;
}

/* While a batch waits for room in the serving one's line, no more are taken. */
static void add_generation(const struct supervisor *s, struct generation *g, struct sources *all)
{
	const struct source of = {.generation = g};

	if (s->has_pending && g == s->serving)
		add_source(all, g->take, POLLOUT, of);
	add_source(all, g->notices, POLLIN, of);
	add_source(all, g->pidfd, POLLIN, of);
	if (s->has_pending || canary_is_open(s)) /* the knocks of the one that serves would be the other's */
		return;
	add_source(all, g->passing.listener, POLLIN, of);
	for (size_t i = 0; i < g->passing.count; i++)
		add_source(all, g->passing.lines[i].fd, POLLIN, of);
}

static bool is_known(const struct supervisor *s, const struct generation *g)
{
	for (const struct generation *other = s->generations; other; other = other->next)
		if (other == g)
			return true;
	return false;
}

static void look_at_generation(struct supervisor *s, struct generation *g, int fd)
{
	if (!is_known(s, g)) /* what came before it has ended it */
		return;
	if (fd == g->notices)
		notices_take(s, g);
	else if (fd == g->pidfd)
		lives_adopted_ended(s, g);
	else if (fd == g->take)
		passing_flush(s);
	else if (fd == g->passing.listener)
		passing_accept(s, g);
	else
		passing_take(s, g, fd);
}

static void look_at(struct supervisor *s, int fd, const struct source *of)
{
	if (of->generation)
		look_at_generation(s, of->generation, fd);
	else if (of->caller && of->caller->line == fd)
		callers_read(s, of->caller);
	else if (of->reporter && of->reporter->line == fd)
		reports_read(s, of->reporter);
	else if (fd == s->signals)
		signals_take(s);
	else if (fd == s->address)
		reports_accept(s);
	else if (fd == s->notify.sock)
		notify_hear(s);
	else if (fd == s->files && watch_changed())
		s->changed_at = io_now() + CHANGED_MS * MS; /* after the last of several changes */
}

static void step(struct supervisor *s)
{
	static struct sources all;
	struct timespec room = {0};

	all.count = 0;
	add_source(&all, s->signals, POLLIN, (struct source){0});
	add_source(&all, s->address, POLLIN, (struct source){0});
	add_source(&all, s->notify.sock, POLLIN, (struct source){0});
	add_source(&all, s->files, POLLIN, (struct source){0});
	for (struct generation *g = s->generations; g; g = g->next)
		add_generation(s, g, &all);
	for (size_t i = 0; i < CALLERS_MAX; i++)
		add_source(&all, s->callers[i].line, callers_events(s, &s->callers[i]),
			   (struct source){.caller = &s->callers[i]});
	for (size_t i = 0; i < REPORTERS_MAX; i++)
		add_source(&all, s->reporters[i].line, POLLIN, (struct source){.reporter = &s->reporters[i]});
	callers_read_later(s);
	if (ppoll(all.on, all.count, s->noted_count ? &room : timeout(s, &room), NULL) < 0 && errno != EINTR)
		err(EXIT_FAILURE, "poll");
	for (size_t i = 0; i < all.count; i++)
		if (all.on[i].revents)
			look_at(s, all.on[i].fd, &all.of[i]);
	signals_take_noted(s);
	tick(s);
}

/* As the server ended, so do we. */
static int end(int status)
{
	const struct rlimit no_core = {0, 0};
	sigset_t one;
	int signo;

	if (!WIFSIGNALED(status))
		return WEXITSTATUS(status);
	signo = WTERMSIG(status);
	setrlimit(RLIMIT_CORE, &no_core);
	signal(signo, SIG_DFL);
	sigemptyset(&one);
	sigaddset(&one, signo);
	raise(signo);
	sigprocmask(SIG_UNBLOCK, &one, NULL);
	return 128 + signo; /* pid 1 of a namespace is not ended by that */
}

static int run(struct supervisor *s)
{
	meanwhile_begin(s);
	while (!s->ending || s->generations)
		step(s);
	fdstore_end(s);
	notify_end(s);
	launch_pidfile_remove();
	return end(s->status);
}

int supervisor_run(const struct supervisor_options *options)
{
	static struct supervisor s;
	int r;

	s.options = *options;
	reexec_note_path();
	r = begin(&s);
	if (r) {
		notify_failed(&s, -r);
		warnx("handover mode: %s", strerror(-r));
		return EXIT_FAILURE;
	}
	if (options->adopt && !lives_adopt(&s)) {
		launch_pidfile_remove();
		return EXIT_FAILURE;
	}
	if (!options->adopt && !(options->attach ? handover_attach(&s) : lives_start(&s)))
		return EXIT_FAILURE;
	return run(&s);
}

/* The library of this version is in the generations to come. */
static int preload(const struct supervisor *s, struct text *why)
{
	char library[PATH_MAX];
	int r = s->options.filtered ? 0 : launch_library(library, why);

	return r || s->options.filtered ? r : launch_preload(library, s->recipe.path);
}

int supervisor_resume(int state, char **argv, bool only_check)
{
	static struct supervisor s;
	char reason[2 * PATH_MAX] = "";
	struct text why = TEXT_ON(reason);
	int r = knowledge_read(&s, state, only_check, &why);

	reexec_note_path();
	if (!r)
		r = preload(&s, &why);
	if (!r && !only_check)
		r = go_on(&s, argv);
	close(state);
	if (r)
		warnx("the state of the supervisor before cannot be taken over: %s", *reason ? reason : strerror(-r));
	if (r || only_check)
		return r ? EXIT_FAILURE : EXIT_SUCCESS;
	lives_reap(&s);
	callers_reexeced(&s, NULL);
	return run(&s);
}
