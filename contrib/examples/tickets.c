/* SPDX-License-Identifier: MIT */
/*
 * Each client gets the next number. The number stands in a memfd that cpr_save_fd keeps, so that it goes on over
 * restarts; the listener is kept without a word of this program.
 *
 *   cc tickets.c -o tickets $(pkg-config --cflags --libs cpr)
 *   cpr-exec -- ./tickets 8000
 */
#define _GNU_SOURCE
#include <cpr.h>
#include <err.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

static long *take_number(void)
{
	int fd = cpr_find_fd("tickets", 0);
	long *number;

	if (fd < 0) { /* the first generation */
		fd = memfd_create("tickets", MFD_CLOEXEC);
		if (fd < 0 || ftruncate(fd, sizeof(*number)) || cpr_save_fd("tickets", 0, fd))
			err(EXIT_FAILURE, "tickets");
	}
	number = mmap(NULL, sizeof(*number), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (number == MAP_FAILED)
		err(EXIT_FAILURE, "mmap");
	return number;
}

int main(int argc, char **argv)
{
	struct sockaddr_in addr = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	long *number = take_number();

	addr.sin_port = htons((uint16_t)(argc > 1 ? atoi(argv[1]) : 8000));
	if (bind(listener, (struct sockaddr *)&addr, sizeof(addr)) || listen(listener, 64))
		err(EXIT_FAILURE, "port %d", ntohs(addr.sin_port));
	for (;;) {
		int client = accept4(listener, NULL, NULL, SOCK_CLOEXEC);

		if (client < 0 && errno != EINTR && errno != ECONNABORTED)
			err(EXIT_FAILURE, "accept");
		if (client < 0)
			continue;
		dprintf(client, "%ld, of generation %d\n", ++*number, cpr_generation());
		close(client);
	}
}
