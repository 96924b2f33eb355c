/* SPDX-License-Identifier: MIT */
/* What an executable file is: an ELF program with its loader, or a script with its interpreter. */
#ifndef CPR_IMAGE_H
#define CPR_IMAGE_H

#include <linux/limits.h>
#include <stdbool.h>
#include <sys/types.h>

enum image_kind { IMAGE_OTHER, IMAGE_ELF, IMAGE_SCRIPT };

struct image {
	enum image_kind kind;
	mode_t mode;
	bool capabilities;     /* it has file capabilities */
	bool same_machine;     /* ELF: class, byte order and machine are this tool's own; what follows is empty otherwise */
	unsigned machine;      /* e_machine */
	int bits;              /* 32 or 64 */
	bool go;               /* made by the Go toolchain */
	char loader[PATH_MAX]; /* PT_INTERP, "" when there is none: statically linked */
	char line[256];        /* script: what follows "#!", blanks before and after cut off */
};

/* 0; -errno of opening or reading; -EBADMSG: begins like ELF, but is not sound. *image is untouched on failure. */
int image_read(const char *path, struct image *image);

/* "x86_64", "aarch64" …, or NULL for one that has no name here. */
const char *image_machine(unsigned machine);

#endif
