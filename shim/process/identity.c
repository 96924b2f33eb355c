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
#include <sys/stat.h>

enum { STATUS_ROOM = 64 * 1024, LABEL_ROOM = 256 };

static const char *const namespaces[] = {"mnt", "net", "pid_for_children", "user", "uts", "ipc", "cgroup", "time_for_children"};

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

static uint64_t number_at(const char **at, unsigned base)
{
	uint64_t number = 0;

	*at += strspn(*at, " \t");
	for (;; ++*at) {
		unsigned digit = **at >= '0' && **at <= '9' ? (unsigned)(**at - '0') : **at >= 'a' && **at <= 'f' ? (unsigned)(**at - 'a') + 10 : 16;

		if (digit >= base)
			return number;
		number = number * base + digit;
	}
}

static uint64_t number(const char *status, const char *name, unsigned base)
{
	const char *at = field(status, name);

	return number_at(&at, base);
}

static void three_numbers(const char *status, const char *name, uint32_t into[3])
{
	const char *at = field(status, name);

	for (int i = 0; i < 3; i++)
		into[i] = (uint32_t)number_at(&at, 10);
}

/* FNV-1a: these texts are compared, and never shown. */
static uint64_t hash_of(const char *bytes, size_t n)
{
	uint64_t hash = UINT64_C(14695981039346656037);

	for (size_t i = 0; i < n; i++)
		hash = (hash ^ (unsigned char)bytes[i]) * UINT64_C(1099511628211);
	return hash;
}

/* Without SELinux, AppArmor or Smack there is none, and the file cannot be read. */
static uint64_t read_label(void)
{
	char label[LABEL_ROOM];
	ssize_t n = io_read_file("/proc/thread-self/attr/current", label, sizeof(label));

	return n > 0 ? hash_of(label, (size_t)n) : 0;
}

static void read_status(struct identity *id, const char *status)
{
	const char *groups = field(status, "Groups");

	three_numbers(status, "Uid", id->uid);
	three_numbers(status, "Gid", id->gid);
	id->groups = hash_of(groups, strcspn(groups, "\n"));
	for (int i = 0; i < SETS; i++)
		id->caps[i] = number(status, sets[i], 16);
	id->seccomp = number(status, "Seccomp", 10);
	id->filters = number(status, "Seccomp_filters", 10);
}

static void read_rest(struct identity *id)
{
	char path[64];
	struct stat st;

	id->label = read_label();
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

/* The text about the calling thread: execve keeps its rights, not those of the others. NULL: /proc cannot be read. Free it with forget. */
static char *status_now(void)
{
	char *status = pool_map(STATUS_ROOM); /* a handler's stack may be small */

	if (!status || io_read_file("/proc/thread-self/status", status, STATUS_ROOM) > 0)
		return status;
	pool_unmap(status, STATUS_ROOM);
	return NULL;
}

static void forget(char *status)
{
	if (status)
		pool_unmap(status, STATUS_ROOM);
}

int identity_seccomp_filters(void)
{
	char *status = status_now();
	int filters = status ? (int)number(status, "Seccomp_filters", 10) : 0;

	forget(status);
	return filters;
}

void identity_begin(const char *status)
{
	char *read = status ? NULL : status_now();

	at_start = (struct identity){0};
	if (status || read)
		read_status(&at_start, status ? status : read);
	read_rest(&at_start);
	forget(read);
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
	text_format(why, "it runs as user %u, group %u now, and was started as user %u, group %u: the next generation would lack those rights. Start it as "
			 "that user, or use handover mode", now->uid[1], now->gid[1], then->uid[1], then->gid[1]);
}

/*
 * no_new_privs is not looked at. It only keeps rights from being gained by a program's file, and such a file takes no preload in any case.
 * haproxy sets it by default, and its next generation does the same.
 */
static const char *changed_rights(const struct identity *now, const struct identity *then)
{
	if (now->groups != then->groups)
		return "it has changed its supplementary groups since its start: the next generation would lack those of then. Use handover mode";
	if (lost_capabilities(now, then))
		return "it has dropped capabilities since its start: the next generation would lack them. Use handover mode";
	if (now->label != then->label)
		return "it has another security label than at its start, which the next generation would begin with. Use handover mode";
	return NULL;
}

static const char *changed_sandbox(const struct identity *now, const struct identity *then)
{
	if (now->filters != then->filters || now->seccomp != then->seccomp)
		return "it has put a seccomp filter on since its start: the next generation would start under it. Use handover mode";
	if (atomic_load(&landlocked))
		return "it has entered a Landlock domain since its start: the next generation would start in it. Use handover mode";
	return NULL;
}

static void compare(const struct identity *now, const struct identity *then, struct text *why)
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
			text_format(why, "it has entered another %s namespace since its start. Use handover mode", namespaces[i]);
}

bool identity_unchanged(struct text *why)
{
	static struct identity now; /* too large for a small signal stack; one restart at a time is under way */
	char *status = status_now();

	now = (struct identity){0};
	if (status)
		read_status(&now, status);
	read_rest(&now);
	forget(status);
	if (now.root_dev != at_start.root_dev || now.root_ino != at_start.root_ino) /* first: there may be no /proc in there */
		text_add(why, "it has changed its root directory (chroot) since its start: the next generation would be in there. Use handover mode");
	else if (!status)
		text_add(why, "/proc/self/status cannot be read: whether it still has the rights of its start is not known");
	else
		compare(&now, &at_start, why);
	return !why->used;
}
