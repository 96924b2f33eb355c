/* SPDX-License-Identifier: MIT */
/*
 * Pass: an old generation gives each idle connection to the next one as soon as it stands at a boundary, while the
 * program goes on with the others.
 */
#ifndef CPR_RESTART_PASS_H
#define CPR_RESTART_PASS_H

#include <stdbool.h>

/* From here on connections go to the other end of `sock`, which is this module's to close. */
void pass_begin(int sock);

/* Called off: what stands frozen here goes on here. */
void pass_end(void);

bool pass_under_way(void);

/* Passes what stands at a boundary now. ms until the next look; 0: nothing is passed. */
int pass_look(void);

/* In a forked child, which has no part in it. */
void pass_forget(void);

#endif
