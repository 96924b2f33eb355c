/* SPDX-License-Identifier: MIT */
/* The public API as a preloaded program finds it: by dlsym, since nothing is linked against it. */
#ifndef API_H
#define API_H

#include "../../shim/cpr.h"
#include "wrap.h"

#include <fcntl.h>

#define API(name) ((__typeof__(&name))found_by_name(#name))

static inline void *found_by_name(const char *name)
{
	void *found = dlsym(RTLD_DEFAULT, name);

	CHECK(found);
	return found;
}

static inline int null_fd(void)
{
	return MUST(open("/dev/null", O_RDWR | O_CLOEXEC));
}

/* What the first generation has saved under this tag and no call has found yet: the second one's to go on with. */
static inline int kept_by_the_last(const char *name, int id)
{
	if (generation() == 1) {
		int fd = null_fd();

		put("fd", fd);
		CHECK(API(cpr_save_fd)(name, id, fd) == 0);
		next_generation();
	}
	return (int)get("fd");
}

/* Does the table hold this descriptor? */
static inline bool is_it(const char *name, int id, int fd, void *arg)
{
	int *wanted = arg;

	(void)name, (void)id;
	if (fd != *wanted)
		return true;
	*wanted = -1;
	return false;
}

static inline bool in_table(int fd)
{
	API(cpr_walk_fd)(is_it, &fd);
	return fd == -1;
}

static inline bool count_one(const char *name, int id, int fd, void *arg)
{
	(void)name, (void)id, (void)fd;
	++*(int *)arg;
	return true;
}

static inline int table_size(void)
{
	int n = 0;

	CHECK(API(cpr_walk_fd)(count_one, &n) == 0);
	return n;
}

#endif
