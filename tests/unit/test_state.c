/* SPDX-License-Identifier: MIT */
/* state: what is written is read back whole, from nothing up to a million records. */
#include "model/state.h"

#include "../support/entries.h"
#include "../support/files.h"
#include "../support/state_bytes.h"
#include "../support/state_sample.h"

#include <errno.h>
#include <limits.h>
#include <sys/mman.h>

static struct state read_back(int fd)
{
	struct state back = {0};
	char reason[256];
	struct text why = TEXT_ON(reason);

	cr_assert_geq(fd, 0);
	cr_assert_eq(state_read(fd, false, &back, &why), 0, "%s", reason);
	cr_assert_str_empty(reason);
	close(fd);
	return back;
}

static void same_entry(const struct entry *a, const struct entry *b)
{
	cr_assert_str_eq(a->name, b->name);
	cr_assert(a->id == b->id && a->fd == b->fd && a->kind == b->kind, "%s/%d", a->name, a->id);
	cr_assert_eq(a->flags, b->flags, "%s/%d: flags %x and %x", a->name, a->id, a->flags, b->flags);
	cr_assert(a->backlog == b->backlog && a->queue == b->queue && a->access == b->access, "%s/%d", a->name, a->id);
	cr_assert(object_same(&a->object, &b->object), "%s/%d", a->name, a->id);
	cr_assert(a->path_dev == b->path_dev && a->path_ino == b->path_ino, "%s/%d", a->name, a->id);
}

static void same_strings(char *const *a, char *const *b)
{
	for (; *a && *b; a++, b++)
		cr_assert_str_eq(*a, *b);
	cr_assert(!*a && !*b);
}

Test(state, reads_back_everything_that_it_wrote)
{
	struct state s = sample_state(), back = read_back(state_write(&s, true));
	const struct entry *b = table_first(back.table);

	cr_assert(back.generation == s.generation && back.cut == s.cut && back.nonce == s.nonce);
	cr_assert(back.carried == s.carried && back.closed == s.closed);
	cr_assert(back.asked_at == s.asked_at && back.left_at == s.left_at && back.drained_at == s.drained_at &&
		  back.first_at == s.first_at);
	cr_assert_eq(table_count(back.table), table_count(s.table));
	for (const struct entry *a = table_first(s.table); a; a = table_after(a), b = table_after(b)) {
		cr_assert_eq(table_find(back.table, a->name, a->id), b);
		cr_assert_eq(table_by_fd(back.table, a->fd), b);
		same_entry(a, b);
	}
	cr_assert_eq(back.heirloom_count, s.heirloom_count);
	for (size_t i = 0; i < s.heirloom_count; i++)
		cr_assert(back.heirlooms[i].fd == s.heirlooms[i].fd && back.heirlooms[i].dev == s.heirlooms[i].dev &&
			  back.heirlooms[i].ino == s.heirlooms[i].ino);
	cr_assert_eq(back.worker_count, s.worker_count);
	for (size_t i = 0; i < s.worker_count; i++)
		cr_assert(back.workers[i].pid == s.workers[i].pid &&
			  back.workers[i].start_time == s.workers[i].start_time &&
			  back.workers[i].leave_by == s.workers[i].leave_by &&
			  back.workers[i].rests_since == s.workers[i].rests_since &&
			  back.workers[i].cpu == s.workers[i].cpu && back.workers[i].empty == s.workers[i].empty);
	cr_assert_eq(back.passed_count, s.passed_count);
	for (size_t i = 0; i < s.passed_count; i++)
		cr_assert(back.passed[i].fd == s.passed[i].fd && back.passed[i].listener == s.passed[i].listener &&
			  back.passed[i].ino == s.passed[i].ino);
	cr_assert(back.page == s.page && back.page_ino == s.page_ino);
	cr_assert(back.given.mask == s.given.mask && back.given.ignored == s.given.ignored &&
		  back.given.umask == s.given.umask);
	same_strings(s.given.argv, back.given.argv);
	same_strings(s.given.envp, back.given.envp);
	same_strings((char *[]){s.given.path, s.given.directory, s.given.script, NULL},
		     (char *[]){back.given.path, back.given.directory, back.given.script, NULL});
	cr_assert_eq(back.child_count, s.child_count);
	for (size_t i = 0; i < s.child_count; i++)
		cr_assert(back.children[i].pid == s.children[i].pid &&
			  back.children[i].start_time == s.children[i].start_time &&
			  back.children[i].shares == s.children[i].shares);
	state_free(&s);
	state_free(&back);
	cr_assert(!back.given.path);
	cr_assert(!back.table && !back.heirlooms && !back.workers && !back.passed && !back.children);
}

Test(state, leaves_out_what_is_not_kept)
{
	struct state s = sample_state(), back = read_back(state_write(&s, false));

	cr_assert_eq(table_count(back.table), table_count(s.table) - 1);
	cr_assert_null(table_find(back.table, "file:/var/log/a.log", -3));
}

Test(state, keeps_orphans_findable_by_name)
{
	struct state s = sample_state(), back = read_back(state_write(&s, true));

	cr_assert_eq(table_orphans(back.table), 1);
	cr_assert_not_null(table_orphan(back.table, "udp:0.0.0.0:53"));
	cr_assert_eq(table_orphan(back.table, "udp:0.0.0.0:53")->fd, 13);
}

Test(state, leaves_flags_of_the_moment_out)
{
	struct state s = {.generation = 1, .table = table_new()}, back;

	sample_add(&s, "a", 0, 5, ENTRY_STREAM, ENTRY_KEPT | (ENTRY_SAVED_FLAGS + 1));
	back = read_back(state_write(&s, false));
	cr_assert_eq(table_find(back.table, "a", 0)->flags, ENTRY_KEPT);
}

Test(state, tells_what_was_not_looked_at)
{
	struct state s = sample_state(), back;

	s.unseen = true;
	back = read_back(state_write(&s, false));
	cr_assert(back.unseen);
	s.unseen = false;
	back = read_back(state_write(&s, false));
	cr_assert_not(back.unseen);
}

Test(state, writes_the_same_bytes_for_the_same_table)
{
	struct state s = sample_state();
	struct bytes a = bytes_of_fd(state_write(&s, true)), b = bytes_of_fd(state_write(&s, true));

	cr_assert_eq(a.n, b.n);
	cr_assert_eq(memcmp(a.at, b.at, a.n), 0);
}

Test(state, of_an_empty_table_is_read_back)
{
	struct state s = {.generation = INT32_MAX, .table = table_new()}, back = read_back(state_write(&s, false));

	cr_assert(back.generation == INT32_MAX && table_count(back.table) == 0 && !back.heirloom_count &&
		  !back.worker_count);
	state_free(&back);
}

Test(state, holds_names_of_every_length)
{
	struct state s = {.generation = 1, .table = table_new()}, back;
	int fd = 0;

	for (size_t n = 1; n <= TAG_NAME_MAX; n += n < 40 || n > 4080 ? 1 : 111)
		sample_add(&s, long_name("", n), 0, fd++, ENTRY_API, ENTRY_KEPT);
	back = read_back(state_write(&s, false));
	for (int i = 0; i < fd; i++)
		same_entry(table_by_fd(s.table, i), table_by_fd(back.table, i));
}

Test(state, comes_sealed_and_close_on_exec_in_a_memfd)
{
	struct state s = sample_state();
	int fd = state_write(&s, false);
	char byte = 0, link[64], path[64];

	cr_assert_eq(fcntl(fd, F_GET_SEALS), F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL);
	cr_assert_eq(fcntl(fd, F_GETFD), FD_CLOEXEC);
	cr_assert_eq(pwrite(fd, &byte, 1, 0), -1);
	cr_assert_eq(ftruncate(fd, 0), -1);
	snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
	cr_assert_gt(readlink(path, link, sizeof(link)), 0);
	cr_assert_eq(strncmp(link, "/memfd:cpr.state", 16), 0);
}

/* A memfd of so many bytes, of which none was written. */
static int hollow(off_t size)
{
	int fd = memfd_create("hollow", MFD_ALLOW_SEALING);

	cr_assert_geq(fd, 0);
	cr_assert_eq(ftruncate(fd, size), 0);
	cr_assert_eq(fcntl(fd, F_ADD_SEALS, F_SEAL_WRITE | F_SEAL_GROW | F_SEAL_SHRINK | F_SEAL_SEAL), 0);
	return fd;
}

Test(state, of_a_hollow_terabyte_is_refused_by_its_size)
{
	static const off_t sizes[] = {(off_t)1 << 40, STATE_SIZE_MAX + (off_t)1, STATE_SIZE_MAX, 1 << 28};
	char reason[256];

	for (size_t i = 0; i < sizeof(sizes) / sizeof(*sizes); i++) {
		struct text why = TEXT_ON(reason);
		struct state back;
		double before = processor_seconds();
		int fd = hollow(sizes[i]);

		cr_assert_eq(state_read(fd, false, &back, &why), -EBADMSG);
		cr_assert(strstr(reason, sizes[i] > STATE_SIZE_MAX ? "more than a state can have" : "are a hole"), "%s",
			  reason);
		cr_assert_lt(processor_seconds() - before, 0.05);
		close(fd);
	}
}

Test(state, unsealed_is_refused_unless_asked_for)
{
	static const int seals[] = {F_SEAL_WRITE, F_SEAL_GROW, F_SEAL_SHRINK, F_SEAL_SEAL};
	struct state s = sample_state(), back = {.generation = 77};
	struct bytes b = bytes_of_fd(state_write(&s, true));
	char reason[256];

	for (int missing = 0; missing <= 4; missing++) {
		struct text why = TEXT_ON(reason);
		int fd = memfd_create("x", MFD_ALLOW_SEALING);

		cr_assert_eq(write(fd, b.at, b.n), (ssize_t)b.n);
		for (int i = 0; i < 4; i++)
			cr_assert(i == missing || seals[i] == F_SEAL_SEAL || !fcntl(fd, F_ADD_SEALS, seals[i]));
		cr_assert(missing == 3 || !fcntl(fd, F_ADD_SEALS, F_SEAL_SEAL));
		cr_assert_eq(state_read(fd, false, &back, &why), missing < 4 ? -EPERM : 0);
		if (missing < 4) {
			cr_assert_str_eq(reason, "it is not a sealed memfd");
			cr_assert(back.generation == 77 && !back.table);
		}
	}
}

Test(state, in_a_plain_file_is_read_only_when_asked_for)
{
	struct state s = sample_state(), back = {0};
	struct bytes b = bytes_of_fd(state_write(&s, true));
	char dir[4096], reason[256];
	struct text why = TEXT_ON(reason);
	int fd;

	scratch_enter(dir);
	fd = open("state", O_RDWR | O_CREAT, 0600);
	cr_assert_eq(write(fd, b.at, b.n), (ssize_t)b.n);
	cr_assert_eq(state_read(fd, false, &back, &why), -EPERM);
	cr_assert_eq(state_read(fd, true, &back, &why), 0);
	cr_assert_eq(table_count(back.table), table_count(s.table));
	scratch_leave(dir);
}

Test(state, is_not_read_from_what_is_no_file)
{
	struct state back = {.generation = 77};
	int ends[2], fds[6];

	cr_assert_eq(pipe(ends), 0);
	fds[0] = ends[0];
	fds[1] = open("/dev/null", O_RDONLY);
	fds[2] = open("/", O_RDONLY);
	fds[3] = socket(AF_UNIX, SOCK_STREAM, 0);
	fds[4] = memfd_create("empty", 0);
	fds[5] = 12345; /* closed */
	for (int i = 0; i < 6; i++) {
		char reason[256];
		struct text why = TEXT_ON(reason);

		cr_assert_eq(state_read(fds[i], false, &back, &why), -EPERM);
		why = TEXT_ON(reason);
		cr_assert_eq(state_read(fds[i], true, &back, &why), -EBADMSG);
		cr_assert_str_not_empty(reason);
	}
	cr_assert(back.generation == 77 && !back.table);
}

Test(state, leaves_no_descriptor_and_no_memory_behind)
{
	struct state s = sample_state();
	int before = open_descriptors();
	long kib = 0;

	for (int i = 0; i < 50; i++) {
		struct state back = read_back(state_write(&s, true));

		state_free(&back);
		if (i == 5)
			kib = mapped_kib();
	}
	cr_assert_eq(open_descriptors(), before);
	cr_assert_eq(mapped_kib(), kib);
}

Test(state, of_a_million_records_is_written_and_read_in_seconds)
{
	enum { MANY = 1000000 };
	struct state s = {.generation = 1, .table = table_new()}, back;
	double before = processor_seconds(), written, read;
	int fd;

	for (int i = 0; i < MANY; i++) {
		char name[40];

		snprintf(name, sizeof(name), "udp:10.0.%d.%d:%d", i >> 8 & 255, i & 255, i >> 16);
		sample_add(&s, name, 0, i, ENTRY_DATAGRAM, ENTRY_KEPT);
	}
	fprintf(stderr, "a million records: made in %.2f s", processor_seconds() - before);
	before = processor_seconds();
	fd = state_write(&s, false);
	written = processor_seconds() - before;
	back = read_back(fd);
	read = processor_seconds() - before - written;
	fprintf(stderr, ", written in %.2f s, read in %.2f s\n", written, read);
	cr_assert_eq(table_count(back.table), MANY);
	for (int i = 0; i < MANY; i += 997)
		same_entry(table_by_fd(s.table, i), table_by_fd(back.table, i));
	cr_assert_lt(written + read, 5.0);
	state_free(&back);
}
