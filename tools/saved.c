/* SPDX-License-Identifier: MIT */
/* Records with names, in a sealed memfd. */
#define _GNU_SOURCE
#include "saved.h"

#include "base/attr.h"
#include "base/io.h"
#include "own.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

/* The last word is the version: another one is refused. */
static const char magic[] = "cpr supervisor 1";

enum { SIZE_MAX_READ = 1 << 26, SEALS = F_SEAL_SEAL | F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE };

/* The name and the value follow it, without padding. */
struct record {
	uint32_t kind;
	uint32_t name_length, length;
};

/* ---- writing ---- */

static void add(struct saver *saver, const void *bytes, size_t n)
{
	size_t room = saver->room ? saver->room : 4096;
	char *longer = saver->bytes;

	while (room < saver->used + n)
		room *= 2;
	if (room != saver->room)
		longer = realloc(saver->bytes, room);
	if (!longer) {
		saver->failed = true;
		return;
	}
	saver->bytes = longer;
	saver->room = room;
	memcpy(saver->bytes + saver->used, bytes, n);
	saver->used += n;
}

static void put(struct saver *saver, enum saved_kind kind, const char *name, const void *bytes, size_t n)
{
	const struct record record = {kind, (uint32_t)strlen(name), (uint32_t)n};

	if (!saver->used)
		add(saver, magic, sizeof(magic));
	add(saver, &record, sizeof(record));
	add(saver, name, record.name_length);
	add(saver, bytes, n);
}

static void put_fd(struct saver *saver, const char *name, int fd)
{
	int *longer;

	if (fd < 0)
		return;
	longer = reallocarray(saver->fds, saver->fd_count + 1, sizeof(*longer));
	if (!longer) {
		saver->failed = true;
		return;
	}
	saver->fds = longer;
	longer[saver->fd_count++] = fd;
	put(saver, SAVED_FD, name, &fd, sizeof(fd));
}

void saver_section(struct saver *saver, const char *name)
{
	put(saver, SAVED_SECTION, name, "", 0);
}

void saver_fields(struct saver *saver, const void *of, const struct saved_field *fields, size_t count)
{
	for (size_t i = 0; i < count; i++) {
		const struct saved_field *f = &fields[i];
		const char *member = (const char *)of + f->at, *string = NULL;
		int fd;

		if (f->kind == SAVED_FD) {
			memcpy(&fd, member, sizeof(fd));
			put_fd(saver, f->name, fd);
		} else if (f->kind == SAVED_TEXT) {
			memcpy(&string, member, sizeof(string));
			if (string)
				put(saver, f->kind, f->name, string, strlen(string));
		} else {
			put(saver, f->kind, f->name, member, f->size);
		}
	}
}

int saver_end(const struct saver *saver)
{
	cleanup_fd int fd = saver->failed ? -ENOMEM : io_memfd("cpr.supervisor");
	int r = fd < 0 ? fd : io_write_all(fd, saver->bytes, saver->used);

	if (!r && fcntl(fd, F_ADD_SEALS, SEALS))
		r = -errno;
	return r ? r : steal_fd(&fd);
}

void saver_keep_open(const struct saver *saver, bool open)
{
	for (size_t i = 0; i < saver->fd_count; i++)
		fcntl(saver->fds[i], F_SETFD, open ? 0 : FD_CLOEXEC);
}

void saver_free(struct saver *saver)
{
	free(saver->bytes);
	free(saver->fds);
	*saver = (struct saver){0};
}

/* ---- reading ---- */

struct reader {
	const char *at, *end;
	bool dry;
	struct text *why;
};

static int unsound(const struct reader *r, const char *what)
{
	text_add(r->why, what);
	return -EBADMSG;
}

static int take_fd(const struct reader *r, const char *value, void *member)
{
	int fd;

	memcpy(&fd, value, sizeof(fd));
	if (!r->dry && fcntl(fd, F_SETFD, FD_CLOEXEC))
		return unsound(r, "a descriptor is missing");
	memcpy(member, &fd, sizeof(fd));
	return 0;
}

static int take_text(const char *value, size_t n, void *member)
{
	char *copy = strndup(value, n);

	if (!copy)
		return -ENOMEM;
	memcpy(member, &copy, sizeof(copy));
	return 0;
}

static int take_member(const struct reader *r, const struct record *record, const char *value,
		       const struct saved_field *f, void *of)
{
	void *member = (char *)of + f->at;

	if (record->kind != f->kind)
		return unsound(r, "a member is of another kind");
	if (f->kind == SAVED_TEXT)
		return take_text(value, record->length, member);
	if (record->length != f->size)
		return unsound(r, "a member is of another size");
	if (f->kind == SAVED_FD)
		return take_fd(r, value, member);
	memcpy(member, value, f->size);
	return 0;
}

/* One record: false at the end, or where it is not sound (*bad). */
static bool next_record(struct reader *r, struct record *record, const char **name, const char **value, bool *bad)
{
	size_t left = (size_t)(r->end - r->at);

	*bad = false;
	if (!left)
		return false;
	*bad = true;
	if (left < sizeof(*record))
		return false;
	memcpy(record, r->at, sizeof(*record));
	left -= sizeof(*record);
	if (record->name_length > left || record->length > left - record->name_length)
		return false;
	*name = r->at + sizeof(*record);
	*value = *name + record->name_length;
	r->at = *value + record->length;
	*bad = false;
	return true;
}

static bool is_called(const char *known, const char *name, size_t n)
{
	return strlen(known) == n && !memcmp(known, name, n);
}

static int read_records(struct reader *r, const struct saved_section *sections, size_t count, void *arg)
{
	const struct saved_section *in = NULL;
	const char *name, *value;
	struct record record;
	void *of = NULL;
	bool bad;
	int error = 0;

	while (!error && next_record(r, &record, &name, &value, &bad)) {
		if (record.kind == SAVED_SECTION) {
			in = NULL;
			for (size_t i = 0; i < count; i++)
				if (is_called(sections[i].name, name, record.name_length))
					in = &sections[i];
			of = in ? in->begin(arg) : NULL;
			error = in && !of ? -ENOMEM : 0;
			continue;
		}
		for (size_t i = 0; in && i < in->count && !error; i++)
			if (is_called(in->fields[i].name, name, record.name_length))
				error = take_member(r, &record, value, &in->fields[i], of);
	}
	return error ? error : bad ? unsound(r, "it is cut off") : 0;
}

int saved_read(int fd, const struct saved_section *sections, size_t count, void *arg, bool dry, struct text *why)
{
	struct reader r = {.dry = dry, .why = why};
	struct stat st;
	char *bytes;
	int error;

	if (fstat(fd, &st) || (fcntl(fd, F_GET_SEALS) & SEALS) != SEALS)
		return unsound(&r, "it is no sealed memfd");
	if (st.st_size < (off_t)sizeof(magic) || st.st_size > SIZE_MAX_READ)
		return unsound(&r, "it has another size than a state");
	bytes = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (bytes == MAP_FAILED)
		return -errno;
	r.at = bytes + sizeof(magic);
	r.end = bytes + st.st_size;
	error = memcmp(bytes, magic, sizeof(magic)) ? unsound(&r, "it is of a version that this cpr-exec does not know")
						     : read_records(&r, sections, count, arg);
	munmap(bytes, (size_t)st.st_size);
	return error;
}
