/* SPDX-License-Identifier: MIT */
/*
 * System calls without libc: no errno, no lock, no other page of code. They return the kernel's answer: 0 or more, or a
 * negative errno. A signal handler may call these.
 */
#ifndef CPR_BASE_SYS_H
#define CPR_BASE_SYS_H

#include <errno.h>

/* sys(SYS_close, fd): up to six arguments, numbers or pointers. */
#define sys(...) sys_of(__VA_ARGS__, 0, 0, 0, 0, 0, 0)
#define sys_of(nr, a, b, c, d, e, f, ...)                                                                              \
	sys_call((long)(nr), (long)(a), (long)(b), (long)(c), (long)(d), (long)(e), (long)(f))

#if defined(__x86_64__)

static inline long sys_call(long nr, long a, long b, long c, long d, long e, long f)
{
	register long r10 __asm__("r10") = d;
	register long r8 __asm__("r8") = e;
	register long r9 __asm__("r9") = f;
	long r;

	__asm__ volatile("syscall"
			 : "=a"(r)
			 : "a"(nr), "D"(a), "S"(b), "d"(c), "r"(r10), "r"(r8), "r"(r9)
			 : "rcx", "r11", "memory");
	return r;
}

#elif defined(__aarch64__)

static inline long sys_call(long nr, long a, long b, long c, long d, long e, long f)
{
	register long x8 __asm__("x8") = nr;
	register long x0 __asm__("x0") = a;
	register long x1 __asm__("x1") = b;
	register long x2 __asm__("x2") = c;
	register long x3 __asm__("x3") = d;
	register long x4 __asm__("x4") = e;
	register long x5 __asm__("x5") = f;

	__asm__ volatile("svc #0" : "+r"(x0) : "r"(x8), "r"(x1), "r"(x2), "r"(x3), "r"(x4), "r"(x5) : "memory");
	return x0;
}

#else

extern long (*next_syscall)(long nr, long a, long b, long c, long d, long e, long f); /* base/next.h: libc's */

static inline long sys_call(long nr, long a, long b, long c, long d, long e, long f)
{
	int saved_errno = errno;
	long r = next_syscall(nr, a, b, c, d, e, f);

	r = r < 0 ? -errno : r;
	errno = saved_errno;
	return r;
}

#endif

/* The same as libc says it: -1 and errno. */
static inline long sys_errno(long r)
{
	if (__builtin_expect(r >= 0 || r < -4095, 1))
		return r;
	errno = (int)-r;
	return -1;
}

/*
 * Calls f on another stack, which ends (the highest address) at `top`, a multiple of 16. Where we do not know how: on
 * this one.
 */
static inline void sys_on_stack(void (*f)(void), char *top)
{
#if defined(__x86_64__)
	__asm__ volatile("mov %%rsp, %%rbx\n\tmov %1, %%rsp\n\tcall *%0\n\tmov %%rbx, %%rsp"
			 : "+a"(f), "+d"(top)
			 :
			 : "rbx", "rcx", "rsi", "rdi", "r8", "r9", "r10", "r11", "xmm0", "xmm1", "xmm2", "xmm3", "xmm4",
			   "xmm5", "xmm6", "xmm7", "xmm8", "xmm9", "xmm10", "xmm11", "xmm12", "xmm13", "xmm14",
			   "xmm15", "memory", "cc");
#else
	(void)top;
	f();
#endif
}

#endif
