/* SPDX-License-Identifier: MIT */
/* Each process knows its own connections only: they are asked one by one. */
#define _GNU_SOURCE
#include "connections.h"

#include "base/attr.h"
#include "own.h"
#include "proc.h"

enum { TIMEOUT_MS = 1000 };

const char *const connections_key[CONNECTIONS_KINDS] = {"connections", "connections_fresh", "connections_idle",
							"connections_busy"};

static bool add(const char *answer, int64_t n[CONNECTIONS_KINDS])
{
	int64_t more[CONNECTIONS_KINDS];

	for (size_t i = 0; i < CONNECTIONS_KINDS; i++)
		if (protocol_get_int(answer, connections_key[i], &more[i]))
			return false;
	for (size_t i = 0; i < CONNECTIONS_KINDS; i++)
		n[i] += more[i];
	return true;
}

static void add_worker(pid_t pid, pid_t owner, int64_t n[CONNECTIONS_KINDS])
{
	cleanup_answer struct answer answer = ANSWER_NONE;
	char reason[PROTOCOL_ANSWER_MAX];
	struct text why = TEXT_ON(reason);
	struct proc_page page;
	int64_t its_owner;

	if (proc_page(pid, &page) || client_ask(pid, PROTOCOL_STATUS, TIMEOUT_MS, false, &answer, &why))
		return;
	if (!protocol_get_int(answer.text, "owner", &its_owner) && its_owner == owner)
		add(answer.text, n);
}

bool connections_count(pid_t pid, const char *answer, int64_t n[CONNECTIONS_KINDS])
{
	cleanup_free pid_t *pids = NULL;
	int64_t workers;
	size_t count;

	for (size_t i = 0; i < CONNECTIONS_KINDS; i++)
		n[i] = 0;
	if (!add(answer, n))
		return false;
	if (protocol_get_int(answer, "workers", &workers) || !workers)
		return true;
	pids = proc_pids(&count);
	for (size_t i = 0; i < count; i++)
		if (pids[i] != pid)
			add_worker(pids[i], pid, n);
	return true;
}
