/* SPDX-License-Identifier: MIT */
/* log: whole lines, to the right place, and nothing changed around them. */
#include "base/log.h"

#include "../support/files.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

static char dir[4096];

static void enter(void)
{
	scratch_enter(dir);
}

static void leave(void)
{
	scratch_leave(dir);
}

TestSuite(log, .init = enter, .fini = leave);

static const char *line_without_pid(char *text)
{
	char head[32];

	snprintf(head, sizeof(head), "cpr[%d]: ", (int)getpid());
	cr_assert_eq(strncmp(text, head, strlen(head)), 0, "%s", text);
	return text + strlen(head);
}

Test(log, writes_a_line_with_the_pid_and_appends_the_next)
{
	char text[4096];

	log_to(LOG_LEVEL_WARN, "out");
	log_warn("first %d", 1);
	cr_assert_eq(file_text("out", text, sizeof(text)) > 0, 1);
	cr_assert_str_eq(line_without_pid(text), "first 1\n");
	log_error("second");
	file_text("out", text, sizeof(text));
	cr_assert_str_eq(line_without_pid(strchr(text, '\n') + 1), "second\n");
}

Test(log, says_only_what_was_asked_for)
{
	char text[4096];

	log_to(LOG_LEVEL_WARN, "out");
	log_info("not this");
	log_debug("nor this");
	cr_assert_neq(access("out", F_OK), 0);
	log_to(LOG_LEVEL_DEBUG, "out");
	log_debug("this");
	file_text("out", text, sizeof(text));
	cr_assert_str_eq(line_without_pid(text), "this\n");
}

Test(log, keeps_errno_and_names_it)
{
	char text[4096];

	log_to(LOG_LEVEL_WARN, "out");
	errno = ENOENT;
	log_warn("it says: %m");
	cr_assert_eq(errno, ENOENT);
	file_text("out", text, sizeof(text));
	cr_assert_str_eq(line_without_pid(text), "it says: No such file or directory\n");
}

Test(log, keeps_errno_when_nothing_can_be_written)
{
	log_to(LOG_LEVEL_WARN, "/nowhere/at/all");
	close(STDERR_FILENO);
	errno = EDOM;
	log_warn("into the void");
	cr_assert_eq(errno, EDOM);
}

Test(log, ends_a_line_of_any_length_with_one_newline)
{
	char long_text[3001], text[8192];

	memset(long_text, 'x', sizeof(long_text) - 1);
	long_text[sizeof(long_text) - 1] = '\0';
	log_to(LOG_LEVEL_WARN, "out");
	for (size_t n = 980; n < 1040; n++) { /* around the size of its buffer */
		size_t used;

		unlink("out");
		log_warn("%s", long_text + sizeof(long_text) - 1 - n);
		used = file_text("out", text, sizeof(text));
		cr_assert_leq(used, 1024);
		cr_assert_eq(text[used - 1], '\n');
		cr_assert_eq(memchr(text, '\n', used), text + used - 1);
		cr_assert_eq(strlen(text), used);
	}
}

Test(log, falls_back_to_stderr_when_its_file_cannot_be_opened)
{
	char text[4096];
	int fd = open("err", O_WRONLY | O_CREAT, 0600);

	dup2(fd, STDERR_FILENO);
	log_to(LOG_LEVEL_WARN, "/nowhere/at/all");
	log_warn("heard all the same");
	file_text("err", text, sizeof(text));
	cr_assert_str_eq(line_without_pid(text), "heard all the same\n");
}

Test(log, waits_for_no_reader_of_a_fifo)
{
	char text[4096];
	int fd = open("err", O_WRONLY | O_CREAT, 0600);

	dup2(fd, STDERR_FILENO);
	alarm(10);
	cr_assert_eq(mkfifo("fifo", 0600), 0);
	log_to(LOG_LEVEL_WARN, "fifo");
	log_warn("to standard error");
	file_text("err", text, sizeof(text));
	cr_assert_str_eq(line_without_pid(text), "to standard error\n");
}

/*
 * Another process writes to the same pipe: its one page may be gone between the look and the write. Nothing reads then.
 */
Test(log, never_waits_for_a_full_pipe)
{
	static char page[4096];
	int ends[2], child;

	alarm(60);
	cr_assert_eq(pipe(ends), 0);
	cr_assert_geq(fcntl(ends[1], F_SETPIPE_SZ, 4096), 4096);
	dup2(ends[1], STDERR_FILENO);
	log_to(LOG_LEVEL_WARN, NULL);
	child = fork();
	if (!child) {
		int fd = open("/proc/self/fd/2", O_WRONLY | O_NONBLOCK);

		alarm(15);
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		for (;;)
			(void)!write(fd, page, 1);
	}
	for (int i = 0; i < 3000; i++) {
		log_warn("line %d", i);
		(void)!read(ends[0], page, sizeof(page)); /* the writer keeps it from blocking */
	}
	kill(child, SIGKILL);
	waitpid(child, NULL, 0);
}

Test(log, leaves_no_descriptor_open)
{
	int before;

	log_to(LOG_LEVEL_WARN, "out");
	before = open_descriptors();
	for (int i = 0; i < 20; i++)
		log_warn("%d", i);
	cr_assert_eq(open_descriptors(), before);
}

Test(log, knows_its_levels_by_name_and_no_other_word)
{
	static const char *const good[] = {"error", "warn", "info", "debug"};
	static const char *const wrong[] = {"", "Error", "warning", "debug ", "3", "err"};
	enum log_level level = LOG_LEVEL_INFO;

	for (size_t i = 0; i < countof(good); i++) {
		cr_assert_eq(log_level_parse(good[i], &level), 0);
		cr_assert_eq((size_t)level, i);
	}
	for (size_t i = 0; i < countof(wrong); i++) {
		cr_assert_eq(log_level_parse(wrong[i], &level), -EINVAL, "%s", wrong[i]);
		cr_assert_eq(level, LOG_LEVEL_DEBUG);
	}
}
