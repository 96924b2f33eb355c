/* SPDX-License-Identifier: MIT */
/* What exec cannot bring back: noted at the start, compared before leaving. */
#define _GNU_SOURCE
#include "process/identity.h"

#include "base/attr.h"
#include "base/io.h"
#include "base/pool.h"
#include "process/birth.h"

#include <stdint.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>

enum { STATUS_ROOM = 64 * 1024, LABEL_ROOM = 256 };

static const char *const namespaces[] = {"mnt", "net", "pid_for_children", "user",
					 "uts", "ipc", "cgroup",           "time_for_children"};

/* Capability sets, as /proc names them. */
enum { PERMITTED, INHERITABLE, EFFECTIVE, AMBIENT, BOUNDING, SETS };
static const char *const sets[SETS] = {"CapPrm", "CapInh", "CapEff", "CapAmb", "CapBnd"};

struct identity {
	uint32_t uid[3], gid[3]; /* real, effective, saved; exec takes that of the file system from the effective one */
	uint64_t groups;         /* a hash */
	uint64_t caps[SETS];
	uint64_t seccomp, filters;
	uint64_t label;          /* a hash */
	uint64_t root_dev, root_ino;
	uint64_t namespace_ino[countof(namespaces)];
};

static struct identity at_start;
static bool rights_known; /* of the start */
static _Atomic bool landlocked;

/* ---- reading ---- */

static const char *field(const char *status, const char *name)
{
	size_t n = strlen(name);

	for (const char *line = status; line; line = strchr(line, '\n')) {
		line += *line == '\n';
		if (!strncmp(line, name, n) && line[n] == ':')
			return line + n + 1;
	}
	return "";
}

static uint64_t identity_number_at(const char **at, unsigned base)
{
	uint64_t number = 0;

	*at += strspn(*at, " \t");
	for (;; ++*at) {
		unsigned digit = **at >= '0' && **at <= '9'   ? (unsigned)(**at - '0')
				 : **at >= 'a' && **at <= 'f' ? (unsigned)(**at - 'a') + 10
							      : 16;

		if (digit >= base)
			return number;
		number = number * base + digit;
	}
}

static uint64_t identity_number(const char *status, const char *name, unsigned base)
{
	const char *at = field(status, name);

	return identity_number_at(&at, base);
}

static void three_numbers(const char *status, const char *name, uint32_t into[3])
{
	const char *at = field(status, name);

	for (int i = 0; i < 3; i++)
		into[i] = (uint32_t)identity_number_at(&at, 10);
}

/* FNV-1a: these texts are compared, and never shown. */
static uint64_t hash_of(const char *bytes, size_t n)
{
	uint64_t hash = UINT64_C(14695981039346656037);

	for (size_t i = 0; i < n; i++)
		hash = (hash ^ (unsigned char)bytes[i]) * UINT64_C(1099511628211);
	return hash;
}

/* Without SELinux, AppArmor or Smack there is none, and the file cannot be read. `process` stands in /proc. */
static uint64_t read_label(const char *process)
{
	char label[LABEL_ROOM], path[64];
	struct text t = TEXT_ON(path);
	ssize_t n;

	text_format(&t, "/proc/%s/attr/current", process);
	n = io_read_file(path, label, sizeof(label));

	return n > 0 ? hash_of(label, (size_t)n) : 0;
}

static void read_status(struct identity *id, const char *status)
{
	const char *groups = field(status, "Groups");

	three_numbers(status, "Uid", id->uid);
	three_numbers(status, "Gid", id->gid);
	id->groups = hash_of(groups, strcspn(groups, "\n"));
	for (int i = 0; i < SETS; i++)
		id->caps[i] = identity_number(status, sets[i], 16);
	id->seccomp = identity_number(status, "Seccomp", 10);
	id->filters = identity_number(status, "Seccomp_filters", 10);
}

static void read_rest(struct identity *id)
{
	char path[64];
	struct stat st;

	id->label = read_label("thread-self");
	if (!stat("/", &st)) {
		id->root_dev = st.st_dev;
		id->root_ino = st.st_ino;
	}
	for (size_t i = 0; i < countof(namespaces); i++) {
		struct text t = TEXT_ON(path);

		text_format(&t, "/proc/thread-self/ns/%s", namespaces[i]);
		if (!stat(path, &st))
			id->namespace_ino[i] = st.st_ino;
	}
}

/* The text about a process. NULL: /proc cannot be read. Free it with forget. */
static char *status_of(const char *process)
{
	char *status = pool_map(STATUS_ROOM); /* a handler's stack may be small */
	char path[64];
	struct text t = TEXT_ON(path);

	text_format(&t, "/proc/%s/status", process);
	if (!status || io_read_file(path, status, STATUS_ROOM) > 0)
		return status;
	pool_unmap(status, STATUS_ROOM);
	return NULL;
}

/* About the calling thread: execve keeps its rights, not those of the others. */
static char *status_now(void)
{
	return status_of("thread-self");
}

static void identity_forget(char *status)
{
	if (status)
		pool_unmap(status, STATUS_ROOM);
}

int identity_seccomp_filters(void)
{
	char *status = status_now();
	int filters = status ? (int)identity_number(status, "Seccomp_filters", 10) : 0;

	identity_forget(status);
	return filters;
}

static void take_rights(struct identity *id, const struct rights *then)
{
	memcpy(id->uid, then->uid, sizeof(id->uid));
	memcpy(id->gid, then->gid, sizeof(id->gid));
	id->caps[PERMITTED] = then->caps[0].permitted | (uint64_t)then->caps[1].permitted << 32;
	id->caps[INHERITABLE] = then->caps[0].inheritable | (uint64_t)then->caps[1].inheritable << 32;
	id->caps[EFFECTIVE] = then->caps[0].effective | (uint64_t)then->caps[1].effective << 32;
	if (!then->root_ino)
		return; /* it could not be read, but a moment later perhaps */
	id->root_dev = then->root_dev;
	id->root_ino = then->root_ino;
}

void identity_begin(const struct rights *then)
{
	char *status = status_now();

	at_start = (struct identity){0};
	rights_known = status != NULL;
	if (status)
		read_status(&at_start, status);
	read_rest(&at_start);
	take_rights(&at_start, then);
	identity_forget(status);
}

uint32_t identity_user_at_start(void)
{
	return at_start.uid[1];
}

void identity_landlocked(void)
{
	if (birth_own_memory()) /* a vfork child has its parent's, and is not the one that restarts */
		atomic_store(&landlocked, true);
}

/* ---- comparing ---- */

/* Of the bounding set only what the start had matters: root's next image gets no more than is left in it. */
static bool lost_capabilities(const struct identity *now, const struct identity *then)
{
	for (int i = 0; i < BOUNDING; i++)
		if (now->caps[i] != then->caps[i])
			return true;
	return then->caps[PERMITTED] & ~now->caps[BOUNDING];
}

static void say_user(const struct identity *now, const struct identity *then, struct text *why)
{
	text_format(why,
		    "it runs as user %u, group %u now, and was started as user %u, group %u: the next generation would "
		    "lack those rights. Start it as "
		    "that user, or use handover mode",
		    now->uid[1], now->gid[1], then->uid[1], then->gid[1]);
}

/*
 * no_new_privs is not looked at. It only keeps rights from being gained by a program's file, and such a file takes no
 * preload in any case. haproxy sets it by default, and its next generation does the same.
 */
static const char *changed_rights(const struct identity *now, const struct identity *then)
{
	if (now->groups != then->groups)
		return "it has changed its supplementary groups since its start: the next generation would lack those "
		       "of then. Use handover mode";
	if (lost_capabilities(now, then))
		return "it has dropped capabilities since its start: the next generation would lack them. Use handover "
		       "mode";
	if (now->label != then->label)
		return "it has another security label than at its start, which the next generation would begin with. "
		       "Use handover mode";
	return NULL;
}

static const char *changed_sandbox(const struct identity *now, const struct identity *then)
{
	if (now->filters != then->filters || now->seccomp != then->seccomp)
		return "it has put a seccomp filter on since its start: the next generation would start under it. Use "
		       "handover mode";
	if (atomic_load(&landlocked))
		return "it has entered a Landlock domain since its start: the next generation would start in it. Use "
		       "handover mode";
	return NULL;
}

static void identity_compare(const struct identity *now, const struct identity *then, struct text *why)
{
	const char *changed;

	if (memcmp(now->uid, then->uid, sizeof(now->uid)) || memcmp(now->gid, then->gid, sizeof(now->gid))) {
		say_user(now, then, why);
		return;
	}
	changed = changed_sandbox(now, then);
	if (!changed)
		changed = changed_rights(now, then);
	if (changed)
		text_add(why, changed);
	for (size_t i = 0; i < countof(namespaces) && !why->used; i++)
		if (now->namespace_ino[i] && then->namespace_ino[i] && now->namespace_ino[i] != then->namespace_ino[i])
			text_format(why, "it has entered another %s namespace since its start. Use handover mode",
				    namespaces[i]);
}

bool identity_unchanged(struct text *why)
{
	static struct identity now; /* too large for a small signal stack; one restart at a time is under way */
	char *status = status_now();

	now = (struct identity){0};
	if (status)
		read_status(&now, status);
	read_rest(&now);
	identity_forget(status);
	if (now.root_dev != at_start.root_dev ||
	    now.root_ino != at_start.root_ino) /* first: there may be no /proc in there */
		text_add(why, "it has changed its root directory (chroot) since its start: the next generation would "
			      "be in there. Use handover mode");
	else if (!rights_known)
		text_add(why, "/proc/self/status could not be read at its start: what rights it had is not known. Use "
			      "handover mode");
	else if (!status)
		text_add(why,
			 "/proc/self/status cannot be read: whether it still has the rights of its start is not known");
	else
		identity_compare(&now, &at_start, why);
	return !why->used;
}

/* ---- which user may choose the program ---- */

static uint64_t inode_of(const char *process, const char *name)
{
	char path[64];
	struct text t = TEXT_ON(path);
	struct stat st;

	text_format(&t, "/proc/%s%s", process, name);
	return stat(path, &st) ? 0 : st.st_ino;
}

/*
 * The process that listened may have exec'ed since, for example a program with file capabilities. Then its rights
 * differ from those of the caller, and the kernel gives its directory in /proc to root.
 */
static bool is_still_of(const char *process, uint32_t uid)
{
	char path[64];
	struct text t = TEXT_ON(path);
	struct stat st;

	text_format(&t, "/proc/%s", process);
	return !stat(path, &st) && st.st_uid == uid;
}

/* Capabilities count in their user namespace: in one of its own, any process has them all. */
static bool has_rights_of_this(const char *process, uint32_t uid)
{
	uint64_t here = inode_of("self", "/ns/user"), there = inode_of(process, "/ns/user");
	char *theirs = status_of(process), *own = status_now();
	uint32_t uids[3] = {0};
	bool has = theirs && own && here && here == there && read_label(process) == read_label("thread-self");

	if (has) {
		three_numbers(theirs, "Uid", uids);
		has = !(identity_number(own, "CapPrm", 16) & ~identity_number(theirs, "CapEff", 16)) &&
		      uids[0] == uid && uids[1] == uid && uids[2] == uid;
	}
	identity_forget(theirs);
	identity_forget(own);
	return has && is_still_of(process, uid); /* last: it held for all that was read */
}

bool identity_may_choose_program(int sock, struct text *why)
{
	char process[16];
	struct text t = TEXT_ON(process);
	struct ucred peer = {0};
	socklen_t len = sizeof(peer);

	if (getsockopt(sock, SOL_SOCKET, SO_PEERCRED, &peer, &len) || peer.pid <= 0) {
		text_add(why, "it is not known which process asks, and so whether it may name another program");
		return false;
	}
	text_format(&t, "%d", peer.pid);
	if (!peer.uid || has_rights_of_this(process, peer.uid))
		return true;
	text_format(
		why,
		"process %d of user %u has not all rights of this one, and may not name another program: ask as root",
		peer.pid, peer.uid);
	return false;
}
