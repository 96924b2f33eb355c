/* SPDX-License-Identifier: MIT */
/*
 * The rules that cpr-exec was given, by options and by files, in that order. What is wrong ends the program with status
 * 2.
 */
#ifndef CPR_RULEBOOK_H
#define CPR_RULEBOOK_H

/*
 * One rule of the command line: a word of rules.h, and its glob (NULL if the word takes none). `option` names it in
 * messages.
 */
void rulebook_add(const char *option, const char *word, const char *glob);

/*
 * All rules of a file: one a line, # begins a comment (\# is a #), a backslash at the end of a line joins the next one
 * to it.
 */
void rulebook_read(const char *path);

/* All rules so far, one a line, or NULL if there were none. Valid until the next call of one of these. */
const char *rulebook_text(void);

#endif
