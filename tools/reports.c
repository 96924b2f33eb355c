/* SPDX-License-Identifier: MIT */
/* What generations report to the supervisor, and what it holds of the one that serves. */
#define _GNU_SOURCE
#include "supervisor_inside.h"

#include <errno.h>
#include <stdio.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <unistd.h>

enum { GIVE_PATIENCE_MS = 3000, SETTLE_S = 5 };

/* ---- what is held ---- */

void reports_refresh_soon(struct supervisor *s, int64_t when)
{
	if (!s->refresh_at || when < s->refresh_at)
		s->refresh_at = when;
}

/* A listener that a program opens late, or closes for good, must be known before the program dies. */
void reports_refresh(struct supervisor *s)
{
	static const int after_s[] = {1, 10, 60};
	char reason[REASON_SIZE];
	struct text why = TEXT_ON(reason);

	s->refresh_at = 0;
	if (!s->serving || s->serving->ended)
		return;
	if (handover_under_way(s)) { /* it asks the old one itself, and may be called off */
		s->refresh_at = io_now() + SECOND;
		return;
	}
	if (s->recipe.filtered) {
		notices_settle(s);
		if (!fdstore_is_current(s))
			fdstore_keep(s);
		s->refresh_at = io_now() + SETTLE_S * SECOND; /* it does not say when it closes a listener */
		return;
	}
	if (!holdings_take(&s->holdings, s->serving->owner, GIVE_PATIENCE_MS, &why) && s->holdings.refused)
		supervisor_say("%zu descriptors of PID %d are not what they claim to be: not held", s->holdings.refused,
			       (int)s->serving->owner);
	fdstore_keep(s);
	if (s->refreshes < (int)countof(after_s))
		s->refresh_at = io_now() + after_s[s->refreshes++] * SECOND;
}

/* ---- reports ---- */

void reports_become_ready(struct supervisor *s, struct generation *g)
{
	g->ready = true;
	if (g == s->handover.next) {
		handover_ready(s, g->report);
		return;
	}
	if (g != s->serving)
		return;
	notify_ready(s);
	passing_flush(s);
	s->proven = true;
	s->refreshes = 0;
	reports_refresh_soon(s, io_now());
}

/*
 * The library reports that everything is claimed and that the program waits for work. If an earlier generation has sent
 * READY=1, the supervisor waits for this one's, too.
 */
void reports_ready(struct supervisor *s, struct generation *g, const char *said)
{
	struct text report = TEXT_ON(g->report);

	g->reported = true;
	text_add(&report, said);
	if (!s->notify.spoken || g->notified || (s->recipe.filtered && s->options.health.command))
		reports_become_ready(s, g);
}

void reports_notified(struct supervisor *s, struct generation *g)
{
	s->notify.spoken = g->notified = true;
	if (!g->ready && (g->reported || s->recipe.filtered))
		reports_become_ready(s, g);
}

/* The parent of a daemon has ended: the number in the report names the generation. */
static struct generation *orphaned_generation(const struct supervisor *s, int64_t number)
{
	for (struct generation *g = s->generations; g; g = g->next)
		if (g->search_until && g->number == number)
			return g;
	return NULL;
}

static void take_report(struct supervisor *s, pid_t pid, const char *said)
{
	struct generation *g = generation_find(s->generations, pid);
	int64_t number = 0;

	protocol_get_int(said, "generation", &number);
	if (!g) { /* a daemon whose parent has just ended; that signal has not been handled yet */
		lives_reap(s);
		g = generation_find(s->generations, pid);
	}
	g = g ? g : orphaned_generation(s, number);
	if (!g)
		return;
	if (answer_is(said, "changed")) {
		if (g == s->serving)
			reports_refresh_soon(s, io_now() + 100 * MS);
		return;
	}
	if (answer_is(said, "turn"))
		canary_turn_is_over(s, g);
	if (!answer_is(said, "ready") || g->reported)
		return;
	generation_found(g, pid);
	reports_ready(s, g, said);
}

static void forget_reporter(struct reporter *r)
{
	io_close(&r->line);
	*r = (struct reporter){.line = -1};
}

void reports_read(struct supervisor *s, struct reporter *r)
{
	char said[PROTOCOL_ANSWER_MAX];
	ssize_t n = io_receive(r->line, said, sizeof(said) - 1, NULL);
	pid_t pid = r->pid;

	if (n == -EAGAIN)
		return;
	forget_reporter(r);
	if (n <= 0)
		return;
	said[n] = '\0';
	take_report(s, pid, said);
}

/* Without a free place the line is closed, and the process tries again. */
void reports_accept(struct supervisor *s)
{
	cleanup_fd int line = accept4(s->address, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
	struct ucred peer;
	socklen_t len = sizeof(peer);
	int i = 0;

	if (line < 0 || getsockopt(line, SOL_SOCKET, SO_PEERCRED, &peer, &len))
		return;
	while (i < REPORTERS_MAX && s->reporters[i].line >= 0)
		i++;
	if (i == REPORTERS_MAX)
		return;
	s->reporters[i] = (struct reporter){.line = steal_fd(&line), .pid = peer.pid,
					    .until = io_now() + PROTOCOL_TIMEOUT_MS * MS};
	reports_read(s, &s->reporters[i]);
}

void reports_tick(struct supervisor *s, int64_t now)
{
	for (int i = 0; i < REPORTERS_MAX; i++)
		if (s->reporters[i].line >= 0 && now >= s->reporters[i].until)
			forget_reporter(&s->reporters[i]);
}

int64_t reports_due(const struct supervisor *s)
{
	int64_t at = 0;

	for (int i = 0; i < REPORTERS_MAX; i++)
		if (s->reporters[i].line >= 0)
			due(&at, s->reporters[i].until);
	return at;
}

/* Where they report, for the supervisor's whole life. */
int reports_listen(struct supervisor *s)
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
