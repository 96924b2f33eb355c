/* SPDX-License-Identifier: MIT */
/*
 * Claims of FIFOs, devices, files and memfds: what the default keeps, what a rule keeps, and what must be opened anew.
 */
#include "../support/api.h"
#include "../support/sockets.h"

#include <pty.h>
#include <sys/mman.h>
#include <sys/syscall.h>

#define FILES "CPR_RULES=keep file:*;"
#define LOGGING (O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC)

TEST(fifo_is_claimed_with_what_is_in_it, BOTH)
{
	const char *path = in_room("fifo");
	int fd;

	if (generation() == 1)
		MUST(mkfifo(path, 0600));
	fd = MUST(open(path, O_RDWR | O_CLOEXEC));
	if (generation() == 1) {
		mark(fd);
		write_text(fd, "in the pipe");
		next_generation();
	}
	CHECK(is_marked(fd));
	check_text(fd, "in the pipe");
}

TEST(device_is_claimed, BOTH)
{
	char name[64];
	int fd, master;
	FILE *file;

	if (generation() == 1) {
		CHECK(openpty(&master, &fd, name, NULL, NULL) == 0);
		file = fopen(in_room("name"), "we");
		CHECK(file && fputs(name, file) >= 0 && !fclose(file));
		MUST(fcntl(master, F_SETFD, FD_CLOEXEC));
		MUST(API(cpr_save_fd)("master", 0, master)); /* a terminal ends with its master */
		close(fd);
	}
	file = fopen(in_room("name"), "re");
	CHECK(file && fgets(name, sizeof(name), file) && !fclose(file));
	fd = MUST(open(name, O_RDWR | O_NOCTTY | O_CLOEXEC));
	if (generation() == 1) {
		mark(fd);
		next_generation();
	}
	CHECK(is_marked(fd));
}

TEST(null_and_its_kin_are_not_kept, BOTH, "CPR_GRACE=1")
{
	int fd = MUST(open("/dev/null", O_RDWR | O_CLOEXEC));

	if (generation() == 1) {
		mark(fd);
		MUST(open("/dev/urandom", O_RDONLY | O_CLOEXEC));
		MUST(open("/dev/zero", O_RDWR | O_CLOEXEC));
		next_generation();
	}
	CHECK(!is_marked(fd));
	CHECK(strstr(ask("status"), "orphans=0"));
}

TEST(file_without_a_rule_is_not_kept, BOTH)
{
	int fd = MUST(open(in_room("log"), LOGGING, 0600));

	if (generation() == 1) {
		mark(fd);
		next_generation();
	}
	CHECK(!is_marked(fd));
}

TEST(appended_file_is_claimed_by_rule, BOTH, FILES)
{
	int fd = MUST(open(in_room("log"), LOGGING, 0600));

	write_text(fd, generation() == 1 ? "one" : "two");
	if (generation() == 1) {
		mark(fd);
		next_generation();
	}
	CHECK(is_marked(fd));
	CHECK(has_status(fd, O_APPEND));
	CHECK(is_cloexec(fd));
	check_text(MUST(open(in_room("log"), O_RDONLY | O_CLOEXEC)), "onetwo");
}

TEST(offset_of_a_claimed_file_stays, BOTH, FILES)
{
	int fd;

	if (generation() == 1) {
		int made = MUST(open(in_room("data"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));

		write_text(made, "0123456789");
		close(made);
	}
	fd = MUST(open(in_room("data"), O_RDONLY | O_CLOEXEC));
	if (generation() == 1) {
		CHECK_INT(lseek(fd, 4, SEEK_SET), 4);
		next_generation();
	}
	check_text(fd, "456789");
}

TEST(append_follows_the_new_call, BOTH, FILES)
{
	int fd = MUST(open(in_room("log"),
			   O_WRONLY | O_CREAT | O_CLOEXEC | (generation() == 1 ? 0 : O_APPEND | O_NONBLOCK), 0600));

	if (generation() == 1) {
		mark(fd);
		next_generation();
	}
	CHECK(is_marked(fd));
	CHECK(has_status(fd, O_APPEND));
	CHECK(has_status(fd, O_NONBLOCK));
}

TEST(every_way_to_open_claims, BOTH, FILES)
{
	static const char *const names[] = {"open",  "open64",  "openat",      "openat64", "creat-not",
					    "fopen", "fopen64", "freopen-not", "syscall"};
	FILE *streams[3] = {0};
	int dir = MUST(open(getenv("WRAP_ROOM"), O_RDONLY | O_DIRECTORY | O_CLOEXEC)), fd[9];

	fd[0] = MUST(open(in_room(names[0]), LOGGING, 0600));
	fd[1] = MUST(open64(in_room(names[1]), LOGGING, 0600));
	fd[2] = MUST(openat(dir, names[2], LOGGING, 0600));
	fd[3] = MUST(openat64(dir, names[3], LOGGING, 0600));
	fd[4] = MUST(creat(in_room(names[4]), 0600)); /* truncates */
	streams[0] = fopen(in_room(names[5]), "ae");
	streams[1] = fopen64(in_room(names[6]), "ae");
	streams[2] = freopen(in_room(names[7]), "ae", fopen("/dev/null", "we")); /* libc opens within itself */
	CHECK(streams[0] && streams[1] && streams[2]);
	for (int i = 0; i < 3; i++)
		fd[5 + i] = fileno(streams[i]);
	fd[8] = MUST(syscall(SYS_openat, AT_FDCWD, in_room(names[8]), LOGGING, 0600));
	for (int i = 0; i < 9; i++) {
		bool claimed = generation() == 2 && !strstr(names[i], "-not");

		if (generation() == 2 && is_marked(fd[i]) != claimed) {
			dprintf(STDERR_FILENO, "%s\n", names[i]);
			CHECK(!"claimed as it should be");
		}
		mark(fd[i]);
	}
	if (generation() == 1)
		next_generation();
}

/*
 * Generation 1 opens the file with flags1, and leaves it; generation 2 opens it with flags2, and must not get that
 * descriptor.
 */
static void not_claimed(int flags1, int flags2)
{
	int made, fd;

	if (generation() == 1) {
		made = MUST(open(in_room("log"), O_WRONLY | O_CREAT | O_CLOEXEC, 0600));
		write_text(made, "text");
		close(made);
		fd = MUST(open(in_room("log"), flags1 | O_CLOEXEC));
		mark(fd);
		next_generation();
	}
	fd = MUST(open(in_room("log"), flags2 | O_CLOEXEC));
	CHECK(!is_marked(fd));
}

TEST(other_access_mode_is_not_claimed, BOTH, FILES)
{
	not_claimed(O_RDONLY, O_RDWR);
}

TEST(truncating_open_is_not_claimed, BOTH, FILES)
{
	not_claimed(O_WRONLY, O_WRONLY | O_TRUNC);
	CHECK_INT(lseek(MUST(open(in_room("log"), O_RDONLY | O_CLOEXEC)), 0, SEEK_END), 0);
}

TEST(opath_is_not_claimed, BOTH, FILES)
{
	int fd;

	if (generation() == 1)
		not_claimed(O_RDONLY, O_RDONLY);
	fd = MUST(open(in_room("log"), O_PATH | O_CLOEXEC));
	CHECK_FAILS(read(fd, (char[1]){0}, 1), EBADF);
}

TEST(exclusive_creation_still_fails, BOTH, FILES)
{
	if (generation() == 1)
		not_claimed(O_RDONLY, O_RDONLY);
	CHECK_FAILS(open(in_room("log"), O_RDONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600), EEXIST);
}

TEST(rotated_file_is_opened_anew, BOTH, FILES)
{
	int fd = MUST(open(in_room("log"), LOGGING, 0600));

	if (generation() == 1) {
		write_text(fd, "old");
		mark(fd);
		MUST(rename(in_room("log"), in_room("log.1")));
		next_generation();
	}
	CHECK(!is_marked(fd));
	CHECK_INT(lseek(fd, 0, SEEK_END), 0);
	write_text(fd, "new");
	check_text(MUST(open(in_room("log"), O_RDONLY | O_CLOEXEC)), "new");
}

/* Two opens of one file are two descriptions with two offsets. */
TEST(a_file_opened_twice_is_claimed_in_order, BOTH, FILES)
{
	int first, second;

	if (generation() == 1)
		close(MUST(open(in_room("log"), LOGGING, 0600)));
	first = MUST(open(in_room("log"), O_WRONLY | O_CLOEXEC));
	second = MUST(open(in_room("log"), O_WRONLY | O_CLOEXEC));
	if (generation() == 1) {
		CHECK_INT(lseek(first, 11, SEEK_SET), 11);
		CHECK_INT(lseek(second, 22, SEEK_SET), 22);
		next_generation();
	}
	CHECK_INT(lseek(first, 0, SEEK_CUR), 11);
	CHECK_INT(lseek(second, 0, SEEK_CUR), 22);
}

TEST(memfd_is_claimed_by_rule, BOTH, "CPR_RULES=keep memfd:*")
{
	int fd = MUST(memfd_create("cache", MFD_CLOEXEC));

	if (generation() == 1) {
		write_text(fd, "hot");
		CHECK_INT(lseek(fd, 0, SEEK_SET), 0);
		next_generation();
	}
	check_text(fd, "hot");
	CHECK_INT(lseek(MUST(memfd_create("cache", MFD_CLOEXEC)), 0, SEEK_END), 0); /* another is another */
}

TEST(memfd_without_a_rule_is_new, BOTH)
{
	int fd = MUST(memfd_create("cache", MFD_CLOEXEC));

	if (generation() == 1) {
		write_text(fd, "hot");
		next_generation();
	}
	CHECK_INT(lseek(fd, 0, SEEK_END), 0);
}

TEST(a_dropped_name_is_not_kept, BOTH, "CPR_RULES=drop fifo:*")
{
	int fd;

	if (generation() == 1)
		MUST(mkfifo(in_room("fifo"), 0600));
	fd = MUST(open(in_room("fifo"), O_RDWR | O_CLOEXEC));
	if (generation() == 1) {
		mark(fd);
		next_generation();
	}
	CHECK(!is_marked(fd));
}
