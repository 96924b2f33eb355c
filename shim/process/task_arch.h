/* SPDX-License-Identifier: MIT */
/* The instructions of the task that C cannot express: to start, to change stack and thread pointer, and to end. */
#ifndef CPR_PROCESS_TASK_ARCH_H
#define CPR_PROCESS_TASK_ARCH_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>

/*
 * clone(2) of a thread that runs `entry` on `stack` with this thread pointer; `entry` never returns. Returns its tid,
 * or -errno. A signal handler may call it.
 */
long cpr__task_clone(unsigned long flags, void *stack, void (*entry)(void), void *thread_pointer);

/* Continues in `go_on`, which does not return, on this stack and with this thread pointer. */
_Noreturn void cpr__task_enter(void *stack, void *thread_pointer, void (*go_on)(void));

/* Calls `work` on another stack. */
void cpr__task_call(void *stack, void (*work)(void));

#if defined(__x86_64__)

__asm__(".pushsection .text\n"
	".type cpr__task_clone, @function\n"
	".hidden cpr__task_clone\n"
	".globl cpr__task_clone\n"
	"cpr__task_clone:\n"
	"	mov %rdx, %r9\n"
	"	mov %rcx, %r8\n" /* CLONE_SETTLS */
	"	xor %edx, %edx\n"
	"	xor %r10d, %r10d\n"
	"	mov $56, %eax\n" /* clone */
	"	syscall\n"
	"	test %rax, %rax\n"
	"	jz 1f\n"
	"	ret\n"
	"1:	xor %ebp, %ebp\n"
	"	and $-16, %rsp\n"
	"	call *%r9\n"
	"	hlt\n"
	".size cpr__task_clone, .-cpr__task_clone\n"
	".type cpr__task_enter, @function\n"
	".hidden cpr__task_enter\n"
	".globl cpr__task_enter\n"
	"cpr__task_enter:\n"
	"	mov %rdi, %r12\n"
	"	mov %rdx, %r13\n"
	"	mov $0x1002, %edi\n" /* ARCH_SET_FS */
	"	mov $158, %eax\n"    /* arch_prctl */
	"	syscall\n"
	"	mov %r12, %rsp\n"
	"	and $-16, %rsp\n"
	"	xor %ebp, %ebp\n"
	"	call *%r13\n"
	"	hlt\n"
	".size cpr__task_enter, .-cpr__task_enter\n"
	".type cpr__task_call, @function\n"
	".hidden cpr__task_call\n"
	".globl cpr__task_call\n"
	"cpr__task_call:\n"
	"	push %rbp\n"
	"	mov %rsp, %rbp\n"
	"	mov %rdi, %rsp\n"
	"	and $-16, %rsp\n"
	"	call *%rsi\n"
	"	mov %rbp, %rsp\n"
	"	pop %rbp\n"
	"	ret\n"
	".size cpr__task_call, .-cpr__task_call\n"
	".popsection\n");

static inline char *arch_thread_pointer(void)
{
	char *at;

	__asm__("mov %%fs:0, %0" : "=r"(at));
	return at;
}

/* A thread's control block begins with its own address, twice. */
static inline void arch_prepare_block(char *thread_pointer)
{
	*(char **)thread_pointer = thread_pointer;
	*(char **)(thread_pointer + 16) = thread_pointer;
}

/*
 * If *word is `alive`, sets it to `dead` and ends this thread without another touch of its stack: from then on the next
 * task may run on it. Returns if *word is something else.
 */
static inline void arch_end_if(_Atomic unsigned *word, unsigned alive, unsigned dead)
{
	__asm__ volatile("lock cmpxchgl %[dead], %[word]\n"
			 "	jne 1f\n"
			 "	mov $60, %%eax\n" /* exit: of this thread */
			 "	xor %%edi, %%edi\n"
			 "	syscall\n"
			 "1:"
			 : "+a"(alive), [word] "+m"(*word)
			 : [dead] "r"(dead)
			 : "rdi", "rcx", "r11", "memory", "cc");
}

#elif defined(__aarch64__)

__asm__(".pushsection .text\n"
	".type cpr__task_clone, %function\n"
	".hidden cpr__task_clone\n"
	".globl cpr__task_clone\n"
	"cpr__task_clone:\n"
	"	mov x9, x2\n"
	"	mov x2, xzr\n" /* x3: CLONE_SETTLS */
	"	mov x4, xzr\n"
	"	mov x8, #220\n" /* clone */
	"	svc #0\n"
	"	cbz x0, 1f\n"
	"	ret\n"
	"1:	mov x29, xzr\n"
	"	mov x30, xzr\n"
	"	blr x9\n"
	"	brk #0\n"
	".size cpr__task_clone, .-cpr__task_clone\n"
	".type cpr__task_enter, %function\n"
	".hidden cpr__task_enter\n"
	".globl cpr__task_enter\n"
	"cpr__task_enter:\n"
	"	msr tpidr_el0, x1\n"
	"	mov sp, x0\n"
	"	mov x29, xzr\n"
	"	mov x30, xzr\n"
	"	blr x2\n"
	"	brk #0\n"
	".size cpr__task_enter, .-cpr__task_enter\n"
	".type cpr__task_call, %function\n"
	".hidden cpr__task_call\n"
	".globl cpr__task_call\n"
	"cpr__task_call:\n"
	"	stp x29, x30, [sp, #-16]!\n"
	"	mov x29, sp\n"
	"	mov sp, x0\n"
	"	blr x1\n"
	"	mov sp, x29\n"
	"	ldp x29, x30, [sp], #16\n"
	"	ret\n"
	".size cpr__task_call, .-cpr__task_call\n"
	".popsection\n");

static inline char *arch_thread_pointer(void)
{
	char *at;

	__asm__("mrs %0, tpidr_el0" : "=r"(at));
	return at;
}

static inline void arch_prepare_block(char *thread_pointer)
{
	(void)thread_pointer;
}

static inline void arch_end_if(_Atomic unsigned *word, unsigned alive, unsigned dead)
{
	unsigned there, failed;

	__asm__ volatile("1:	ldaxr %w[there], [%[word]]\n"
			 "	cmp %w[there], %w[alive]\n"
			 "	b.ne 2f\n"
			 "	stlxr %w[failed], %w[dead], [%[word]]\n"
			 "	cbnz %w[failed], 1b\n"
			 "	mov x8, #93\n" /* exit: of this thread */
			 "	mov x0, xzr\n"
			 "	svc #0\n"
			 "2:	clrex\n"
			 : [there] "=&r"(there), [failed] "=&r"(failed)
			 : [word] "r"(word), [alive] "r"(alive), [dead] "r"(dead)
			 : "x0", "x8", "memory", "cc");
}

#else
#error "the task is written for x86-64 and aarch64"
#endif

#endif
