/* SPDX-License-Identifier: MIT */
/* The public API, every function and every errno that cpr.h promises. */
#include "../support/api.h"
#include "../support/sockets.h"

#include <pthread.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#define save API(cpr_save_fd)
#define find API(cpr_find_fd)
#define forget API(cpr_delete_fd)
#define resave API(cpr_resave_fd)
#define open_fd API(cpr_open_fd)
#define walk API(cpr_walk_fd)

enum { NAME_MAX_BYTES = 4095 };

static const char *long_name(size_t n)
{
	static char name[8192];

	memset(name, 'n', n);
	name[n] = '\0';
	return name;
}

/* ---- within one generation ---- */

TEST(state_init_is_idempotent, ONCE)
{
	CHECK_INT(API(cpr_state_init)(), 0);
	CHECK_INT(save("x", 0, null_fd()), 0);
	CHECK_INT(API(cpr_state_init)(), 0);
	CHECK(find("x", 0) >= 0);
	CHECK_INT(API(cpr_generation)(), 1);
	CHECK(strchr(API(cpr_version)(), '.'));
}

TEST(save_find_and_delete, ONCE)
{
	int fd = null_fd(), other = null_fd();
	char name[] = "vfio";

	CHECK_INT(save(name, 3, fd), 0);
	name[0] = 'x'; /* the string was copied */
	CHECK_INT(find("vfio", 3), fd);
	CHECK_INT(find("vfio", 3), fd);
	CHECK_FAILS(find("vfio", 2), ENOENT);
	CHECK_FAILS(find("vfi", 3), ENOENT);
	CHECK_INT(save("vfio", -1, other), 0); /* any id */
	CHECK_INT(find("vfio", -1), other);
	CHECK_INT(forget("vfio", 3), 0);
	CHECK_FAILS(forget("vfio", 3), ENOENT);
	CHECK_FAILS(find("vfio", 3), ENOENT);
	CHECK(really_open(fd)); /* closes nothing */
	CHECK_INT(find("vfio", -1), other);
}

TEST(save_says_eexist, ONCE)
{
	int fd = null_fd(), other = null_fd();

	CHECK_INT(save("a", 0, fd), 0);
	CHECK_FAILS(save("a", 0, other), EEXIST);
	CHECK_FAILS(save("a", 0, fd), EEXIST);
	CHECK_INT(find("a", 0), fd);
	CHECK_INT(table_size(), 1);
}

/* As in QEMU. To find it by one is to have it: the others find the same. */
TEST(one_descriptor_has_several_tags, BOTH, "CPR_GRACE=1")
{
	int fd;

	if (generation() == 1) {
		fd = null_fd();
		CHECK_INT(save("a", 0, fd), 0);
		CHECK_INT(save("b", 7, fd), 0);
		CHECK_INT(save("c", 0, fd), 0);
		CHECK_INT(save("d", 0, fd), 0);
		CHECK_INT(resave("c", 0, fd), 0);
		CHECK_FAILS(save("c", 0, fd), EEXIST);
		CHECK_FAILS(save("c", 0, null_fd()), EEXIST);
		CHECK_INT(table_size(), 4);
		CHECK_INT(forget("a", 0), 0);
		CHECK_FAILS(find("a", 0), ENOENT);
		CHECK_INT(find("d", 0), fd);
		next_generation();
	}
	fd = MUST(find("b", 7));
	CHECK(is_cloexec(fd));
	CHECK(strstr(ask("status"), "orphans=0"));
	if (generation() == 2)
		next_generation();
	CHECK_INT(find("c", 0), fd);
	CHECK_INT(find("d", 0), fd);
	CHECK_INT(table_size(), 3);
	CHECK_INT(forget("b", 7), 0);
	CHECK_INT(find("c", 0), fd);
	CHECK_INT(close(fd), 0);
	CHECK_FAILS(find("c", 0), ENOENT);
	CHECK_FAILS(find("d", 0), ENOENT);
	CHECK_INT(table_size(), 0);
}

TEST(a_duplicate_has_a_tag_of_its_own, BOTH)
{
	if (generation() == 1) {
		int fd = null_fd(), copy = MUST(fcntl(fd, F_DUPFD_CLOEXEC, 0));

		CHECK_INT(save("first", 0, fd), 0);
		CHECK_INT(save("copy", 0, copy), 0);
		CHECK_INT(find("first", 0), fd);
		CHECK_INT(find("copy", 0), copy);
		put("copy", copy);
		close(fd);
		CHECK_FAILS(find("first", 0), ENOENT);
		next_generation();
	}
	CHECK_FAILS(find("first", 0), ENOENT);
	CHECK_INT(find("copy", 0), get("copy"));
}

TEST(several_tags_of_one_descriptor_are_saved_and_loaded, ONCE)
{
	int fd = null_fd(), state;

	CHECK_INT(save("a", 0, fd), 0);
	CHECK_INT(save("b", 0, fd), 0);
	state = MUST(API(cpr_state_save)());
	CHECK_INT(forget("a", 0), 0);
	CHECK_FAILS(API(cpr_state_load)(state), EEXIST);
	CHECK_INT(forget("b", 0), 0);
	CHECK_INT(API(cpr_state_load)(state), 0);
	CHECK_FAILS(close(fd), EBADF); /* handed over, not claimed */
	CHECK_INT(find("b", 0), fd);
	CHECK_INT(find("a", 0), fd);
	CHECK_INT(close(fd), 0);
	CHECK_INT(table_size(), 0);
}

TEST(save_says_ebadf, ONCE)
{
	int fd = null_fd();

	close(fd);
	CHECK_FAILS(save("a", 0, fd), EBADF);
	CHECK_FAILS(save("a", 0, -1), EBADF);
	CHECK_FAILS(save("a", 0, 0x7fffffff), EBADF);
	CHECK_FAILS(resave("a", 0, fd), EBADF);
	CHECK_FAILS(find("a", 0), ENOENT);
}

TEST(names_that_are_no_names_say_einval, ONCE)
{
	int fd = null_fd();

	CHECK_FAILS(save("", 0, fd), EINVAL);
	CHECK_FAILS(save(NULL, 0, fd), EINVAL);
	CHECK_FAILS(save(long_name(NAME_MAX_BYTES + 1), 0, fd), EINVAL);
	CHECK_FAILS(find("", 0), EINVAL);
	CHECK_FAILS(find(NULL, 0), EINVAL);
	CHECK_FAILS(forget("", 0), EINVAL);
	CHECK_FAILS(resave("", 0, fd), EINVAL);
	CHECK_FAILS(open_fd("/dev/null", O_RDONLY, 0, "", 0), EINVAL);
	CHECK_FAILS(walk(NULL, NULL), EINVAL);
	CHECK_INT(table_size(), 0);
	CHECK_INT(save(long_name(NAME_MAX_BYTES), 0, fd), 0);
	CHECK_INT(find(long_name(NAME_MAX_BYTES), 0), fd);
}

TEST(resave_agrees_or_says_eexist, ONCE)
{
	int fd = null_fd(), other = null_fd();

	CHECK_INT(resave("a", 0, fd), 0);
	CHECK_INT(resave("a", 0, fd), 0);
	CHECK_FAILS(resave("a", 0, other), EEXIST);
	CHECK_INT(find("a", 0), fd);
	CHECK_INT(table_size(), 1);
}

TEST(what_was_closed_is_not_found, ONCE)
{
	int fd = null_fd();

	CHECK_INT(save("a", 0, fd), 0);
	close(fd);
	CHECK_FAILS(find("a", 0), ENOENT);
	CHECK_INT(null_fd(), fd);
	CHECK_FAILS(find("a", 0), ENOENT);
	CHECK_INT(save("a", 0, fd), 0);
}

TEST(save_names_a_listener_anew, BOTH)
{
	struct address a = inet4("127.0.0.1", port(0));
	int fd;

	if (generation() == 1) {
		fd = listening(a, SOCK_STREAM);
		put("inode", inode_of(fd));
		CHECK_INT(save("mine", 7, fd), 0);
		CHECK_INT(table_size(), 1);
		next_generation();
	}
	CHECK_INT(inode_of(MUST(find("mine", 7))), get("inode"));
}

TEST(open_fd_finds_or_opens, BOTH)
{
	int fd = MUST(open_fd(in_room("data"), O_RDWR | O_CREAT | O_CLOEXEC, 0600, "data", 1));

	CHECK_INT(open_fd(in_room("other"), O_RDWR, 0, "data", 1), fd); /* the tag counts, not the path */
	if (generation() == 1) {
		mark(fd);
		CHECK_FAILS(open_fd(in_room("other"), O_RDWR, 0, "data", 2), ENOENT);
		CHECK_INT(table_size(), 1);
		next_generation();
	}
	CHECK(is_marked(fd));
}

/* ---- walking ---- */

struct seen {
	int calls, last_id, error;
};

static bool stop_at_third(const char *name, int id, int fd, void *arg)
{
	struct seen *seen = arg;

	CHECK(!strcmp(name, "walked") && fd >= 0);
	CHECK_INT(id, seen->last_id + 1); /* oldest first */
	seen->last_id = id;
	return ++seen->calls < 3;
}

static bool call_back_in(const char *name, int id, int fd, void *arg)
{
	struct seen *seen = arg;

	CHECK_FAILS(save("inner", 0, fd), EDEADLK);
	CHECK_FAILS(find(name, id), EDEADLK);
	CHECK_FAILS(forget(name, id), EDEADLK);
	CHECK_FAILS(resave(name, id, fd), EDEADLK);
	CHECK_FAILS(walk(call_back_in, arg), EDEADLK);
	CHECK_FAILS(API(cpr_state_save)(), EDEADLK);
	CHECK_FAILS(API(cpr_state_load)(fd), EDEADLK);
	seen->calls++;
	return true;
}

TEST(walk_goes_through_all_and_stops_when_told, ONCE)
{
	struct seen seen = {.last_id = -1};

	for (int i = 0; i < 10; i++)
		CHECK_INT(save("walked", i, null_fd()), 0);
	CHECK_INT(table_size(), 10);
	CHECK_INT(walk(stop_at_third, &seen), 1);
	CHECK_INT(seen.calls, 3);
	seen.calls = 0;
	CHECK_INT(walk(call_back_in, &seen), 0);
	CHECK_INT(seen.calls, 10);
	CHECK_INT(find("walked", 9) >= 0, 1);
}

TEST(walk_sees_what_the_wrappers_tagged, BOTH)
{
	int fd;

	if (generation() == 1) {
		fd = listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);
		CHECK(in_table(fd));
		put("fd", fd);
		next_generation();
	}
	CHECK(in_table((int)get("fd"))); /* handed over and not claimed */
}

/* ---- across generations ---- */

enum { TAGS = 1000 };

TEST(a_thousand_tags_are_found, BOTH)
{
	int fd = null_fd();

	for (int i = 0; i < TAGS && generation() == 1; i++) {
		int copy = MUST(memfd_create("tag", MFD_CLOEXEC));

		CHECK_INT(lseek(copy, i, SEEK_SET), i);
		CHECK_INT(save(i % 2 ? "odd" : "even", i / 2, copy), 0);
	}
	close(fd);
	if (generation() == 1)
		next_generation();
	for (int i = TAGS - 1; i >= 0; i--) {
		fd = MUST(find(i % 2 ? "odd" : "even", i / 2));
		CHECK_INT(lseek(fd, 0, SEEK_CUR), i);
		CHECK(is_cloexec(fd));
	}
	CHECK_INT(table_size(), TAGS);
	CHECK(strstr(ask("status"), "orphans=0"));
	if (generation() == 2)
		next_generation();
}

TEST(an_api_tag_is_hidden_until_it_is_found, BOTH)
{
	int fd = kept_by_the_last("mine", 0);

	CHECK_FAILS(close(fd), EBADF);
	CHECK_FAILS(save("mine", 0, null_fd()), EEXIST);
	CHECK_INT(find("mine", 0), fd);
	CHECK_INT(close(fd), 0);
	CHECK_FAILS(find("mine", 0), ENOENT);
}

TEST(the_programs_own_cloexec_comes_back_with_find, BELL)
{
	int with, without;

	if (generation() == 1) {
		with = null_fd();
		without = MUST(open("/dev/null", O_RDWR));
		CHECK_INT(save("with", 0, with), 0);
		CHECK_INT(save("without", 0, without), 0);
		next_generation();
	}
	with = MUST(find("with", 0));
	without = MUST(find("without", 0));
	CHECK(is_cloexec(with));
	CHECK(!is_cloexec(without));
}

TEST(a_deleted_tag_is_not_handed_over, BOTH)
{
	if (generation() == 1) {
		int fd = null_fd();

		CHECK_INT(save("gone", 0, fd), 0);
		CHECK_INT(forget("gone", 0), 0);
		next_generation();
	}
	CHECK_FAILS(find("gone", 0), ENOENT);
	CHECK_INT(table_size(), 0);
}

TEST(an_orphan_may_be_deleted, BOTH)
{
	if (generation() == 1) {
		CHECK_INT(save("gone", 0, null_fd()), 0);
		next_generation();
	}
	CHECK_INT(forget("gone", 0), 0);
	CHECK_FAILS(find("gone", 0), ENOENT);
	CHECK_INT(table_size(), 0);
}

/* A system call that changes nothing, and that no other code here makes. */
enum { MARK = -77, SAVED = 3000, CALLS_OF_EACH = 5, CALLS_BESIDE = 1000 };

static void mark_the_end(void)
{
	CHECK_FAILS((int)syscall(SYS_getpgid, MARK), ESRCH);
}

/* Counts the system calls of its parent's first thread from this one until it marks the end, over its exec. */
static void count_calls(int ready)
{
	struct __ptrace_syscall_info info;
	int stops = 0, status, parent = getppid();

	MUST(ptrace(PTRACE_SEIZE, parent, NULL, PTRACE_O_TRACESYSGOOD));
	MUST(ptrace(PTRACE_INTERRUPT, parent, NULL, NULL));
	close(ready);
	while (waitpid(parent, &status, __WALL) == parent && WIFSTOPPED(status)) {
		bool call = WSTOPSIG(status) == (SIGTRAP | 0x80), event = status >> 16;

		stops += call;
		if (call && ptrace(PTRACE_GET_SYSCALL_INFO, parent, sizeof(info), &info) > 0 &&
		    info.op == PTRACE_SYSCALL_INFO_ENTRY && info.entry.nr == SYS_getpgid &&
		    (int)info.entry.args[0] == MARK)
			break;
		MUST(ptrace(PTRACE_SYSCALL, parent, NULL, call || event ? 0 : WSTOPSIG(status)));
	}
	put("calls", stops / 2);
	_exit(0); /* which lets the parent go on */
}

TEST(an_exec_takes_at_most_five_calls_for_each_descriptor, EXEC)
{
	struct rlimit limit;
	int ready[2], status;

	if (generation() == 1) {
		MUST(getrlimit(RLIMIT_NOFILE, &limit));
		limit.rlim_cur = limit.rlim_cur < SAVED + 100 ? SAVED + 100 : limit.rlim_cur;
		MUST(setrlimit(RLIMIT_NOFILE, &limit));
		for (int i = 0; i < SAVED; i++)
			CHECK_INT(save("many", i, null_fd()), 0);
		MUST(pipe2(ready, O_CLOEXEC));
		prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
		if (!fork())
			count_calls(ready[1]);
		close(ready[1]);
		CHECK_INT(read(ready[0], &status, 1), 0); /* it is traced from here on */
		next_generation();
	}
	for (int i = 0; i < SAVED; i++)
		CHECK(find("many", i) >= 0);
	mark_the_end();
	MUST(wait(&status));
	fprintf(stderr, "%ld system calls for %d descriptors\n", get("calls"), SAVED);
	CHECK(get("calls") > SAVED && get("calls") < CALLS_OF_EACH * SAVED + CALLS_BESIDE);
}
