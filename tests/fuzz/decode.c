/* SPDX-License-Identifier: MIT */
/*
 * Mutated states through state_decode, and what it takes through the table; or, as --write, into files for a real
 * program to start with.
 */
#include "model/state.h"

#include "../support/mutate.h"
#include "../support/state_sample.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <sys/socket.h>

#define CHECK(condition)                                                                                               \
	do {                                                                                                           \
		if (!(condition)) {                                                                                    \
			fprintf(stderr, "%s:%d: not so: %s\n", __FILE__, __LINE__, #condition);                        \
			abort();                                                                                       \
		}                                                                                                      \
	} while (0)

/* Undefined behaviour is a finding, not a remark. */
const char *__ubsan_default_options(void);
const char *__ubsan_default_options(void)
{
	return "halt_on_error=1:abort_on_error=1:print_stacktrace=1";
}

const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "abort_on_error=1";
}

/* ---- what the next generation does with a state that it believes ---- */

static void check_table(const struct table *t)
{
	size_t n = 0;

	for (const struct entry *e = table_first(t); e; e = table_after(e), n++) {
		CHECK(e->name[0] && strlen(e->name) <= TAG_NAME_MAX);
		CHECK(e->kind < ENTRY_KINDS && !(e->flags & ~(unsigned)ENTRY_SAVED_FLAGS));
		CHECK(e->fd >= 0 && e->fds == 1 && table_find(t, e->name, e->id) == e);
		CHECK(table_by_fd(t, e->fd) == e ||
		      (e->kind == ENTRY_API && table_by_fd(t, e->fd)->kind == ENTRY_API)); /* it has several tags */
	}
	CHECK(n == table_count(t));
}

static void check_round_trip(const struct state *s)
{
	char reason[256];
	struct text why = TEXT_ON(reason);
	struct state back;
	int fd = state_write(s, true);

	CHECK(fd >= 0);
	CHECK(state_read(fd, false, &back, &why) == 0);
	CHECK(table_count(back.table) == table_count(s->table) && table_orphans(back.table) == table_orphans(s->table));
	CHECK(back.heirloom_count == s->heirloom_count && back.worker_count == s->worker_count &&
	      back.passed_count == s->passed_count && back.child_count == s->child_count);
	CHECK(back.generation == s->generation && back.nonce == s->nonce);
	close(fd);
	state_free(&back);
}

/* Everything an orphan, some of them claimed, new ones beside them, some closed. */
static void live_with(struct table *t)
{
	struct entry *e, *after, *made;
	size_t n = table_count(t);
	int step = 0;

	for (e = table_first(t); e; e = table_after(e))
		table_make_orphan(t, e);
	CHECK(table_orphans(t) == n);
	for (e = table_first(t); e && n--; e = after, step++) {
		after = table_after(e);
		while (after && after->fd == e->fd) /* it goes with this one */
			after = table_after(after);
		CHECK(table_orphan(t, e->name) || !(e->flags & ENTRY_ORPHAN));
		for (int fd = 20000; fd < 20002; fd++)
			if (!table_tracks(t, fd) && !table_add_next(t, e->name, fd, &made)) {
				CHECK(table_find(t, e->name, made->id) == made);
				CHECK(table_forget_fd(t, fd));
			}
		if (step % 3 == 0)
			table_adopt(t, e);
		else if (step % 3 == 1)
			CHECK(table_forget_fd(t, e->fd));
		else if (!table_tracks(t, 30000 + step))
			CHECK(table_move(t, e, 30000 + step) == 0);
	}
}

/* Whether it was taken. */
static bool try_bytes(struct bytes b)
{
	struct state s = {.generation = 77};
	char reason[256];
	struct text why = TEXT_ON(reason);
	int r = state_decode(b.at, b.n, &s, &why);

	if (r) {
		CHECK(r == -EBADMSG && reason[0]);
		CHECK(s.generation == 77 && !s.table && !s.heirlooms && !s.workers);
		return false;
	}
	CHECK(!reason[0] && s.table && s.generation);
	check_table(s.table);
	check_round_trip(&s);
	live_with(s.table);
	state_free(&s);
	return true;
}

#ifdef CPR_LIBFUZZER

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct bytes b = bytes_copy((struct bytes){(char *)data, size});

	bytes_finish(b);
	try_bytes(b);
	free(b.at);
	return 0;
}

#else

/* ---- where mutants come from ---- */

static struct bytes corpus[64];
static size_t corpus_count;

static void corpus_add(struct bytes b)
{
	CHECK(corpus_count < sizeof(corpus) / sizeof(corpus[0]));
	corpus[corpus_count++] = b;
}

static struct bytes sample(bool whole)
{
	struct state s = sample_state();
	struct bytes b = bytes_of_fd(state_write(&s, whole));

	state_free(&s);
	return b;
}

static struct bytes empty(void)
{
	struct state s = {.generation = 1, .table = table_new()};
	struct bytes b = bytes_of_fd(state_write(&s, true));

	state_free(&s);
	return b;
}

static struct bytes many(void)
{
	struct state s = {.generation = 2, .table = table_new()};
	struct bytes b;

	for (int fd = 0; fd < 100; fd++)
		sample_add(&s, fd % 2 ? "udp:127.0.0.1:0" : "tcp:0.0.0.0:80", fd / 2, 3 + fd, ENTRY_STREAM, ENTRY_KEPT);
	b = bytes_of_fd(state_write(&s, true));
	state_free(&s);
	return b;
}

static int is_state(const struct dirent *entry)
{
	return !strncmp(entry->d_name, "good-", 5) || !strncmp(entry->d_name, "bad-", 4);
}

/* Every good-* of the directory is taken, every bad-* is refused: also those that an older version wrote. */
static int read_corpus(const char *path)
{
	struct dirent **entries;
	/* in order, so that an index names the same mutant everywhere */
	int n = scandir(path, &entries, is_state, alphasort), wrong = 0;

	if (n <= 0) {
		fprintf(stderr, "%s: no states there\n", path);
		return 1;
	}
	for (int i = 0; i < n; i++) {
		char file[4096];
		struct bytes b;
		bool good = entries[i]->d_name[0] == 'g';

		snprintf(file, sizeof(file), "%s/%s", path, entries[i]->d_name);
		b = bytes_of_fd(open(file, O_RDONLY | O_CLOEXEC));
		if (try_bytes(b) != good) {
			fprintf(stderr, "%s was %s\n", file, good ? "refused" : "taken");
			wrong++;
		}
		corpus_add(b);
		free(entries[i]);
	}
	free(entries);
	return wrong;
}

static void make_corpus(void)
{
	corpus_add(empty());
	corpus_add(sample(true));
	corpus_add(sample(false));
	corpus_add(many());
}

/* The same for the same seed and index, whatever came before. */
static struct bytes mutant(uint64_t seed, uint64_t index)
{
	struct random r = {seed ^ index << 20};
	size_t of = random_below(&r, corpus_count), with = random_below(&r, corpus_count);

	return mutant_of(&r, corpus[of], corpus[with]);
}

/* ---- in this process ---- */

static uint64_t current_seed, current_index;

static void say_which(int sig)
{
	fprintf(stderr, "\ndecode: %s at --seed %llu --only %llu\n", strsignal(sig), (unsigned long long)current_seed,
		(unsigned long long)current_index);
	signal(sig, SIG_DFL);
	raise(sig);
}

static int run(uint64_t seed, uint64_t from, uint64_t to)
{
	uint64_t taken = 0;

	signal(SIGABRT, say_which);
	signal(SIGALRM, say_which);
	current_seed = seed;
	for (uint64_t i = from; i < to; i++) {
		struct bytes b = mutant(seed, i);

		current_index = i;
		if (i % 256 == 0 || i == from)
			alarm(20); /* for 256 of them: something hangs */
		taken += try_bytes(b);
		free(b.at);
	}
	printf("%llu mutations with seed %llu: %llu taken, %llu refused\n", (unsigned long long)(to - from),
	       (unsigned long long)seed, (unsigned long long)taken, (unsigned long long)(to - from - taken));
	if (to - from >= 1000 && (taken < (to - from) / 50 || taken > (to - from) / 2)) {
		fprintf(stderr, "decode: so few or so many were taken that this proves little\n");
		return 1;
	}
	return 0;
}

/* ---- into files ---- */

/* Frees the bytes. */
static int write_file(const char *dir, const char *name, struct bytes b)
{
	char path[4096];
	FILE *file;
	int failed;

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	file = fopen(path, "we");
	failed = !file || fwrite(b.at, 1, b.n, file) != b.n || fclose(file);
	if (failed)
		fprintf(stderr, "%s: %s\n", path, strerror(errno));
	free(b.at);
	return failed;
}

static const char *name_of(int fd, const struct object *object, char name[TAG_NAME_MAX + 1])
{
	struct sockaddr_storage addr;
	socklen_t len = sizeof(addr);
	char path[TAG_NAME_MAX - 8], link[32];
	ssize_t n;

	if (object->domain >= 0 && !getsockname(fd, (struct sockaddr *)&addr, &len) &&
	    !tag_socket(object, (struct sockaddr *)&addr, len, name))
		return name;
	snprintf(link, sizeof(link), "/proc/self/fd/%d", fd);
	n = readlink(link, path, sizeof(path) - 1);
	path[n > 0 ? n : 0] = '\0';
	snprintf(name, TAG_NAME_MAX + 1, "%s%s", tag_prefix(object) ? tag_prefix(object) : "other:", path);
	return name;
}

static enum entry_kind kind_of(const struct object *object)
{
	if (object->domain >= 0)
		return object->type == SOCK_DGRAM ? ENTRY_DATAGRAM : ENTRY_STREAM;
	return S_ISFIFO(object->mode) ? ENTRY_FIFO : S_ISCHR(object->mode) ? ENTRY_DEVICE : ENTRY_FILE;
}

/* A state that names the descriptors from 3 on that this process was given: some of its mutants will be believed. */
static struct bytes of_inherited(unsigned flags)
{
	struct state s = {.generation = 3, .table = table_new()};
	char name[TAG_NAME_MAX + 1];
	struct object object;
	struct entry *e;
	struct bytes b;

	for (int fd = 3; fd < 1000; fd++) {
		if (object_of(fd, &object) || fcntl(fd, F_GETFD) & FD_CLOEXEC ||
		    table_add_next(s.table, name_of(fd, &object, name), fd, &e))
			continue;
		e->kind = kind_of(&object);
		e->object = object;
		e->flags = flags | (e->kind == ENTRY_STREAM ? ENTRY_LISTENING : 0);
		e->access = e->kind == ENTRY_FILE || e->kind == ENTRY_FIFO ? fcntl(fd, F_GETFL) & O_ACCMODE : 0;
	}
	b = bytes_of_fd(state_write(&s, true));
	state_free(&s);
	return b;
}

/* Workers are sent a signal: those of a mutant must be of a time when no process started. */
static void defuse(struct bytes b)
{
	size_t at = b.n < HEADER_SIZE ? 0 : bytes_record(b, TYPE_WORKER, 0);

	for (; at && at + PAIR_SIZE <= b.n; at = bytes_record_after(b, TYPE_WORKER, at))
		b.at[at + AT_FIRST + 7] |= 0x40;
}

static int write_mutants(const char *dir, uint64_t count, uint64_t seed)
{
	int failed = 0;

	corpus_count = 0;
	corpus_add(of_inherited(ENTRY_KEPT));
	corpus_add(of_inherited(ENTRY_KEPT | ENTRY_CLOEXEC));
	corpus_add(of_inherited(ENTRY_KEPT | ENTRY_INHERITED));
	corpus_add(sample(true));
	for (uint64_t i = 0; i < count && !failed; i++) {
		struct bytes b = i < 3 ? bytes_copy(corpus[i]) : mutant(seed, i);
		char name[40], *hash = b.at + AT_HASH;
		uint64_t was = b.n >= HEADER_SIZE ? get64(hash) : 0;
		bool sound;

		bytes_rehash(b);
		sound = b.n >= HEADER_SIZE && get64(hash) == was;
		defuse(b);
		if (b.n >= HEADER_SIZE) {
			bytes_rehash(b);
			if (!sound)
				b.at[AT_HASH]++;
		}
		snprintf(name, sizeof(name), "%llu.state", (unsigned long long)i);
		failed = write_file(dir, name, b);
	}
	return failed;
}

static struct bytes with_record(unsigned type, unsigned flags)
{
	struct bytes b = sample(true);

	bytes_stretch(&b, HEADER_SIZE, 64);
	put16(b.at + HEADER_SIZE + AT_TYPE, (uint16_t)type);
	put16(b.at + HEADER_SIZE + AT_FLAGS, (uint16_t)flags);
	put32(b.at + HEADER_SIZE + AT_LENGTH, 64);
	bytes_finish(b);
	return b;
}

/* The files of corpus/: run once for a version of the format, and kept from then on. */
static int write_samples(const char *dir)
{
	struct bytes longer = sample(true), newer = sample(true), twice = sample(true), cut = sample(true);
	size_t first = bytes_record(twice, TYPE_DESCRIPTOR, 0),
	       second = bytes_record_after(twice, TYPE_DESCRIPTOR, first);

	bytes_stretch(&longer, HEADER_SIZE, 16);
	put32(longer.at + AT_HEADER_SIZE, HEADER_SIZE + 16);
	bytes_finish(longer);
	put32(newer.at + AT_VERSION, STATE_VERSION + 1);
	bytes_finish(newer);
	put32(twice.at + second + AT_ID, get32(twice.at + first + AT_ID));
	bytes_finish(twice);
	cut.n -= 40;
	bytes_finish(cut);
	return write_file(dir, "good-v1-empty.state", empty()) | write_file(dir, "good-v1-sample.state", sample(true)) |
	       write_file(dir, "good-v1-longer-header.state", longer) |
	       write_file(dir, "good-v1-unknown-optional.state", with_record(999, 0)) |
	       write_file(dir, "bad-v1-unknown-required.state", with_record(999, 1)) |
	       write_file(dir, "bad-newer-version.state", newer) | write_file(dir, "bad-v1-tag-twice.state", twice) |
	       write_file(dir, "bad-v1-cut.state", cut);
}

static int usage(void)
{
	fprintf(stderr, "usage: decode --run COUNT SEED CORPUS   mutations through the decoder\n"
			"       decode --only INDEX SEED CORPUS  one of them again\n"
			"       decode --write COUNT SEED DIR    mutants of the descriptors at hand, a file each\n"
			"       decode --samples 0 0 DIR         the files of the corpus\n");
	return 2;
}

int main(int argc, char **argv)
{
	uint64_t number, seed;

	if (argc != 5)
		return usage();
	number = strtoull(argv[2], NULL, 10);
	seed = strtoull(argv[3], NULL, 10);
	if (!strcmp(argv[1], "--write"))
		return write_mutants(argv[4], number, seed);
	if (!strcmp(argv[1], "--samples"))
		return write_samples(argv[4]);
	if (strcmp(argv[1], "--run") && strcmp(argv[1], "--only"))
		return usage();
	make_corpus();
	if (read_corpus(argv[4]))
		return 1;
	return argv[1][2] == 'r' ? run(seed, 0, number) : run(seed, number, number + 1);
}

#endif
