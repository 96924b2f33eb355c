/* SPDX-License-Identifier: MIT */
/* tag_path: absolute, lexically clean, never longer than a name may be. */
#include "model/tag.h"

#include "../support/files.h"

#include <errno.h>

static char dir[4096];

static void enter(void)
{
	scratch_enter(dir);
}

static void leave(void)
{
	scratch_leave(dir);
}

TestSuite(tag_path, .init = enter, .fini = leave);

static void clean(int from, const char *path, const char *expected)
{
	char out[TAG_NAME_MAX + 1] = "untouched";

	errno = EDOM;
	cr_assert_eq(tag_path(from, path, out), 0, "%s", path);
	cr_assert_str_eq(out, expected);
	cr_assert_eq(errno, EDOM);
}

static void refused(int from, const char *path, int expected)
{
	char out[TAG_NAME_MAX + 1] = "untouched";

	errno = EDOM;
	cr_assert_eq(tag_path(from, path, out), expected);
	cr_assert_str_eq(out, "untouched");
	cr_assert_eq(errno, EDOM);
}

Test(tag_path, cleans_absolute_paths)
{
	clean(AT_FDCWD, "/", "/");
	clean(AT_FDCWD, "//", "/");
	clean(AT_FDCWD, "/.", "/");
	clean(AT_FDCWD, "/..", "/");
	clean(AT_FDCWD, "/../../..", "/");
	clean(AT_FDCWD, "/a", "/a");
	clean(AT_FDCWD, "/a/", "/a");
	clean(AT_FDCWD, "///a///b///", "/a/b");
	clean(AT_FDCWD, "/a/./b/.", "/a/b");
	clean(AT_FDCWD, "/a/..", "/");
	clean(AT_FDCWD, "/a/../b", "/b");
	clean(AT_FDCWD, "/a/b/../../c", "/c");
	clean(AT_FDCWD, "/a/b/../../../../c/", "/c");
}

Test(tag_path, leaves_names_that_only_look_like_dots)
{
	clean(AT_FDCWD, "/...", "/...");
	clean(AT_FDCWD, "/..a/.b/a..", "/..a/.b/a..");
	clean(AT_FDCWD, "/a/...", "/a/...");
}

Test(tag_path, sees_relative_paths_from_the_working_directory)
{
	char expected[5000];

	snprintf(expected, sizeof(expected), "%s/a", dir);
	clean(AT_FDCWD, "a", expected);
	clean(AT_FDCWD, "./a", expected);
	clean(AT_FDCWD, "b/../a", expected);
	clean(AT_FDCWD, ".", dir);
	clean(AT_FDCWD, "./", dir);
	clean(AT_FDCWD, "x/..", dir);
	clean(AT_FDCWD, "../../../../../../../etc", "/etc");
}

Test(tag_path, sees_relative_paths_from_a_directory_descriptor)
{
	char expected[5000];
	int fd;

	cr_assert_eq(mkdir("sub", 0700), 0);
	fd = open("sub", O_PATH | O_DIRECTORY);
	snprintf(expected, sizeof(expected), "%s/sub/a", dir);
	clean(fd, "a", expected);
	snprintf(expected, sizeof(expected), "%s/a", dir);
	clean(fd, "../a", expected);
	clean(fd, "/etc//passwd", "/etc/passwd");
}

Test(tag_path, sees_relative_paths_from_the_root)
{
	int fd = open("/", O_PATH | O_DIRECTORY);

	clean(fd, "a", "/a");
	cr_assert_eq(chdir("/"), 0);
	clean(AT_FDCWD, "a", "/a");
	clean(AT_FDCWD, ".", "/");
	cr_assert_eq(chdir(dir), 0);
}

Test(tag_path, leaves_symbolic_links_as_they_are_written)
{
	char expected[5000];

	cr_assert_eq(symlink("v1", "current"), 0);
	snprintf(expected, sizeof(expected), "%s/current/log", dir);
	clean(AT_FDCWD, "current/log", expected);
}

Test(tag_path, refuses_the_empty_path_and_directories_that_are_none)
{
	int sock = socket(AF_UNIX, SOCK_STREAM, 0);

	refused(AT_FDCWD, "", -ENOENT);
	refused(12345, "a", -ENOENT);
	refused(sock, "a", -ENOENT);
}

Test(tag_path, refuses_a_relative_path_in_a_directory_that_is_gone)
{
	cr_assert_eq(mkdir("gone", 0700), 0);
	cr_assert_eq(chdir("gone"), 0);
	cr_assert_eq(rmdir("../gone"), 0);
	refused(AT_FDCWD, "a", -ENOENT);
	clean(AT_FDCWD, "/a", "/a");
}

Test(tag_path, takes_4095_bytes_and_refuses_4096)
{
	char path[TAG_NAME_MAX + 2];

	memset(path, 'a', sizeof(path));
	for (size_t i = 0; i < sizeof(path); i += 100)
		path[i] = '/';
	path[TAG_NAME_MAX] = '\0';
	clean(AT_FDCWD, path, path);
	path[TAG_NAME_MAX] = 'a';
	path[TAG_NAME_MAX + 1] = '\0';
	refused(AT_FDCWD, path, -ENAMETOOLONG);
	refused(AT_FDCWD, path + 1, -ENAMETOOLONG); /* with the directory before it */
}

Test(tag_path, measures_the_clean_path_and_not_what_was_written)
{
	static char path[3 * TAG_NAME_MAX];

	while (strlen(path) < sizeof(path) - 10)
		strcat(path, "/a/..");
	strcat(path, "/end");
	clean(AT_FDCWD, path, "/end");
}

Test(tag_path, names_an_escaped_socket_path_only_while_it_fits)
{
	const struct object sock = {.domain = AF_UNIX, .type = SOCK_STREAM};
	struct sockaddr sa = {.sa_family = AF_UNIX, .sa_data = "s"};
	char piece[201], out[TAG_NAME_MAX + 1] = "untouched";
	int r = 0;

	memset(piece, 1, 200); /* four bytes each when escaped */
	piece[200] = '\0';
	for (int depth = 0; depth < 6 && !r; depth++) {
		cr_assert_eq(mkdir(piece, 0700), 0);
		cr_assert_eq(chdir(piece), 0);
		r = tag_socket(&sock, &sa, 3, out);
	}
	cr_assert_eq(r, -ENAMETOOLONG);
	cr_assert_leq(strlen(out), TAG_NAME_MAX);
}
