/* SPDX-License-Identifier: MIT */
/* Eight threads that do everything at once, while the process is restarted again and again. */
#include "../support/sockets.h"

#include <fcntl.h>
#include <pthread.h>
#include <spawn.h>
#include <sys/stat.h>
#include <sys/wait.h>

enum { RESTARTS = 12 }; /* WRAP_STORM=200 WRAP_SECONDS=200 in the environment for more */

static int restarts(void)
{
	const char *wanted = getenv("WRAP_STORM");

	return wanted ? atoi(wanted) : RESTARTS;
}

static void reap(int pid)
{
	int status;

	CHECK_INT(waitpid(pid, &status, 0), pid);
	CHECK(WIFEXITED(status) && !WEXITSTATUS(status));
}

static void forks(void)
{
	int pid = MUST(fork());

	if (!pid)
		_exit(0);
	reap(pid);
}

static void vforks(void)
{
	static char *const arguments_of_true[] = {"true", NULL};
	int pid = MUST(vfork());

	if (!pid) {
		execv("/bin/true", arguments_of_true);
		_exit(1);
	}
	reap(pid);
}

static void spawns(void)
{
	static char *const arguments_of_true[] = {"true", NULL};
	int pid;

	CHECK_INT(posix_spawn(&pid, "/bin/true", NULL, NULL, arguments_of_true, environ), 0);
	reap(pid);
}

static void allocates(void)
{
	for (size_t n = 16; n < 1 << 17; n *= 2)
		free(malloc(n));
}

static void opens(void)
{
	int fd = MUST(open(in_room("fifo"), O_RDWR | O_CLOEXEC)), null = MUST(open("/dev/null", O_RDONLY | O_CLOEXEC));

	close(null);
	close(fd);
}

static void binds(void)
{
	close(listening(inet4("127.0.0.1", 0), SOCK_STREAM));
}

static int listener;

/* A restart may come between the two: the client's end says so, and the connection is carried or closed. */
static void accepts(void)
{
	int client = MUST(try_connect(inet4("127.0.0.1", port(0)), SOCK_STREAM)), served = accept(listener, NULL, NULL);

	if (served >= 0)
		close(served);
	close(client);
}

static void duplicates(void)
{
	int fd = MUST(fcntl(listener, F_DUPFD_CLOEXEC, 100));

	close(fd);
}

static void *go_on(void *what)
{
	for (void (*once)(void) = *(void (**)(void))what;;)
		once();
	return NULL;
}

TEST(eight_threads_do_everything_amid_restarts, BELL, "WARNS=1;CPR_GRACE=2;CPR_DRAIN=1")
{
	static void (*all[])(void) = {forks, vforks, spawns, allocates, opens, binds, accepts, duplicates};
	pthread_t thread;

	listener = listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);
	if (generation() == 1) {
		MUST(mkfifo(in_room("fifo"), 0600));
		put("inode", inode_of(listener));
	}
	CHECK_INT(inode_of(listener), get("inode"));
	if (generation() > restarts())
		return;
	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		CHECK_INT(pthread_create(&thread, NULL, go_on, &all[i]), 0);
	next_generation();
}
