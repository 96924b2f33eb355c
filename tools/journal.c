/* SPDX-License-Identifier: MIT */
/* One entry of systemd's journal for each restart, with its figures as fields: journalctl CPR_GENERATION=3. */
#define _GNU_SOURCE
#include "supervisor_inside.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#define SOCKET "/run/systemd/journal/socket"

/* Is our standard error the journal? systemd says which file that is. */
static bool is_stderr(void)
{
	const char *stream = getenv("JOURNAL_STREAM");
	unsigned long long dev, ino;
	struct stat st;

	return stream && sscanf(stream, "%llu:%llu", &dev, &ino) == 2 && !fstat(STDERR_FILENO, &st) &&
	       st.st_dev == dev && st.st_ino == ino;
}

/* What sd_journal_send(3) does with values of one line: each is a line of a datagram. The journal is not waited for. */
static void send_fields(const char *fields)
{
	const struct sockaddr_un addr = {.sun_family = AF_UNIX, .sun_path = SOCKET};
	cleanup_fd int sock = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	if (sock >= 0)
		sendto(sock, fields, strlen(fields), MSG_DONTWAIT | MSG_NOSIGNAL, (const struct sockaddr *)&addr,
		       sizeof(addr));
}

void journal_restart(const struct supervisor *s, uint32_t carried, size_t draining)
{
	const struct handover *h = &s->handover;
	char text[REASON_SIZE];
	struct text t = TEXT_ON(text);

	if (!is_stderr())
		return;
	text_format(&t, "MESSAGE=restarted: generation %d, PID %d, %u connections carried, %u cut, %lld ms\n",
		    h->next->number, (int)h->next->owner, carried, h->cut, (long long)s->last_restart_us / 1000);
	text_format(&t, "PRIORITY=6\nSYSLOG_IDENTIFIER=cpr-exec\nCPR_GENERATION=%d\nCPR_SERVER_PID=%d\n",
		    h->next->number, (int)h->next->owner);
	text_format(&t, "CPR_CARRIED=%u\nCPR_CUT=%u\nCPR_DRAINING=%zu\n", carried, h->cut, draining);
	text_format(&t, "CPR_DURATION_USEC=%lld\nCPR_GATE_USEC=%lld\n", (long long)s->last_restart_us,
		    (long long)h->gate_us);
	send_fields(text);
}
