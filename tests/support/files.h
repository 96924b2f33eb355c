/* SPDX-License-Identifier: MIT */
/* What tests need of files and descriptors: a scratch directory, whole files, counting what is open. */
#ifndef CPR_TEST_FILES_H
#define CPR_TEST_FILES_H

#include <criterion/criterion.h>
#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

/* The address sanitizer's own mappings come and go, and it ends a process that has no room for them. */
#if defined(__SANITIZE_ADDRESS__)
#define NOT_UNDER_ASAN .disabled = true
#else
#define NOT_UNDER_ASAN .disabled = false
#endif

static inline int scratch_remove_one(const char *path, const struct stat *st, int kind, struct FTW *where)
{
	(void)st, (void)kind, (void)where;
	return remove(path);
}

/* A fresh directory, its symbolic links resolved; it becomes the working directory. */
static inline void scratch_enter(char path[4096])
{
	char made[] = "/tmp/cpr-unit.XXXXXX";

	cr_assert_not_null(mkdtemp(made));
	cr_assert_not_null(realpath(made, path));
	cr_assert_eq(chdir(path), 0);
}

static inline void scratch_leave(const char *path)
{
	cr_assert_eq(chdir("/"), 0);
	nftw(path, scratch_remove_one, 16, FTW_DEPTH | FTW_PHYS);
}

/* The file's bytes, NUL-terminated; how many in the result. */
static inline size_t file_text(const char *path, char *bytes, size_t size)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t n;

	cr_assert_geq(fd, 0, "%s: %m", path);
	n = read(fd, bytes, size - 1);
	cr_assert_geq(n, 0);
	bytes[n] = '\0';
	close(fd);
	return (size_t)n;
}

static inline int open_descriptors(void)
{
	DIR *dir = opendir("/proc/self/fd");
	int n = -1; /* the directory's own */

	cr_assert_not_null(dir);
	for (const struct dirent *entry; (entry = readdir(dir));)
		n += entry->d_name[0] != '.';
	closedir(dir);
	return n;
}

/* The process's address space in KiB: what mmap took and munmap did not give back. */
static inline long mapped_kib(void)
{
	char text[4096];
	const char *at;

	file_text("/proc/self/status", text, sizeof(text));
	at = strstr(text, "VmSize:");
	cr_assert_not_null(at);
	return atol(at + 7);
}

#endif
