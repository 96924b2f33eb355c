/* SPDX-License-Identifier: MIT */
/*
 * What a supervisor leaves to its next image: named records in a sealed memfd. A section begins a struct, and the
 * records after it are its members. A reader skips what it does not know.
 */
#ifndef CPR_SAVED_H
#define CPR_SAVED_H

#include "base/text.h"

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum saved_kind {
	SAVED_SECTION,
	SAVED_NUMBER, /* an integer, an enum or a bool, of any size */
	SAVED_BYTES,  /* a plain struct or an array */
	SAVED_TEXT,   /* a pointer to a string; NULL is not saved */
	SAVED_FD,     /* a descriptor, which stays open; -1 is not saved */
};

/* A member of a struct. */
struct saved_field {
	const char *name;
	enum saved_kind kind;
	size_t at, size;
};

#define SAVED_FIELD(kind, type, member) {#member, kind, offsetof(type, member), sizeof(((type *)0)->member)}

/* ---- writing ---- */

struct saver {
	char *bytes;
	size_t used, room;
	int *fds; /* that stay open */
	size_t fd_count;
	bool failed; /* no memory */
};

void saver_section(struct saver *saver, const char *name);
void saver_fields(struct saver *saver, const void *of, const struct saved_field *fields, size_t count);

/* Returns the memfd, close-on-exec, or -errno. */
int saver_end(const struct saver *saver);

/* Makes the saved descriptors stay open over exec, or not. */
void saver_keep_open(const struct saver *saver, bool open);
void saver_free(struct saver *saver);

/* ---- reading ---- */

struct saved_section {
	const char *name;
	const struct saved_field *fields;
	size_t count;
	/* returns the struct for its members; NULL: no memory */
	void *(*begin)(void *arg);
};

/*
 * Reads all sections, in order. `dry`: the descriptors are not there, and only their numbers are read. Returns 0;
 * -EBADMSG and `why`; -ENOMEM.
 */
int saved_read(int fd, const struct saved_section *sections, size_t count, void *arg, bool dry, struct text *why);

#endif
