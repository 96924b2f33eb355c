/* SPDX-License-Identifier: MIT */
/*
 * The load: one thread, one epoll set, open loop. A request is due when the plan says so, and its latency counts from
 * then. So a server that stops for a while cannot slow down its clients' requests.
 */
#define _GNU_SOURCE
#include "load.h"

#include "bench.h"
#include "base/io.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

enum { ANSWER_MAX = 1023, EVENTS = 64, TRY_MS = 5000 };

#define MS INT64_C(1000000)
#define SECOND (1000 * MS)
/* What was refused or cut is tried again: as soon as a program does that means it, and not at full speed. */
#define RETRY_AFTER (2 * MS)

enum state { UNUSED, RESTING, CONNECTING, ASKING, RETRYING };

struct client {
	enum state state;
	bool kept;
	enum load_outcome outcome; /* of the request at hand */
	int fd;
	int64_t due;  /* of the request at hand; of the next one while it rests */
	int64_t wake; /* when something is to be done if nothing comes */
	size_t received;
	char answer[ANSWER_MAX + 1];
};

struct load {
	struct load_plan plan;
	pthread_t thread;
	_Atomic int64_t stop_at; /* what is due from then on is no longer asked; INT64_MAX at first */
	bool joined;
	int error; /* negative errno: the thread gave up */
	int epoll;
	struct client *clients; /* the keep-alive ones, then slots for those of one request */
	size_t count, used;     /* `used`: slots past this one were never in use */
	int64_t next_new;
	struct load_record *records;
	size_t record_count, room;
};

/* ---- protocols ---- */

/* The value of a header field that stands in the head, or NULL. */
static const char *field(const char *head, const char *end, const char *name)
{
	const char *found = strcasestr(head, name);

	return found && found < end ? found + strlen(name) : NULL;
}

static enum load_verdict judge_http(const char *answer, size_t n)
{
	const char *end = strstr(answer, "\r\n\r\n"), *length, *connection;

	if (!end)
		return n < ANSWER_MAX ? LOAD_PENDING : LOAD_WRONG;
	length = field(answer, end, "\r\nContent-Length:");
	if (strncmp(answer, "HTTP/1.1 200", 12) || !length || strtoul(length, NULL, 10) != strlen(LOAD_BODY))
		return LOAD_WRONG;
	if (n < (size_t)(end + 4 - answer) + strlen(LOAD_BODY))
		return LOAD_PENDING;
	if (strcmp(end + 4, LOAD_BODY))
		return LOAD_WRONG;
	connection = field(answer, end, "\r\nConnection:");
	return connection && !strncasecmp(connection + strspn(connection, " "), "close", 5) ? LOAD_LAST : LOAD_GOOD;
}

static enum load_verdict judge_redis(const char *answer, size_t n)
{
	static const char pong[] = "+PONG\r\n";

	if (n > strlen(pong) || strncmp(answer, pong, n))
		return LOAD_WRONG;
	return n == strlen(pong) ? LOAD_GOOD : LOAD_PENDING;
}

const struct load_protocol load_http = {"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", judge_http};
const struct load_protocol load_redis = {"*1\r\n$4\r\nPING\r\n", judge_redis};

/* ---- what is written down ---- */

static void record(struct load *load, int64_t due, int64_t latency, enum load_outcome outcome, bool kept)
{
	if (load->record_count == load->room) {
		size_t room = load->room ? 2 * load->room : 1 << 15;
		struct load_record *grown = reallocarray(load->records, room, sizeof(*grown));

		if (!grown) {
			load->error = -ENOMEM;
			return;
		}
		load->records = grown;
		load->room = room;
	}
	load->records[load->record_count++] = (struct load_record){due, latency, outcome, kept};
}

/* ---- one client ---- */

static void hang_up(struct client *c)
{
	io_close(&c->fd);
	c->fd = -1;
}

static int64_t stop_at(const struct load *load)
{
	return atomic_load_explicit(&load->stop_at, memory_order_relaxed);
}

static int64_t kept_period(const struct load *load)
{
	return SECOND * load->plan.kept / load->plan.kept_rate;
}

/* The request is over. */
static void rest(struct load *load, struct client *c)
{
	if (!c->kept) {
		hang_up(c);
		c->state = UNUSED;
		return;
	}
	c->state = RESTING;
	c->outcome = LOAD_ANSWERED;
	c->due += kept_period(load);
	c->wake = c->due;
}

static void give_up(struct load *load, struct client *c, int64_t now)
{
	record(load, c->due, now - c->due, c->outcome == LOAD_ANSWERED ? LOAD_STALLED : c->outcome, c->kept);
	hang_up(c);
	rest(load, c);
}

/* The attempt failed: what the client says of its request is how it failed first. */
static void fail(struct client *c, enum load_outcome outcome, int64_t now)
{
	if (c->outcome == LOAD_ANSWERED)
		c->outcome = outcome;
	hang_up(c);
	c->state = RETRYING;
	c->wake = now + RETRY_AFTER;
}

/* Between two requests. */
static void closed(struct load *load, struct client *c, int64_t now)
{
	record(load, now, 0, LOAD_CLOSED, true);
	hang_up(c);
}

static void ask(struct load *load, struct client *c, int64_t now)
{
	const char *question = load->plan.protocol->question;
	size_t n = strlen(question);

	c->received = 0;
	c->state = ASKING;
	c->wake = c->due + LOAD_PATIENCE_NS;
	if (send(c->fd, question, n, MSG_NOSIGNAL) != (ssize_t)n) /* it fits an empty buffer */
		fail(c, LOAD_CUT, now);
}

static void connect_anew(struct load *load, struct client *c, int64_t now)
{
	struct sockaddr_in to = {.sin_family = AF_INET,
				 .sin_port = htons((uint16_t)load->plan.port),
				 .sin_addr = {htonl(INADDR_LOOPBACK)}};
	struct epoll_event event = {.events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET};
	const int one = 1;

	c->fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (c->fd < 0) {
		load->error = -errno;
		return;
	}
	setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect(c->fd, (struct sockaddr *)&to, sizeof(to)) && errno != EINPROGRESS) {
		fail(c, LOAD_REFUSED, now);
		return;
	}
	c->state = CONNECTING;
	c->wake = c->due + LOAD_PATIENCE_NS;
	event.data.u64 = (uint64_t)(c - load->clients) << 32 | (uint32_t)c->fd;
	if (epoll_ctl(load->epoll, EPOLL_CTL_ADD, c->fd, &event))
		load->error = -errno;
}

/* As a connection pool looks before it uses one. */
static bool has_ended(const struct client *c)
{
	char byte;
	ssize_t n = recv(c->fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);

	return !n || (n < 0 && errno != EAGAIN);
}

/* What time brings. */
static void tick(struct load *load, struct client *c, int64_t now)
{
	if (c->state == RESTING) {
		if (c->due >= stop_at(load)) {
			hang_up(c);
			c->state = UNUSED;
			return;
		}
		if (c->fd >= 0 && has_ended(c))
			closed(load, c, now);
		if (c->fd >= 0)
			ask(load, c, now);
		else
			connect_anew(load, c, now);
	} else if (now - c->due >= LOAD_PATIENCE_NS) {
		give_up(load, c, now);
	} else if (c->state == RETRYING) {
		connect_anew(load, c, now);
	}
}

static void receive(struct load *load, struct client *c, int64_t now)
{
	ssize_t n = recv(c->fd, c->answer + c->received, ANSWER_MAX - c->received, 0);
	enum load_verdict verdict;

	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		fail(c, LOAD_CUT, now);
		return;
	}
	c->received += (size_t)n;
	c->answer[c->received] = 0;
	verdict = load->plan.protocol->judge(c->answer, c->received);
	if (verdict == LOAD_PENDING)
		return;
	if (verdict == LOAD_WRONG) {
		fail(c, LOAD_GARBLED, now);
		return;
	}
	record(load, c->due, now - c->due, c->outcome, c->kept);
	if (c->kept && verdict == LOAD_LAST)
		closed(load, c, now);
	rest(load, c);
}

/* What the socket brings. */
static void ready(struct load *load, struct client *c, int64_t now)
{
	int error = 0;
	socklen_t n = sizeof(error);

	if (c->state == CONNECTING) {
		getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &error, &n);
		if (error)
			fail(c, LOAD_REFUSED, now);
		else
			ask(load, c, now);
	} else if (c->state == ASKING) {
		receive(load, c, now);
	} else if (c->state == RESTING && has_ended(c)) {
		closed(load, c, now);
	}
}

/* ---- all of them ---- */

static struct client *free_slot(struct load *load)
{
	for (size_t i = load->plan.kept; i < load->count; i++)
		if (load->clients[i].state == UNUSED) {
			load->used = i >= load->used ? i + 1 : load->used;
			return &load->clients[i];
		}
	return NULL; /* there is one for each that can be due before the oldest gives up */
}

static void begin_new(struct load *load, int64_t now)
{
	while (load->plan.new_rate && load->next_new <= now && load->next_new < stop_at(load)) {
		struct client *c = free_slot(load);

		if (!c)
			return;
		*c = (struct client){.fd = -1, .due = load->next_new, .outcome = LOAD_ANSWERED};
		load->next_new += SECOND / load->plan.new_rate;
		connect_anew(load, c, now);
	}
}

/* When something is due next. */
static int64_t tick_all(struct load *load, bool *idle)
{
	int64_t now = bench_now(), next = now + SECOND / 10;

	begin_new(load, now);
	if (load->plan.new_rate && load->next_new < next && load->next_new < stop_at(load))
		next = load->next_new;
	*idle = true;
	for (size_t i = 0; i < load->used; i++) {
		struct client *c = &load->clients[i];

		if (c->state != UNUSED && (c->wake <= now || (c->state == RESTING && c->due >= stop_at(load))))
			tick(load, c, now);
		if (c->state == UNUSED)
			continue;
		*idle = false;
		next = c->wake < next ? c->wake : next;
	}
	return next;
}

static void wait_until(struct load *load, int64_t until)
{
	int64_t left = until - bench_now();
	struct timespec timeout = {.tv_nsec = 0};
	struct epoll_event events[EVENTS];
	int n;

	if (left > 0)
		timeout = (struct timespec){left / SECOND, left % SECOND};
	n = epoll_pwait2(load->epoll, events, EVENTS, &timeout, NULL);
	if (n < 0 && errno != EINTR)
		load->error = -errno;
	for (int i = 0; i < n; i++) {
		struct client *c = &load->clients[events[i].data.u64 >> 32];

		if (c->state != UNUSED && (uint32_t)c->fd == (uint32_t)events[i].data.u64)
			ready(load, c, bench_now());
	}
}

static void *run(void *arg)
{
	struct load *load = arg;
	bool idle = false;

	prctl(PR_SET_TIMERSLACK, 1UL);
	if (load->plan.cpu >= 0) {
		cpu_set_t set;

		CPU_ZERO(&set);
		CPU_SET((size_t)load->plan.cpu, &set);
		sched_setaffinity(0, sizeof(set), &set);
	}
	while (!load->error) {
		int64_t next = tick_all(load, &idle);

		if (idle && bench_now() >= stop_at(load))
			break;
		wait_until(load, next);
	}
	return NULL;
}

int load_start(const struct load_plan *plan, struct load **out)
{
	struct load *load = calloc(1, sizeof(*load));
	int64_t now = bench_now();
	int r = -ENOMEM;

	if (!load)
		return r;
	load->plan = *plan;
	load->epoll = -1;
	load->stop_at = INT64_MAX;
	load->count = plan->kept + plan->new_rate * (size_t)(LOAD_PATIENCE_NS / SECOND + 1);
	load->used = plan->kept;
	load->next_new = now;
	load->clients = calloc(load->count, sizeof(*load->clients));
	if (!load->clients)
		goto failed;
	for (size_t i = 0; i < load->count; i++) {
		struct client *c = &load->clients[i];

		c->fd = -1;
		c->kept = i < plan->kept;
		c->state = c->kept ? RESTING : UNUSED;
		if (c->kept)
			c->due = c->wake = now + kept_period(load) * (int64_t)i / plan->kept;
	}
	load->epoll = epoll_create1(EPOLL_CLOEXEC);
	r = load->epoll < 0 ? -errno : -pthread_create(&load->thread, NULL, run, load);
	if (!r) {
		*out = load;
		return 0;
	}
failed:
	load->joined = true; /* there is no thread */
	load_free(&load);
	return r;
}

int load_stop(struct load *load, const struct load_record **records, size_t *count)
{
	if (!load->joined) {
		load->stop_at = bench_now();
		pthread_join(load->thread, NULL);
		load->joined = true;
	}
	if (load->error)
		return load->error;
	*records = load->records;
	*count = load->record_count;
	return 0;
}

void load_free(struct load **out)
{
	struct load *load = *out;
	const struct load_record *records;
	size_t count;

	if (!load)
		return;
	load_stop(load, &records, &count);
	for (size_t i = 0; load->clients && i < load->count; i++)
		hang_up(&load->clients[i]);
	io_close(&load->epoll);
	free(load->clients);
	free(load->records);
	free(load);
	*out = NULL;
}

bool load_try(const struct load_protocol *protocol, int port)
{
	struct sockaddr_in to = {
		.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr = {htonl(INADDR_LOOPBACK)}};
	const struct timeval patience = {.tv_sec = TRY_MS / 1000};
	cleanup_fd int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	char answer[ANSWER_MAX + 1];
	size_t received = 0;

	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience)) ||
	    connect(fd, (struct sockaddr *)&to, sizeof(to)) ||
	    send(fd, protocol->question, strlen(protocol->question), MSG_NOSIGNAL) < 0)
		return false;
	while (received < ANSWER_MAX) {
		ssize_t n = recv(fd, answer + received, ANSWER_MAX - received, 0);
		enum load_verdict verdict;

		if (n <= 0)
			return false;
		received += (size_t)n;
		answer[received] = 0;
		verdict = protocol->judge(answer, received);
		if (verdict != LOAD_PENDING)
			return verdict != LOAD_WRONG;
	}
	return false;
}
