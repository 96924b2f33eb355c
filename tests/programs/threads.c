/* SPDX-License-Identifier: MIT */
/* Threads that open, bind, listen, duplicate, connect, accept and close at once: for the thread sanitizer. */
#include <err.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <pthread.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

enum { THREADS = 4, ROUNDS = 200 };

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

static void *work(void *arg)
{
	for (int i = 0; i < ROUNDS; i++)
		serve_one();
	return arg;
}

int main(void)
{
	pthread_t threads[THREADS];
	int r = 0;

	for (int i = 0; i < THREADS; i++)
		r |= pthread_create(&threads[i], NULL, work, NULL);
	for (int i = 0; i < THREADS && !r; i++)
		r = pthread_join(threads[i], NULL);
	if (r)
		errx(1, "%s", strerror(r));
	return 0;
}
