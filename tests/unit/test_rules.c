/* SPDX-License-Identifier: MIT */
/* rules: first match wins, the defaults stand behind, and a wrong line is named and changes nothing. */
#include "model/rules.h"

#include "../support/entries.h"

#include <criterion/criterion.h>
#include <errno.h>
#include <locale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct rules rules;

/* The text stays, as the rules point into it. */
static int parsed(const char *text)
{
	const char *bad = NULL;

	rules = (struct rules){0};
	return rules_parse(&rules, strdup(text), &bad);
}

static bool keeps(const char *name, enum entry_kind kind, unsigned flags)
{
	struct entry e = {.name = name, .kind = kind, .flags = flags};

	return rules_keep(&rules, &e);
}

Test(rules, keep_by_default_what_the_design_says)
{
	cr_assert_eq(parsed(""), 0);
	cr_assert(keeps("tcp:0.0.0.0:80", ENTRY_STREAM, ENTRY_LISTENING));
	cr_assert(keeps("unix-seqpacket:/run/a", ENTRY_STREAM, ENTRY_LISTENING));
	cr_assert(keeps("udp:0.0.0.0:53", ENTRY_DATAGRAM, 0));
	cr_assert(keeps("fifo:/run/in", ENTRY_FIFO, 0));
	cr_assert(keeps("dev:/dev/ttyUSB0", ENTRY_DEVICE, 0));
	cr_assert(keeps("vfio0", ENTRY_API, 0));
}

Test(rules, do_not_keep_the_rest_by_default)
{
	cr_assert_eq(parsed(""), 0);
	cr_assert_not(keeps("tcp:0.0.0.0:80", ENTRY_STREAM, 0), "bound, but not listening");
	cr_assert_not(keeps("dev:/dev/null", ENTRY_DEVICE, 0));
	cr_assert_not(keeps("dev:/dev/urandom", ENTRY_DEVICE, 0));
	cr_assert_not(keeps("file:/var/log/a.log", ENTRY_FILE, 0));
	cr_assert_not(keeps("memfd:shm", ENTRY_MEMFD, 0));
}

Test(rules, of_the_user_stand_before_the_defaults)
{
	cr_assert_eq(parsed("drop udp:*\nkeep file:/var/log/*\nkeep dev:/dev/null"), 0);
	cr_assert_not(keeps("udp:0.0.0.0:53", ENTRY_DATAGRAM, 0));
	cr_assert(keeps("file:/var/log/a.log", ENTRY_FILE, 0));
	cr_assert(keeps("file:/var/log/deep/a.log", ENTRY_FILE, 0), "a star passes slashes: fnmatch without flags");
	cr_assert(keeps("dev:/dev/null", ENTRY_DEVICE, 0));
	cr_assert_not(keeps("file:/srv/a", ENTRY_FILE, 0));
	cr_assert(keeps("tcp:0.0.0.0:80", ENTRY_STREAM, ENTRY_LISTENING));
}

Test(rules, let_the_first_match_win)
{
	cr_assert_eq(parsed("keep file:/a/keep*\ndrop file:/a/*\nkeep *"), 0);
	cr_assert(keeps("file:/a/keep.me", ENTRY_FILE, 0));
	cr_assert_not(keeps("file:/a/other", ENTRY_FILE, 0));
	cr_assert(keeps("memfd:x", ENTRY_MEMFD, 0));
}

Test(rules, match_brackets_escapes_and_question_marks)
{
	cr_assert_eq(parsed("drop tcp:\\[::1]:*\ndrop tcp:0.0.0.0:808?\ndrop unix:/run/[ab].sock"), 0);
	cr_assert_not(keeps("tcp:[::1]:80", ENTRY_STREAM, ENTRY_LISTENING));
	cr_assert_not(keeps("tcp:0.0.0.0:8081", ENTRY_STREAM, ENTRY_LISTENING));
	cr_assert_not(keeps("unix:/run/a.sock", ENTRY_STREAM, ENTRY_LISTENING));
	cr_assert(keeps("tcp:0.0.0.0:80811", ENTRY_STREAM, ENTRY_LISTENING));
	cr_assert(keeps("unix:/run/c.sock", ENTRY_STREAM, ENTRY_LISTENING));
}

Test(rules, with_closed_brackets_are_rules)
{
	static const char *const right[] = {"keep [a]",           "keep []]", "drop [!]]x", "keep \\[",
					    "carry a[[:digit:]]", "keep a]",  "keep [\\]]"};

	for (size_t i = 0; i < sizeof(right) / sizeof(right[0]); i++) {
		rules = (struct rules){0};
		cr_assert_eq(rules_add(&rules, strdup(right[i])), 0, "\"%s\"", right[i]);
	}
}

Test(rules, of_carrying_say_nothing_about_keeping)
{
	cr_assert_eq(parsed("carry *\nno-carry"), 0);
	cr_assert_eq(rules.count, 2);
	cr_assert_eq(rules.rule[0].verb, RULE_CARRY);
	cr_assert_eq(rules.rule[1].verb, RULE_NO_CARRY);
	cr_assert_str_empty(rules.rule[1].glob);
	cr_assert_not(keeps("file:/a", ENTRY_FILE, 0));
}

Test(rules, are_read_whatever_blanks_stand_around)
{
	cr_assert_eq(parsed("\n\n  keep \t a*  \r\n\t\ndrop b\n   \n"), 0);
	cr_assert_eq(rules.count, 2);
	cr_assert_eq(rules.rule[0].verb, RULE_KEEP);
	cr_assert_str_eq(rules.rule[0].glob, "a*");
	cr_assert_eq(rules.rule[1].verb, RULE_DROP);
	cr_assert_str_eq(rules.rule[1].glob, "b");
}

Test(rules, refuse_what_is_no_rule_and_change_nothing)
{
	static const char *const wrong[] = {"",           " ",         "kepe a",        "keep",
					    "keep ",      "drop",      "carry",         "keep a b",
					    "no-carry x", "Keep a",    "keepa",         "keep\302\240a",
					    "nocarry",    "# keep a",  "keep tcp:[::1", "drop [",
					    "carry a[]",  "keep [!]b", "keep a[b\\]"};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(wrong[0]); i++) {
		rules = (struct rules){0};
		cr_assert_eq(rules_add(&rules, strdup(wrong[i])), -EINVAL, "\"%s\"", wrong[i]);
		cr_assert_eq(rules.count, 0);
	}
}

Test(rules, name_the_first_wrong_line)
{
	const char *bad = NULL;

	rules = (struct rules){0};
	cr_assert_eq(rules_parse(&rules, strdup("keep a\n\nhold b\nwrong c"), &bad), -EINVAL);
	cr_assert_str_eq(bad, "hold b");
	cr_assert_eq(rules.count, 1);
}

Test(rules, end_at_256)
{
	for (int i = 0; i < RULES_MAX; i++)
		cr_assert_eq(rules_add(&rules, strdup("drop nothing")), 0);
	cr_assert_eq(rules_add(&rules, strdup("keep *")), -E2BIG);
	cr_assert_eq(rules.count, RULES_MAX);
	cr_assert_not(keeps("file:/a", ENTRY_FILE, 0));
}

Test(rules, answer_for_names_of_4095_bytes)
{
	char *name = long_name("file:/", TAG_NAME_MAX), line[TAG_NAME_MAX + 10];

	cr_assert_eq(parsed("keep *"), 0);
	cr_assert(keeps(name, ENTRY_FILE, 0));
	cr_assert_eq(parsed("keep file:*"), 0);
	cr_assert(keeps(name, ENTRY_FILE, 0), "however long it is");
	snprintf(line, sizeof(line), "keep %s", name);
	cr_assert_eq(parsed(line), 0);
	cr_assert(keeps(name, ENTRY_FILE, 0));
}

Test(rules, match_names_that_are_not_of_the_locale)
{
	cr_assert_eq(parsed("keep file:/a/*"), 0);
	cr_assert_not_null(setlocale(LC_ALL, "C.UTF-8"));
	cr_assert(keeps("file:/a/\xff\xfe", ENTRY_FILE, 0));
	cr_assert(keeps("file:/a/\xc3\xa4", ENTRY_FILE, 0));
}

Test(rules, know_before_an_open_whether_one_could_keep_it)
{
	static const struct {
		const char *rules;
		bool files;
	} cases[] = {
		{"", false},
		{"keep *", true},
		{"keep file:*", true},
		{"keep file:/var/log/a", true},
		{"keep fi*", true},
		{"keep fi", false},
		{"keep f?le:/a", true},
		{"keep [f]ile:/a", true},
		{"keep \\file:/a", true},
		{"keep dev:*", false},
		{"drop file:*", false},
		{"carry file:*", false},
		{"keep dev:*\nkeep fil*", true},
		{"keep file", false},
		{"keep filet:*", false},
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		cr_assert_eq(parsed(cases[i].rules), 0);
		cr_assert_eq(rules_may_keep(&rules, "file:"), cases[i].files, "%s", cases[i].rules);
	}
}

Test(rules, tell_whether_there_is_one_of_a_verb)
{
	cr_assert_eq(parsed("keep a\ndrop b\ncarry tcp:*"), 0);
	cr_assert(rules_have(&rules, RULE_CARRY));
	cr_assert_not(rules_have(&rules, RULE_NO_CARRY));
}
