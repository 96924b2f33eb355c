/* SPDX-License-Identifier: MIT */
/* The supervisor's loop: signals, the children's ends, what generations report, and time. */
#define _GNU_SOURCE
#include "supervisor_inside.h"

#include "launch.h"
#include "own.h"
#include "proc.h"

#include <err.h>
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum {
	REPORT_PATIENCE_MS = 200,
	GIVE_PATIENCE_MS = 3000,
	DAEMON_MS = 3000,      /* for the child of a daemonising process to be found */
	SEARCH_MS = 20,
	LEAVING_LOOK_MS = 100, /* while processes of a generation without an owner are awaited */
	BACKOFF_MS = 100,
	BACKOFF_MAX_MS = 10000,
};

void supervisor_say(const char *format, ...)
{
	va_list args;

	va_start(args, format);
	vwarnx(format, args);
	va_end(args);
}

/* ---- generations ---- */

void supervisor_add(struct supervisor *s, struct generation *g, int number)
{
	g->number = number;
	g->next = s->generations;
	s->generations = g;
}

void supervisor_remove(struct supervisor *s, struct generation *g)
{
	struct generation **at = &s->generations;

	while (*at && *at != g)
		at = &(*at)->next;
	if (*at)
		*at = g->next;
	callers_drained(s, g->number);
	generation_free(g);
}

static bool is_old(const struct generation *g)
{
	return g->phase == GENERATION_DRAINING || g->phase == GENERATION_RETIRING || g->phase == GENERATION_KEPT;
}

size_t supervisor_draining(const struct supervisor *s, uint32_t *connections)
{
	size_t n = 0;

	*connections = 0;
	for (const struct generation *g = s->generations; g; g = g->next)
		if (is_old(g)) {
			n++;
			*connections += generation_left(g) > 0 ? (uint32_t)generation_left(g) : 0;
		}
	return n;
}

/* Told to leave: killed 5 s later. */
void supervisor_retire(struct supervisor *s, struct generation *g, int signo)
{
	(void)s;
	if (g->phase != GENERATION_FAILED && g->phase != GENERATION_GATED)
		g->phase = GENERATION_RETIRING;
	g->signalled = true;
	generation_note_members(g);
	if (!g->ended)
		generation_signal(g, signo);
	if (!g->leave_by)
		g->leave_by = io_now() + KILL_AFTER_S * SECOND;
}

/* ---- starting ---- */

static int write_state(struct supervisor *s)
{
	return holdings_count(&s->holdings) ? holdings_write(&s->holdings, s->restarts + 1, s->recipe.nonce, io_now()) : -1;
}

/* The first generation, or the next one after a crash: it serves from its start. */
static bool start_serving(struct supervisor *s)
{
	char reason[REASON_SIZE];
	struct text why = TEXT_ON(reason);
	cleanup_fd int state = write_state(s);
	struct generation *g = generation_start(&s->recipe, &s->holdings, state, false, false, &why);

	s->start_again_at = 0;
	if (!g) {
		supervisor_say("%s", reason);
		return false;
	}
	supervisor_add(s, g, state >= 0 ? ++s->restarts + 1 : s->restarts + 1);
	s->serving = g;
	return true;
}

/* ---- what is held ---- */

void supervisor_refresh_soon(struct supervisor *s, int64_t when)
{
	if (!s->refresh_at || when < s->refresh_at)
		s->refresh_at = when;
}

/* A listener that a program opens late, or closes for good, must be known before the program dies. */
void supervisor_refresh(struct supervisor *s)
{
	static const int after_s[] = {1, 10, 60};
	char reason[REASON_SIZE];
	struct text why = TEXT_ON(reason);

	s->refresh_at = 0;
	if (!s->serving || s->serving->ended || handover_under_way(s))
		return;
	if (!holdings_take(&s->holdings, s->serving->owner, GIVE_PATIENCE_MS, &why) && s->holdings.refused)
		supervisor_say("%zu descriptors of PID %d are not what they claim to be: not held", s->holdings.refused, (int)s->serving->owner);
	if (s->refreshes < (int)countof(after_s))
		s->refresh_at = io_now() + after_s[s->refreshes++] * SECOND;
}

/* ---- reports ---- */

void supervisor_ready(struct supervisor *s, struct generation *g, const char *said)
{
	g->ready = true;
	if (g == s->handover.next) {
		handover_ready(s, said);
		return;
	}
	if (g != s->serving)
		return;
	s->proven = true;
	s->refreshes = 0;
	supervisor_refresh_soon(s, io_now());
}

static struct generation *generation_of(const struct supervisor *s, pid_t pid)
{
	for (struct generation *g = s->generations; g; g = g->next)
		if (!g->ended && (g->owner == pid || g->started == pid))
			return g;
	for (struct generation *g = s->generations; g; g = g->next)
		if (!g->ended && generation_has(g, pid))
			return g;
	return NULL;
}

/* A daemon's parent has ended: its number tells whose it is. */
static struct generation *orphaned_generation(const struct supervisor *s, int64_t number)
{
	for (struct generation *g = s->generations; g; g = g->next)
		if (g->search_until && g->number == number)
			return g;
	return NULL;
}

static void take_report(struct supervisor *s, pid_t pid, const char *said)
{
	struct generation *g = generation_of(s, pid);
	int64_t number = 0;

	protocol_get_int(said, "generation", &number);
	g = g ? g : orphaned_generation(s, number);
	if (!g)
		return;
	if (answer_is(said, "changed")) {
		if (g == s->serving)
			supervisor_refresh_soon(s, io_now() + 100 * MS);
		return;
	}
	if (!answer_is(said, "ready") || g->ready)
		return;
	g->owner = pid;
	g->search_until = 0;
	supervisor_ready(s, g, said);
}

static void hear_report(struct supervisor *s)
{
	cleanup_fd int line = accept4(s->address, NULL, NULL, SOCK_CLOEXEC);
	char said[PROTOCOL_ANSWER_MAX];
	struct ucred peer;
	socklen_t len = sizeof(peer);
	ssize_t n;

	if (line < 0 || getsockopt(line, SOL_SOCKET, SO_PEERCRED, &peer, &len) || !io_await_input(line, REPORT_PATIENCE_MS))
		return;
	n = io_receive(line, said, sizeof(said) - 1, NULL);
	if (n <= 0)
		return;
	said[n] = '\0';
	take_report(s, peer.pid, said);
}

/* ---- ends ---- */

static bool ended_well(int status)
{
	return WIFEXITED(status) && !WEXITSTATUS(status);
}

/* Was that what somebody wanted? Else it is a crash. */
static bool was_wanted(const struct generation *g)
{
	return g->signalled || ended_well(g->status) || (WIFSIGNALED(g->status) && (WTERMSIG(g->status) == SIGTERM || WTERMSIG(g->status) == SIGINT));
}

static void end_all(struct supervisor *s, int signo)
{
	s->ending = true;
	s->start_again_at = 0;
	if (handover_under_way(s))
		handover_fail(s, "the supervisor was told to end");
	for (struct generation *g = s->generations; g; g = g->next)
		if (g != s->serving)
			supervisor_retire(s, g, s->options.retire_signal);
	if (!s->serving)
		return;
	s->serving->signalled = true;
	generation_note_members(s->serving);
	generation_signal(s->serving, signo);
}

/* Started again, with what it held; not at once, when it does so all the time. */
static void crashed(struct supervisor *s, const struct generation *g)
{
	int64_t now = io_now(), pause = BACKOFF_MS;

	if (WIFSIGNALED(g->status))
		supervisor_say("the server, PID %d, was ended by signal %d", (int)g->owner, WTERMSIG(g->status));
	else
		supervisor_say("the server, PID %d, ended with status %d", (int)g->owner, WEXITSTATUS(g->status));
	if (!s->crashes || now - s->first_crash_at > s->options.crash_window_s * SECOND) {
		s->crashes = 0;
		s->first_crash_at = now;
	}
	if (++s->crashes > s->options.crash_limit) {
		supervisor_say("it has crashed %d times in %d s: not started again", s->crashes, s->options.crash_window_s);
		holdings_close(&s->holdings);
		end_all(s, s->options.retire_signal);
		return;
	}
	for (int i = 1; i < s->crashes && pause < BACKOFF_MAX_MS; i++)
		pause *= 2;
	s->start_again_at = now + (s->crashes == 1 ? 0 : pause) * MS;
}

static void serving_ended(struct supervisor *s, struct generation *g)
{
	s->serving = NULL;
	s->status = g->status;
	g->phase = GENERATION_RETIRING;
	g->leave_by = io_now() + KILL_AFTER_S * SECOND;
	generation_signal_members(g, s->options.retire_signal);
	if (s->ending || was_wanted(g) || !s->proven)
		end_all(s, s->options.retire_signal);
	else if (!handover_under_way(s))
		crashed(s, g);
}

static void tell_end(char *text, size_t size, const struct generation *g)
{
	struct text t = text_on(text, size);

	if (WIFSIGNALED(g->status))
		text_format(&t, "the next generation was ended by signal %d", WTERMSIG(g->status));
	else
		text_format(&t, "the next generation ended with status %d", WEXITSTATUS(g->status));
	text_add(&t, g->ready ? ", after it had been ready" : " before it was ready");
}

static void generation_ended(struct supervisor *s, struct generation *g)
{
	char reason[128];

	g->ended = true;
	g->search_until = 0;
	if (g->tail.fd >= 0)
		tail_read(&g->tail); /* its last words */
	if (g == s->serving) {
		serving_ended(s, g);
	} else if (g == s->handover.next && g->phase == GENERATION_GATED) {
		tell_end(reason, sizeof(reason), g);
		handover_fail(s, reason);
	} else {
		generation_signal_members(g, s->options.retire_signal);
		g->phase = g->phase == GENERATION_FAILED ? GENERATION_FAILED : GENERATION_RETIRING;
		g->leave_by = g->leave_by ? g->leave_by : io_now() + KILL_AFTER_S * SECOND;
	}
}

/* Did what was started leave a child that is the owner now? */
static bool find_daemon(const struct supervisor *s, struct generation *g)
{
	size_t count;
	cleanup_free pid_t *pids = proc_pids(&count);

	for (size_t i = 0; i < count; i++) {
		cleanup_answer struct answer answer = ANSWER_NONE;
		char reason[REASON_SIZE];
		struct text why = TEXT_ON(reason);
		struct proc_page page;
		int64_t number, owner;

		if (proc_parent(pids[i]) != getpid() || generation_of(s, pids[i]) || proc_page(pids[i], &page) ||
		    client_ask(pids[i], PROTOCOL_STATUS, 500, false, &answer, &why))
			continue;
		if (protocol_get_int(answer.text, "generation", &number) || number != g->number || protocol_get_int(answer.text, "owner", &owner) ||
		    owner != pids[i])
			continue;
		g->owner = pids[i];
		return true;
	}
	return false;
}

static void search(struct supervisor *s, struct generation *g, int64_t now)
{
	if (find_daemon(s, g))
		g->search_until = 0;
	else if (now >= g->search_until)
		generation_ended(s, g);
}

static bool has_child(void)
{
	siginfo_t info;

	return !waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT);
}

static void child_ended(struct supervisor *s, pid_t pid, int status)
{
	if (pid == s->handover.check) {
		handover_checked(s, status);
		return;
	}
	for (struct generation *g = s->generations; g; g = g->next) {
		bool was_owner = pid == g->owner, was_started = pid == g->started;

		if (was_started)
			g->started = 0;
		if (g->ended || !(was_owner || (was_started && !g->owner)))
			continue;
		g->status = status;
		if (was_started && ended_well(status) && !g->signalled && has_child()) {
			g->search_until = io_now() + DAEMON_MS * MS;
			search(s, g, io_now());
		} else {
			generation_ended(s, g);
		}
		return;
	}
}

static void reap(struct supervisor *s)
{
	pid_t pid;
	int status;

	while ((pid = waitpid(-1, &status, WNOHANG)) > 0)
		child_ended(s, pid, status);
}

/* ---- signals ---- */

static const int forwarded[] = {SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2, SIGWINCH};

static void restart_by_signal(struct supervisor *s)
{
	char reason[REASON_SIZE];
	struct text why = TEXT_ON(reason);

	if (handover_begin(s, NULL, &why))
		supervisor_say("the restart by signal was called off: %s", reason);
}

/* The terminal's own go to the whole process group: the server has got them already. */
static void forward(struct supervisor *s, int signo, bool by_kernel)
{
	if (signo == SIGTERM) {
		end_all(s, signo);
		return;
	}
	if (!s->serving)
		return;
	if (signo == SIGINT || signo == SIGQUIT || signo == SIGHUP) {
		s->serving->signalled = true; /* if it ends now, it was meant to */
		generation_note_members(s->serving);
	}
	if (!by_kernel)
		generation_signal(s->serving, signo);
}

static void take_signals(struct supervisor *s)
{
	struct signalfd_siginfo info;

	while (read(s->signals, &info, sizeof(info)) == sizeof(info)) {
		int signo = (int)info.ssi_signo;

		if (signo == SIGCHLD)
			reap(s);
		else if (signo == s->options.doorbell && info.ssi_code == SI_QUEUE)
			callers_ring(s, info.ssi_ptr);
		else if (signo == s->options.restart_signal)
			restart_by_signal(s);
		else if (signo != s->options.doorbell)
			forward(s, signo, info.ssi_code == SI_KERNEL);
	}
}

static void nothing(int signo)
{
	(void)signo;
}

/* All signals are blocked from here on, and come by a descriptor. The doorbell has a handler, by which the tools see that it is heard. */
static int open_signals(struct supervisor *s)
{
	struct sigaction heard = {.sa_handler = nothing};
	sigset_t all, ours;

	sigfillset(&all);
	sigprocmask(SIG_SETMASK, &all, &s->recipe.mask);
	sigemptyset(&ours);
	sigaddset(&ours, SIGCHLD);
	sigaddset(&ours, s->options.doorbell);
	if (s->options.restart_signal)
		sigaddset(&ours, s->options.restart_signal);
	for (size_t i = 0; i < countof(forwarded); i++)
		sigaddset(&ours, forwarded[i]);
	sigaction(s->options.doorbell, &heard, NULL);
	s->signals = signalfd(-1, &ours, SFD_CLOEXEC | SFD_NONBLOCK);
	return s->signals < 0 ? -errno : 0;
}

/* ---- the beginning ---- */

static int listen_for_reports(struct supervisor *s)
{
	cleanup_fd int sock = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un addr;
	socklen_t len;

	if (sock < 0 || getrandom(&s->recipe.nonce, sizeof(s->recipe.nonce), 0) != sizeof(s->recipe.nonce))
		return -errno;
	s->recipe.nonce = s->recipe.nonce >> 1 | 1;
	len = protocol_address(s->recipe.nonce, &addr);
	if (bind(sock, (struct sockaddr *)&addr, len) || listen(sock, SOMAXCONN))
		return -errno;
	s->address = steal_fd(&sock);
	return 0;
}

/* What the tools find in /proc/PID/maps. */
static int show_page(struct supervisor *s)
{
	char name[48];
	struct proc self;
	cleanup_fd int memfd = -1;

	snprintf(name, sizeof(name), PROTOCOL_SUPERVISOR_PAGE_NAME "%d.%d", s->options.doorbell, proc_read(getpid(), &self) ? 0 : self.filters);
	memfd = io_memfd(name);
	if (memfd < 0 || ftruncate(memfd, 1))
		return -errno;
	s->page = mmap(NULL, 1, PROT_READ, MAP_SHARED, memfd, 0);
	return s->page == MAP_FAILED ? -errno : 0;
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

static int begin(struct supervisor *s)
{
	int r = holdings_begin(&s->holdings);

	s->signals = s->address = -1;
	s->started_at = io_now();
	for (size_t i = 0; i < CALLERS_MAX; i++)
		s->callers[i].line = -1;
	s->handover.check_output = -1;
	s->recipe.path = s->options.path;
	s->recipe.argv = s->options.argv;
	s->recipe.directory = directory();
	raise_files(s);
	if (!r && prctl(PR_SET_CHILD_SUBREAPER, 1))
		r = -errno;
	if (!r)
		r = open_signals(s);
	if (!r)
		r = listen_for_reports(s);
	return r ? r : show_page(s);
}

/* ---- time ---- */

static void leave_tick(struct supervisor *s, struct generation *g, int64_t now)
{
	if (g->ended && !generation_signal_members(g, 0)) {
		if (g != s->handover.next)
			supervisor_remove(s, g);
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
		supervisor_retire(s, g, s->options.retire_signal);
	}
}

static void tick(struct supervisor *s)
{
	int64_t now = io_now();

	for (struct generation *g = s->generations, *next; g; g = next) {
		next = g->next;
		if (g->search_until)
			search(s, g, now);
		drain_tick(s, g, now);
		if (g->phase == GENERATION_RETIRING || g->phase == GENERATION_FAILED)
			leave_tick(s, g, now);
	}
	if (s->refresh_at && now >= s->refresh_at)
		supervisor_refresh(s);
	if (s->start_again_at && now >= s->start_again_at && !start_serving(s))
		s->start_again_at = now + BACKOFF_MAX_MS * MS;
	handover_tick(s, now);
	callers_tick(s, now);
}

/* ms until something is due; -1: nothing is. */
static int timeout(const struct supervisor *s)
{
	int64_t now = io_now(), at = 0;

	for (const struct generation *g = s->generations; g; g = g->next) {
		bool leaves = g->phase == GENERATION_RETIRING || g->phase == GENERATION_FAILED;

		due(&at, g->leave_by);
		if (g->search_until)
			due(&at, now + SEARCH_MS * MS);
		if (g->ended && leaves)
			due(&at, now + LEAVING_LOOK_MS * MS);
	}
	due(&at, s->refresh_at);
	due(&at, s->start_again_at);
	due(&at, handover_due(s));
	due(&at, callers_due(s));
	if (!at)
		return -1;
	return at <= now ? 0 : (int)((at - now) / MS) + 1;
}

/* ---- the loop ---- */

/* One descriptor that is listened to, and whose it is. */
struct source {
	struct generation *generation;
	struct caller *caller;
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

	add_source(all, g->tail.fd, POLLIN, of);
	if (s->has_pending && g == s->serving)
		add_source(all, g->take, POLLOUT, of);
	if (s->has_pending)
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
	if (fd == g->tail.fd)
		tail_read(&g->tail);
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
	else if (fd == s->signals)
		take_signals(s);
	else if (fd == s->address)
		hear_report(s);
}

static void step(struct supervisor *s)
{
	static struct sources all;

	all.count = 0;
	add_source(&all, s->signals, POLLIN, (struct source){0});
	add_source(&all, s->address, POLLIN, (struct source){0});
	for (struct generation *g = s->generations; g; g = g->next)
		add_generation(s, g, &all);
	for (size_t i = 0; i < CALLERS_MAX; i++)
		add_source(&all, s->callers[i].line, POLLIN, (struct source){.caller = &s->callers[i]});
	if (poll(all.on, all.count, timeout(s)) < 0 && errno != EINTR)
		err(EXIT_FAILURE, "poll");
	for (size_t i = 0; i < all.count; i++)
		if (all.on[i].revents)
			look_at(s, all.on[i].fd, &all.of[i]);
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

int supervisor_run(const struct supervisor_options *options)
{
	static struct supervisor s;
	int r;

	s.options = *options;
	r = begin(&s);
	if (r) {
		warnx("handover mode: %s", strerror(-r));
		return EXIT_FAILURE;
	}
	if (!start_serving(&s))
		return EXIT_FAILURE;
	while (!s.ending || s.generations)
		step(&s);
	launch_pidfile_remove();
	return end(s.status);
}
