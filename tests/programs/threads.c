/* SPDX-License-Identifier: MIT */
/*
 * Threads that open, bind, listen, duplicate, connect, accept, fork and close at once: for the thread sanitizer.
 * It is not rung: the task is no thread of libpthread's. The sanitizer has no state for it, and faults in its first
 * function.
 */
#include <err.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

enum { THREADS = 4, ROUNDS = 200, FORK_EVERY = 20 };

static struct sockaddr_in shared_at = {.sin_family = AF_INET};
static int shared;

static int must(int r)
{
	if (r < 0)
		err(1, "threads");
	return r;
}

/* A listener, a client of its own, an answer. */
static void serve_one(void)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(in);
	int listener = must(socket(AF_INET, SOCK_STREAM, 0)), client = must(socket(AF_INET, SOCK_STREAM, 0)), peer;
	char byte = 'x';

	must(bind(listener, (struct sockaddr *)&in, sizeof(in)));
	must(listen(listener, 5));
	must(getsockname(listener, (struct sockaddr *)&in, &len));
	must(connect(client, (struct sockaddr *)&in, len));
	peer = must(accept(listener, NULL, NULL));
	must((int)write(client, &byte, 1));
	must((int)read(peer, &byte, 1));
	must(close(must(dup(listener))));
	must(close(must(open("/dev/null", O_RDWR))));
	must(close(peer));
	must(close(client));
	must(close(listener));
}

/* As many connect as accept, each perhaps what another has connected. */
static void share_one(void)
{
	int client = must(socket(AF_INET, SOCK_STREAM, 0));

	must(connect(client, (struct sockaddr *)&shared_at, sizeof(shared_at)));
	must(close(must(accept(shared, NULL, NULL))));
	must(close(client));
}

static void fork_one(void)
{
	int status;
	pid_t pid = must(fork());

	if (!pid) {
		close(shared);
		_exit(0);
	}
	if (must(waitpid(pid, &status, 0)) != pid || status)
		errx(1, "a child ended with status %d", status);
}

static void *work(void *arg)
{
	for (int i = 0; i < ROUNDS; i++) {
		serve_one();
		share_one();
		if (i % FORK_EVERY == 0)
			fork_one();
	}
	return arg;
}

static void share_a_listener(void)
{
	socklen_t len = sizeof(shared_at);

	shared_at.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	shared = must(socket(AF_INET, SOCK_STREAM, 0));
	must(bind(shared, (struct sockaddr *)&shared_at, len));
	must(listen(shared, 2 * THREADS));
	must(getsockname(shared, (struct sockaddr *)&shared_at, &len));
}

int main(void)
{
	pthread_t threads[THREADS];
	int r = 0;

	share_a_listener();
	for (int i = 0; i < THREADS; i++)
		r |= pthread_create(&threads[i], NULL, work, NULL);
	for (int i = 0; i < THREADS && !r; i++)
		r = pthread_join(threads[i], NULL);
	if (r)
		errx(1, "%s", strerror(r));
	return 0;
}
