/* SPDX-License-Identifier: MIT */
/* lookup's child: three tables of the same descriptors, in one process that runs under the library. */
#define _GNU_SOURCE
#include "cpr.h"
#include "lookup.h"
#include "own.h"
#include "model/table.h"

#include <dlfcn.h>
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <glib.h>
#include <inttypes.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/queue.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { NAME_ROOM = 64, WORTH_TIMING = 400000 /* operations: fewer are repeated */, FITS_CACHE = 10000 };

/*
 * What is asked for: strings of its own, in the order in which they are asked for, as a caller would have
 * made them just before.
 */
struct key {
	const char *name;
	int id;
	int fd; /* that is expected; -1: none */
};

struct keys {
	struct key *keys;
	size_t count;
};

/* ---- names as programs have them ---- */

static void name_for(size_t i, char name[NAME_ROOM], int *id)
{
	unsigned n = (unsigned)(i / 6);

	*id = 0;
	switch (i % 6) {
	case 0:
		snprintf(name, NAME_ROOM, "tcp:10.%u.%u.%u:%u", 1 + (n >> 16), n >> 8 & 255, n & 255, 8080 + n % 10);
		break;
	case 1:
		snprintf(name, NAME_ROOM, "/objects/virtio-net-pci.%u/queue%u/vhost", n / 8, n % 8);
		break;
	case 2:
		snprintf(name, NAME_ROOM, "file:/var/log/app/customer-%06u/worker-%02u.access.log", n / 16, n % 16);
		break;
	case 3:
		snprintf(name, NAME_ROOM, "unix:/run/app/session-%u.sock", n);
		break;
	case 4:
		snprintf(name, NAME_ROOM, "udp:[2001:db8:%x:%x::%x]:5353", n >> 8 & 0xffff, n & 0xff, n % 17 + 1);
		break;
	default: /* one of eight that have the name in common */
		snprintf(name, NAME_ROOM, "vfio-0000:%02x:%02x.%u-interrupt", n >> 14 & 0xff, n >> 6 & 0xff,
			 n >> 3 & 7);
		*id = (int)(n % 8);
	}
}

/*
 * Keys number `from` to from + count - 1, in the order given; `fds` as number i has it, NULL: none of them is in a
 * table.
 */
static struct keys make_keys(size_t from, size_t count, const uint32_t *order, const int *fds)
{
	struct keys made = {calloc(count, sizeof(struct key)), count};
	char *room = malloc(count * NAME_ROOM);

	if (!made.keys || !room)
		err(1, NULL);
	for (size_t i = 0; i < count; i++) {
		struct key *key = &made.keys[i];

		name_for(from + order[i], room, &key->id);
		key->name = room;
		key->fd = fds ? fds[order[i]] : -1;
		if (strlen(room) < 15 || strlen(room) > 60)
			errx(1, "\"%s\" is not of 15 to 60 bytes", room);
		room += strlen(room) + 1;
	}
	return made;
}

/* ---- the three tables, each with the same four operations ---- */

struct element {
	char *name;
	int id;
	int fd;
	LIST_ENTRY(element) next;
};

static LIST_HEAD(, element) list = LIST_HEAD_INITIALIZER(list);

static struct element *new_element(const char *name, int id, int fd)
{
	struct element *e = g_new0(struct element, 1);

	e->name = g_strdup(name);
	e->id = id;
	e->fd = fd;
	return e;
}

static void free_element(void *element)
{
	g_free(((struct element *)element)->name);
	g_free(element);
}

static struct element *list_element(const char *name, int id)
{
	struct element *e;

	LIST_FOREACH(e, &list, next)
		if (!strcmp(e->name, name) && e->id == id)
			return e;
	return NULL;
}

static int list_find(const char *name, int id)
{
	const struct element *e = list_element(name, id);

	return e ? e->fd : -1;
}

static int list_save(const char *name, int id, int fd)
{
	struct element *e = new_element(name, id, fd);

	LIST_INSERT_HEAD(&list, e, next); /* evaluates its words more than once */
	return 0;
}

static int list_delete(const char *name, int id)
{
	struct element *e = list_element(name, id);

	if (!e)
		return -1;
	LIST_REMOVE(e, next);
	free_element(e);
	return 0;
}

static GHashTable *hash;

static guint element_hash(gconstpointer p)
{
	const struct element *e = p;

	return g_str_hash(e->name) ^ (guint)e->id;
}

static gboolean element_equal(gconstpointer a, gconstpointer b)
{
	const struct element *x = a, *y = b;

	return x->id == y->id && !strcmp(x->name, y->name);
}

static int hash_find(const char *name, int id)
{
	struct element key = {.name = (char *)name, .id = id};
	const struct element *e = g_hash_table_lookup(hash, &key);

	return e ? e->fd : -1;
}

static int hash_save(const char *name, int id, int fd)
{
	return g_hash_table_add(hash, new_element(name, id, fd)) ? 0 : -1;
}

static int hash_delete(const char *name, int id)
{
	struct element key = {.name = (char *)name, .id = id};

	return g_hash_table_remove(hash, &key) ? 0 : -1;
}

struct contender {
	int (*find)(const char *name, int id);
	int (*save)(const char *name, int id, int fd);
	int (*delete)(const char *name, int id);
	const struct keys *inserted, *missing; /* inserted: in another order, and other strings, than found */
	const struct keys *found;
	bool filled;
};

/* ---- the table without the API ---- */

/*
 * For more descriptors than can be open: the API asks the kernel for each. Finding asks nothing, and is the same in
 * both.
 */
static struct table *table;

static int table_way_find(const char *name, int id)
{
	size_t len = strnlen(name, TAG_NAME_MAX + 1);
	int fd = len && len <= TAG_NAME_MAX ? table_peek(table, name, len, id) : -EINVAL;

	return fd < 0 ? -1 : fd;
}

static int table_way_save(const char *name, int id, int fd)
{
	struct entry *e;
	int r = table_add(table, name, id, fd, &e);

	if (!r)
		e->kind = ENTRY_API;
	return r;
}

static int table_way_delete(const char *name, int id)
{
	struct entry *e = table_find(table, name, id);

	if (!e)
		return -ENOENT;
	table_remove(table, e);
	return 0;
}

/* ---- ways ---- */

/* Of this process only: with as many others as there are cores, a pass would else last until its next turn. */
static int64_t cpu_now(void)
{
	struct timespec now;

	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &now);
	return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static size_t pass(const struct contender *t, const struct keys *keys)
{
	size_t wrong = 0;

	for (size_t i = 0; i < keys->count; i++)
		wrong += t->find(keys->keys[i].name, keys->keys[i].id) != keys->keys[i].fd;
	return wrong;
}

/*
 * The other's turn has emptied the processor's caches: what fits into them is there again after one pass that is not
 * counted.
 */
static double passes(const struct contender *t, const struct keys *keys, size_t count)
{
	size_t wrong = keys->count <= FITS_CACHE ? pass(t, keys) : 0;
	int64_t begin = cpu_now();

	for (size_t done = 0; done < count; done += keys->count)
		wrong += pass(t, keys);
	return wrong ? -EIO : (double)(cpu_now() - begin);
}

static double insert_all(struct contender *t)
{
	int64_t begin = cpu_now();
	int r = 0;

	for (size_t i = 0; i < t->inserted->count; i++)
		r |= t->save(t->inserted->keys[i].name, t->inserted->keys[i].id, t->inserted->keys[i].fd);
	t->filled = true;
	return r ? -EIO : (double)(cpu_now() - begin);
}

static double delete_all(struct contender *t)
{
	int64_t begin = cpu_now();
	int r = 0;

	for (size_t i = 0; i < t->found->count; i++)
		r |= t->delete(t->found->keys[i].name, t->found->keys[i].id);
	t->filled = false;
	return r ? -EIO : (double)(cpu_now() - begin);
}

static double way_hit(void *contender, size_t count)
{
	return passes(contender, ((const struct contender *)contender)->found, count);
}

static double way_miss(void *contender, size_t count)
{
	return passes(contender, ((const struct contender *)contender)->missing, count);
}

static double way_insert(void *contender, size_t count)
{
	double r = ((struct contender *)contender)->filled ? delete_all(contender) : 0;

	(void)count;
	return r < 0 ? r : insert_all(contender);
}

static double way_delete(void *contender, size_t count)
{
	double r = ((struct contender *)contender)->filled ? 0 : insert_all(contender);

	(void)count;
	return r < 0 ? r : delete_all(contender);
}

/* ---- all of it ---- */

static int tell(const struct lookup_result *result)
{
	return fwrite(result, sizeof(*result), 1, stdout) == 1 && !fflush(stdout) ? 0 : -EIO;
}

static int compare(struct contender *ours, struct contender *theirs, enum lookup_rival rival, enum lookup_what what,
		   size_t rounds)
{
	static const bench_way ways[] = {[LOOKUP_HIT] = way_hit,
					 [LOOKUP_MISS] = way_miss,
					 [LOOKUP_INSERT] = way_insert,
					 [LOOKUP_DELETE] = way_delete};
	struct lookup_result result = {.rival = rival, .what = what};
	size_t count = ours->found->count, passes = what > LOOKUP_MISS    ? 1
						    : rival == RIVAL_LIST ? 3
									  : (WORTH_TIMING + count - 1) / count;
	int r = bench_pair(ways[what], ours, ways[what], theirs, rounds, passes * count, &result.ours, &result.theirs,
			   &result.ratio);

	return r ? r : tell(&result);
}

static double resident(void)
{
	cleanup_file FILE *file = fopen("/proc/self/statm", "re");
	unsigned long size, pages;

	if (!file || fscanf(file, "%lu %lu", &size, &pages) != 2)
		err(1, "/proc/self/statm");
	return (double)pages * (double)sysconf(_SC_PAGESIZE);
}

/* Fills all three, and tells what each took. */
static int fill(struct contender contenders[3])
{
	double bytes[3], r;

	for (int i = 0; i < 3; i++) {
		double before = resident();

		r = insert_all(&contenders[i]);
		if (r < 0)
			return (int)r;
		bytes[i] = (resident() - before) / (double)contenders[i].inserted->count;
	}
	for (int i = 1; i < 3; i++) {
		struct lookup_result result = {.rival = i == 1 ? RIVAL_GHASHTABLE : RIVAL_LIST, .what = LOOKUP_MEMORY};

		result.ours = figure_of(&(double){bytes[0]}, 1);
		result.theirs = figure_of(&(double){bytes[i]}, 1);
		result.ratio = figure_of(&(double){bytes[i] / bytes[0]}, 1);
		if (tell(&result))
			return -EIO;
	}
	return 0;
}

static int run(struct contender contenders[3], size_t size, bool quick)
{
	size_t finds = quick            ? 3
		       : size <= 7530   ? 31
		       : size <= 100000 ? 15
					: 9,
	       changes = quick            ? 1
			 : size <= 100000 ? 15
					  : 5;
	int r = fill(contenders);

	for (int what = LOOKUP_HIT; what <= LOOKUP_DELETE && !r; what++) {
		r = compare(&contenders[0], &contenders[1], RIVAL_GHASHTABLE, what,
			    what <= LOOKUP_MISS ? finds : changes);
		if (!r && size <= LOOKUP_LIST_MOST)
			r = compare(&contenders[0], &contenders[2], RIVAL_LIST, what, quick ? 1 : 9);
	}
	return r;
}

/* ---- descriptors ---- */

/* As many descriptors of one file: not duplicates of one that has a tag, which would have that tag too. */
static int *make_descriptors(size_t count, size_t open)
{
	int *fds = calloc(count, sizeof(*fds)), file = memfd_create("cpr-bench", MFD_CLOEXEC);

	if (file < 0 || !fds)
		err(1, NULL);
	for (size_t i = 0; i < count; i++) {
		fds[i] = i < open ? fcntl(file, F_DUPFD_CLOEXEC, 0) : fds[i - 1] + 1;
		if (fds[i] < 0)
			err(1, "descriptor %zu of %zu", i, open);
	}
	return fds;
}

static void *function(const char *name)
{
	void *found = dlsym(RTLD_DEFAULT, name);

	if (!found)
		errx(1, "%s: not there: this runs under libcpr.so only", name);
	return found;
}

/* lookup SIZE OPEN quick|full: OPEN of them can be open at a time */
int bench_lookup_child(int argc, char **argv)
{
	size_t size = argc == 4 ? strtoumax(argv[1], NULL, 10) : 0, open = argc == 4 ? strtoumax(argv[2], NULL, 10) : 0;
	uint32_t *order = calloc(size, sizeof(*order));
	struct keys inserted, found, missing;
	struct bench_random random;
	int *fds, r;

	if (!size || !open || !order)
		errx(2, "lookup SIZE OPEN quick|full");
	fds = make_descriptors(size, open);
	for (size_t i = 0; i < size; i++)
		order[i] = (uint32_t)i;
	bench_seed(&random, size);
	bench_shuffle(&random, order, size);
	inserted = make_keys(0, size, order, fds);
	bench_shuffle(&random, order, size);
	found = make_keys(0, size, order, fds);
	missing = make_keys(size, size, order, NULL);
	hash = g_hash_table_new_full(element_hash, element_equal, free_element, NULL);

	struct contender contenders[] = {
		{.find = function("cpr_find_fd"), .save = function("cpr_save_fd"), .delete = function("cpr_delete_fd")},
		{.find = hash_find, .save = hash_save, .delete = hash_delete},
		{.find = list_find, .save = list_save, .delete = list_delete},
	};
	if (open < size) {
		table = table_new();
		if (!table)
			err(1, NULL);
		contenders[0] =
			(struct contender){.find = table_way_find, .save = table_way_save, .delete = table_way_delete};
	}
	for (int i = 0; i < 3; i++) {
		contenders[i].inserted = &inserted;
		contenders[i].found = &found;
		contenders[i].missing = &missing;
	}
	r = run(contenders, size, !strcmp(argv[3], "quick"));
	if (r)
		warnx("lookup of %zu: %s", size, strerror(-r));
	return r ? 1 : 0;
}
