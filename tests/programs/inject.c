/* SPDX-License-Identifier: MIT */
/*
 * Runs a program and lists the system calls that libcpr.so makes at a restart, or lets one of them fail:
 *   inject REPORT COMMAND...
 *       REPORT gets a line for each call: PHASE CALL DETAIL WHERE
 *   inject REPORT:PHASE:CALL:DETAIL:WHERE:TURN:ERRNO COMMAND...
 *       the TURNth such call, counted over all threads, is not made and fails with ERRNO
 *   inject --attach SUPERVISOR SERVER REPORT...
 *       the same for a handover: attaches to running processes, and then prints "attached"
 * DETAIL: the argument that chooses between the several things that a call does. WHERE: a file of the library.
 * PHASE 0 lasts from the program's second thread (the task) to the exec, PHASE 1 from there on. In a handover, 0 is the
 * tasks of the old generation and its workers, 1 the next generation and its workers. The program must have one thread.
 * The started process becomes the program. Its tracer exits after the one failure.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

#ifdef __x86_64__

enum { STRANGE = -1, LEAVING, ARRIVING, WORDS = 40, THREADS_MAX = 64 };

static pid_t program, supervisor; /* 0: there is none, and the program execs itself */
static int report, phase = LEAVING;

/* Of each phase: in a handover there are two at a time. */
static struct image {
	pid_t pid;
	uint64_t start, end, file; /* libcpr.so's text */
} images[2];

static struct {
	bool wanted;
	int phase, turn, error;
	long call, detail;
	unsigned long where;
} fault;

/* Between the entry of a call and its end. */
static struct thread {
	pid_t tid;
	int phase;
	bool first; /* of its process */
	bool inside, fails;
} threads[THREADS_MAX];

/* In a handover: which generation has the thread? Its process, or its parent, is the generation's owner. */
static int phase_of(pid_t tid, bool *first)
{
	char path[64], line[256];
	int of = STRANGE, number;
	FILE *status;

	*first = tid == program;
	if (!supervisor)
		return phase;
	snprintf(path, sizeof(path), "/proc/%d/status", tid);
	status = fopen(path, "re");
	while (status && fgets(line, sizeof(line), status)) {
		if (sscanf(line, "Tgid: %d", &number) == 1)
			*first = number == tid;
		else if (sscanf(line, "PPid: %d", &number) != 1)
			continue;
		for (int i = LEAVING; i <= ARRIVING; i++)
			if (images[i].pid == number)
				of = i;
	}
	if (status)
		fclose(status);
	return of;
}

static struct thread *thread_of(pid_t tid)
{
	struct thread *unused = NULL;

	for (int i = 0; i < THREADS_MAX; i++)
		if (threads[i].tid == tid)
			return &threads[i];
		else if (!threads[i].tid && !unused)
			unused = &threads[i];
	if (!unused)
		_exit(3);
	*unused = (struct thread){.tid = tid};
	unused->phase = phase_of(tid, &unused->first);
	return unused;
}

static void find_library(struct image *image)
{
	char path[64], line[512];
	FILE *maps;

	snprintf(path, sizeof(path), "/proc/%d/maps", image->pid);
	maps = fopen(path, "re");
	while (maps && fgets(line, sizeof(line), maps)) {
		unsigned long long start, end, offset;
		char rights[8];

		if (strstr(line, "libcpr.so") &&
		    sscanf(line, "%llx-%llx %7s %llx", &start, &end, rights, &offset) == 4 && rights[2] == 'x')
			image->start = start, image->end = end, image->file = start - offset;
	}
	if (maps)
		fclose(maps);
}

/* Where the library called, by the stack; 0: it is none of its callers. */
static uint64_t caller(const struct thread *thread, const struct user_regs_struct *regs)
{
	struct image *image = &images[thread->phase];
	uint64_t words[WORDS] = {0};
	struct iovec to = {words, sizeof(words)}, from = {(void *)regs->rsp, sizeof(words)};

	if (!image->start)
		find_library(image);
	if (!image->start || process_vm_readv(thread->tid, &to, 1, &from, 1, 0) <= 0)
		return 0;
	for (int i = 0; i < WORDS; i++)
		if (words[i] >= image->start && words[i] < image->end)
			return words[i] - image->file;
	return 0;
}

static long detail(const struct user_regs_struct *regs)
{
	switch (regs->orig_rax) {
	case SYS_fcntl:
	case SYS_futex:
	case SYS_epoll_ctl:
		return (long)regs->rsi;
	case SYS_newfstatat:
		return (long)regs->r10;
	default:
		return 0;
	}
}

static void note(const struct thread *thread, const struct user_regs_struct *regs, uint64_t where)
{
	char line[96];
	int n = snprintf(line, sizeof(line), "%d %lld %ld %#llx\n", thread->phase, (long long)regs->orig_rax,
			 detail(regs), (unsigned long long)where);

	if (write(report, line, (size_t)n) != n)
		_exit(4);
}

static bool is_the_one(const struct thread *thread, const struct user_regs_struct *regs, uint64_t where)
{
	return fault.wanted && thread->phase == fault.phase && (long)regs->orig_rax == fault.call &&
	       detail(regs) == fault.detail && where == fault.where && !--fault.turn;
}

/* The one failure: the other threads go on with the end of their tracer. */
static void fail(const struct thread *thread, struct user_regs_struct *regs)
{
	regs->rax = (unsigned long long)-(long long)fault.error;
	ptrace(PTRACE_SETREGS, thread->tid, NULL, regs);
	ptrace(PTRACE_DETACH, thread->tid, NULL, 0);
	_exit(0);
}

/* Every call that a task makes, and in the next image what the library makes in the program's own thread. */
static void at_entry(struct thread *thread, struct user_regs_struct *regs)
{
	uint64_t where = thread->phase == ARRIVING || !thread->first ? caller(thread, regs) : 0;

	if (thread->first && !where)
		return;
	thread->fails = is_the_one(thread, regs, where);
	if (thread->fails || !fault.wanted)
		note(thread, regs, where);
	if (thread->fails) {
		regs->orig_rax = (unsigned long long)-1; /* no call */
		ptrace(PTRACE_SETREGS, thread->tid, NULL, regs);
	}
}

static void at_call(struct thread *thread)
{
	struct user_regs_struct regs;

	if (ptrace(PTRACE_GETREGS, thread->tid, NULL, &regs))
		return;
	thread->inside = !thread->inside;
	if (thread->inside)
		at_entry(thread, &regs);
	else if (thread->fails)
		fail(thread, &regs);
}

/* It may be another thread that has exec'ed, and has this number now. */
static void at_exec_of_program(void)
{
	static bool begun;

	if (begun)
		phase = ARRIVING;
	begun = true;
	images[phase] = (struct image){.pid = program};
	memset(threads, 0, sizeof(threads));
	thread_of(program)->inside = true;
}

/* The first that the supervisor starts is the next generation. */
static void at_exec(pid_t tid)
{
	if (!supervisor) {
		at_exec_of_program();
	} else if (!images[ARRIVING].pid) {
		images[ARRIVING].pid = tid;
		thread_of(tid)->tid = 0;
		thread_of(tid)->inside = true;
	}
}

/* What is the supervisor's, and what an old generation does in its own threads, goes on without a stop. */
static int way_on(const struct thread *thread)
{
	return thread->phase == STRANGE || (supervisor && thread->phase == LEAVING && thread->first) ? PTRACE_CONT
												     : PTRACE_SYSCALL;
}

static void trace(void)
{
	int status;
	pid_t tid;

	while ((tid = waitpid(-1, &status, __WALL)) > 0) {
		int signo = WIFSTOPPED(status) ? WSTOPSIG(status) : 0, event = status >> 16;

		if (WIFEXITED(status) || WIFSIGNALED(status)) {
			thread_of(tid)->tid = 0;
			continue;
		}
		if (signo == (SIGTRAP | 0x80))
			at_call(thread_of(tid));
		else if (event == PTRACE_EVENT_EXEC)
			at_exec(tid);
		if (signo == (SIGTRAP | 0x80) || event)
			signo = 0;
		ptrace(way_on(thread_of(tid)), tid, NULL, signo);
	}
}

/* What the program forks is not traced: no other has its library calls counted. */
static void attach(void)
{
	const long options = PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC;

	if (ptrace(PTRACE_SEIZE, program, NULL, options) || ptrace(PTRACE_INTERRUPT, program, NULL, 0))
		_exit(2);
}

/* False: it has ended. */
static bool seize(pid_t tid, long more)
{
	if (!ptrace(PTRACE_SEIZE, tid, NULL, PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | more))
		return true;
	if (errno == ESRCH)
		return false;
	perror("ptrace");
	_exit(77);
}

/* It may have a task already, which is to be heard from its next call on. */
static void seize_threads(pid_t pid)
{
	char path[64];
	struct dirent *entry;
	DIR *tasks;

	snprintf(path, sizeof(path), "/proc/%d/task", pid);
	tasks = opendir(path);
	while (tasks && (entry = readdir(tasks))) {
		pid_t tid = atoi(entry->d_name);

		if (tid && seize(tid, 0) && tid != pid)
			ptrace(PTRACE_INTERRUPT, tid, NULL, 0);
	}
	if (tasks)
		closedir(tasks);
}

static void seize_workers(pid_t owner)
{
	char path[64];
	FILE *children;
	int pid;

	snprintf(path, sizeof(path), "/proc/%d/task/%d/children", owner, owner);
	children = fopen(path, "re");
	while (children && fscanf(children, "%d", &pid) == 1)
		seize_threads(pid);
	if (children)
		fclose(children);
}

/* Until all of them have ended. */
static int attach_to_all(char **argv)
{
	supervisor = atoi(argv[0]);
	images[LEAVING].pid = atoi(argv[1]);
	seize(supervisor, PTRACE_O_TRACEFORK | PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC);
	seize_threads(images[LEAVING].pid);
	seize_workers(images[LEAVING].pid);
	if (write(STDOUT_FILENO, "attached\n", 9) != 9)
		return 2;
	trace();
	return 0;
}

static void parse(char *what)
{
	char *colon = strchr(what, ':');

	if (colon) {
		*colon = '\0';
		fault.wanted = sscanf(colon + 1, "%d:%ld:%ld:%lx:%d:%d", &fault.phase, &fault.call,
				      &fault.detail, &fault.where, &fault.turn, &fault.error) == 6;
	}
	report = open(what, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
}

int main(int argc, char **argv)
{
	int go[2];
	pid_t child;
	char byte;

	if (argc == 5 && !strcmp(argv[1], "--attach")) {
		parse(argv[4]);
		return attach_to_all(argv + 2);
	}
	if (argc < 3 || (parse(argv[1]), report < 0) || pipe2(go, O_CLOEXEC)) {
		fprintf(stderr, "usage: inject REPORT[:PHASE:CALL:DETAIL:WHERE:TURN:ERRNO] COMMAND...\n");
		return 2;
	}
	program = getpid();
	prctl(PR_SET_PTRACER, PR_SET_PTRACER_ANY);
	child = fork();
	if (!child) {
		if (fork())
			_exit(0); /* the tracer is no child of the program, which it would tell its end */
		attach();
		close(go[0]);
		close(go[1]);
		trace();
		_exit(0);
	}
	waitpid(child, NULL, 0);
	close(go[1]);
	if (read(go[0], &byte, 1)) /* until it is traced */
		return 2;
	setenv("LD_PRELOAD", getenv("INJECT_PRELOAD") ?: "", true); /* not for this one */
	execvp(argv[2], argv + 2);
	perror(argv[2]);
	return 127;
}

#else

int main(void)
{
	return 77; /* it knows the registers of x86-64 only */
}

#endif
