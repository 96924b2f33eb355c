/* SPDX-License-Identifier: MIT */
/* A descriptor in a message, as servers pass connections on. */
#ifndef CPR_TESTS_RIGHTS_H
#define CPR_TESTS_RIGHTS_H

#include "wrap.h"

#include <sys/socket.h>

struct rights_message {
	union {
		struct cmsghdr head;
		char room[CMSG_SPACE(sizeof(int))];
	} rights;
	char byte;
	struct iovec bytes;
	struct msghdr head;
};

/* One byte, and room for one descriptor beside it. */
static struct msghdr *rights_message(struct rights_message *m)
{
	m->byte = 'x';
	m->bytes = (struct iovec){&m->byte, 1};
	m->rights.head = (struct cmsghdr){
		.cmsg_len = CMSG_LEN(sizeof(int)), .cmsg_level = SOL_SOCKET, .cmsg_type = SCM_RIGHTS};
	m->head = (struct msghdr){.msg_iov = &m->bytes,
				  .msg_iovlen = 1,
				  .msg_control = &m->rights,
				  .msg_controllen = sizeof(m->rights)};
	return &m->head;
}

/* Sends it by sendmsg() or by sendmmsg(), and closes it. */
static void send_rights(int line, int fd, bool by_sendmmsg)
{
	struct rights_message m;
	struct msghdr *head = rights_message(&m);

	memcpy(CMSG_DATA(&m.rights.head), &fd, sizeof(fd));
	if (by_sendmmsg)
		CHECK_INT(sendmmsg(line, &(struct mmsghdr){.msg_hdr = *head}, 1, 0), 1);
	else
		CHECK_INT(sendmsg(line, head, 0), 1);
	close(fd);
}

/* What came in it. */
static int received_rights(const struct rights_message *m)
{
	int fd;

	CHECK(m->head.msg_controllen >= sizeof(m->rights.head));
	memcpy(&fd, CMSG_DATA(&m->rights.head), sizeof(fd));
	return fd;
}

#endif
