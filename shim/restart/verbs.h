/* SPDX-License-Identifier: MIT */
/* What the doorbell can be asked. */
#ifndef CPR_RESTART_VERBS_H
#define CPR_RESTART_VERBS_H

/* Answers callers from here on, in the task. Once, when the library starts. */
void verbs_init(void);

#endif
