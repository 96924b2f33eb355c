/* SPDX-License-Identifier: MIT */
/* The rules for what is kept and carried: the user's first, then the defaults. */
#ifndef CPR_MODEL_RULES_H
#define CPR_MODEL_RULES_H

#include "model/table.h"

enum { RULES_MAX = 256 };

enum rule_verb { RULE_KEEP, RULE_DROP, RULE_CARRY, RULE_NO_CARRY };

/* The globs point into the text that was parsed, which must stay. */
struct rules {
	size_t count;
	struct {
		enum rule_verb verb;
		const char *glob;
	} rule[RULES_MAX];
};

/*
 * Adds the rule in `line`: "keep GLOB", "drop GLOB", "carry GLOB" or "no-carry". The line is changed (blanks are cut
 * off), and must stay. Returns 0; -EINVAL for an unknown word, a glob too few or too many, or an open bracket; -E2BIG
 * for more than RULES_MAX rules. *rules is untouched on failure.
 */
int rules_add(struct rules *rules, char *line);

/*
 * Adds all lines of `text`; empty ones are ignored. Returns 0, or the first failure of rules_add with its line in *bad.
 */
int rules_parse(struct rules *rules, char *text, const char **bad);

/*
 * Is the descriptor kept? The first keep or drop rule that matches decides, else the default for its kind. A signal
 * handler may call it.
 */
bool rules_keep(const struct rules *rules, const struct entry *e);

/* Returns the index of the rule that decides it; -1: none matches. */
int rules_which(const struct rules *rules, const struct entry *e);

/* Does a rule of this verb (carry, no-carry) match the name? */
bool rules_match(const struct rules *rules, enum rule_verb verb, const char *name);

/* Is there a rule of this verb? */
bool rules_have(const struct rules *rules, enum rule_verb verb);

/* Could a rule keep a name that begins with `prefix`? If none can, open() of such a name needs no work. */
bool rules_may_keep(const struct rules *rules, const char *prefix);

#endif
