/* SPDX-License-Identifier: MIT */
/* Claims of unix sockets, by path and by abstract name, and what a program does to a stale path before it binds. */
#include "../support/sockets.h"

/* A path short enough for sun_path, whatever the temporary directory is called. */
static const char *path(void)
{
	MUST(chdir(getenv("WRAP_ROOM")));
	return in_room("s");
}

static void path_is_claimed(int type, const char *type_name)
{
	struct address a = local(path());
	int fd;

	if (generation() > 1)
		unlink(a.un.sun_path); /* as every such server does */
	fd = bound(a, type);
	if (type != SOCK_DGRAM)
		MUST(listen(fd, 16));
	if (generation() == 1) {
		put("inode", inode_of(fd));
		put("file", inode_at(a.un.sun_path));
		CHECK_INT(atoi(ask("connect unix %s %s", a.un.sun_path, type_name)), 0);
		CHECK(!strcmp(ask("send 0 queued"), "ok"));
		next_generation();
	}
	CHECK_INT(inode_of(fd), get("inode"));
	CHECK_INT(inode_at(a.un.sun_path), get("file"));
	if (generation() == 2) {
		check_text(type == SOCK_DGRAM ? fd : MUST(accept4(fd, NULL, NULL, SOCK_CLOEXEC)), "queued");
		CHECK_INT(atoi(ask("connect unix %s %s", a.un.sun_path, type_name)), 1);
		next_generation();
	}
	unlink(a.un.sun_path); /* claimed: now it is the program's own again */
	CHECK_INT(access(a.un.sun_path, F_OK), -1);
}

TEST(unix_stream_is_claimed_and_its_path_stays, BOTH)
{
	path_is_claimed(SOCK_STREAM, "SOCK_STREAM");
}

TEST(unix_datagram_is_claimed_and_its_path_stays, BOTH)
{
	path_is_claimed(SOCK_DGRAM, "SOCK_DGRAM");
}

TEST(unix_seqpacket_is_claimed_and_its_path_stays, BOTH)
{
	path_is_claimed(SOCK_SEQPACKET, "SOCK_SEQPACKET");
}

/*
 * As haproxy does: bound under a name that no client knows, and then moved over the old one. It keeps a link to that
 * until it is sure.
 */
TEST(unix_path_that_is_renamed_into_place_is_claimed, BOTH)
{
	struct address a = local(path()), b = a;
	char backup[sizeof(a.un.sun_path) + 8];
	int fd;

	strcpy(b.un.sun_path + strlen(b.un.sun_path), ".tmp");
	b.len += 4;
	sprintf(backup, "%s.bak", a.un.sun_path);
	if (generation() > 1)
		MUST(link(a.un.sun_path, backup));
	unlink(b.un.sun_path);
	fd = bound(b, SOCK_STREAM);
	MUST(chmod(b.un.sun_path, 0600));
	MUST(rename(b.un.sun_path, a.un.sun_path));
	MUST(listen(fd, 16));
	unlink(backup);
	CHECK_INT(access(b.un.sun_path, F_OK), -1);
	CHECK_INT(access(backup, F_OK), -1);
	if (generation() == 1) {
		put("inode", inode_of(fd));
		put("file", inode_at(a.un.sun_path));
	}
	CHECK_INT(inode_of(fd), get("inode"));
	CHECK_INT(inode_at(a.un.sun_path), get("file"));
	if (generation() > 1) {
		int connection = MUST(accept4(fd, NULL, NULL, SOCK_CLOEXEC));

		check_text(connection, "queued");
		close(connection);
	}
	if (generation() < 3) {
		CHECK_INT(atoi(ask("connect unix %s SOCK_STREAM", a.un.sun_path)), generation() - 1);
		CHECK(!strcmp(ask("send %d queued", generation() - 1), "ok"));
		next_generation();
	}
}

/* Generation 1 leaves a listener at s; the rest is generation 2's. */
static struct address left_behind(void)
{
	struct address a = local(path());

	if (generation() == 1) {
		int fd = listening(a, SOCK_STREAM);

		put("inode", inode_of(fd));
		put("file", inode_at(a.un.sun_path));
		next_generation();
	}
	return a;
}

/* It is still there, and asking for it gives it. */
static void still_claimable(const char *at)
{
	struct address a = local(at);

	CHECK_INT(inode_at(at), get("file"));
	CHECK_INT(inode_of(listening(a, SOCK_STREAM)), get("inode"));
	CHECK_INT(inode_at(at), get("file"));
}

TEST(unlink_of_a_waiting_path_is_swallowed, BOTH)
{
	struct address a = left_behind();

	CHECK_INT(unlink(a.un.sun_path), 0);
	still_claimable(a.un.sun_path);
}

TEST(unlink_by_other_names_of_the_path_is_swallowed, BOTH)
{
	struct address a = left_behind();
	char roundabout[600];
	int dir;

	snprintf(roundabout, sizeof(roundabout), "%s/./x/../s", getenv("WRAP_ROOM"));
	CHECK_INT(unlink(roundabout), 0);
	CHECK_INT(unlink("s"), 0);
	CHECK_INT(unlinkat(AT_FDCWD, "s", 0), 0);
	dir = MUST(open(getenv("WRAP_ROOM"), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	CHECK_INT(unlinkat(dir, "s", 0), 0);
	CHECK_INT(remove(a.un.sun_path), 0);
	still_claimable(a.un.sun_path);
}

TEST(rename_from_and_onto_a_waiting_path_is_swallowed, BOTH)
{
	struct address a = left_behind();
	int fd = MUST(open(in_room("other"), O_CREAT | O_WRONLY | O_CLOEXEC, 0600));

	close(fd);
	CHECK_INT(rename(a.un.sun_path, in_room("aside")), 0);
	CHECK_INT(rename(in_room("other"), a.un.sun_path), 0);
	CHECK_INT(renameat(AT_FDCWD, "s", AT_FDCWD, "aside"), 0);
	still_claimable(a.un.sun_path);
}

TEST(unlink_of_what_took_the_paths_place_is_not_swallowed, BOTH, "WARNS=1")
{
	struct address a = local(path());
	int fd;

	if (generation() == 1) {
		put("inode", inode_of(listening(a, SOCK_STREAM)));
		MUST(unlink(a.un.sun_path));
		fd = MUST(open(a.un.sun_path, O_CREAT | O_WRONLY | O_CLOEXEC, 0600));
		close(fd);
		next_generation();
	}
	MUST(unlink(a.un.sun_path));
	CHECK_INT(access(a.un.sun_path, F_OK), -1);
	CHECK(inode_of(listening(a, SOCK_STREAM)) != get("inode"));
}

TEST(a_probing_connect_is_refused, BOTH)
{
	struct address a = left_behind();

	CHECK_FAILS(try_connect(a, SOCK_STREAM), ECONNREFUSED);
	still_claimable(a.un.sun_path);
	close(MUST(try_connect(a, SOCK_STREAM))); /* claimed: now a server is there */
}

TEST(others_may_connect_while_it_waits, BOTH)
{
	struct address a = left_behind();

	CHECK_INT(atoi(ask("connect unix %s", a.un.sun_path)), 0);
	still_claimable(a.un.sun_path);
}

static const char name[] = "cpr\0wrap \\\xff";

TEST(abstract_sockets_are_claimed, BOTH)
{
	char unique[64];
	int n = snprintf(unique, sizeof(unique), "cpr-wrap-%d-", port(0)), fd;
	struct address a;

	memcpy(unique + n, name, sizeof(name) - 1);
	a = abstract(unique, (size_t)n + sizeof(name) - 1);
	if (generation() == 1) {
		fd = listening(a, SOCK_STREAM);
		put("inode", inode_of(fd));
		put("datagrams", inode_of(bound(a, SOCK_DGRAM)));
		put("shorter", inode_of(listening(abstract(unique, (size_t)n + sizeof(name) - 2), SOCK_STREAM)));
		next_generation();
	}
	CHECK_FAILS(try_connect(a, SOCK_STREAM), ECONNREFUSED);
	CHECK_INT(inode_of(listening(abstract(unique, (size_t)n + sizeof(name) - 2), SOCK_STREAM)), get("shorter"));
	CHECK_INT(inode_of(bound(a, SOCK_DGRAM)), get("datagrams"));
	CHECK_INT(inode_of(listening(a, SOCK_STREAM)), get("inode"));
}

TEST(a_relative_path_is_the_directorys_of_the_moment, BOTH)
{
	struct address a = local("s");
	int fd;

	MUST(chdir(getenv("WRAP_ROOM")));
	if (generation() == 1) {
		put("inode", inode_of(listening(a, SOCK_STREAM)));
		MUST(mkdir("elsewhere", 0700));
		next_generation();
	}
	MUST(chdir("elsewhere"));
	fd = listening(a, SOCK_STREAM); /* the same string, another path */
	CHECK(inode_of(fd) != get("inode"));
	MUST(chdir(".."));
	unlink("s");
	CHECK_INT(inode_of(listening(a, SOCK_STREAM)), get("inode"));
}

/* The JVM passes the whole buffer's size as the address's. */
TEST(an_over_long_sockaddr_names_the_same, BOTH)
{
	struct address a = local(path()), over = a;

	over.len = sizeof(over.un);
	if (generation() == 1) {
		put("inode", inode_of(listening(over, SOCK_STREAM)));
		put("file", inode_at(a.un.sun_path));
		next_generation();
	}
	unlink(a.un.sun_path);
	CHECK_INT(inode_of(listening(a, SOCK_STREAM)), get("inode"));
}
