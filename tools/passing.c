/* SPDX-License-Identifier: MIT */
/* Carrying: idle connections of a generation that drains go to the one that serves, through here. */
#define _GNU_SOURCE
#include "supervisor_inside.h"

#include "proc.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum {
	LINE_PATIENCE_MS = 5000,
	EXEC_WORKERS_MS = 1000,
	SWEEP_MS = 10000,
	QUIET_MS = 2000,
	LAST_MS = 30000,
	LOOK_MS = 50,
	HELPERS_MS = 500,
};

static void add_line(struct generation *from, int fd, pid_t pid)
{
	struct passing *p = &from->passing;
	struct line *longer = reallocarray(p->lines, p->count + 1, sizeof(*longer));

	if (!longer) {
		close(fd);
		return;
	}
	p->lines = longer;
	longer[p->count++] = (struct line){.fd = fd, .pid = pid};
}

/* Sends a request to a generation; the connection stays in *client. If it refuses, prints a line and returns false. */
static bool ask(struct client *client, pid_t pid, const struct protocol_request *request, struct answer *answer,
		const char *what)
{
	char reason[REASON_SIZE];
	struct text why = TEXT_ON(reason);

	if (!client_call_with(client, pid, request, io_now() + LINE_PATIENCE_MS * MS, answer, &why))
		return true;
	supervisor_say("PID %d %s: %s", (int)pid, what, reason);
	return false;
}

/* `worker`: set if it is that one which takes them. */
static bool ask_to_take(struct generation *to, pid_t pid, const struct protocol_request *request, int64_t *worker)
{
	cleanup_client struct client client = CLIENT_NONE;
	cleanup_answer struct answer answer = ANSWER_NONE;

	if (!ask(&client, pid, request, &answer, "takes no carried connections"))
		return false;
	if (protocol_get_int(answer.text, "pid", worker))
		to->take = steal_fd(&client.line);
	return true;
}

static bool open_take(const struct supervisor *s, struct generation *to)
{
	static struct protocol_request request;
	int64_t worker = 0, none;

	if (to->take >= 0)
		return true;
	request = (struct protocol_request){.verb = PROTOCOL_TAKE};
	request.drain.key_count = (uint32_t)holdings_keys(&s->holdings, request.drain.keys, PROTOCOL_KEYS_MAX);
	if (ask_to_take(to, to->owner, &request, &worker) && to->take < 0 && generation_has(to, (pid_t)worker))
		ask_to_take(to, (pid_t)worker, &request, &none);
	return to->take >= 0;
}

/* What was idle at first has come. */
static void swept(struct supervisor *s, struct generation *from)
{
	from->passing.swept = true;
	from->passing.swept_at = io_now();
	from->passing.sweep_by = from->passing.look_at = 0;
	passing_settled(s, from);
	handover_passed(s);
}

/*
 * At its graceful signal a server closes idle connections at once. So the signal waits until all that can be carried is
 * carried: nothing has come for two seconds, or half a minute is over. The rest are connections that cannot be carried,
 * above all TLS. If one is closed while its client sends, a request is lost: with nginx one of each client. So a
 * default signal waits for half of --drain, or until the next restart would end this generation.
 */
static void put_off(const struct supervisor *s, struct generation *from)
{
	int64_t quiet = io_now() + QUIET_MS * MS, last = from->passing.swept_at + LAST_MS * MS;

	if (s->options.graceful_is_known && from != handover_one_too_many(s))
		quiet = last = from->passing.swept_at + s->options.drain_s * SECOND / 2;
	from->passing.graceful_at = quiet < last ? quiet : last;
}

void passing_settled(struct supervisor *s, struct generation *from)
{
	if (!from->passing.swept || from->phase != GENERATION_DRAINING || from->ended)
		return;
	from->helpers = 0;
	if (!generation_left(from) && (from->helpers = helpers_count(s, from)))
		from->helpers_at = io_now() + HELPERS_MS * MS;
	if (!generation_left(from))
		lives_retire(s, from, s->options.retire_signal);
	else if (s->options.graceful_signal && !from->graceful &&
		 (!from->passing.graceful_at || s->options.graceful_is_known))
		put_off(s, from);
}

/*
 * Its processes see the end of their lines, and close their own ends. The obvious code closes ours: what they had sent
 * by then, and we had not read, was lost.
 */
void passing_call_off(struct generation *from)
{
	struct passing *p = &from->passing;

	while (p->listener >= 0 && io_await_input(p->listener, 0))
		passing_accept(NULL, from);
	io_close(&p->listener);
	for (size_t i = 0; i < p->count; i++)
		if (p->lines[i].fd >= 0)
			shutdown(p->lines[i].fd, SHUT_WR);
	*p = (struct passing){.listener = -1, .lines = p->lines, .count = p->count, .all_asked = true, .swept = true};
}

void passing_begin(struct supervisor *s, struct generation *from, struct generation *to)
{
	static const struct protocol_request pass = {.verb = PROTOCOL_PASS};
	cleanup_client struct client client = CLIENT_NONE;
	cleanup_answer struct answer answer = ANSWER_NONE;
	int64_t processes = 1;

	generation_note_members(from);
	if ((to && !open_take(s, to)) || !ask(&client, from->owner, &pass, &answer, "keeps its connections")) {
		swept(s, from); /* the number left is not known: it gets its graceful signal, or its drain ends */
		return;
	}
	protocol_get_int(answer.text, "processes", &processes);
	from->passing.expected = from->passing.count + (processes > 0 ? (size_t)processes : 1);
	from->passing.all_asked = from->passing.swept = from->passing.mute = false;
	from->passing.sweep_by = io_now() + SWEEP_MS * MS;
	from->passing.look_at = io_now() + LOOK_MS * MS;
	from->passing.listener = steal_fd(&client.listener);
	add_line(from, steal_fd(&client.line), from->owner);
}

/*
 * A worker of it: any process may connect to an abstract name. It may have ended, with its connections in the line: one
 * that serves a single client ends when that is passed on.
 */
void passing_accept(struct supervisor *s, struct generation *from)
{
	cleanup_fd int line = accept4(from->passing.listener, NULL, NULL, SOCK_CLOEXEC);
	struct ucred peer;
	socklen_t len = sizeof(peer);

	(void)s;
	if (line >= 0 && !getsockopt(line, SOL_SOCKET, SO_PEERCRED, &peer, &len) &&
	    generation_has_had(from, peer.pid))
		add_line(from, steal_fd(&line), peer.pid);
}

/* A connection, and nothing else: what is not asked for is closed. */
static bool is_connection(int fd)
{
	int type = 0, listens = 1;
	socklen_t len = sizeof(int);

	return !getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &len) && type == SOCK_STREAM &&
	       !getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) && !listens;
}

static bool is_sound(const struct batch *batch)
{
	for (uint32_t i = 0; i < batch->head.count; i++)
		if (!is_connection(batch->fds[i]))
			return false;
	return true;
}

/*
 * An old generation passes connections on for hours. The process that took the last ones may have ended since, or may
 * have executed itself. So the line is opened once more, to the process that takes them now.
 */
static int send_on(const struct supervisor *s, struct generation *to, const struct batch *batch)
{
	int r = -EPIPE;

	for (int i = 0; i < 2 && open_take(s, to); i++) {
		r = batch_send(to->take, batch);
		if (!r || r == -EAGAIN || r == -ETOOMANYREFS)
			return r;
		io_close(&to->take);
		to->take = -1;
	}
	return r;
}

void passing_flush(struct supervisor *s)
{
	struct generation *to = s->serving;
	int r = -EPIPE;

	if (!s->has_pending || (!s->ending && (!to || !to->ready))) /* it has crashed, and is started again */
		return;
	if (to && !to->ended)
		r = send_on(s, to, &s->pending);
	if (r == -ETOOMANYREFS) /* a user has so many in messages as it may have: some are taken out at this moment */
		nanosleep(&(struct timespec){0, MS}, NULL);
	if (r == -EAGAIN || r == -ETOOMANYREFS)
		return;
	batch_close(&s->pending);
	s->has_pending = false;
	s->passed_at = io_now();
}

/* ---- processes that a generation has exec'ed: node's cluster workers ---- */

/* A process that was forked, and not exec'ed, has its parent's page, and connects by itself. */
static bool is_exec_worker(pid_t pid, uint64_t owners_page)
{
	struct proc_page page;

	return !proc_page(pid, &page) && !page.supervisor && page.ino != owners_page;
}

/* One that has none of our connections says so; one that does not answer in time keeps what it has. */
static void ask_exec_worker(struct generation *from, pid_t pid, const struct protocol_request *request, int64_t until)
{
	cleanup_client struct client client = CLIENT_NONE;
	cleanup_answer struct answer answer = ANSWER_NONE;
	char reason[REASON_SIZE];
	struct text why = TEXT_ON(reason);
	enum outcome outcome = client_open(&client, pid, false, &why);

	if (outcome) /* it has ended */
		return;
	outcome = client_ring(&client, request, &why);
	if (!outcome)
		outcome = client_hear(&client, until, &answer, &why);
	if (outcome == OUTCOME_ABSENT) /* it has ended meanwhile, with what it had */
		return;
	if (outcome) {
		supervisor_say("the idle connections of PID %d are not carried: %s", (int)pid, reason);
		from->passing.mute = true;
	} else if (answer_is(answer.text, "ok")) {
		from->passing.expected++;
		add_line(from, steal_fd(&client.line), pid);
	}
}

/*
 * Asked when the others have said what they have: by then nothing is on its way to these any more. Asked sooner, one
 * would say that it has nothing, and a moment later get a connection, which then ended with it.
 */
static void ask_exec_workers(struct supervisor *s, struct generation *from)
{
	static struct protocol_request request;
	int64_t until = io_now() + EXEC_WORKERS_MS * MS;
	struct proc_page owners;

	from->passing.all_asked = true;
	if (proc_page(from->owner, &owners))
		return;
	request = (struct protocol_request){.verb = PROTOCOL_PASS};
	request.drain.key_count = (uint32_t)holdings_keys(&s->holdings, request.drain.keys, PROTOCOL_KEYS_MAX);
	generation_note_members(from);
	for (size_t i = 0; request.drain.key_count && i < from->member_count; i++)
		if (is_exec_worker(from->members[i].pid, owners.ino))
			ask_exec_worker(from, from->members[i].pid, &request, until);
}

/*
 * Processes that have ended, before they came or before they said what is left, are not waited for: they have nothing
 * any more. `look`: find out which these are.
 */
static bool is_known(struct generation *from, bool look)
{
	struct passing *p = &from->passing;
	bool mute = false;

	if (look && !p->swept && p->count < p->expected) {
		size_t to_come = generation_without_line(from);

		if (p->count + to_come < p->expected)
			p->expected = p->count + to_come;
	}
	for (size_t i = 0; i < p->count; i++) {
		if (p->lines[i].fd >= 0 && !p->lines[i].known)
			return false;
		mute |= generation_is_mute(&p->lines[i]);
	}
	return p->swept || (!mute && p->count >= p->expected);
}

/* Something is known anew of how many are left. */
static void count(struct supervisor *s, struct generation *from, bool look)
{
	struct passing *p = &from->passing;
	bool known = is_known(from, look);

	if (known && !p->all_asked) {
		ask_exec_workers(s, from);
		known = is_known(from, false);
	}
	if (known && p->swept)
		passing_settled(s, from);
	else if (known)
		swept(s, from);
	else if (!p->swept && !p->look_at)
		p->look_at = io_now() + LOOK_MS * MS;
}

void passing_tick(struct supervisor *s, struct generation *from, int64_t now)
{
	if (from->passing.sweep_by && now >= from->passing.sweep_by && !from->passing.swept)
		swept(s, from); /* one of its processes hangs */
	if (from->passing.look_at && now >= from->passing.look_at) {
		from->passing.look_at = 0;
		count(s, from, true);
	}
	if (from->helpers_at && now >= from->helpers_at) {
		from->helpers_at = 0;
		passing_settled(s, from);
	}
	if (!from->passing.graceful_at || now < from->passing.graceful_at)
		return;
	from->passing.graceful_at = 0;
	if (from->phase != GENERATION_DRAINING || from->ended)
		return;
	generation_note_members(from);
	from->graceful = from->signalled = true;
	generation_signal(from, s->options.graceful_signal);
}

static void take_batch(struct supervisor *s, struct generation *from, struct line *line, struct batch *batch)
{
	if (from->passing.graceful_at)
		put_off(s, from);
	if (batch->head.kind == PROTOCOL_BATCH_LEFT) {
		line->left = batch->head.left;
		line->known = true;
	} else if (batch->head.kind != PROTOCOL_BATCH_CARRY || !is_sound(batch)) {
		batch_close(batch);
	} else if (s->store.leaving) {
		fdstore_carry(s, batch);
	} else if (s->handover.phase == HANDOVER_LEAVING) {
		turn_take(s, batch);
	} else {
		from->carried += batch->head.count;
		s->figures.carried += batch->head.count;
		s->pending = *batch;
		s->has_pending = true;
		passing_flush(s);
	}
}

void passing_take(struct supervisor *s, struct generation *from, int fd)
{
	struct line *line = NULL;
	struct batch batch;
	int r;

	for (size_t i = 0; i < from->passing.count; i++)
		if (from->passing.lines[i].fd == fd)
			line = &from->passing.lines[i];
	r = line ? batch_receive(fd, &batch) : -EAGAIN;
	if (r == -EAGAIN || r == -ENOMSG)
		return;
	if (r > 0) {
		take_batch(s, from, line, &batch);
	} else {
		if (!line->known) /* its process may be just ending */
			from->passing.look_at = io_now() + LOOK_MS * MS;
		io_close(&line->fd);
		line->fd = -1;
	}
	count(s, from, false);
}
