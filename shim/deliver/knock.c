/* SPDX-License-Identifier: MIT */
/* Knocks: making them, and telling them from clients in whichever process accepts them. */
#define _GNU_SOURCE
#include "deliver/knock.h"

#include "base/guarded.h"
#include "base/attr.h"
#include "base/newfd.h"
#include "base/io.h"
#include "base/next.h"
#include "base/raw.h"
#include "model/protocol.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdatomic.h>
#include <stddef.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

enum {
	KNOCK_MS = 1,   /* how long a knock may take: it is on this machine, and the program waits meanwhile */
	MORE = 8192,
	WORD_MS = 20,   /* how long a word may be under way that has been said */
	/* how long a knock may take to say what it stands for: another process, in which anything can come between */
	SAID_MS = 1000,
	GIVEN_UP = 64,  /* so many of those are known again */
};

struct knock {
	sa_family_t family;
	uint16_t port; /* the local port that it came from */
	char path[24]; /* unix: the abstract name that the kernel gave it */
	_Atomic uint8_t state;
};

enum { MADE, SAID, TAKEN };

/*
 * Shared with all processes that the owner forks. The obvious record, in plain memory, is right only for knocks made
 * before the fork. A worker that accepts a later one would take it for a client, and the program would read its secret
 * word as a request.
 */
static struct record {
	_Atomic size_t count, accepted, served, given_up;
	_Atomic int taker; /* the process that takes knocks out of the queues; 0: none */
	size_t room;
	char word[16]; /* what a knock says: a client may come from a port that a knock came from */
	struct knock lost[GIVEN_UP]; /* the last that were given up; the oldest is overwritten */
	struct knock knocks[];
} *record;
static int record_fd = -1;
static size_t knocks_room; /* of this process's own: a worker can write any number into the record */

static size_t knocks_made(void)
{
	size_t n = record ? record->count : 0;

	return n < knocks_room ? n : knocks_room;
}

bool knock_prepare(size_t n)
{
	assert_guarded();
	cleanup_fd int fd = -1;
	size_t size;
	void *memory;

	n += MORE; /* clients that queued while no process accepted: a restart that comes at once carries them on */
	size = sizeof(*record) + n * sizeof(struct knock);
	fd = io_memfd_sized("knocks", size, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL);
	if (fd < 0)
		return false;
	memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (memory == MAP_FAILED)
		return false;
	record = memory;
	if (raw_getrandom(record->word, sizeof(record->word), GRND_NONBLOCK) != sizeof(record->word)) {
		record = NULL;
		munmap(memory, size);
		return false;
	}
	record->room = knocks_room = n;
	record_fd = io_move_up(steal_fd(&fd), PROTOCOL_HIGH);
	return true;
}

bool knock_is_prepared(void)
{
	return record;
}

int knock_shared(void)
{
	return record_fd;
}

void knock_unshare(void)
{
	raw_close(record_fd);
	record_fd = -1;
}

bool knock_join(int fd)
{
	struct stat st;
	struct record *memory;
	size_t size;

	if (fstat(fd, &st) || (size = (size_t)st.st_size) < sizeof(*record) ||
	    !(next_fcntl(fd, F_GET_SEALS, NULL) & F_SEAL_SHRINK))
		return false;
	memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (memory == MAP_FAILED)
		return false;
	knocks_room = memory->room;
	if (knocks_room > (size - sizeof(*record)) / sizeof(struct knock)) {
		munmap(memory, size);
		knocks_room = 0;
		return false;
	}
	record = memory; /* an earlier one stays mapped: a thread may be looking at it */
	return true;
}

bool knock_is_deferred(int listener)
{
	int seconds = 0;
	socklen_t len = sizeof(seconds);

	return !getsockopt(listener, IPPROTO_TCP, TCP_DEFER_ACCEPT, &seconds, &len) && seconds > 0;
}

/* Its own address, or loopback for the wildcard. */
struct knock_door knock_door_of(int listener)
{
	struct knock_door door = {.len = sizeof(door.addr), .type = SOCK_STREAM};
	struct sockaddr_in *in = (struct sockaddr_in *)&door.addr;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)&door.addr;
	socklen_t len = sizeof(door.type);
	sa_family_t family;

	if (next_getsockname(listener, (struct sockaddr *)&door.addr, &door.len) ||
	    getsockopt(listener, SOL_SOCKET, SO_TYPE, &door.type, &len))
		return (struct knock_door){0};
	family = door.addr.ss_family;
	if (family == AF_INET && in->sin_addr.s_addr == htonl(INADDR_ANY))
		in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	if (family == AF_INET6 && IN6_IS_ADDR_UNSPECIFIED(&in6->sin6_addr))
		in6->sin6_addr = in6addr_loopback;
	if (family != AF_INET && family != AF_INET6 && family != AF_UNIX)
		door.len = 0;
	door.deferred = knock_is_deferred(listener);
	return door;
}

static struct knock knock_of(const struct sockaddr_storage *addr, socklen_t len)
{
	const struct sockaddr_un *un = (const struct sockaddr_un *)addr;
	struct knock k = {.family = addr->ss_family};
	size_t n = len > offsetof(struct sockaddr_un, sun_path) ? len - offsetof(struct sockaddr_un, sun_path) : 0;

	if (addr->ss_family == AF_INET)
		k.port = ((const struct sockaddr_in *)addr)->sin_port;
	else if (addr->ss_family == AF_INET6)
		k.port = ((const struct sockaddr_in6 *)addr)->sin6_port;
	else
		memcpy(k.path, un->sun_path, n < sizeof(k.path) ? n : sizeof(k.path));
	return k;
}

/*
 * A name of its own, before it connects: it may be accepted in the very moment in which it does. From the address that
 * it goes to, where clients of other addresses take no port from it.
 */
static bool name_it(int sock, const struct knock_door *door, struct knock *k)
{
	struct sockaddr_storage here = door->addr;
	socklen_t len = door->addr.ss_family == AF_UNIX ? sizeof(sa_family_t) : door->len;

	if (here.ss_family == AF_INET)
		((struct sockaddr_in *)&here)->sin_port = 0;
	else if (here.ss_family == AF_INET6)
		((struct sockaddr_in6 *)&here)->sin6_port = 0;

	if (next_bind(sock, (struct sockaddr *)&here, len))
		return false;
	len = sizeof(here);
	if (next_getsockname(sock, (struct sockaddr *)&here, &len))
		return false;
	*k = knock_of(&here, len);
	return true;
}

/*
 * Does it enter the queue and send its word? If the queue is full, the kernel tells so at once (unix), or tries again
 * after a second. That would be a second in the program's own wait.
 */
static bool comes_in(int sock, const struct knock_door *door)
{
	struct pollfd p = {.fd = sock, .events = POLLOUT};

	if (raw_connect(sock, (const struct sockaddr *)&door->addr, door->len) &&
	    (errno != EINPROGRESS || raw_poll(&p, 1, KNOCK_MS) <= 0))
		return false;
	return raw_send(sock, record->word, sizeof(record->word), MSG_NOSIGNAL | MSG_DONTWAIT) == sizeof(record->word);
}

/* The kernel may let it in between our last look and our close: it will be accepted then, and has nothing to say. */
static void knock_give_up_one(const struct knock *k)
{
	record->lost[record->given_up % GIVEN_UP] = *k;
	atomic_fetch_add(&record->given_up, 1);
}

bool knock_at(const struct knock_door *door)
{
	assert_guarded();
	cleanup_fd int sock = -1;
	struct knock *made;

	if (record && knocks_made() == knocks_room && !knock_unaccepted())
		knock_forget_all();
	if (!record || knocks_made() == knocks_room || !door->len)
		return false;
	made = &record->knocks[knocks_made()];
	sock = newfd_socket(door->addr.ss_family, door->type | SOCK_NONBLOCK, 0);
	if (sock < 0 || !name_it(sock, door, made))
		return false;
	atomic_fetch_add(&record->count, 1);
	if (comes_in(sock, door)) {
		atomic_compare_exchange_strong(&made->state, &(uint8_t){MADE}, SAID); /* else it is taken already */
		return true;
	}
	knock_give_up_one(made);
	atomic_fetch_sub(&record->count, 1);
	return false;
}

/*
 * A v4 knock at a dual-stack listener comes out as v6-mapped: the port says enough. Ports come again: one that was
 * taken is over.
 */
static struct knock *knock_find(const struct knock *k, struct knock *made, size_t first, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct knock *it = &made[(first % n + i) % n];

		if (it->state == TAKEN)
			continue;
		if (k->family == AF_UNIX ? it->family == AF_UNIX && !memcmp(k->path, it->path, sizeof(k->path))
					 : it->family != AF_UNIX && k->port == it->port)
			return it;
	}
	return NULL;
}

/*
 * Does the connection come from the address of one of our knocks, and send the word? Another process may accept it
 * between our connect and our send. That gap is short, but the thread that knocks may lose the processor in it. With a
 * patience of a few ms such a knock was taken for a client, and no carried connection was delivered for it.
 */
static bool says_the_word(int fd, const struct knock *k)
{
	struct knock *it = knock_find(k, record->knocks, record->accepted, knocks_made());
	char said[sizeof(record->word)];

	if (!it || !io_await_input(fd, it->state == SAID ? WORD_MS : SAID_MS))
		return false;
	if (raw_recv(fd, said, sizeof(said), MSG_PEEK | MSG_DONTWAIT) != sizeof(said) ||
	    memcmp(said, record->word, sizeof(said)))
		return false;
	atomic_store(&it->state, TAKEN);
	return true;
}

/* A client of that port that ends without a word misses nothing either. */
static bool was_given_up(int fd, const struct knock *k)
{
	size_t n = record->given_up;
	char byte;

	return n && knock_find(k, record->lost, 0, n < GIVEN_UP ? n : GIVEN_UP) &&
	       !raw_recv(fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT);
}

enum knock_kind knock_kind(int fd)
{
	struct sockaddr_storage there = {0};
	socklen_t len = sizeof(there);
	struct knock k;

	if (!record || getpeername(fd, (struct sockaddr *)&there, &len))
		return KNOCK_NONE;
	k = knock_of(&there, len);
	return says_the_word(fd, &k) ? KNOCK_MADE : was_given_up(fd, &k) ? KNOCK_GIVEN_UP : KNOCK_NONE;
}

void knock_accepted(void)
{
	if (record)
		atomic_fetch_add(&record->accepted, 1);
}

void knock_served(void)
{
	if (record)
		atomic_fetch_add(&record->served, 1);
}

bool knock_begin_taking(void)
{
	int there = 0, me = getpid();

	if (!record || atomic_compare_exchange_strong(&record->taker, &there, me) || there == me)
		return true;
	/* one that died in it has left its number */
	return next_sys(SYS_kill, there, 0) && errno == ESRCH &&
	       atomic_compare_exchange_strong(&record->taker, &there, me);
}

void knock_end_taking(void)
{
	int me = getpid();

	if (record)
		atomic_compare_exchange_strong(&record->taker, &me, 0);
}

static size_t left(size_t done)
{
	size_t count = knocks_made();

	return count > done ? count - done : 0;
}

size_t knock_unaccepted(void)
{
	return left(record ? record->accepted : 0);
}

size_t knock_unserved(void)
{
	return left(record ? record->served : 0);
}

void knock_forget_all(void)
{
	assert_guarded();
	if (record)
		record->count = record->accepted = record->served = 0;
}
