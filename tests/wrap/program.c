/* SPDX-License-Identifier: MIT */
/* A program file that would not run is refused before any connection is disturbed; one that would is exec'ed. */
#include "../support/sockets.h"

#include <elf.h>
#include <link.h>
#include <sys/sendfile.h>
#include <sys/stat.h>

static void serve(void)
{
	listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);
}

/* A file in the room with these bytes, that may be executed. */
static const char *file_of(const char *name, const void *bytes, size_t n)
{
	int fd = MUST(open(in_room(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0700));

	CHECK_INT(write(fd, bytes, n), n);
	close(fd);
	return in_room(name);
}

static const char *script(const char *name, const char *interpreter)
{
	char text[600];

	snprintf(text, sizeof(text), "#!%s\n", interpreter);
	return file_of(name, text, strlen(text));
}

/* A copy of this program, with `n` bytes at `at` replaced. */
static const char *patched(const char *name, size_t at, const void *bytes, size_t n)
{
	int from = MUST(open(arguments[0], O_RDONLY | O_CLOEXEC)),
	    to = MUST(open(in_room(name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0700));
	struct stat st;

	MUST(fstat(from, &st));
	CHECK_INT(sendfile(to, from, NULL, (size_t)st.st_size), st.st_size);
	CHECK_INT(pwrite(to, bytes, n, (off_t)at), n);
	close(from);
	close(to);
	return in_room(name);
}

static void is_refused(const char *path, const char *because)
{
	const char *answer = ask("try-restart %s", path);

	if (!strstr(answer, "result=refused") || !strstr(answer, because))
		fail_at(__FILE__, __LINE__, answer);
	CHECK(strstr(ask("status"), "generation=1"));
}

TEST(what_is_no_program_is_refused, ONCE, "WARNS=1")
{
	serve();
	is_refused(file_of("garbage", "garbage\n", 8), "neither an ELF program nor a script");
	is_refused(file_of("empty", "", 0), "neither an ELF program nor a script");
	is_refused(getenv("WRAP_ROOM"), "no regular file");
	is_refused("/nowhere/at/all", "is not there");
	MUST(chmod(file_of("closed", "#!/bin/sh\n", 10), 0600));
	is_refused(in_room("closed"), "may not be executed");
}

TEST(another_machines_program_is_refused, ONCE, "WARNS=1")
{
	const uint16_t sparc = EM_SPARCV9;
	const unsigned char bits = ELFCLASS32;

	serve();
	is_refused(patched("sparc", offsetof(ElfW(Ehdr), e_machine), &sparc, sizeof(sparc)),
		   "another architecture (sparc64");
	is_refused(patched("bits", EI_CLASS, &bits, 1), "another architecture");
}

TEST(a_damaged_program_is_refused, ONCE, "WARNS=1")
{
	const ElfW(Half) none = 0;

	serve();
	is_refused(patched("segments", offsetof(ElfW(Ehdr), e_phnum), &none, sizeof(none)), "damaged");
	is_refused(file_of("head", ELFMAG "and no more than so many bytes, and then some", 50), "damaged");
}

/* Where in this program its loader's name stands. */
static size_t loader_at(void)
{
	int fd = MUST(open(arguments[0], O_RDONLY | O_CLOEXEC));
	ElfW(Ehdr) head;
	ElfW(Phdr) segment;
	size_t at = 0;

	CHECK_INT(pread(fd, &head, sizeof(head), 0), sizeof(head));
	for (int i = 0; i < head.e_phnum && !at; i++) {
		CHECK_INT(pread(fd, &segment, sizeof(segment), (off_t)(head.e_phoff + (size_t)i * sizeof(segment))),
			  sizeof(segment));
		at = segment.p_type == PT_INTERP ? segment.p_offset : 0;
	}
	CHECK(at);
	close(fd);
	return at;
}

TEST(a_program_without_its_loader_is_refused, ONCE, "WARNS=1")
{
	serve();
	is_refused(patched("loader", loader_at(), "/LIB", 4), "which is not there");
}

TEST(a_setuid_program_is_refused, ONCE, "WARNS=1")
{
	serve();
	MUST(chmod(patched("setuid", 0, ELFMAG, SELFMAG), 04700));
	is_refused(in_room("setuid"), "setuid");
}

TEST(a_script_without_its_interpreter_is_refused, ONCE, "WARNS=1")
{
	char name[512];

	serve();
	is_refused(script("one", "/nowhere/python"), "/nowhere/python is not there");
	is_refused(script("none", " "), "no interpreter");
	snprintf(name, sizeof(name), "%s -a -b", in_room("one"));
	is_refused(script("two", name), "/nowhere/python is not there");
	is_refused(script("directory", "/tmp"), "no regular file");
}

TEST(scripts_of_scripts_are_refused_where_the_kernel_gives_up, ONCE, "WARNS=1")
{
	char name[16], before[512] = "/bin/sh";

	serve();
	for (int i = 0; i < 6; i++) {
		snprintf(name, sizeof(name), "nested%d", i);
		snprintf(before, sizeof(before), "%s", script(name, before));
	}
	CHECK_INT(access(before, X_OK), 0);
	is_refused(before, "more than 5 interpreters");
}

/* As deep as the kernel goes, with this program at the bottom. */
TEST(a_program_behind_scripts_is_restarted, BELL, "WARNS=1")
{
	char name[16], before[512], line[600];

	serve();
	if (generation() > 1)
		return;
	snprintf(before, sizeof(before), "%s %s", arguments[0], arguments[1]);
	for (int i = 0; i < 4; i++) {
		snprintf(name, sizeof(name), "behind%d", i);
		snprintf(before, sizeof(before), "%s", script(name, before));
	}
	snprintf(line, sizeof(line), "restart %s\n", before);
	say(line);
	for (;;)
		poll(NULL, 0, -1);
}
