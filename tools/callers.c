/* SPDX-License-Identifier: MIT */
/* What cprctl asks of a supervisor. */
#define _GNU_SOURCE
#include "supervisor_inside.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

static void hang_up(struct caller *c)
{
	io_close(&c->line);
	*c = (struct caller){.line = -1};
}

static void say(struct caller *c, const char *bytes, size_t n, bool last)
{
	bool failed = io_send(c->line, bytes, n, -1);

	if (failed || last)
		hang_up(c);
}

/* ---- ringing ---- */

static bool may_ask(int line)
{
	struct ucred peer;
	socklen_t len = sizeof(peer);

	return !getsockopt(line, SOL_SOCKET, SO_PEERCRED, &peer, &len) && (!peer.uid || peer.uid == geteuid());
}

void callers_ring(struct supervisor *s, uint64_t nonce)
{
	cleanup_fd int line = socket(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	struct sockaddr_un addr;
	socklen_t len = protocol_address(nonce, &addr);

	if (line < 0 || connect(line, (struct sockaddr *)&addr, len) || !may_ask(line))
		return;
	for (size_t i = 0; i < CALLERS_MAX; i++)
		if (s->callers[i].line < 0) {
			s->callers[i] =
				(struct caller){.line = steal_fd(&line), .until = io_now() + PROTOCOL_TIMEOUT_MS * MS};
			return;
		}
}

/* ---- status ---- */

static void refuse(struct caller *c, const char *result, const char *reason)
{
	char answer[2 * REASON_SIZE];
	struct text t = TEXT_ON(answer);

	protocol_put(&t, "result", result);
	protocol_put(&t, "reason", reason);
	say(c, answer, t.used, true);
}

static void put_command(struct text *t, char *const *argv)
{
	char command[512];
	struct text c = TEXT_ON(command);

	for (char *const *arg = argv; *arg; arg++) {
		if (arg != argv)
			text_add(&c, " ");
		text_add(&c, *arg);
	}
	protocol_put(t, "command", command);
}

/* generation=NUMBER was said; of each: NUMBER PID LEFT PHASE. */
static void put_generations(const struct supervisor *s, struct text *t)
{
	for (const struct generation *g = s->generations; g; g = g->next) {
		char line[128];
		struct text l = TEXT_ON(line);

		text_format(&l, "%d %d %d %s", g->number, (int)g->owner, (int)generation_left(g),
			    s->handover.phase == HANDOVER_CANARY && g == s->handover.next ? "canary"
											  : generation_phase_word(g));
		protocol_put(t, "one", line);
	}
}

static void answer_status(struct supervisor *s, struct caller *c)
{
	char answer[PROTOCOL_ANSWER_MAX];
	struct text t = TEXT_ON(answer);
	int64_t now = io_now();

	protocol_put(&t, "result", "ok");
	protocol_put_int(&t, "pid", getpid());
	protocol_put_int(&t, "owner", getpid());
	protocol_put(&t, "role", "supervisor");
	protocol_put_int(&t, "server", s->serving ? s->serving->owner : 0);
	protocol_put_int(&t, "generation", s->serving ? s->serving->number : 0);
	protocol_put(&t, "mode", "handover");
	protocol_put_int(&t, "uptime_ms", (now - s->started_at) / MS);
	if (s->serving)
		protocol_put_int(&t, "generation_ms", (now - s->serving->started_at) / MS);
	put_command(&t, s->recipe.argv);
	if (s->recipe.directory)
		protocol_put(&t, "directory", s->recipe.directory);
	if (s->options.test)
		protocol_put(&t, "test", s->options.test);
	protocol_put_int(&t, "descriptors", (int64_t)holdings_count(&s->holdings));
	protocol_put_int(&t, "restarts", s->restarts);
	if (s->last_restart_us) {
		protocol_put_int(&t, "last_restart_ms", s->last_restart_us / 1000);
		protocol_put_int(&t, "last_restart_gate_us", s->last_gate_us);
	}
	protocol_put_int(&t, "arriving", handover_under_way(s) || (s->serving && !s->serving->ready));
	if (s->options.graceful_signal)
		protocol_put(&t, "graceful_signal",
			     sigabbrev_np(s->options.graceful_signal) ? sigabbrev_np(s->options.graceful_signal)
								      : "RT");
	protocol_put_int(&t, "signal", s->options.doorbell);
	protocol_put(&t, "version", CPR_VERSION);
	figures_put(&s->figures, &t);
	put_generations(s, &t);
	say(c, answer, t.used, true);
}

/* What it holds, by the number that it has here. */
static void answer_list(struct supervisor *s, struct caller *c)
{
	static const char ok[] = "result=ok\n";
	cleanup_fd int state = holdings_write(&s->holdings, s->serving ? s->serving->number : 0, 0, 0);

	if (state < 0 || io_send(c->line, ok, sizeof(ok) - 1, state))
		refuse(c, "failed", "the list could not be written");
	else
		hang_up(c);
}

/* ---- requests ---- */

static bool is_starting(const struct supervisor *s)
{
	return !s->ending && !handover_under_way(s) && s->serving && !s->serving->ready;
}

static void answer_restart(struct supervisor *s, struct caller *c, const struct protocol_request *request)
{
	char reason[REASON_SIZE] = "";
	struct text why = TEXT_ON(reason);
	int r;

	c->waits = true;
	c->waits_for_drain = request->flags & PROTOCOL_WAIT_DRAINED;
	r = handover_begin(s, request->path[0] ? request->path : NULL, &why);
	if (r && c->waits) {
		c->waits = false;
		refuse(c, r == -EBUSY ? "busy" : "failed", reason);
	}
}

static void answer_rollback(struct supervisor *s, struct caller *c)
{
	char reason[REASON_SIZE] = "", bytes[256];
	struct text why = TEXT_ON(reason), t = TEXT_ON(bytes);
	int64_t gate_us;

	if (rollback(s, &gate_us, &why)) {
		refuse(c, "failed", reason);
		return;
	}
	protocol_put(&t, "result", "ok");
	protocol_put_int(&t, "pid", s->serving->owner);
	protocol_put_int(&t, "generation", s->serving->number);
	protocol_put_int(&t, "gate_us", gate_us);
	say(c, bytes, t.used, true);
}

static void answer_foresee(struct supervisor *s, struct caller *c)
{
	const struct generation *ends = handover_one_too_many(s);
	char bytes[256], reason[REASON_SIZE] = "";
	struct text t = TEXT_ON(bytes), why = TEXT_ON(reason);

	if (!is_starting(s) && !handover_is_possible(s, &why)) {
		refuse(c, "busy", reason);
		return;
	}
	protocol_put(&t, "result", "ok");
	protocol_put_int(&t, "generation", s->restarts + 2);
	protocol_put_int(&t, "drain_s", s->options.drain_s);
	protocol_put_int(&t, "ends", ends ? ends->number : 0);
	protocol_put_int(&t, "beside", !s->options.one_at_a_time);
	say(c, bytes, t.used, true);
}

static void answer_reexec(struct supervisor *s, struct caller *c)
{
	char reason[REASON_SIZE] = "";
	struct text why = TEXT_ON(reason);

	if (reexec_begin(s, &why))
		refuse(c, "failed", reason);
	else
		c->reexecs = true;
}

static void answer(struct supervisor *s, struct caller *c, const struct protocol_request *request)
{
	if (request->verb == PROTOCOL_STATUS)
		answer_status(s, c);
	else if (request->verb == PROTOCOL_LIST)
		answer_list(s, c);
	else if (request->verb == PROTOCOL_RESTART)
		answer_restart(s, c, request);
	else if (request->verb == PROTOCOL_ROLLBACK)
		answer_rollback(s, c);
	else if (request->verb == PROTOCOL_FORESEE)
		answer_foresee(s, c);
	else if (request->verb == PROTOCOL_REEXEC)
		answer_reexec(s, c);
	else
		refuse(c, "refused", "a supervisor does not know this request");
}

/* The same while a generation is waited for: how things stand is said, and anything else waits. */
void callers_read_now(struct supervisor *s, struct caller *c)
{
	struct protocol_request request = {0};
	ssize_t n = recv(c->line, &request, offsetof(struct protocol_request, path), MSG_PEEK | MSG_DONTWAIT);

	if (n > 0 && request.verb == PROTOCOL_STATUS)
		callers_read(s, c);
	else
		c->later = true;
}

void callers_read_later(struct supervisor *s)
{
	for (size_t i = 0; i < CALLERS_MAX; i++)
		s->callers[i].later = false;
}

/* A restart waits for the start that is under way; its caller has a limit of its own. */
static bool is_too_early(const struct supervisor *s, const struct caller *c)
{
	struct protocol_request request = {0};
	ssize_t n;

	if (!is_starting(s))
		return false;
	n = recv(c->line, &request, offsetof(struct protocol_request, path), MSG_PEEK | MSG_DONTWAIT);
	return n > 0 && request.verb == PROTOCOL_RESTART;
}

/* While a caller's request waits, only the end of its line counts: it has given up, and its restart is dropped. */
short callers_events(const struct supervisor *s, struct caller *c)
{
	c->early &= is_starting(s);
	return c->early ? 0 : POLLIN;
}

void callers_read(struct supervisor *s, struct caller *c)
{
	struct protocol_request request;
	ssize_t n;

	if (c->early) {
		hang_up(c);
		return;
	}
	c->early = is_too_early(s, c);
	if (c->early)
		return;
	n = io_receive(c->line, &request, sizeof(request), NULL);

	if (n == -EAGAIN)
		return;
	if (n <= 0 || c->asked) { /* it has gone: what it asked for goes on */
		hang_up(c);
		return;
	}
	c->asked = true;
	if (protocol_check(&request, (size_t)n))
		refuse(c, "refused", "this is no request that this version of cpr knows");
	else
		answer(s, c, &request);
}

/* ---- telling ---- */

void callers_tell(struct supervisor *s, const char *text, size_t n, bool last)
{
	for (size_t i = 0; i < CALLERS_MAX; i++) {
		struct caller *c = &s->callers[i];
		bool stays = last && c->waits_for_drain && s->serving && s->handover.next == s->serving;

		if (c->line < 0 || !c->waits)
			continue;
		if (stays) {
			c->waits = false;
			c->drains = s->handover.old;
		}
		say(c, text, n, last && !stays);
	}
}

static bool drains(const struct supervisor *s, int number)
{
	for (const struct generation *g = s->generations; g; g = g->next)
		if (g->number == number)
			return true;
	return false;
}

void callers_drained(struct supervisor *s, int generation)
{
	for (size_t i = 0; i < CALLERS_MAX; i++)
		if (s->callers[i].line >= 0 && s->callers[i].drains == generation)
			say(&s->callers[i], "result=drained\n", 15, true);
}

void callers_reexeced(struct supervisor *s, const char *failed)
{
	char bytes[256];
	struct text t = TEXT_ON(bytes);
	uint32_t connections;

	protocol_put(&t, "result", "ok");
	protocol_put(&t, "version", CPR_VERSION);
	protocol_put_int(&t, "generation", s->serving ? s->serving->number : 0);
	protocol_put_int(&t, "draining", (int64_t)lives_draining(s, &connections));
	protocol_put_int(&t, "descriptors", (int64_t)holdings_count(&s->holdings));
	for (size_t i = 0; i < CALLERS_MAX; i++) {
		struct caller *c = &s->callers[i];

		if (c->line < 0 || !c->reexecs)
			continue;
		if (failed)
			refuse(c, "failed", failed);
		else
			say(c, bytes, t.used, true);
	}
}

void callers_tick(struct supervisor *s, int64_t now)
{
	for (size_t i = 0; i < CALLERS_MAX; i++) {
		struct caller *c = &s->callers[i];

		if (c->line >= 0 && !c->asked && !c->early && now >= c->until)
			hang_up(c);
		else if (c->line >= 0 && c->drains && !drains(s, c->drains))
			say(c, "result=drained\n", 15, true);
	}
}

int64_t callers_due(const struct supervisor *s)
{
	int64_t at = 0;

	for (size_t i = 0; i < CALLERS_MAX; i++)
		if (s->callers[i].line >= 0 && !s->callers[i].asked && !s->callers[i].early)
			due(&at, s->callers[i].until);
	return at;
}
