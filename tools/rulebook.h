/* SPDX-License-Identifier: MIT */
/* The rules of cpr-exec's options and files, in their order. A wrong rule exits with status 2. */
#ifndef CPR_RULEBOOK_H
#define CPR_RULEBOOK_H

/*
 * Adds one rule of the command line: a word of rules.h, and its glob (NULL if the word takes none). `option` names it
 * in messages.
 */
void rulebook_add(const char *option, const char *word, const char *glob);

/*
 * Adds all rules of a file: one a line. # begins a comment (\# is a #), a backslash at the end of a line joins the next
 * one.
 */
void rulebook_read(const char *path);

/* Returns all rules so far, one a line, or NULL if there are none. Valid until the next call of these functions. */
const char *rulebook_text(void);

#endif
