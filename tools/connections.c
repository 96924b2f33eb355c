/* SPDX-License-Identifier: MIT */
/* Each process knows its own connections only: they are asked one by one. */
#define _GNU_SOURCE
#include "connections.h"

#include "base/attr.h"
#include "base/io.h"
#include "own.h"
#include "proc.h"

#include <string.h>

enum { TIMEOUT_MS = 1000 };

const char *const connections_key[CONNECTIONS_KINDS] = {"connections", "connections_fresh", "connections_idle",
							"connections_busy"};

static const char *const fate_key[FATES] = {"carried", "closed", "cut"};

/* What is counted, and how it is asked for. */
struct question {
	const char *const *keys;
	size_t kinds;
	struct protocol_request request;
};

enum { KINDS_MAX = 8 };
_Static_assert((int)CONNECTIONS_KINDS <= KINDS_MAX && (int)FATES <= KINDS_MAX, "there is room for each");

static bool add(const char *answer, const struct question *q, int64_t *n)
{
	int64_t more[KINDS_MAX];

	for (size_t i = 0; i < q->kinds; i++)
		if (protocol_get_int(answer, q->keys[i], &more[i]))
			return false;
	for (size_t i = 0; i < q->kinds; i++)
		n[i] += more[i];
	return true;
}

/* It has the owner's page. What other servers have is not asked for, nor one that is stopped: it does not answer. */
static bool is_worker_that_answers(pid_t pid, uint64_t owners_page)
{
	struct proc_page page;

	return !proc_page(pid, &page) && page.ino == owners_page && !proc_is_stopped(pid);
}

static void add_worker(pid_t pid, pid_t owner, const struct question *q, int64_t *n)
{
	cleanup_client struct client client = CLIENT_NONE;
	cleanup_answer struct answer answer = ANSWER_NONE;
	char reason[PROTOCOL_ANSWER_MAX];
	struct text why = TEXT_ON(reason);
	int64_t its_owner;

	if (client_open(&client, pid, false, &why) ||
	    client_ring(&client, &q->request, &why) ||
	    client_hear(&client, io_now() + TIMEOUT_MS * INT64_C(1000000), &answer, &why))
		return;
	if (!protocol_get_int(answer.text, "owner", &its_owner) && its_owner == owner)
		add(answer.text, q, n);
}

static bool count(pid_t pid, const char *answer, const struct question *q, int64_t *n)
{
	cleanup_free pid_t *pids = NULL;
	struct proc_page page;
	int64_t workers;
	size_t all;

	memset(n, 0, q->kinds * sizeof(*n));
	if (!add(answer, q, n))
		return false;
	if (protocol_get_int(answer, "workers", &workers) || !workers || proc_page(pid, &page))
		return true;
	pids = proc_pids(&all);
	for (size_t i = 0; i < all; i++)
		if (pids[i] != pid && is_worker_that_answers(pids[i], page.ino))
			add_worker(pids[i], pid, q, n);
	return true;
}

bool connections_count(pid_t pid, const char *answer, int64_t n[CONNECTIONS_KINDS])
{
	static const struct question q = {connections_key, CONNECTIONS_KINDS, {.verb = PROTOCOL_STATUS}};

	return count(pid, answer, &q, n);
}

bool connections_fates(pid_t pid, const char *answer, int64_t n[FATES])
{
	static const struct question q = {
		fate_key, FATES, {.verb = PROTOCOL_FORESEE, .flags = PROTOCOL_BY_SUPERVISOR}};

	return count(pid, answer, &q, n);
}
