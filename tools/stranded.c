/* SPDX-License-Identifier: MIT */
/* Stranded: processes that the next generation has exec'ed with a door, and which know nothing of a gate. */
#define _GNU_SOURCE
#include "supervisor_inside.h"

#include "base/fds.h"
#include "client.h"
#include "proc.h"
#include "remote.h"

#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { PATIENCE_MS = 2000 };

/* A line of the answer to DOORS: the inodes, and the number of the listener in the owner. */
struct behind {
	uint64_t door, listener;
	int number;
};

/* The next such line; NULL: there is none. */
static const char *next_behind(const char *at, struct behind *b)
{
	unsigned long long door, listener;

	while ((at = strstr(at, "behind="))) {
		if (sscanf(at, "behind=%llu %llu %d", &door, &listener, &b->number) == 3) {
			b->door = door;
			b->listener = listener;
			return at + 1;
		}
		at++;
	}
	return NULL;
}

/* A helper that only inherits the listener (a logger behind a pipe) accepts nothing; a worker is the same program. */
static bool is_same_program(pid_t one, pid_t other)
{
	char path[64];
	struct stat a, b;

	snprintf(path, sizeof(path), "/proc/%d/exe", (int)one);
	if (stat(path, &a))
		return false;
	snprintf(path, sizeof(path), "/proc/%d/exe", (int)other);
	return !stat(path, &b) && a.st_dev == b.st_dev && a.st_ino == b.st_ino;
}

/* The listener as its owner has it: what this process is given is its own parent's. */
static int listener_of(pid_t owner, const struct behind *b)
{
	cleanup_fd int pidfd = (int)syscall(SYS_pidfd_open, owner, 0);
	cleanup_fd int fd = pidfd < 0 ? -1 : remote_descriptor(pidfd, b->number);
	struct object object;
	int listens = 0;
	socklen_t len = sizeof(listens);

	if (fd < 0 || object_of(fd, &object) || object.ino != b->listener ||
	    getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &len) || !listens)
		return -1;
	return steal_fd(&fd);
}

static enum outcome tell(pid_t pid, pid_t owner, const struct behind *b, struct text *why)
{
	const struct protocol_request request = {.verb = PROTOCOL_BEHIND, .join.ino = b->door};
	cleanup_client struct client client = CLIENT_NONE;
	cleanup_answer struct answer answer = ANSWER_NONE;
	cleanup_fd int fd = listener_of(owner, b);
	enum outcome outcome;

	if (fd < 0) {
		text_add(why, "the supervisor could not get it");
		return OUTCOME_FAILED;
	}
	outcome = client_open(&client, pid, true, why);
	client.passed = fd;
	if (!outcome)
		outcome = client_ring(&client, &request, why);
	if (!outcome)
		outcome = client_hear(&client, io_now() + PATIENCE_MS * MS, &answer, why);
	if (outcome || answer_is(answer.text, "ok"))
		return outcome;
	answer_reason(answer.text, why);
	return OUTCOME_FAILED;
}

static bool has_door(pid_t pid, const char *doors)
{
	struct behind b;

	for (const char *at = doors; (at = next_behind(at, &b));)
		if (remote_has_socket(pid, b.door) == 1)
			return true;
	return false;
}

/* Every door that it has, and was not told of: how many, or -1 and `why`. */
static int tell_all(pid_t pid, pid_t owner, const char *doors, struct text *why)
{
	struct behind b;
	int told = 0;

	for (const char *at = doors; (at = next_behind(at, &b));) {
		if (remote_has_socket(pid, b.door) != 1 || remote_has_socket(pid, b.listener) == 1)
			continue;
		if (tell(pid, owner, &b, why))
			return -1;
		told++;
	}
	return told;
}

static void call_off(struct supervisor *s, pid_t pid, const char *because)
{
	char text[2 * REASON_SIZE];
	struct text why = TEXT_ON(text);

	text_format(&why, "PID %d, which the next generation has started, %s: use exec mode for this server", (int)pid,
		    because);
	handover_fail(s, text);
}

/* How a process of the next generation stands to its gate. */
enum stranding { KNOWS_IT, WAS_TOLD, CANNOT_BE_TOLD, IS_ONE_OF_OURS };

/*
 * Workers of the owner's own program are refused. Of the connections carried to several of them, some waited without
 * end (4 of 7,000 requests of uvicorn --workers, from the third restart on). What another program has exec'ed gets the
 * request.
 *
 * A forked worker shares its owner's page, and opens its own gate. An exec'ed one has inherited the door at the
 * listener's number (uvicorn --workers, start_server): the request brings it the listener behind that.
 */
static enum stranding tell_member(struct generation *g, pid_t pid, uint64_t owners_page, const char *doors,
				  struct text *why)
{
	struct proc_page page;
	int told;

	if (pid == g->owner || (!proc_page(pid, &page) && page.ino == owners_page))
		return KNOWS_IT;
	if (is_same_program(pid, g->owner) && has_door(pid, doors))
		return IS_ONE_OF_OURS;
	told = tell_all(pid, g->owner, doors, why);
	if (told > 0) {
		generation_add_apart(g, pid);
		return WAS_TOLD;
	}
	/* one that has ended, or is not under cpr, is none of ours */
	return told < 0 && !proc_page(pid, &page) ? CANNOT_BE_TOLD : KNOWS_IT;
}

/* Some may be starting still, or are started anew each second. */
static void look_again(struct supervisor *s, pid_t silent, const char *reason)
{
	char because[REASON_SIZE + 64];
	struct text t = TEXT_ON(because);

	if (!s->handover.until || io_now() < s->handover.until) {
		settle_on(s);
	} else if (silent) { /* where it alone accepts, none would */
		text_format(&t, "cannot be told of its listener (%s)", reason);
		call_off(s, silent, because);
	} else {
		handover_fail(s, "the next generation goes on to start processes: --ready-timeout is over");
	}
}

/*
 * Returns false in three cases. One is refused, and the handover was called off. Or some just got their request, and
 * the supervisor waits for them. Or one does not answer, and is asked again for as long as a start may take: it may be
 * stopped, or still start.
 */
bool stranded_tell(struct supervisor *s)
{
	struct generation *g = s->handover.next;
	cleanup_client struct client client = CLIENT_NONE;
	cleanup_answer struct answer answer = ANSWER_NONE;
	char reason[REASON_SIZE] = "";
	struct text why = TEXT_ON(reason);
	struct proc_page owners;
	bool told = false;
	pid_t silent = 0;

	if (s->recipe.filtered || proc_page(g->owner, &owners) ||
	    client_call(&client, g->owner, PROTOCOL_DOORS, io_now() + PATIENCE_MS * MS, &answer, &why))
		return true;
	generation_note_members(g);
	for (size_t i = 0; i < g->member_count && !silent; i++) {
		pid_t pid = g->members[i].pid;

		why = TEXT_ON(reason);
		switch (tell_member(g, pid, owners.ino, answer.text, &why)) {
		case KNOWS_IT:
			break;
		case WAS_TOLD:
			told = true;
			break;
		case CANNOT_BE_TOLD:
			silent = pid;
			break;
		case IS_ONE_OF_OURS:
			call_off(s, pid, "is another program, and no gate can be opened for it");
			return false;
		}
	}
	if (told || silent)
		look_again(s, silent, reason);
	return !told && !silent;
}

static bool holds_one_of(pid_t pid, const struct holdings *holdings)
{
	for (const struct entry *e = table_first(holdings->table); e; e = table_after(e))
		if (e->kind == ENTRY_STREAM && e->flags & ENTRY_LISTENING && remote_has_socket(pid, e->object.ino) == 1)
			return true;
	return false;
}

/* Those that have one of our listeners by now, however they came by it. */
void stranded_note(const struct supervisor *s, struct generation *g)
{
	struct proc_page owners, page;

	if (s->recipe.filtered || proc_page(g->owner, &owners))
		return;
	generation_note_members(g);
	for (size_t i = 0; i < g->member_count; i++) {
		pid_t pid = g->members[i].pid;

		if (pid != g->owner && !proc_page(pid, &page) && !page.supervisor && page.ino != owners.ino &&
		    holds_one_of(pid, &s->holdings))
			generation_add_apart(g, pid);
	}
}
