/* SPDX-License-Identifier: MIT */
/* Restarts that fail, for the programs of tests/wrap. */
#ifndef FAILING_H
#define FAILING_H

#include "wrap.h"

#include <fcntl.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

/* A copy of this program that is open for writing: nothing but its exec says that it cannot be executed. */
static inline const char *busy_program(void)
{
	int from = MUST(open(arguments[0], O_RDONLY | O_CLOEXEC)),
	    to = MUST(open(in_room("busy"), O_WRONLY | O_CREAT | O_CLOEXEC, 0700));
	struct stat st;

	MUST(fstat(from, &st));
	CHECK_INT(sendfile(to, from, NULL, (size_t)st.st_size), st.st_size);
	close(from);
	return in_room("busy");
}

/* A restart up to its exec, and all the way back. The case is one with WARNS=1. */
static inline void restart_is_called_off(const char *busy)
{
	const char *answer = ask("try-restart %s", busy);

	CHECK(strstr(answer, "result=failed"));
	CHECK(strstr(answer, "ext file busy"));
}

#endif
