/* SPDX-License-Identifier: MIT */
/* What an executable file is: an ELF program with its loader, or a script with its interpreter. */
#ifndef CPR_MODEL_IMAGE_H
#define CPR_MODEL_IMAGE_H

#include "base/text.h"

#include <linux/limits.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

enum image_kind { IMAGE_OTHER, IMAGE_ELF, IMAGE_SCRIPT };

struct image {
	enum image_kind kind;
	mode_t mode;
	bool capabilities;     /* it has file capabilities */
	bool same_machine;     /* ELF: class, byte order and machine are ours; if not, what follows is empty */
	unsigned machine;      /* e_machine */
	int bits;              /* 32 or 64 */
	bool go;               /* made by the Go toolchain */
	bool asan;             /* linked with AddressSanitizer's shared runtime */
	/* our library: the newest version of the state that it reads (IMAGE_NOTE); 0: another file */
	uint32_t format;
	char loader[PATH_MAX]; /* PT_INTERP, "" when there is none: statically linked */
	char line[256];        /* script: what follows "#!", blanks before and after cut off */
};

/*
 * An ELF note with the newest version of the state that the library reads: name "CPR", type 1, one 32-bit number. So
 * the version is known before the file is loaded.
 */
#define IMAGE_NOTE_NAME "CPR"
enum { IMAGE_NOTE_FORMAT = 1 };

/*
 * Reads the file `path`. Returns 0; -errno of opening or reading; -EBADMSG if it begins like ELF and is not valid.
 * *image is untouched on failure. A signal handler may call it.
 */
int image_read(const char *path, struct image *image);

/* "x86_64", "aarch64" …, or NULL for a machine without a name here. */
const char *image_machine(unsigned machine);

/* Is a library with this file name AddressSanitizer's runtime? That must be loaded before all others. */
bool image_is_asan(const char *name);

/* Can a library be preloaded into this ELF program, as far as the file shows it? If not, `why` gets the reason. */
bool image_takes_preload(const struct image *image, const char *path, struct text *why);

#endif
