/* SPDX-License-Identifier: MIT */
/* Can a command be served? */
#define _GNU_SOURCE
#include "check.h"

#include "base/attr.h"
#include "base/io.h"
#include "model/image.h"
#include "own.h"
#include "remote.h"
#include "seccomp_filter.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { NESTED_MAX = 5 }; /* as the kernel: a script's interpreter may be a script, and so on */

static int cannot(struct text *why, int error, const char *format, ...) __attribute__((format(printf, 3, 4)));
static int cannot(struct text *why, int error, const char *format, ...)
{
	va_list args;

	errno = -error; /* for %m */
	va_start(args, format);
	text_vformat(why, format, args);
	va_end(args);
	return error;
}

/* ---- where it is ---- */

/* 0, -ENOENT, -EACCES (also for what is no file). */
static int executable(const char *path)
{
	struct stat st;

	if (stat(path, &st)) /* EACCES too: a directory of PATH that is closed to us holds nothing for us */
		return -ENOENT;
	return S_ISREG(st.st_mode) && !eaccess(path, X_OK) ? 0 : -EACCES;
}

/* `dir`/`name` as an absolute path; an empty `dir` is the working directory, as it is in PATH. */
static int absolute(const char *dir, size_t dir_len, const char *name, char out[PATH_MAX])
{
	char room[PATH_MAX];
	struct text t = TEXT_ON(room);

	if (*name == '/') {
		dir_len = 0;
	} else if (!dir_len || *dir != '/') {
		char cwd[PATH_MAX];

		if (!getcwd(cwd, sizeof(cwd)))
			return -errno;
		text_add(&t, cwd);
		text_add(&t, cwd[1] ? "/" : "");
		while (!dir_len && !strncmp(name, "./", 2))
			name += 2 + strspn(name + 2, "/");
	}
	text_add_bytes(&t, dir, dir_len);
	text_add(&t, dir_len ? "/" : "");
	text_add(&t, name);
	if (t.cut)
		return -ENAMETOOLONG;
	memcpy(out, room, t.used + 1);
	return 0;
}

static int find_in_path(const char *command, char path[PATH_MAX], struct text *why)
{
	const char *at = getenv("PATH");
	bool denied = false;

	if (!at)
		at = "/bin:/usr/bin"; /* confstr(_CS_PATH), as execvp has it */
	for (;; at++) {
		size_t n = strcspn(at, ":");
		char candidate[PATH_MAX];
		int r = absolute(at, n, command, candidate);

		if (!r)
			r = executable(candidate);
		if (!r) {
			strcpy(path, candidate);
			return 0;
		}
		denied |= r == -EACCES;
		at += n;
		if (!*at)
			break;
	}
	if (denied)
		return cannot(why, -EACCES, "%s: found in PATH, but it is not a program that you may execute", command);
	return cannot(why, -ENOENT, "%s: not found in PATH", command);
}

/* A command by its path: absolute, or seen from the working directory. */
static int find_at(const char *command, char path[PATH_MAX], struct text *why)
{
	char found[PATH_MAX];
	struct stat st;
	int r = absolute("", 0, command, found);

	if (r)
		return cannot(why, r, "%s: %m", command);
	if (stat(found, &st))
		return cannot(why, errno == EACCES ? -EACCES : -ENOENT, "%s: %s", command, strerror(errno));
	if (S_ISDIR(st.st_mode))
		return cannot(why, -EACCES, "%s: is a directory", command);
	r = executable(found);
	if (r)
		return cannot(why, r, "%s: not executable: %m", command);
	strcpy(path, found);
	return 0;
}

int check_find(const char *command, char path[PATH_MAX], struct text *why)
{
	if (!*command)
		return cannot(why, -ENOENT, "the command is an empty string");
	return strchr(command, '/') ? find_at(command, path, why) : find_in_path(command, path, why);
}

/* ---- what it is ---- */

static const char *base_of(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? slash + 1 : path;
}

static bool same_file(const char *a, const char *b)
{
	struct stat x, y;

	return !stat(a, &x) && !stat(b, &y) && x.st_dev == y.st_dev && x.st_ino == y.st_ino;
}

/* A loader of our own's name belongs to the same libc; one of another name does if it is the same file (LSB's link). */
static int check_loader(const char *path, const char *loader, struct text *why)
{
	cleanup_free struct image *own = malloc(sizeof(*own));

	if (!own)
		return cannot(why, -ENOMEM, "%s: %m", path);
	if (!image_read("/proc/self/exe", own) && strcmp(base_of(own->loader), base_of(loader)) &&
	    !same_file(own->loader, loader))
		return cannot(why, -ENOTSUP,
			      "%s is linked with another C library%s (its loader is %s): libcpr.so is built for glibc",
			      path, strstr(loader, "ld-musl") ? ", musl" : "", loader);
	if (access(loader, X_OK))
		return cannot(why, -ENOTSUP, "%s needs the loader %s, which is not there", path, loader);
	return 0;
}

static int check_elf(const char *path, const struct image *image, struct text *why)
{
	if (!image_takes_preload(image, path, why))
		return -ENOTSUP;
	return check_loader(path, image->loader, why);
}

static int check_nested(const char *path, int depth, struct text *why);

/*
 * What `env [-S] [OPTION...] [NAME=VALUE...] COMMAND` runs, as far as it stands in a script's first line. Without -S
 * the kernel hands all of `words` over as one argument; a script that would not start is not found here either.
 */
static int find_for_env(char *words, char path[PATH_MAX], struct text *why)
{
	static const char blanks[] = " \t";
	char *rest = words, *word;

	while ((word = strsep(&rest, blanks))) {
		if (!strncmp(word, "-S", 2))
			word += 2;
		if (*word && *word != '-' && !strchr(word, '='))
			return check_find(word, path, why);
	}
	return cannot(why, -ENOTSUP, "env is given no command");
}

static int check_script(const char *path, const struct image *image, int depth, struct text *why)
{
	char line[sizeof(image->line)], found[PATH_MAX], reason[2 * PATH_MAX];
	struct text inner = TEXT_ON(reason);
	char *rest = line, *interpreter;
	int r;

	memcpy(line, image->line, sizeof(line));
	interpreter = strsep(&rest, " \t");
	if (!*interpreter)
		return cannot(why, -ENOTSUP, "%s: its first line, #!, names no interpreter", path);
	if (depth == NESTED_MAX)
		return cannot(why, -ENOTSUP,
			      "%s: more than %d interpreters, one of the other: the kernel gives up here", path,
			      (int)NESTED_MAX);
	if (rest && !strcmp(base_of(interpreter), "env"))
		r = find_for_env(rest, found, &inner);
	else
		r = find_at(interpreter, found, &inner);
	if (!r)
		r = check_nested(found, depth + 1, &inner);
	if (r)
		return cannot(why, -ENOTSUP, "%s: its interpreter cannot be served: %s", path, inner.bytes);
	return 0;
}

static int check_nested(const char *path, int depth, struct text *why)
{
	cleanup_free struct image *image = malloc(sizeof(*image));
	int r = image ? image_read(path, image) : -ENOMEM;

	if (r == -EBADMSG)
		return cannot(why, r, "%s: its ELF head is damaged", path);
	if (r)
		return cannot(why, r, "%s: cannot be looked into: %m", path);
	if (image->kind == IMAGE_ELF)
		return check_elf(path, image, why);
	if (image->kind == IMAGE_SCRIPT)
		return check_script(path, image, depth, why);
	return cannot(why, -ENOTSUP, "%s is neither an ELF program nor a script that begins with #!", path);
}

int check_served(const char *path, struct text *why)
{
	return check_nested(path, 0, why);
}

bool check_filtered(const char *path, struct text *why)
{
	cleanup_free struct image *image = malloc(sizeof(*image));
	int r;

	if (!seccomp_filter_exists() || !image || image_read(path, image) || image->kind != IMAGE_ELF ||
	    !image->same_machine || (image->mode & (S_ISUID | S_ISGID)) || image->capabilities ||
	    (*image->loader && access(image->loader, X_OK)))
		return false;
	r = remote_allowed();
	if (r)
		text_format(why, "; and from outside its listeners cannot be taken: pidfd_getfd(2) fails here (%s)%s",
			    strerror(-r), r == -EPERM ? ", which a container's filter must allow" : "");
	return !r;
}

/* ---- a shell between ---- */

enum { SCRIPT_MAX = 1 << 16 }; /* as far as a script is looked into */

static bool is_shell(const char *path)
{
	static const char *const names[] = {"sh", "ash", "bash", "dash", "ksh", "mksh", "zsh"};

	for (size_t i = 0; i < countof(names); i++)
		if (!strcmp(base_of(path), names[i]))
			return true;
	return false;
}

static bool says_exec(const char *text)
{
	static const char word[] = "exec";

	for (const char *at = text; (at = strstr(at, word)); at += sizeof(word) - 1) {
		char before = at == text ? '\n' : at[-1], after = at[sizeof(word) - 1];

		if (strchr(" \t\n;&|({", before) && (after == ' ' || after == '\t'))
			return true;
	}
	return false;
}

/* True for what cannot be read: nothing is said of that. */
static bool file_says_exec(const char *path)
{
	cleanup_free char *text = calloc(1, SCRIPT_MAX + 1);
	cleanup_fd int fd = open(path, O_RDONLY | O_CLOEXEC);

	return !text || fd < 0 || io_read_all(fd, text, SCRIPT_MAX) <= 0 || says_exec(text);
}

/* By a script's first line: its interpreter, or what env runs. */
static bool is_of_shell(const struct image *image)
{
	char line[sizeof(image->line)], *rest = line, *word, *last = NULL;

	memcpy(line, image->line, sizeof(line));
	while ((word = strsep(&rest, " \t")))
		if (*word && *word != '-' && !strchr(word, '=') && (!last || !strcmp(base_of(last), "env")))
			last = word;
	return last && is_shell(last);
}

bool check_shell_stays(const char *path, char *const argv[])
{
	cleanup_free struct image *image = malloc(sizeof(*image));

	if (!image || image_read(path, image))
		return false;
	if (image->kind == IMAGE_SCRIPT)
		return is_of_shell(image) && !file_says_exec(path);
	if (!is_shell(path))
		return false;
	for (int i = 1; argv[i]; i++) {
		if (!strcmp(argv[i], "-c"))
			return argv[i + 1] && !says_exec(argv[i + 1]);
		if (*argv[i] != '-')
			return !file_says_exec(argv[i]);
	}
	return false;
}
