/* SPDX-License-Identifier: MIT */
/* What must be so before the program starts. */
#define _GNU_SOURCE
#include "launch.h"

#include "base/attr.h"
#include "base/io.h"
#include "model/image.h"
#include "own.h"
#include "proc.h"

#include <bsd/libutil.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char library_name[] = "libcpr.so"; /* in a build directory; installed, its soname stands behind it */
static const char *const versions[] = {"." CPR_SOVERSION, ""};

#if defined(__x86_64__) && defined(__LP64__)
#define MULTIARCH "x86_64-linux-gnu"
#elif defined(__x86_64__)
#define MULTIARCH "x86_64-linux-gnux32"
#elif defined(__i386__)
#define MULTIARCH "i386-linux-gnu"
#elif defined(__aarch64__)
#define MULTIARCH "aarch64-linux-gnu"
#elif defined(__ARM_PCS_VFP)
#define MULTIARCH "arm-linux-gnueabihf"
#elif defined(__riscv) && __riscv_xlen == 64
#define MULTIARCH "riscv64-linux-gnu"
#elif defined(__powerpc64__) && defined(__LITTLE_ENDIAN__)
#define MULTIARCH "powerpc64le-linux-gnu"
#elif defined(__s390x__)
#define MULTIARCH "s390x-linux-gnu"
#else
#define MULTIARCH "."
#endif

/* `%s` is the directory that this tool stands in. */
static const char *const places[] = {
	"%s/",          "%s/../lib/", "%s/../lib/" MULTIARCH "/", "%s/../lib64/",
#ifdef CPR_LIBDIR
	CPR_LIBDIR "/",
#endif
};

int launch_directory(char *dir, size_t size)
{
	ssize_t n = readlink("/proc/self/exe", dir, size - 1);
	char *slash;

	if (n < 0)
		return -errno;
	dir[n] = '\0';
	slash = strrchr(dir, '/');
	if (slash)
		*slash = '\0';
	return 0;
}

/*
 * Absolute, by its soname, and without resolving that link. An upgrade replaces the file, and the next generation must
 * find the new one at the path of the first.
 */
static bool library_in(const char *directory, char real[PATH_MAX])
{
	char where[PATH_MAX], found[PATH_MAX];

	if (!realpath(directory, where))
		return false;
	for (size_t i = 0; i < countof(versions); i++) {
		struct text t = TEXT_ON(found);

		text_format(&t, "%s/%s%s", where, library_name, versions[i]);
		if (t.cut || access(found, R_OK))
			continue;
		strcpy(real, found);
		return true;
	}
	return false;
}

int launch_library(char path[PATH_MAX], struct text *why)
{
	char dir[PATH_MAX], candidate[PATH_MAX], real[PATH_MAX];
	int r = launch_directory(dir, sizeof(dir));

	if (r)
		return r;
	for (size_t i = 0; i < countof(places); i++) {
		struct text t = TEXT_ON(candidate);

		text_format(&t, places[i], dir); /* CPR_LIBDIR may not hold a per cent sign */
		if (t.cut || !library_in(candidate, real))
			continue;
		if (strpbrk(real, " :\t\n")) {
			text_format(why,
				    "%s: the loader parts LD_PRELOAD at blanks and colons; install cpr in a directory "
				    "without",
				    real);
			return -EINVAL;
		}
		strcpy(path, real);
		return 0;
	}
	text_format(why, "%s is neither beside this tool (%s) nor in the lib directory next to it", library_name, dir);
	return -ENOENT;
}

static bool is_library(const char *word)
{
	const char *slash = strrchr(word, '/');

	const char *name = slash ? slash + 1 : word;
	size_t n = strlen(library_name);

	return !strncmp(name, library_name, n) && (!name[n] || name[n] == '.');
}

/* The words of LD_PRELOAD that are AddressSanitizer's, or those that are not; ours are in neither. */
static int add_words(struct text *t, const char *from, bool asan)
{
	cleanup_free char *words = strdup(from);
	char *rest = words, *word;

	if (!words)
		return -ENOMEM;
	while ((word = strsep(&rest, " :"))) /* the loader parts at both */
		if (*word && !is_library(word) && image_is_asan(word) == asan) {
			text_add(t, t->used ? ":" : "");
			text_add(t, word);
		}
	return 0;
}

/* Ours is copied first: putenv(3) begins anew in the very memory that setenv(3) has made before. */
int launch_environment(char *const *theirs, bool (*not_taken)(const char *word))
{
	cleanup_free char **ours = NULL;
	size_t count = 0;

	while (environ && environ[count])
		count++;
	ours = calloc(count + 1, sizeof(*ours));
	if (!ours)
		return -ENOMEM;
	if (count)
		memcpy(ours, environ, count * sizeof(*ours));
	environ = NULL;
	for (; *theirs; theirs++)
		if (!not_taken(*theirs) && putenv(*theirs))
			return -ENOMEM;
	for (size_t i = 0; i < count; i++)
		if (!strncmp(ours[i], "CPR_", 4) && putenv(ours[i]))
			return -ENOMEM;
	return 0;
}

int launch_no_preload(void)
{
	const char *old = getenv("LD_PRELOAD") ? getenv("LD_PRELOAD") : "";
	size_t size = strlen(old) + 2;
	cleanup_free char *list = malloc(size);
	struct text t;
	int r;

	if (!list)
		return -ENOMEM;
	t = text_on(list, size);
	r = add_words(&t, old, true);
	if (!r)
		r = add_words(&t, old, false);
	if (!r)
		r = (*list ? setenv("LD_PRELOAD", list, 1) : unsetenv("LD_PRELOAD")) ? -errno : 0;
	return r;
}

static int let_asan_be_second(void)
{
	static const char word[] = "verify_asan_link_order=0";
	const char *old = getenv("ASAN_OPTIONS");
	cleanup_free char *options = NULL;

	if (old && strstr(old, word))
		return 0;
	if (asprintf(&options, "%s%s%s", old ? old : "", old && *old ? ":" : "", word) < 0)
		return -ENOMEM;
	return setenv("ASAN_OPTIONS", options, 1) ? -errno : 0;
}

int launch_preload(const char *library, const char *path)
{
	const char *old = getenv("LD_PRELOAD") ? getenv("LD_PRELOAD") : "";
	size_t size = strlen(library) + strlen(old) + 3;
	cleanup_free struct image *image = malloc(sizeof(*image));
	cleanup_free char *list = malloc(size);
	struct text t;
	int r;

	if (!list || !image)
		return -ENOMEM;
	t = text_on(list, size);
	r = add_words(&t, old, true);
	text_add(&t, t.used ? ":" : "");
	text_add(&t, library);
	if (!r)
		r = add_words(&t, old, false);
	if (!r && !image_read(path, image) && image->asan)
		r = let_asan_be_second();
	return r ? r : setenv("LD_PRELOAD", list, 1) ? -errno : 0;
}

static struct pidfh *pidfile;

/* The same as it came over an exec of ours: libbsd cannot take it up. */
static struct {
	int fd;
	const char *path;
} held = {.fd = -1};

/*
 * Returns the process that the file names, if it is under cpr and existed before the file was last written (else its
 * pid was reused). 0: none.
 */
static pid_t holder(const char *path)
{
	char digits[32];
	struct proc_page page;
	struct stat st;
	time_t started = 0;
	int pid;

	if (io_read_file(path, digits, sizeof(digits)) <= 0 || stat(path, &st))
		return 0;
	pid = atoi(digits);
	if (pid <= 0 || pid == getpid() || proc_page(pid, &page) || proc_started(pid, &started))
		return 0;
	return started <= st.st_mtime + 2 ? pid : 0; /* both clocks go in steps, and one of them can be set */
}

int launch_pidfile(const char *path, pid_t *other)
{
	pid_t running = holder(path);

	if (running) {
		*other = running;
		return -EEXIST;
	}
	*other = 0;
	pidfile = pidfile_open(path, 0644, other);
	if (!pidfile) /* EINVAL, EAGAIN: locked too, by one that wrote more than a number into it, or nothing yet */
		return errno == EINVAL || errno == EAGAIN ? -EEXIST : -errno;
	/* libbsd before 0.12 leaves it open across exec, whatever its manual says */
	fcntl(pidfile_fileno(pidfile), F_SETFD, FD_CLOEXEC);
	held.path = strdup(path);
	if (pidfile_write(pidfile)) {
		int error = errno;

		pidfile_remove(pidfile);
		pidfile = NULL;
		return -error;
	}
	return 0;
}

int launch_pidfile_held(const char **path)
{
	*path = held.path;
	return pidfile && held.path ? pidfile_fileno(pidfile) : held.fd;
}

void launch_pidfile_resume(int fd, const char *path)
{
	held.fd = fd;
	held.path = path;
}

/* Is it still the file that we have locked? */
static bool is_held(void)
{
	struct stat ours, there;

	return held.fd >= 0 && !fstat(held.fd, &ours) && !stat(held.path, &there) && ours.st_dev == there.st_dev &&
	       ours.st_ino == there.st_ino;
}

void launch_pidfile_remove(void)
{
	pidfile_remove(pidfile);
	pidfile = NULL;
	if (is_held())
		unlink(held.path);
	io_close(&held.fd);
	held.fd = -1;
}
