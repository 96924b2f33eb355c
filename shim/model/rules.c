/* SPDX-License-Identifier: MIT */
/* What is kept: globs on the name of the tag. */
#define _GNU_SOURCE
#include "model/rules.h"

#include "base/glob.h"

#include <errno.h>
#include <string.h>

static const struct {
	const char *word;
	bool glob;
} verbs[] = {
	[RULE_KEEP] = {"keep", true},
	[RULE_DROP] = {"drop", true},
	[RULE_CARRY] = {"carry", true},
	[RULE_NO_CARRY] = {"no-carry", false},
};

static const char blanks[] = " \t\r";

static int rules_parse_one(char *line, enum rule_verb *verb, const char **glob)
{
	size_t n;
	char *end;

	line += strspn(line, blanks);
	for (end = line + strlen(line); end > line && strchr(blanks, end[-1]); end--)
		end[-1] = '\0';
	n = strcspn(line, blanks);
	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++) {
		char *rest = line + n + strspn(line + n, blanks);

		if (n != strlen(verbs[i].word) || memcmp(line, verbs[i].word, n))
			continue;
		if (verbs[i].glob != (*rest != '\0') || strpbrk(rest, blanks) || !glob_is_closed(rest))
			return -EINVAL;
		*verb = (enum rule_verb)i;
		*glob = rest;
		return 0;
	}
	return -EINVAL;
}

int rules_add(struct rules *rules, char *line)
{
	enum rule_verb verb;
	const char *glob;
	int r = rules_parse_one(line, &verb, &glob);

	if (r)
		return r;
	if (rules->count == RULES_MAX)
		return -E2BIG;
	rules->rule[rules->count].verb = verb;
	rules->rule[rules->count++].glob = glob;
	return 0;
}

int rules_parse(struct rules *rules, char *text, const char **bad)
{
	while (text) {
		char *line = strsep(&text, "\n");
		int r = line[strspn(line, blanks)] ? rules_add(rules, line) : 0;

		if (r) {
			*bad = line;
			return r;
		}
	}
	return 0;
}

static bool kept_by_default(const struct entry *e)
{
	switch (e->kind) {
	case ENTRY_STREAM:
		return e->flags & ENTRY_LISTENING;
	case ENTRY_DEVICE:
		return !tag_stateless_device(e->name);
	case ENTRY_DATAGRAM:
	case ENTRY_FIFO:
	case ENTRY_API:
		return true;
	default:
		return false;
	}
}

int rules_which(const struct rules *rules, const struct entry *e)
{
	for (size_t i = 0; i < rules->count; i++)
		if (rules->rule[i].verb <= RULE_DROP && glob_matches(rules->rule[i].glob, e->name))
			return (int)i;
	return -1;
}

bool rules_keep(const struct rules *rules, const struct entry *e)
{
	int which = rules_which(rules, e);

	return which < 0 ? kept_by_default(e) : rules->rule[which].verb == RULE_KEEP;
}

bool rules_match(const struct rules *rules, enum rule_verb verb, const char *name)
{
	for (size_t i = 0; i < rules->count; i++)
		if (rules->rule[i].verb == verb && (!verbs[verb].glob || glob_matches(rules->rule[i].glob, name)))
			return true;
	return false;
}

bool rules_have(const struct rules *rules, enum rule_verb verb)
{
	for (size_t i = 0; i < rules->count; i++)
		if (rules->rule[i].verb == verb)
			return true;
	return false;
}

bool rules_may_keep(const struct rules *rules, const char *prefix)
{
	for (size_t i = 0; i < rules->count; i++) {
		const char *glob = rules->rule[i].glob;
		size_t literal = rules->rule[i].verb == RULE_KEEP ? strcspn(glob, "*?[\\") : 0;
		size_t n = strlen(prefix);

		if (rules->rule[i].verb == RULE_KEEP && !memcmp(glob, prefix, literal < n ? literal : n) &&
		    (literal >= n || glob[literal]))
			return true;
	}
	return false;
}
