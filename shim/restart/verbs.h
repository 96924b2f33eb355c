/* SPDX-License-Identifier: MIT */
/* The requests that the doorbell answers. */
#ifndef CPR_RESTART_VERBS_H
#define CPR_RESTART_VERBS_H

/* From now on the task answers callers. Called once, when the library starts. */
void verbs_init(void);

#endif
