/* SPDX-License-Identifier: MIT */
/* Lines to stderr or to a file. */
#define _GNU_SOURCE
#include "log.h"

#include "io.h"
#include "next.h"
#include "text.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <unistd.h>

static enum log_level wanted = LOG_LEVEL_WARN;
static const char *file;

static const char *const names[] = {"error", "warn", "info", "debug"};

void log_to(enum log_level level, const char *path)
{
	wanted = level;
	file = path;
}

int log_level_parse(const char *name, enum log_level *level)
{
	for (size_t i = 0; i < countof(names); i++)
		if (!strcmp(name, names[i])) {
			*level = (enum log_level)i;
			return 0;
		}
	return -EINVAL;
}

void log_line(enum log_level level, const char *format, ...)
{
	char line[1024];
	struct text t = TEXT_ON(line);
	int kept = errno, fd = -1;
	va_list args;

	if (level > wanted)
		return;
	text_format(&t, "cpr[%d]: ", (int)getpid());
	va_start(args, format);
	text_vformat(&t, format, args);
	va_end(args);
	if (t.cut)
		t.used = sizeof(line) - 2;
	line[t.used++] = '\n';
	if (file)
		fd = next_open(file, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, 0640);
	io_write_all(fd < 0 ? STDERR_FILENO : fd, line, t.used);
	if (fd >= 0)
		next_close(fd);
	errno = kept;
}
