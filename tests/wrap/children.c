/* SPDX-License-Identifier: MIT */
/*
 * Children: no descriptor that is kept leaks into one, and what one does to its descriptors is not done to its parent's
 * table.
 */
#include "../support/api.h"
#include "../support/sockets.h"

#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* What a stranger sees: sh and readlink know nothing of us. $$ is the shell, also when it execs the last command. */
#define LOOK "readlink /proc/$$/fd/* >'%s'; env >>'%s'"

static char look_command[1200];

static const char *look(const char *name)
{
	snprintf(look_command, sizeof(look_command), LOOK, in_room(name), in_room(name));
	return look_command;
}

static void ended_well(int pid)
{
	int status;

	CHECK_INT(waitpid(pid, &status, 0), pid);
	CHECK_INT(status, 0);
}

/* What the stranger wrote has neither the listener nor a state, and some of what it should have. */
static void saw_nothing(const char *name, long inode)
{
	char bytes[65536], socket_name[64];
	int fd = MUST(open(in_room(name), O_RDONLY | O_CLOEXEC));
	ssize_t n = read(fd, bytes, sizeof(bytes) - 1);

	close(fd);
	CHECK(n > 0);
	bytes[n] = '\0';
	snprintf(socket_name, sizeof(socket_name), "socket:[%ld]", inode);
	CHECK(strstr(bytes, "pipe:["));
	CHECK(strstr(bytes, "WRAP_ROOM="));
	CHECK(!strstr(bytes, socket_name));
	CHECK(!strstr(bytes, "memfd:"));
	CHECK(!strstr(bytes, "CPR_STATE_FD"));
}

/* A generation with a claimed listener and, at its start, an unclaimed one: the orphan must not leak either. */
static long claimed_and_orphan(void)
{
	int fd = listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);

	if (generation() == 1) {
		put("orphan", inode_of(listening(inet4("127.0.0.1", port(1)), SOCK_STREAM)));
		next_generation();
	}
	return inode_of(fd);
}

TEST(system_passes_nothing_on, BOTH)
{
	long inode = claimed_and_orphan();

	CHECK_INT(system(look("seen")), 0);
	saw_nothing("seen", inode);
	saw_nothing("seen", get("orphan"));
}

TEST(popen_passes_nothing_on, BOTH)
{
	long inode = claimed_and_orphan();
	FILE *pipe = popen(look("seen"), "r");

	CHECK(pipe && pclose(pipe) == 0);
	saw_nothing("seen", inode);
	saw_nothing("seen", get("orphan"));
}

TEST(posix_spawn_passes_nothing_on, BOTH)
{
	long inode = claimed_and_orphan();
	char *argv[] = {"sh", "-c", (char *)look("seen"), NULL};
	pid_t pid;

	CHECK_INT(posix_spawn(&pid, "/bin/sh", NULL, NULL, argv, environ), 0);
	ended_well(pid);
	saw_nothing("seen", inode);
	CHECK_INT(posix_spawnp(&pid, "sh", NULL, NULL, argv, environ), 0);
	ended_well(pid);
	saw_nothing("seen", get("orphan"));
}

TEST(fork_and_exec_pass_nothing_on, BOTH)
{
	long inode = claimed_and_orphan();
	const char *command = look("seen");
	pid_t pid = MUST(fork());

	if (!pid) {
		execl("/bin/sh", "sh", "-c", command, (char *)NULL);
		_exit(1);
	}
	ended_well(pid);
	saw_nothing("seen", inode);
	saw_nothing("seen", get("orphan"));
}

TEST(vfork_and_exec_pass_nothing_on, BOTH)
{
	long inode = claimed_and_orphan();
	const char *command = look("seen");
	pid_t pid = vfork();

	if (!pid) {
		execl("/bin/sh", "sh", "-c", command, (char *)NULL);
		_exit(1);
	}
	ended_well(pid);
	saw_nothing("seen", inode);
	saw_nothing("seen", get("orphan"));
}

/* A program that means to pass a listener to its child (inetd does) still can. */
TEST(a_listener_without_cloexec_is_the_childs_too, ONCE)
{
	int fd = listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);
	char command[128];

	MUST(fcntl(fd, F_SETFD, 0));
	snprintf(command, sizeof(command), "readlink /proc/$$/fd/%d | grep -q '^socket:\\[%ld]$'", fd, inode_of(fd));
	CHECK_INT(system(command), 0);
}

/* Its own image in a child is no next generation: nginx -t, a worker that execs itself, an upgrade by fork and exec. */
TEST(exec_of_itself_in_a_child_is_a_generation_1, ONCE)
{
	int fd, pid;

	if (getenv("WRAP_IN_CHILD")) {
		CHECK_INT(generation(), 1);
		CHECK_INT(table_size(), 0);
		_exit(really_holds(get("inode")) ? 3 : 0);
	}
	fd = listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);
	put("inode", inode_of(fd));
	pid = MUST(fork());
	if (!pid) {
		setenv("WRAP_IN_CHILD", "1", 1);
		execv(arguments[0], arguments);
		_exit(1);
	}
	ended_well(pid);
}

/* ---- a child's descriptors are not its parent's ---- */

/* A listener that the table holds, and that a child must not take out of it. */
static int tabled(void)
{
	int fd = listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);

	CHECK(in_table(fd));
	return fd;
}

static void still_tabled(int fd, long inode)
{
	CHECK(in_table(fd));
	CHECK_INT(inode_of(fd), inode);
	CHECK_INT(table_size(), 1);
}

TEST(a_vfork_child_that_closes_and_dups_leaves_the_table, ONCE)
{
	int fd = tabled(), pid;
	long inode = inode_of(fd);

	pid = vfork();
	if (!pid) {
		close(fd);
		dup2(STDIN_FILENO, fd);
		socket(AF_UNIX, SOCK_DGRAM, 0);
		closefrom(3);
		_exit(0);
	}
	ended_well(pid);
	still_tabled(fd, inode);
}

TEST(a_fork_child_that_closes_and_dups_leaves_the_table, ONCE)
{
	int fd = tabled(), pid;
	long inode = inode_of(fd);

	pid = MUST(fork());
	if (!pid) {
		close(fd);
		CHECK_INT(table_size(), 0);
		CHECK_INT(listening(inet4("127.0.0.1", port(1)), SOCK_STREAM), fd);
		CHECK(in_table(fd));
		_exit(0);
	}
	ended_well(pid);
	still_tabled(fd, inode);
}

/* clone(2) past libc: no pthread_atfork handler is run. */
TEST(a_raw_clone_child_has_a_table_of_its_own, ONCE)
{
	int fd = tabled(), pid;
	long inode = inode_of(fd);

	pid = MUST(syscall(SYS_clone, SIGCHLD, 0, 0, 0, 0));
	if (!pid) {
		close(fd);
		_exit(in_table(fd) || table_size() ? 1 : 0);
	}
	ended_well(pid);
	still_tabled(fd, inode);
}

static int close_it(void *arg)
{
	close(*(int *)arg);
	return 0;
}

/* The child shares the memory and not the descriptors, as a container runtime's does. */
TEST(a_clone_vm_child_leaves_the_table, ONCE)
{
	int fd = tabled(), pid;
	long inode = inode_of(fd);
	char *stack = mmap(NULL, 65536, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(stack != MAP_FAILED);
	pid = MUST(clone(close_it, stack + 65536, CLONE_VM | SIGCHLD, &fd));
	ended_well(pid);
	still_tabled(fd, inode);
}

TEST(spawn_file_actions_leave_the_table, ONCE)
{
	int fd = tabled();
	long inode = inode_of(fd);
	char *argv[] = {"true", NULL};
	posix_spawn_file_actions_t actions;
	pid_t pid;

	CHECK_INT(posix_spawn_file_actions_init(&actions), 0);
	CHECK_INT(posix_spawn_file_actions_addclose(&actions, fd), 0);
	CHECK_INT(posix_spawn_file_actions_adddup2(&actions, STDIN_FILENO, fd), 0);
	CHECK_INT(posix_spawnp(&pid, "true", &actions, NULL, argv, environ), 0);
	ended_well(pid);
	posix_spawn_file_actions_destroy(&actions);
	still_tabled(fd, inode);
}

TEST(a_vfork_child_is_told_eperm_by_the_api, ONCE)
{
	int (*save)(const char *, int, int) = API(cpr_save_fd), fd = tabled(), pid;

	pid = vfork();
	if (!pid)
		_exit(save("x", 0, 0) == -1 && errno == EPERM ? 0 : 1);
	ended_well(pid);
	still_tabled(fd, inode_of(fd));
}

TEST(a_vfork_child_may_find, ONCE)
{
	int (*find)(const char *, int) = API(cpr_find_fd), fd = MUST(open("/dev/null", O_RDONLY | O_CLOEXEC)), pid;

	CHECK_INT(API(cpr_save_fd)("x", 0, fd), 0);
	pid = vfork();
	if (!pid)
		_exit(find("x", 0) == fd && find("y", 0) == -1 && errno == ENOENT ? 0 : 1);
	ended_well(pid);
	CHECK_INT(find("x", 0), fd);
}

/* ---- a child that is born while a generation tries to leave ---- */

static _Atomic bool done;

static void *keep_failing(void *arg)
{
	int *failures = arg;

	while (!done) {
		CHECK_FAILS(execv(arguments[0], arguments), EACCES);
		++*failures;
	}
	return NULL;
}

TEST(no_child_is_born_with_what_a_failing_exec_opens, ONCE)
{
	int fd = listening(inet4("127.0.0.1", port(0)), SOCK_STREAM), failures = 0;
	long inode = inode_of(fd);
	pthread_t thread;
	char command[128];

	snprintf(command, sizeof(command), "! readlink /proc/$$/fd/* | grep -q -e 'socket:\\[%ld]' -e memfd:cpr.state",
		 inode);
	MUST(chmod(arguments[0], 0600));
	CHECK_INT(pthread_create(&thread, NULL, keep_failing, &failures), 0);
	for (long until = now_ms() + 1500; now_ms() < until;)
		CHECK_INT(system(command), 0);
	done = true;
	pthread_join(thread, NULL);
	CHECK(failures > 10);
	CHECK(is_cloexec(fd));
	CHECK(in_table(fd));
}
