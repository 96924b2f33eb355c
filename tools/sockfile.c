/* SPDX-License-Identifier: MIT */
/* The file of a unix socket: by ioctl(2), which takes CAP_NET_ADMIN; else by sock_diag(7), if the kernel has it. */
#define _GNU_SOURCE
#include "sockfile.h"

#include "base/attr.h"
#include "base/io.h"

#include <linux/netlink.h>
#include <linux/rtnetlink.h>
#include <linux/sock_diag.h>
#include <linux/unix_diag.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#ifndef SIOCUNIXFILE
#define SIOCUNIXFILE (0x89E0 + 0) /* linux/un.h, which sys/un.h does not go with */
#endif

enum { PATIENCE_MS = 1000 };

/* ---- by the file itself ---- */

static bool is_by_ioctl(int fd, const struct stat *file, bool *same)
{
	cleanup_fd int opened = ioctl(fd, SIOCUNIXFILE);
	struct stat st;

	if (opened < 0 || fstat(opened, &st))
		return false;
	*same = st.st_dev == file->st_dev && st.st_ino == file->st_ino;
	return true;
}

/* ---- by its numbers ---- */

static bool ask(int netlink, uint32_t ino)
{
	struct {
		struct nlmsghdr head;
		struct unix_diag_req asked;
	} request = {
		.head = {.nlmsg_len = sizeof(request), .nlmsg_type = SOCK_DIAG_BY_FAMILY, .nlmsg_flags = NLM_F_REQUEST},
		.asked = {.sdiag_family = AF_UNIX,
			  .udiag_states = ~0U,
			  .udiag_ino = ino,
			  .udiag_show = UDIAG_SHOW_VFS,
			  .udiag_cookie = {~0U, ~0U}},
	};

	return send(netlink, &request, sizeof(request), MSG_NOSIGNAL) == sizeof(request);
}

/* The kernel's own form of a device number, and the low half of the inode's. */
static bool is_file(const struct unix_diag_vfs *vfs, const struct stat *file)
{
	return vfs->udiag_vfs_dev == (major(file->st_dev) << 20 | minor(file->st_dev)) &&
	       vfs->udiag_vfs_ino == (uint32_t)file->st_ino;
}

static bool answer_names(const struct nlmsghdr *head, size_t size, uint32_t ino, const struct stat *file)
{
	const struct unix_diag_msg *said = NLMSG_DATA(head);
	const struct rtattr *attribute = (const struct rtattr *)(said + 1);
	int left;

	if (!NLMSG_OK(head, size) || head->nlmsg_type != SOCK_DIAG_BY_FAMILY ||
	    head->nlmsg_len < NLMSG_LENGTH(sizeof(*said)) || said->udiag_ino != ino)
		return false;
	left = (int)(head->nlmsg_len - NLMSG_LENGTH(sizeof(*said)));
	for (; RTA_OK(attribute, left); attribute = RTA_NEXT(attribute, left))
		if (attribute->rta_type == UNIX_DIAG_VFS && RTA_PAYLOAD(attribute) >= sizeof(struct unix_diag_vfs))
			return is_file(RTA_DATA(attribute), file);
	return false;
}

static bool is_by_numbers(int fd, const struct stat *file)
{
	cleanup_fd int netlink = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_SOCK_DIAG);
	const struct timeval patience = {.tv_sec = PATIENCE_MS / 1000};
	union {
		struct nlmsghdr head;
		char bytes[1024];
	} answer;
	struct stat st;
	ssize_t n;

	if (netlink < 0 || fstat(fd, &st) || !ask(netlink, (uint32_t)st.st_ino))
		return false;
	setsockopt(netlink, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
	n = recv(netlink, &answer, sizeof(answer), 0);
	return n > 0 && answer_names(&answer.head, (size_t)n, (uint32_t)st.st_ino, file);
}

bool sockfile_is(int fd, const struct stat *file)
{
	bool same;

	return is_by_ioctl(fd, file, &same) ? same : is_by_numbers(fd, file);
}
