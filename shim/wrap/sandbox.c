/* SPDX-License-Identifier: MIT */
/* Where a program installs a seccomp filter: what we need is got before. */
#define _GNU_SOURCE
#include "process/light.h"
#include "process/sandbox.h"
#include "base/next.h"
#include "wrap/wrap.h"

#include <linux/seccomp.h>
#include <stdarg.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

long cpr__seccomp_by_number(const long *a)
{
	bool was, installs = a[0] == SECCOMP_SET_MODE_STRICT || a[0] == SECCOMP_SET_MODE_FILTER;
	long r;

	if (installs) {
		begin_if_light();
		sandbox_enter(&was);
	}
	r = next_sys(SYS_seccomp, a[0], a[1], a[2]);
	if (r && installs)
		sandbox_failed(was);
	return r;
}

CPR_EXPORT int prctl(int operation, ...)
{
	bool was, installs = operation == PR_SET_SECCOMP;
	unsigned long a[4];
	va_list args;
	int r;

	va_start(args, operation);
	for (size_t i = 0; i < countof(a); i++)
		a[i] = va_arg(args, unsigned long);
	va_end(args);
	if (installs) {
		begin_if_light();
		sandbox_enter(&was);
	}
	r = next_prctl(operation, a[0], a[1], a[2], a[3]);
	if (r && installs)
		sandbox_failed(was);
	return r;
}
