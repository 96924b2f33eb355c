/* SPDX-License-Identifier: MIT */
/* What is kept: the user's rules first, then the defaults. */
#ifndef CPR_MODEL_RULES_H
#define CPR_MODEL_RULES_H

#include "model/table.h"

enum { RULES_MAX = 256 };

enum rule_verb { RULE_KEEP, RULE_DROP, RULE_CARRY, RULE_NO_CARRY };

/* The globs point into the text that was parsed; it must stay. */
struct rules {
	size_t count;
	struct {
		enum rule_verb verb;
		const char *glob;
	} rule[RULES_MAX];
};

/*
 * One rule of `line`: "keep GLOB", "drop GLOB", "carry GLOB" or "no-carry". The line is changed (its blanks cut off)
 * and stays the rule's. 0; -EINVAL: unknown word, no glob (or one too many), or a bracket in it that is not closed;
 * -E2BIG: more than RULES_MAX. *rules untouched on failure.
 */
int rules_add(struct rules *rules, char *line);

/* All lines of `text`, parted by newlines, empty ones passed over. 0, or the first failure, with *bad at its line. */
int rules_parse(struct rules *rules, char *text, const char **bad);

/* Is it kept? First match wins; without a match, the default for its kind. Any signal handler may call it. */
bool rules_keep(const struct rules *rules, const struct entry *e);

/* The rule that decides that: its index, or -1: none does, it is the default. */
int rules_which(const struct rules *rules, const struct entry *e);

/* Does a rule of this verb (carry, no-carry) name it? */
bool rules_match(const struct rules *rules, enum rule_verb verb, const char *name);

/* Is there a rule of this verb? */
bool rules_have(const struct rules *rules, enum rule_verb verb);

/* Could any rule keep a name that begins so? Opening a file costs nothing more than before unless one can. */
bool rules_may_keep(const struct rules *rules, const char *prefix);

#endif
