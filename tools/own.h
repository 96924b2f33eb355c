/* SPDX-License-Identifier: MIT */
/* Cleanup attributes for what the tools own: memory, streams, directories. */
#ifndef CPR_OWN_H
#define CPR_OWN_H

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>

static inline void own_free(void *p)
{
	free(*(void **)p);
}

static inline void own_close_file(FILE **file)
{
	if (*file)
		fclose(*file);
}

static inline void own_close_dir(DIR **dir)
{
	if (*dir)
		closedir(*dir);
}

#define cleanup_free __attribute__((cleanup(own_free)))
#define cleanup_file __attribute__((cleanup(own_close_file)))
#define cleanup_dir __attribute__((cleanup(own_close_dir)))

#endif
