/* SPDX-License-Identifier: MIT */
/* What an executable file is, read with as much care as a stranger's file asks for. */
#define _GNU_SOURCE
#include "model/image.h"

#include "base/attr.h"
#include "base/io.h"
#include "base/next.h"
#include "base/raw.h"

#include <elf.h>
#include <errno.h>
#include <fcntl.h>
#include <link.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/xattr.h>

#if defined(__x86_64__)
#define OWN_MACHINE EM_X86_64
#elif defined(__aarch64__)
#define OWN_MACHINE EM_AARCH64
#elif defined(__riscv)
#define OWN_MACHINE EM_RISCV
#else
#error "which ELF machine is this?"
#endif

enum { NOTES_MAX = 64, NEEDED_MAX = 64 };

static const struct {
	unsigned machine;
	const char *name;
} machines[] = {
	{EM_386, "i386"},
	{EM_X86_64, "x86_64"},
	{EM_ARM, "arm"},
	{EM_AARCH64, "aarch64"},
	{EM_RISCV, "riscv"},
	{EM_PPC, "ppc"},
	{EM_PPC64, "ppc64"},
	{EM_S390, "s390x"},
	{EM_MIPS, "mips"},
	{EM_SPARCV9, "sparc64"},
	{EM_IA_64, "ia64"},
	{EM_68K, "m68k"},
	{EM_LOONGARCH, "loongarch"},
};

const char *image_machine(unsigned machine)
{
	for (size_t i = 0; i < countof(machines); i++)
		if (machines[i].machine == machine)
			return machines[i].name;
	return NULL;
}

/* Exactly n bytes at an offset: 0, -EBADMSG when the file ends before, -errno. */
static int read_at(int fd, uint64_t at, void *bytes, size_t n)
{
	ssize_t done;

	if (at > INT64_MAX - n)
		return -EBADMSG;
	do
		done = next_sys(SYS_pread64, fd, bytes, n, (off_t)at);
	while (done < 0 && errno == EINTR);
	if (done < 0)
		return -errno;
	return (size_t)done == n ? 0 : -EBADMSG;
}

static int read_loader(int fd, const ElfW(Phdr) * segment, struct image *image)
{
	int r;

	if (segment->p_filesz < 2 || segment->p_filesz > sizeof(image->loader))
		return -EBADMSG;
	r = read_at(fd, segment->p_offset, image->loader, segment->p_filesz);
	return !r && image->loader[segment->p_filesz - 1] ? -EBADMSG : r;
}

/* Notes are not needed to run a program: unsound ones are passed over. */
static void read_notes(int fd, const ElfW(Phdr) * segment, struct image *image)
{
	uint64_t at = segment->p_offset, end = at + segment->p_filesz;
	struct {
		ElfW(Nhdr) head;
		char name[sizeof(IMAGE_NOTE_NAME)];
		uint32_t version;
	} note;

	for (int i = 0; i < NOTES_MAX && at < end && end - at >= sizeof(note.head); i++) {
		if (read_at(fd, at, &note.head, sizeof(note.head)))
			return;
		if (note.head.n_namesz == sizeof(note.name) && note.head.n_descsz == sizeof(note.version) &&
		    note.head.n_type == IMAGE_NOTE_FORMAT && !read_at(fd, at, &note, sizeof(note)) &&
		    !memcmp(note.name, IMAGE_NOTE_NAME, sizeof(note.name)))
			image->format = note.version;
		at += sizeof(note.head) + (((uint64_t)note.head.n_namesz + 3) & ~UINT64_C(3)) +
		      (((uint64_t)note.head.n_descsz + 3) & ~UINT64_C(3));
	}
}

bool image_is_asan(const char *name)
{
	const char *slash = strrchr(name, '/'), *base = slash ? slash + 1 : name;

	return !strncmp(base, "libasan.so", 10) || !strncmp(base, "libclang_rt.asan", 16);
}

/* Where in the file an address of the image stands; 0: nowhere. */
static uint64_t offset_of(int fd, const ElfW(Ehdr) * head, uint64_t address)
{
	for (unsigned i = 0; i < head->e_phnum; i++) {
		ElfW(Phdr) segment;

		if (read_at(fd, head->e_phoff + (uint64_t)i * sizeof(segment), &segment, sizeof(segment)))
			return 0;
		if (segment.p_type == PT_LOAD && address >= segment.p_vaddr &&
		    address - segment.p_vaddr < segment.p_filesz)
			return segment.p_offset + (address - segment.p_vaddr);
	}
	return 0;
}

static bool is_asan_at(int fd, uint64_t at)
{
	char name[32] = "";

	/* fewer bytes than asked for are fine: the file may end with the names */
	return next_sys(SYS_pread64, fd, name, sizeof(name) - 1, (off_t)at) > 0 && image_is_asan(name);
}

/* The libraries that it names. Unsound entries are passed over: the loader is the one to complain. */
static bool needs_asan(int fd, const ElfW(Ehdr) * head, const ElfW(Phdr) * dynamic)
{
	uint64_t needed[NEEDED_MAX], names = 0, n = 0;
	ElfW(Dyn) entry;

	for (uint64_t at = 0;
	     at + sizeof(entry) <= dynamic->p_filesz && !read_at(fd, dynamic->p_offset + at, &entry, sizeof(entry));
	     at += sizeof(entry)) {
		if (entry.d_tag == DT_NULL)
			break;
		if (entry.d_tag == DT_STRTAB)
			names = offset_of(fd, head, entry.d_un.d_ptr);
		if (entry.d_tag == DT_NEEDED && n < NEEDED_MAX)
			needed[n++] = entry.d_un.d_val;
	}
	while (names && n > 0)
		if (is_asan_at(fd, names + needed[--n]))
			return true;
	return false;
}

static int read_segments(int fd, const ElfW(Ehdr) * head, struct image *image)
{
	for (unsigned i = 0; i < head->e_phnum; i++) {
		ElfW(Phdr) segment;
		int r = read_at(fd, head->e_phoff + (uint64_t)i * sizeof(segment), &segment, sizeof(segment));

		if (!r && segment.p_type == PT_INTERP && !*image->loader)
			r = read_loader(fd, &segment, image);
		if (!r && segment.p_type == PT_NOTE)
			read_notes(fd, &segment, image);
		if (!r && segment.p_type == PT_DYNAMIC)
			image->asan = needs_asan(fd, head, &segment);
		if (r)
			return r;
	}
	return 0;
}

static bool is_go_section(const char *name)
{
	return !strcmp(name, ".note.go.buildid") || !strcmp(name, ".go.buildinfo");
}

/* Section heads are not needed to run a program: unsound ones are passed over, they do not make it a bad one. */
static bool made_by_go(int fd, const ElfW(Ehdr) * head)
{
	ElfW(Shdr) names, section;
	uint64_t at = head->e_shoff;

	if (!at || head->e_shentsize != sizeof(section) || head->e_shstrndx >= head->e_shnum)
		return false;
	if (read_at(fd, at + (uint64_t)head->e_shstrndx * sizeof(names), &names, sizeof(names)))
		return false;
	for (unsigned i = 0; i < head->e_shnum; i++) {
		char name[sizeof(".note.go.buildid") + 1] = "";

		if (read_at(fd, at + (uint64_t)i * sizeof(section), &section, sizeof(section)))
			return false;
		/* fewer bytes than asked for are fine: the file may end with the names */
		if (next_sys(SYS_pread64, fd, name, sizeof(name) - 1, (off_t)(names.sh_offset + section.sh_name)) > 0 &&
		    is_go_section(name))
			return true;
	}
	return false;
}

/* The class, byte order and machine that this was built for: of the tools, and of the library beside them. */
static bool image_is_ours(const unsigned char *ident, unsigned machine)
{
	static const uint16_t one = 1;
	unsigned char order = *(const unsigned char *)&one ? ELFDATA2LSB : ELFDATA2MSB;

	return ident[EI_CLASS] == (sizeof(void *) == 8 ? ELFCLASS64 : ELFCLASS32) && ident[EI_DATA] == order &&
	       machine == OWN_MACHINE;
}

static unsigned machine_of(const unsigned char *bytes)
{
	const unsigned char *at = bytes + offsetof(Elf32_Ehdr, e_machine); /* the same place in both classes */

	return bytes[EI_DATA] == ELFDATA2MSB ? (unsigned)(at[0] << 8 | at[1]) : (unsigned)(at[1] << 8 | at[0]);
}

static int read_elf(int fd, const unsigned char *bytes, struct image *image)
{
	ElfW(Ehdr) head;
	int r;

	image->kind = IMAGE_ELF;
	image->machine = machine_of(bytes);
	image->bits = bytes[EI_CLASS] == ELFCLASS64 ? 64 : 32;
	image->same_machine = image_is_ours(bytes, image->machine);
	if (!image->same_machine)
		return 0;
	r = read_at(fd, 0, &head, sizeof(head));
	if (r)
		return r;
	if ((head.e_type != ET_EXEC && head.e_type != ET_DYN) || !head.e_phnum ||
	    head.e_phentsize != sizeof(ElfW(Phdr)))
		return -EBADMSG;
	r = read_segments(fd, &head, image);
	if (!r)
		image->go = made_by_go(fd, &head);
	return r;
}

/* As the kernel reads it: up to the end of the line, without the blanks around. */
static void read_script(const char *bytes, size_t n, struct image *image)
{
	static const char blanks[] = " \t\r";
	char line[sizeof(image->line)];
	size_t len;

	memcpy(line, bytes + 2, n - 2);
	line[n - 2] = '\0';
	line[strcspn(line, "\n")] = '\0';
	for (len = strlen(line); len && strchr(blanks, line[len - 1]); len--)
		line[len - 1] = '\0';
	image->kind = IMAGE_SCRIPT;
	memcpy(image->line, line + strspn(line, " \t"), len + 1 - strspn(line, " \t"));
}

int image_read(const char *path, struct image *into)
{
	cleanup_fd int fd = raw_open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0);
	unsigned char bytes[256];
	struct image image = {0};
	struct stat st;
	ssize_t n;
	int r = 0;

	if (fd < 0 || fstat(fd, &st))
		return -errno;
	if (!S_ISREG(st.st_mode))
		return S_ISDIR(st.st_mode) ? -EISDIR : -EACCES;
	n = io_read_all(fd, bytes, sizeof(bytes));
	if (n < 0)
		return (int)n;
	image.mode = st.st_mode;
	image.capabilities = fgetxattr(fd, "security.capability", NULL, 0) > 0;
	if (n >= 2 && !memcmp(bytes, "#!", 2))
		read_script((const char *)bytes, (size_t)n, &image);
	else if (n >= SELFMAG && !memcmp(bytes, ELFMAG, SELFMAG))
		r = n < (ssize_t)sizeof(Elf32_Ehdr) ? -EBADMSG : read_elf(fd, bytes, &image);
	if (!r)
		*into = image;
	return r;
}

bool image_takes_preload(const struct image *image, const char *path, struct text *why)
{
	const char *machine = image_machine(image->machine);
	size_t before = why->used;

	if (!image->same_machine && machine)
		text_format(why, "%s is built for another architecture (%s, %d bits) than cpr", path, machine,
			    image->bits);
	else if (!image->same_machine)
		text_format(why, "%s is built for another architecture (ELF machine %u, %d bits) than cpr", path,
			    image->machine, image->bits);
	else if (image->mode & (S_ISUID | S_ISGID))
		text_format(why,
			    "%s is %s: for such a program the loader ignores LD_PRELOAD, so cpr cannot get into it",
			    path, image->mode & S_ISUID ? "setuid" : "setgid");
	else if (image->capabilities)
		text_format(why,
			    "%s has file capabilities (getcap): for such a program the loader ignores LD_PRELOAD, so "
			    "cpr cannot get into it",
			    path);
	else if (image->go)
		text_format(
			why,
			"%s is a Go program: it calls the kernel itself, not through libc, so cpr would see nothing",
			path);
	else if (!*image->loader)
		text_format(why, "%s is statically linked: nothing can be preloaded into it, so cpr cannot get into it",
			    path);
	return why->used == before;
}
