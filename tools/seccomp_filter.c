/* SPDX-License-Identifier: MIT */
/* The filter as BPF: a handful of comparisons with the call's number. */
#define _GNU_SOURCE
#include "seccomp_filter.h"

#include "base/attr.h"

#include <errno.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <unistd.h>

#if defined(__x86_64__) && defined(__LP64__)
#define FILTER_ARCH AUDIT_ARCH_X86_64
#elif defined(__aarch64__)
#define FILTER_ARCH AUDIT_ARCH_AARCH64
#else
#define FILTER_ARCH 0
#endif

#ifndef SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV /* Linux 5.19 */
#define SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV (1UL << 5)
#endif

#define LOAD(field) BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, field))
#define RETURN(what) BPF_STMT(BPF_RET | BPF_K, (what))
/* Equal: the next one is done, else it is passed over. */
#define IF_EQUAL(value) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), 0, 1)
#define IF_DIFFERENT(value) BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (value), 1, 0)
#define NOTIFY(call) IF_EQUAL(call), RETURN(SECCOMP_RET_USER_NOTIF)

bool seccomp_filter_exists(void)
{
	return FILTER_ARCH != 0;
}

/*
 * A signal during a notified call would make the call be repeated: Go sends itself signals all the time. With this
 * flag, on kernels that have it, only a fatal signal interrupts the call. Before Linux 5.16 a filter switches on
 * mitigations of speculation, which slow the whole program down; a flag prevents that.
 */
static int install(const struct sock_fprog *program)
{
	const unsigned long listener = SECCOMP_FILTER_FLAG_NEW_LISTENER | SECCOMP_FILTER_FLAG_SPEC_ALLOW;
	long fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, listener | SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV,
			  program);

	if (fd < 0 && errno == EINVAL)
		fd = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, listener, program);
	return fd < 0 ? -errno : (int)fd;
}

int seccomp_filter_install(void)
{
	static struct sock_filter all[] = {
		LOAD(arch),
		IF_DIFFERENT(FILTER_ARCH),
		RETURN(SECCOMP_RET_ALLOW),
		LOAD(nr),
		NOTIFY(SYS_bind),
		NOTIFY(SYS_listen),
		NOTIFY(SYS_unlinkat),
#ifdef SYS_unlink
		NOTIFY(SYS_unlink),
#endif
		RETURN(SECCOMP_RET_ALLOW),
	};
	const struct sock_fprog program = {.len = countof(all), .filter = all};
	int fd = install(&program);

	if (fd == -EACCES && !prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0))
		fd = install(&program);
	return fd;
}
