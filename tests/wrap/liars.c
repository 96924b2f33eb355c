/* SPDX-License-Identifier: MIT */
/* Workers that lie: they may have less rights than their owner, which believes nothing that they can write. */
#include "../support/api.h"
#include "../support/sockets.h"

#include <limits.h>
#include <signal.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/wait.h>

/* Five restarts in each of four cases: a drain that is lied to takes all of its second. */
enum { GENERATIONS = 6, ENDS_AFTER_S = 60, HEAD = 128 };

static void wait_for_good(void)
{
	for (;;)
		poll(NULL, 0, -1);
}

static unsigned long next_number(unsigned long *seed)
{
	*seed ^= *seed << 13;
	*seed ^= *seed >> 7;
	*seed ^= *seed << 17;
	return *seed;
}

/* The mappings that a worker shares with its owner. */
static size_t find_shared(char **from, size_t *size, size_t most)
{
	FILE *maps = fopen("/proc/self/maps", "re");
	char line[512];
	size_t n = 0;

	CHECK(maps);
	while (n < most && fgets(line, sizeof(line), maps)) {
		unsigned long begin, end;

		if (strstr(line, "rw-s") && (strstr(line, "/memfd:cpr.") || strstr(line, "/memfd:knocks")) &&
		    sscanf(line, "%lx-%lx", &begin, &end) == 2) {
			from[n] = (char *)begin;
			size[n++] = end - begin;
		}
	}
	fclose(maps);
	return n;
}

static uint64_t lie(unsigned long *seed)
{
	const int tempting[] = {0, -1, INT_MAX, INT_MIN, 1, getpid(), getppid(), 4096, 1 << 30, -4096};
	unsigned long r = next_number(seed);
	uint64_t low = (uint32_t)tempting[r % 10], high = (uint32_t)tempting[(r >> 8) % 10];

	return r >> 63 ? next_number(seed) : high << 32 | low;
}

struct lies {
	size_t from, to; /* of each mapping; 0: its end */
	bool tempting;   /* or any number */
};

static void write_lies(const struct lies *lies, char *at, size_t size, unsigned long *seed)
{
	size_t to = lies->to && lies->to < size ? lies->to : size - 8, from = lies->from < to ? lies->from : 0;

	for (int i = 0; i < 64; i++) {
		uint64_t value = lies->tempting ? lie(seed) : next_number(seed);

		memcpy(at + (from + next_number(seed) % (to - from)) / 4 * 4, &value, i % 3 ? 4 : 8);
	}
}

/* Until it is told to leave; and it may have hidden itself from the process that would tell it. */
static void scribble(const struct lies *lies, int ready)
{
	char *at[4];
	size_t size[4], n = find_shared(at, size, 4);
	unsigned long seed = (unsigned long)getpid() * 2654435761UL + 88172645463325252UL;

	alarm(ENDS_AFTER_S);
	CHECK(n > 0);
	for (int turn = 0;; turn++) {
		for (size_t i = 0; i < n; i++)
			write_lies(lies, at[i], size[i], &seed);
		if (turn == 10)
			syscall(SYS_write, ready, "", 1);
		syscall(SYS_nanosleep, &(struct timespec){0, 200000}, NULL);
	}
}

static void serves(int listener)
{
	int client = MUST(try_connect(inet4("127.0.0.1", port(0)), SOCK_STREAM)),
	    served = MUST(accept(listener, NULL, NULL));

	write_text(client, "question");
	check_text(served, "question");
	write_text(served, "answer");
	check_text(client, "answer");
	close(served);
	close(client);
}

static void restarts_beside(struct lies lies)
{
	int listener = listening(inet4("127.0.0.1", port(0)), SOCK_STREAM), ready[2];
	char byte;

	serves(listener);
	if (generation() == GENERATIONS)
		return;
	MUST(pipe(ready));
	IN_CHILD scribble(&lies, ready[1]);
	IN_CHILD wait_for_good();
	MUST(read(ready[0], &byte, 1));
	serves(listener);
	next_generation();
}

TEST(a_worker_that_lies_about_all_ends_nothing, BELL, "WARNS=1;CPR_DRAIN=1")
{
	restarts_beside((struct lies){0, HEAD, true});
}

TEST(a_worker_that_lies_about_others_ends_nothing, BELL, "WARNS=1;CPR_DRAIN=1")
{
	restarts_beside((struct lies){HEAD, 8192, true});
}

TEST(a_worker_that_writes_any_number_ends_nothing, BELL, "WARNS=1;CPR_DRAIN=1")
{
	restarts_beside((struct lies){0, HEAD, false});
}

TEST(a_worker_that_writes_anywhere_ends_nothing, BELL, "WARNS=1;CPR_DRAIN=1")
{
	restarts_beside((struct lies){0, 0, false});
}

/* With its owner's right to them. */
TEST(a_worker_cannot_cut_off_what_is_shared, ONCE)
{
	int status, pid;

	listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);
	IN_CHILD; /* the page has its descriptor from the first fork on */
	pid = MUST(fork());
	if (!pid) {
		int found = 0;

		for (int fd = 3; fd < 1024; fd++) {
			char path[64], name[256];
			ssize_t n;

			snprintf(path, sizeof(path), "/proc/self/fd/%d", fd);
			n = readlink(path, name, sizeof(name) - 1);
			name[n < 0 ? 0 : n] = '\0';
			if (!strstr(name, "/memfd:"))
				continue;
			found++;
			if (!ftruncate(fd, 0) || !ftruncate(fd, 1 << 30))
				_exit(2);
		}
		_exit(found ? 0 : 3);
	}
	MUST(waitpid(pid, &status, 0));
	CHECK_INT(status, 0);
	CHECK(strstr(ask("status"), "role=owner"));
}
