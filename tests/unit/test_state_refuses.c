/* SPDX-License-Identifier: MIT */
/* state_decode: every byte is checked before it is believed, and what is refused leaves nothing behind. */
#include "model/state.h"

#include "../support/files.h"
#include "../support/state_bytes.h"
#include "../support/state_sample.h"

#include <errno.h>
#include <sys/mman.h>

static struct bytes sound; /* the sample */
static char reason[256];

static void enter(void)
{
	struct state s = sample_state();

	sound = bytes_of_fd(state_write(&s, true));
	state_free(&s);
}

TestSuite(state_refuses, .init = enter);

static int decode(struct bytes b)
{
	struct state back = {.generation = 77};
	struct text why = TEXT_ON(reason);
	int r = state_decode(b.at, b.n, &back, &why);

	if (r) {
		cr_assert(back.generation == 77 && !back.table && !back.heirlooms && !back.workers,
			  "a refused state was touched");
		cr_assert_str_not_empty(reason);
	} else {
		cr_assert_str_empty(reason);
		state_free(&back);
	}
	return r;
}

static void is_refused(struct bytes b, const char *because)
{
	int r = decode(b);

	cr_assert_eq(r, -EBADMSG, "%d for what should be refused because: %s", r, because);
	cr_assert_not_null(strstr(reason, because), "\"%s\" does not say \"%s\"", reason, because);
	free(b.at);
}

/* The sample with one 32-bit number changed and the checksum made right. */
static struct bytes with(size_t at, uint32_t value)
{
	struct bytes b = bytes_copy(sound);

	put32(b.at + at, value);
	bytes_rehash(b);
	return b;
}

static size_t record(unsigned type)
{
	size_t at = bytes_record(sound, type, 0);

	cr_assert_neq(at, 0);
	return at;
}

/* The sample with a record before its first one. */
static struct bytes with_record(unsigned type, unsigned flags, uint32_t length)
{
	struct bytes b = bytes_copy(sound);

	bytes_stretch(&b, HEADER_SIZE, length);
	put16(b.at + HEADER_SIZE + AT_TYPE, (uint16_t)type);
	put16(b.at + HEADER_SIZE + AT_FLAGS, (uint16_t)flags);
	put32(b.at + HEADER_SIZE + AT_LENGTH, length);
	bytes_finish(b);
	return b;
}

Test(state_refuses, nothing_of_a_sound_one)
{
	struct bytes b = bytes_copy(sound);

	bytes_finish(b);
	cr_assert_eq(memcmp(b.at, sound.at, b.n), 0, "the checksum is xxh64 of all bytes with its own field as 0");
	cr_assert_eq(decode(b), 0, "%s", reason);
}

Test(state_refuses, a_change_of_any_single_bit)
{
	struct bytes b = bytes_copy(sound);

	for (size_t bit = 0; bit < b.n * 8; bit++) {
		b.at[bit / 8] ^= (char)(1 << bit % 8);
		cr_assert_eq(decode(b), -EBADMSG, "bit %zu of byte %zu", bit % 8, bit / 8);
		b.at[bit / 8] ^= (char)(1 << bit % 8);
	}
}

Test(state_refuses, every_length_but_the_whole)
{
	for (size_t n = 0; n < sound.n; n++) {
		struct bytes b = {sound.at, n};

		b = bytes_copy(b); /* exactly as long: a sanitizer sees what is read behind it */
		cr_assert_eq(decode(b), -EBADMSG, "%zu bytes", n);
		bytes_finish(b); /* total and checksum of the shorter one */
		cr_assert_eq(decode(b), -EBADMSG, "%zu bytes", n);
		free(b.at);
	}
}

Test(state_refuses, bytes_behind_the_end)
{
	struct bytes b = bytes_copy(sound);

	bytes_stretch(&b, b.n, 8);
	is_refused(bytes_copy(b), "it says");
	bytes_finish(b);
	is_refused(b, "runs past the end");
}

Test(state_refuses, what_is_no_state)
{
	is_refused(with(AT_MAGIC, 0x464c457f), "not a state");
	is_refused(bytes_copy((struct bytes){(char[4096]){0}, 4096}), "not a state");
	is_refused(bytes_copy((struct bytes){sound.at, 0}), "too few");
	is_refused(bytes_copy((struct bytes){sound.at, HEADER_SIZE - 1}), "too few");
}

Test(state_refuses, a_newer_version_and_says_what_to_do)
{
	is_refused(with(AT_VERSION, STATE_VERSION + 1), "start the program with the newer cpr");
	is_refused(with(AT_VERSION, UINT32_MAX), "it is of version 4294967295, and this library reads versions up to");
	is_refused(with(AT_VERSION, 0), "version 0");
}

Test(state_refuses, a_newer_version_before_it_looks_at_anything_else)
{
	struct bytes b = bytes_copy(sound);

	memset(b.at + AT_VERSION, 0x7f, b.n - AT_VERSION);
	is_refused(b, "newer cpr");
}

Test(state_refuses, a_header_size_that_cannot_be)
{
	static const uint32_t sizes[] = {
		0, 8, HEADER_SIZE - 8, HEADER_SIZE + 1, HEADER_SIZE + 4, INT32_MAX, UINT32_MAX - 7, UINT32_MAX};

	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		is_refused(with(AT_HEADER_SIZE, sizes[i]), "its header says");
}

Test(state_refuses, a_total_that_is_not_its_length)
{
	static const uint64_t wrong[] = {0, 1, HEADER_SIZE, UINT64_MAX, (uint64_t)1 << 32, 1ull << 63};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		struct bytes b = bytes_copy(sound);

		put64(b.at + AT_TOTAL, wrong[i]);
		bytes_rehash(b);
		is_refused(b, "it says");
	}
}

Test(state_refuses, a_wrong_checksum)
{
	struct bytes b = bytes_copy(sound);

	b.at[AT_HASH]++;
	is_refused(b, "checksum");
}

Test(state_refuses, generations_that_cannot_be)
{
	is_refused(with(AT_GENERATION, 0), "its generation is 0");
	is_refused(with(AT_GENERATION, (uint32_t)INT32_MAX + 1), "its generation is 2147483648");
	cr_assert_eq(decode(with(AT_GENERATION, INT32_MAX)), 0);
}

Test(state_refuses, counts_that_do_not_agree_with_the_records)
{
	static const size_t counts[] = {AT_DESCRIPTORS, AT_HEIRLOOMS, AT_WORKERS, AT_CONNECTIONS, AT_CHILDREN};

	for (size_t i = 0; i < 5; i++) {
		uint32_t count = get32(sound.at + counts[i]);

		is_refused(with(counts[i], 0), "it");
		is_refused(with(counts[i], count - 1), "it");
		is_refused(with(counts[i], count + 1), "it does not have as many records as it counts");
		is_refused(with(counts[i], STATE_RECORDS_MAX), "it");
		is_refused(with(counts[i], STATE_RECORDS_MAX + 1), "it counts more than");
		is_refused(with(counts[i], UINT32_MAX), "it counts more than");
	}
}

Test(state_refuses, lengths_of_records_that_cannot_be)
{
	static const uint32_t lengths[] = {0, 1, 7, 9, INT32_MAX, UINT32_MAX - 7, UINT32_MAX};

	static const unsigned types[] = {TYPE_DESCRIPTOR, TYPE_HEIRLOOM,   TYPE_WORKER,
					 TYPE_RESTART,    TYPE_CONNECTION, TYPE_CHILD};

	for (size_t t = 0; t < sizeof(types) / sizeof(types[0]); t++) {
		size_t at = record(types[t]) + AT_LENGTH;

		for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++)
			is_refused(with(at, lengths[i]), "runs past the end");
		is_refused(with(at, RECORD_HEAD), "is too short");
		is_refused(with(at, PAIR_SIZE - 8), "is too short");
		is_refused(with(at, get32(sound.at + at) + 8), "");
		is_refused(with(at, get32(sound.at + at) - 8), "");
	}
}

Test(state_refuses, a_name_that_does_not_fill_its_record)
{
	static const uint32_t lengths[] = {0, 1, TAG_NAME_MAX, TAG_NAME_MAX + 1, INT32_MAX, UINT32_MAX - 7, UINT32_MAX};
	size_t at = record(TYPE_DESCRIPTOR) + AT_NAME_LENGTH;

	for (size_t i = 0; i < sizeof(lengths) / sizeof(lengths[0]); i++)
		is_refused(with(at, lengths[i]), "does not fit its name");
}

Test(state_refuses, a_name_of_no_bytes_or_with_a_nul)
{
	size_t at = record(TYPE_DESCRIPTOR), padded = (sound.at + at)[AT_LENGTH];
	struct bytes b = bytes_copy(sound);

	b.at[at + AT_NAME + 3] = '\0';
	bytes_rehash(b);
	is_refused(b, "a name holds a NUL");
	b = bytes_copy(sound);
	bytes_stretch(&b, at + AT_NAME, -(long)(padded - AT_NAME));
	put32(b.at + at + AT_LENGTH, AT_NAME);
	put32(b.at + at + AT_NAME_LENGTH, 0);
	bytes_finish(b);
	is_refused(b, "is no tag");
}

/* The last record of a state that ends with its page, and nothing mapped behind it. */
Test(state_refuses, a_descriptor_that_is_too_short_without_looking_behind_it)
{
	long page = sysconf(_SC_PAGESIZE);
	char *pages = mmap(NULL, 2 * (size_t)page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	struct bytes b = {pages, (size_t)page};

	/* not unmapped: the decoder would map something there */
	cr_assert_eq(mprotect(pages + page, (size_t)page, PROT_NONE), 0);
	memcpy(b.at, sound.at, HEADER_SIZE);
	put16(b.at + HEADER_SIZE + AT_TYPE, 999); /* skipped: fills the page */
	for (uint32_t length = PAIR_SIZE; length < AT_NAME; length += 8) {
		size_t at = (size_t)page - length;

		memset(b.at + at, 0, length);
		put32(b.at + HEADER_SIZE + AT_LENGTH, (uint32_t)(at - HEADER_SIZE));
		put16(b.at + at + AT_TYPE, TYPE_DESCRIPTOR);
		put32(b.at + at + AT_LENGTH, length);
		bytes_finish(b);
		cr_assert_eq(decode(b), -EBADMSG, "%u bytes", length);
	}
}

Test(state_refuses, kinds_flags_and_descriptors_that_cannot_be)
{
	size_t at = record(TYPE_DESCRIPTOR);

	is_refused(with(at + AT_KIND, ENTRY_KINDS), "has kind");
	is_refused(with(at + AT_KIND, UINT32_MAX), "has kind");
	is_refused(with(at + AT_ENTRY_FLAGS, ENTRY_SAVED_FLAGS + 1), "flags");
	is_refused(with(at + AT_ENTRY_FLAGS, UINT32_MAX), "flags");
	is_refused(with(at + AT_FD, UINT32_MAX), "descriptor -1");
	is_refused(with(at + AT_FD, INT32_MAX), "is no tag");
	is_refused(with(record(TYPE_HEIRLOOM) + AT_NUMBER, UINT32_MAX), "number -1");
	is_refused(with(record(TYPE_WORKER) + AT_NUMBER, 0x80000000u), "number -2147483648");
	is_refused(with(record(TYPE_CONNECTION) + AT_NUMBER, UINT32_MAX), "descriptor -1");
	is_refused(with(record(TYPE_CONNECTION) + AT_OTHER, UINT32_MAX - 1), "a connection's record");
	is_refused(with(record(TYPE_CHILD) + AT_NUMBER, UINT32_MAX), "a child's record");
	is_refused(with(record(TYPE_CHILD) + AT_NUMBER, 0), "a child's record");
	cr_assert_eq(decode(with(record(TYPE_CONNECTION) + AT_OTHER, UINT32_MAX)), 0, "no listener: %s", reason);
}

Test(state_refuses, a_tag_that_stands_twice)
{
	size_t first = record(TYPE_DESCRIPTOR), second = bytes_record_after(sound, TYPE_DESCRIPTOR, first);

	cr_assert_eq(get32(sound.at + second + AT_ID), 1, "the sample's first two are of one name");
	is_refused(with(second + AT_ID, 0), "stands twice");
}

Test(state_refuses, a_descriptor_that_stands_twice)
{
	size_t first = record(TYPE_DESCRIPTOR), second = bytes_record_after(sound, TYPE_DESCRIPTOR, first);

	is_refused(with(second + AT_FD, get32(sound.at + first + AT_FD)), "stands twice");
}

Test(state_refuses, unknown_records_that_are_required_and_skips_the_others)
{
	static const unsigned types[] = {99, 100, UINT16_MAX};

	for (size_t i = 0; i < 3; i++) {
		cr_assert_eq(decode(with_record(types[i], 0, RECORD_HEAD)), 0, "%s", reason);
		cr_assert_eq(decode(with_record(types[i], 0, 4096)), 0, "%s", reason);
		is_refused(with_record(types[i], 1, 4096), "which this library does not know");
		is_refused(with_record(types[i], UINT16_MAX, RECORD_HEAD), "which this library does not know");
	}
}

static struct bytes finished(struct bytes b)
{
	b = bytes_copy(b);
	bytes_finish(b);
	return b;
}

Test(state_refuses, a_start_that_does_not_hold_what_it_counts)
{
	enum { AT_ARGS = 28, AT_ENVS = 32, AT_STRINGS = 36, HEAD = 40 };
	struct bytes b = with_record(TYPE_GIVEN, 0, HEAD + 24);
	char *record = b.at + HEADER_SIZE;

	memset(record + RECORD_HEAD, 0, HEAD + 24 - RECORD_HEAD);
	memcpy(record + HEAD, "/p\0/d\0\0a\0E=1\0", 13);
	put32(record + AT_ARGS, 1);
	put32(record + AT_ENVS, 1);
	put32(record + AT_STRINGS, 13);
	is_refused(finished(b), "the record of the start has"); /* 13 bytes take 16 */
	put32(record + AT_STRINGS, 20);
	is_refused(finished(b), "does not hold what it counts");
	put32(record + AT_ARGS, UINT32_MAX);
	is_refused(finished(b), "counts 4294967295 arguments");
	put32(record + AT_ARGS, 9);
	is_refused(finished(b), "does not hold what it counts");
}

Test(state_refuses, nothing_for_a_longer_header_of_a_later_minor_change)
{
	struct bytes b = bytes_copy(sound);

	bytes_stretch(&b, HEADER_SIZE, 16);
	put32(b.at + AT_HEADER_SIZE, HEADER_SIZE + 16);
	memset(b.at + HEADER_SIZE, 0xff, 16);
	bytes_finish(b);
	cr_assert_eq(decode(b), 0, "%s", reason);
}

Test(state_refuses, more_records_of_a_type_than_are_counted)
{
	is_refused(with_record(TYPE_HEIRLOOM, 1, PAIR_SIZE), "more records of type 2 than it counts");
	is_refused(with_record(TYPE_WORKER, 1, PAIR_SIZE), "has no start time");
	is_refused(with_record(TYPE_CONNECTION, 1, PAIR_SIZE), "more connections than it counts");
	is_refused(with_record(TYPE_CHILD, 0, PAIR_SIZE), "a child's record"); /* of no process: zeroes */
}

Test(state_refuses, a_worker_that_is_to_leave_before_time_began)
{
	struct bytes b = with_record(TYPE_WORKER, 1, PAIR_SIZE);

	put32(b.at + AT_WORKERS, get32(b.at + AT_WORKERS) + 1);
	put64(b.at + HEADER_SIZE + AT_FIRST, 1);
	put64(b.at + HEADER_SIZE + AT_SECOND, UINT64_MAX);
	bytes_finish(b);
	is_refused(b, "before time began");
}

Test(state_refuses, without_keeping_memory)
{
	enum { PAIRS = 5000 };
	struct bytes b = bytes_copy(sound);
	long before = 0;

	/* many heirlooms, the first of which is wrong: all the room was made, and little of it used */
	bytes_stretch(&b, HEADER_SIZE, (long)PAIRS * PAIR_SIZE);
	for (size_t i = 0; i < PAIRS; i++) {
		put16(b.at + HEADER_SIZE + i * PAIR_SIZE + AT_TYPE, TYPE_HEIRLOOM);
		put32(b.at + HEADER_SIZE + i * PAIR_SIZE + AT_LENGTH, PAIR_SIZE);
	}
	put32(b.at + AT_HEIRLOOMS, PAIRS + 3);
	bytes_finish(b);
	cr_assert_eq(decode(b), 0, "%s", reason);
	put32(b.at + HEADER_SIZE + AT_NUMBER, UINT32_MAX);
	bytes_finish(b);
	for (int i = 0; i < 60; i++) {
		cr_assert_eq(decode(b), -EBADMSG);
		if (i == 10)
			before = mapped_kib();
	}
	cr_assert_eq(mapped_kib(), before, "%ld KiB more after 50 refusals", mapped_kib() - before);
}
