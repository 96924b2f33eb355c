/* SPDX-License-Identifier: MIT */
/* A stranger may connect to any abstract name: what it can cost a restart is bounded. */
#include "../support/logged.h"
#include "../support/sockets.h"

#include <sys/wait.h>

enum { AT_A_TIME = 6000, WORK_MS = 400, TRIES = 4 }; /* more than the queue holds; a request that takes its time */

static void serve(int listener)
{
	int connection = MUST(accept(listener, NULL, NULL));
	char request[256];
	ssize_t n;

	while ((n = read(connection, request, sizeof(request) - 1)) > 0) {
		request[n] = '\0';
		if (strstr(request, "/slow"))
			sleep_through(WORK_MS);
		write_text(connection, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok");
	}
}

/* The owner has a name by which its workers pass their connections on. */
TEST(strangers_at_the_owners_name_cut_no_client, BELL, "WARNS=1")
{
	int listener = listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);

	if (generation() == 1)
		CHECK(!strcmp(ask("connect tcp 127.0.0.1 %d", port(0)), "0"));
	IN_CHILD serve(listener);
	if (generation() == 1) {
		ask("request 0 /");
		CHECK(!strcmp(ask("response 0"), "ok"));
		ask("request 0 /slow");
		ask("crowd %d", AT_A_TIME);
		next_generation();
	}
	CHECK(!strcmp(ask("response 0"), "ok"));
	ask("request 0 /");
	CHECK(!strcmp(ask("response 0"), "ok"));
	CHECK(atoi(ask("crowd-ends")) > 0);
	/* once in a try: a drain is tried again while the slow request lasts */
	CHECK(times_logged("which is no worker") <= TRIES);
	CHECK_INT(times_logged("could not pass"), 0);
}
