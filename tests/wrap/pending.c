/* SPDX-License-Identifier: MIT */
/*
 * What is opened and bound is looked at late. By then the number may be another's, the path gone, and a vfork child
 * have been at it.
 */
#include "../support/api.h"
#include "../support/sockets.h"

#include <limits.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

static int fifo(const char *path)
{
	if (mkfifo(path, 0600))
		CHECK_INT(errno, EEXIST);
	return MUST(open(path, O_RDWR | O_CLOEXEC));
}

static int found(const char *path, int id)
{
	char name[PATH_MAX];

	snprintf(name, sizeof(name), "fifo:%s", path);
	return API(cpr_find_fd)(name, id);
}

TEST(a_fifo_that_was_moved_to_another_number_is_kept, BOTH)
{
	int fd = fifo(in_room("fifo"));

	if (generation() == 1) {
		mark(fd);
		MUST(dup2(fd, 50));
		close(fd);
		write_text(50, "in the pipe");
		next_generation();
	}
	CHECK(is_marked(fd));
	check_text(fd, "in the pipe");
}

TEST(a_fifo_of_a_relative_path_is_kept, BOTH)
{
	int fd;

	CHECK(!chdir(getenv("WRAP_ROOM")));
	fd = fifo("fifo");
	CHECK(!chdir("/"));
	if (generation() == 1) {
		mark(fd);
		next_generation();
	}
	CHECK(is_marked(fd));
}

TEST(a_fifo_of_a_long_path_is_kept, BOTH)
{
	char path[PATH_MAX];
	int fd, n = snprintf(path, sizeof(path), "%s", getenv("WRAP_ROOM"));

	while (n < 300) {
		n += snprintf(path + n, sizeof(path) - (size_t)n, "/a-rather-long-name-of-a-directory");
		CHECK(!mkdir(path, 0700) || errno == EEXIST);
	}
	snprintf(path + n, sizeof(path) - (size_t)n, "/fifo");
	fd = fifo(path);
	if (generation() == 1) {
		mark(fd);
		next_generation();
	}
	CHECK(is_marked(fd));
}

TEST(a_path_written_badly_is_the_same_path, BOTH)
{
	char path[PATH_MAX];
	int fd;

	snprintf(path, sizeof(path), "%s/.//x/../fifo", getenv("WRAP_ROOM"));
	CHECK(!mkdir(in_room("x"), 0700) || errno == EEXIST);
	fd = fifo(generation() == 1 ? path : in_room("fifo"));
	if (generation() == 1) {
		mark(fd);
		next_generation();
	}
	CHECK(is_marked(fd));
}

TEST(a_fifo_whose_path_names_another_now_is_opened_anew, BOTH)
{
	int fd = fifo(in_room("fifo"));

	if (generation() == 1) {
		mark(fd);
		CHECK(!rename(in_room("fifo"), in_room("old")));
		CHECK(!mkfifo(in_room("fifo"), 0600));
		CHECK_INT(found(in_room("fifo"), 0), -1);
		next_generation();
	}
	CHECK(!is_marked(fd));
	CHECK(strstr(ask("status"), "orphans=0"));
}

TEST(a_number_that_became_a_pipe_is_no_fifo, ONCE)
{
	int fd = fifo(in_room("fifo")), ends[2];

	close(fd);
	CHECK(!pipe(ends));
	CHECK_INT(ends[0], fd);
	CHECK(!in_table(fd));
	CHECK_INT(table_size(), 0);
}

TEST(a_number_that_became_a_device_is_no_fifo, ONCE)
{
	int fd = fifo(in_room("fifo"));

	close(fd);
	CHECK_INT(MUST(open("/dev/zero", O_RDONLY | O_CLOEXEC)), fd);
	CHECK(!in_table(fd));
}

TEST(ids_count_in_the_order_of_the_opens, ONCE)
{
	int low = MUST(open("/dev/null", O_RDONLY | O_CLOEXEC)), first = fifo(in_room("fifo")), second;

	close(low);
	second = fifo(in_room("fifo"));
	CHECK_INT(second, low);
	CHECK_INT(found(in_room("fifo"), 0), first);
	CHECK_INT(found(in_room("fifo"), 1), second);
}

TEST(a_name_of_the_program_stands_before_the_paths, ONCE)
{
	int fd = fifo(in_room("fifo"));

	MUST(API(cpr_save_fd)("its own", 0, fd));
	CHECK_INT(found(in_room("fifo"), 0), -1);
	CHECK_INT(API(cpr_find_fd)("its own", 0), fd);
	CHECK_INT(table_size(), 1);
}

TEST(a_vfork_child_that_reopens_a_fifos_number_leaves_it, ONCE)
{
	int fd = fifo(in_room("fifo")), pid = vfork(), status;

	if (!pid) {
		close(fd);
		_exit(open("/dev/null", O_RDONLY) == fd ? 0 : 1);
	}
	CHECK_INT(waitpid(pid, &status, 0), pid);
	CHECK_INT(status, 0);
	CHECK_INT(found(in_room("fifo"), 0), fd);
}

TEST(a_vfork_child_that_closes_a_listener_leaves_it, ONCE)
{
	int fd = listening(inet4("127.0.0.1", port(0)), SOCK_STREAM), pid = vfork(), status;

	if (!pid)
		_exit(close(fd) ? 1 : 0);
	CHECK_INT(waitpid(pid, &status, 0), pid);
	CHECK_INT(status, 0);
	CHECK(in_table(fd));
}

TEST(a_listener_that_was_closed_leaves_nothing, ONCE)
{
	int fd = listening(inet4("127.0.0.1", 0), SOCK_STREAM), again;

	close(fd);
	again = MUST(socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0));
	CHECK_INT(again, fd);
	CHECK_INT(table_size(), 0);
}

TEST(a_bound_socket_that_connects_is_a_clients, ONCE)
{
	struct address to = inet4("127.0.0.1", port(0));
	int fd = bound(inet4("127.0.0.1", 0), SOCK_DGRAM);

	CHECK_INT(connect(fd, &to.any, to.len), 0);
	CHECK(!in_table(fd));
	CHECK_INT(table_size(), 0);
}

TEST(a_childs_notes_are_its_own, ONCE)
{
	int fd = fifo(in_room("fifo")), pid = MUST(fork()), status;

	if (!pid) {
		CHECK_INT(found(in_room("fifo"), 0), fd);
		close(fd);
		CHECK_INT(table_size(), 0);
		_exit(0);
	}
	CHECK_INT(waitpid(pid, &status, 0), pid);
	CHECK_INT(status, 0);
	CHECK_INT(found(in_room("fifo"), 0), fd);
}
