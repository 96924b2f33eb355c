/* SPDX-License-Identifier: MIT */
/* What exec cannot bring back is compared with the start, and a restart that would lack it is refused. */
#include "../support/sockets.h"

#include <grp.h>
#include <linux/landlock.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

static void serve(void)
{
	listening(inet4("127.0.0.1", port(0)), SOCK_STREAM);
}

static void is_refused(const char *word)
{
	const char *answer = ask("try-restart");

	if (!strstr(answer, "result=refused") || !strstr(answer, word))
		fail_at(__FILE__, __LINE__, answer);
	CHECK(strstr(ask("status"), "generation=1"));
}

TEST(other_supplementary_groups_are_refused, ONCE, "WARNS=1")
{
	gid_t groups[] = {4, 65534};

	serve();
	if (geteuid())
		return;
	MUST(setgroups(2, groups));
	is_refused("supplementary groups");
}

TEST(supplementary_groups_that_are_set_again_are_no_matter, BELL)
{
	gid_t groups[64];
	int n = MUST(getgroups(64, groups));

	serve();
	if (!geteuid())
		MUST(setgroups((size_t)n, groups));
	if (generation() == 1)
		next_generation();
}

/* haproxy sets it at every start. */
TEST(no_new_privs_is_no_matter, BELL)
{
	serve();
	MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	if (generation() == 1)
		next_generation();
}

TEST(a_smaller_bounding_set_is_refused, ONCE, "WARNS=1")
{
	serve();
	if (geteuid() || !prctl(PR_CAPBSET_READ, 10 /* CAP_NET_BIND_SERVICE */, 0, 0, 0))
		return;
	MUST(prctl(PR_CAPBSET_DROP, 10, 0, 0, 0));
	is_refused("capabilities");
}

/* With the right to, a program needs no no_new_privs for it, and /proc does not show the domain. */
TEST(a_landlock_domain_is_refused, ONCE, "WARNS=1")
{
	struct landlock_ruleset_attr attr = {.handled_access_fs = LANDLOCK_ACCESS_FS_MAKE_BLOCK};
	int ruleset;

	serve();
	ruleset = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);
	if (ruleset < 0 || geteuid()) /* the kernel has none */
		return;
	MUST((int)syscall(SYS_landlock_restrict_self, ruleset, 0));
	is_refused("Landlock");
}
