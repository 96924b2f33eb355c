/* SPDX-License-Identifier: MIT */
/* What exec would say, found out before anything is disturbed. */
#define _GNU_SOURCE
#include "restart/program.h"

#include "base/io.h"
#include "base/next.h"
#include "base/pool.h"
#include "base/raw.h"
#include "model/image.h"
#include "model/settings.h"
#include "model/state.h"
#include "process/startup.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { NESTED_MAX = 5 }; /* as the kernel: a script's interpreter may be a script, and so on */

struct room { /* too large for a small stack */
	struct image image;
	char path[PATH_MAX];
	char interpreter[PATH_MAX];
	_Alignas(struct dirent64) char entries[4096];
	char handler[1024], magic[256];
};

/* The next generation starts where this one did: relative paths count from there. `into` has PATH_MAX bytes. */
static const char *from_start(const char *path, char *into)
{
	struct text t = text_on(into, PATH_MAX);

	if (*path != '/' && cpr__startup.directory) {
		text_add(&t, cpr__startup.directory);
		text_add(&t, "/");
	}
	text_add(&t, path);
	return into;
}

static bool is_running(const char *path)
{
	struct stat x, y;

	return !stat(path, &x) && !stat("/proc/self/exe", &y) && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* ---- what binfmt_misc runs: jars, programs for an emulator ---- */

static const char *line_of(const char *handler, const char *key)
{
	const char *at = strstr(handler, key);

	return at ? at + strlen(key) : NULL;
}

static int nibble(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte at the `i`th place of a line of hexadecimal digits; -1: it ends before. */
static int hex_byte(const char *line, size_t i)
{
	for (size_t k = 0; k < 2 * i; k++)
		if (nibble(line[k]) < 0)
			return -1;
	return nibble(line[2 * i]) < 0 || nibble(line[2 * i + 1]) < 0
		       ? -1
		       : nibble(line[2 * i]) << 4 | nibble(line[2 * i + 1]);
}

static bool has_extension(const char *path, const char *extension)
{
	size_t n = strcspn(extension, "\n"), len = strlen(path);

	return n && len > n && !strncmp(path + len - n, extension, n);
}

static bool has_magic(const char *bytes, size_t n, const char *handler)
{
	const char *magic = line_of(handler, "\nmagic "), *mask = line_of(handler, "\nmask "),
		   *offset = line_of(handler, "\noffset ");
	size_t at = 0, i;

	for (; offset && *offset >= '0' && *offset <= '9' && at < n; offset++)
		at = at * 10 + (size_t)(*offset - '0');
	for (i = 0; magic && hex_byte(magic, i) >= 0; i++)
		if (at + i >= n || ((bytes[at + i] ^ hex_byte(magic, i)) &
				    (mask && hex_byte(mask, i) >= 0 ? hex_byte(mask, i) : 0xff)))
			return false;
	return i;
}

static bool takes(const char *name, const char *path, size_t n, struct room *room)
{
	char file[320];
	struct text t = TEXT_ON(file);
	const char *extension;

	text_format(&t, "/proc/sys/fs/binfmt_misc/%s", name);
	if (t.cut || io_read_file(file, room->handler, sizeof(room->handler)) <= 0 ||
	    strncmp(room->handler, "enabled\n", 8))
		return false;
	extension = line_of(room->handler, "\nextension .");
	return extension ? has_extension(path, extension) : has_magic(room->magic, n, room->handler);
}

/* No format that the kernel knows by itself: does a registered handler take it? */
static bool has_handler(const char *path, struct room *room)
{
	cleanup_fd int dir = raw_open("/proc/sys/fs/binfmt_misc", O_RDONLY | O_DIRECTORY | O_CLOEXEC, 0);
	cleanup_fd int fd = raw_open(path, O_RDONLY | O_CLOEXEC, 0);
	ssize_t n = fd < 0 ? 0 : io_read_all(fd, room->magic, sizeof(room->magic)), listed;

	while (dir >= 0 && n > 0 && (listed = next_sys(SYS_getdents64, dir, room->entries, sizeof(room->entries))) > 0)
		for (ssize_t at = 0; at < listed;) {
			const struct dirent64 *entry = (const struct dirent64 *)(room->entries + at);

			if (entry->d_type == DT_REG && strcmp(entry->d_name, "register") &&
			    strcmp(entry->d_name, "status") && takes(entry->d_name, path, (size_t)n, room))
				return true;
			at += entry->d_reclen;
		}
	return false;
}

/* ---- what the kernel runs by itself ---- */

/* The loader that an ELF program names: an executable ELF file for the same machine. */
static bool loader_is_there(const char *path, const char *loader, struct text *why)
{
	struct stat st;

	if (stat(loader, &st))
		text_format(why, "%s needs the loader %s, which is not there", path, loader);
	else if (!S_ISREG(st.st_mode) || faccessat(AT_FDCWD, loader, X_OK, AT_EACCESS))
		text_format(why, "%s needs the loader %s, which may not be executed", path, loader);
	return !why->used;
}

static bool elf_would_run(const char *path, const struct image *image, struct text *why)
{
	if (!is_running(path) && !image_takes_preload(image, path, why))
		return false;
	return !*image->loader || loader_is_there(path, image->loader, why);
}

/*
 * What stands behind `#!`, up to a blank, into room->interpreter. The kernel reads 256 bytes, and runs no interpreter
 * whose name they cut.
 */
static bool interpreter_of(const char *path, struct room *room, struct text *why)
{
	size_t n = strcspn(room->image.line, " \t");
	char name[sizeof(room->image.line)];

	memcpy(name, room->image.line, n);
	name[n] = '\0';
	if (!n || n >= sizeof(name) - 2)
		text_format(why, "%s begins with #!, but no interpreter that the kernel could run", path);
	else
		from_start(name, room->interpreter);
	return !why->used;
}

static bool may_be_executed(const char *path, struct text *why)
{
	struct stat st;

	if (stat(path, &st)) {
		text_format(why, "%s is not there: %m", path);
	} else if (!S_ISREG(st.st_mode)) {
		text_format(why, "%s is no regular file", path);
	} else if (faccessat(AT_FDCWD, path, X_OK, AT_EACCESS)) {
		text_format(why, "%s may not be executed: %m", path);
	}
	return !why->used;
}

/* What may be executed, but not read, is not looked into: it ran before. */
static bool file_would_run(const char *path, struct room *room, struct text *why)
{
	int r;

	memcpy(room->path, path, strnlen(path, PATH_MAX - 1) + 1);
	for (int depth = 0; may_be_executed(room->path, why); depth++) {
		r = image_read(room->path, &room->image);
		if (r == -EACCES)
			return true;
		if (r == -EBADMSG)
			text_format(why, "%s is damaged: its ELF head is not sound", room->path);
		else if (r)
			text_format(why, "%s cannot be read: %m", room->path);
		else if (room->image.kind == IMAGE_ELF)
			return elf_would_run(room->path, &room->image, why);
		else if (room->image.kind != IMAGE_SCRIPT && has_handler(room->path, room))
			return true;
		else if (room->image.kind != IMAGE_SCRIPT)
			text_format(why, "%s is neither an ELF program nor a script that begins with #!", room->path);
		else if (depth == NESTED_MAX)
			text_format(why, "%s: more than %d interpreters, one of the other: the kernel gives up here",
				    path, (int)NESTED_MAX);
		else if (interpreter_of(room->path, room, why))
			memcpy(room->path, room->interpreter, sizeof(room->path));
		if (why->used)
			return false;
	}
	return false;
}

/*
 * The script that an interpreter was given as its first argument. Behind options only the interpreter knows which
 * word is one.
 */
static bool script_is_there(const char *path, struct room *room, struct text *why)
{
	const char *first = cpr__startup.argv[0] ? cpr__startup.argv[1] : NULL;

	if (!cpr__startup.script || !first || *first == '-' || !strcmp(cpr__startup.script, cpr__startup.path) ||
	    strcmp(path, cpr__startup.path))
		return true;
	if (faccessat(AT_FDCWD, from_start(first, room->path), R_OK, AT_EACCESS))
		text_format(why, "%s, which %s runs, cannot be read: %m", first, path);
	return !why->used;
}

/* ---- the library ---- */

static bool is_library(const char *name, size_t n)
{
	static const char own[] = "libcpr.so";
	const char *slash = memrchr(name, '/', n);

	/* without a slash, and with $LIB and the like, only the loader knows where it is */
	return slash && (size_t)(name + n - slash) > strlen(own) && !strncmp(slash + 1, own, strlen(own)) &&
	       !memchr(name, '$', n);
}

static bool library_would_load(const char *path, struct image *image, struct text *why)
{
	static const char advice[] =
		"the next generation would start without it, and find its addresses in use. Install it again first";
	int r = image_read(path, image);

	errno = -r;
	if (r)
		text_format(why, "the library %s, which LD_PRELOAD names, cannot be read (%m): %s", path, advice);
	else if (image->kind != IMAGE_ELF || !image->same_machine || !image->format)
		text_format(why, "%s, which LD_PRELOAD names, is not cpr's library for this machine: %s", path, advice);
	else if (image->format < STATE_VERSION)
		text_format(why,
			    "the library %s is of an older version, which reads states up to %u and not version %d: %s",
			    path, image->format, (int)STATE_VERSION, advice);
	return !why->used;
}

/* A library that is gone, or another, stops no program from starting: the loader says a word about it and goes on. */
static bool library_remains(struct room *room, struct text *why)
{
	const char *at = settings_env(cpr__startup.envp, "LD_PRELOAD");

	while (at && *at) {
		size_t n = strcspn(at, ": ");

		if (n < sizeof(room->interpreter) && is_library(at, n)) {
			memcpy(room->interpreter, at, n);
			room->interpreter[n] = '\0';
			return library_would_load(from_start(room->interpreter, room->path), &room->image, why);
		}
		at += n + (at[n] != '\0');
	}
	return true;
}

bool program_would_run(const char *path, struct text *why)
{
	struct room *room = pool_map(sizeof(*room));
	bool would = room && file_would_run(path, room, why) && script_is_there(path, room, why) &&
		     library_remains(room, why);

	if (room)
		pool_unmap(room, sizeof(*room));
	else
		text_add(why, "out of memory");
	return would;
}
