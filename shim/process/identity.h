/* SPDX-License-Identifier: MIT */
/* What exec cannot bring back: rights, root directory, namespaces and sandboxes, as they were at the start. */
#ifndef CPR_PROCESS_IDENTITY_H
#define CPR_PROCESS_IDENTITY_H

#include "base/text.h"
#include "process/snapshot.h"

#include <stdbool.h>

/*
 * Once: notes what this process is. `then`: what is known of its start, which may be a while ago. (What is not in there
 * no program changes before what ends a light start.)
 */
void identity_begin(const struct rights *then);

/*
 * Is the calling thread still what the process was at its start: user, groups, capabilities, security label, root
 * directory, namespaces, seccomp, Landlock? True; or false and the reason, for a person, in `why`. A signal handler may
 * call it.
 */
bool identity_unchanged(struct text *why);

/*
 * May the process at the other end of this unix socket choose the file that this process execs? Root may. So may a
 * process of the same user that has every capability of this one, and its security label: else any user could make a
 * server with more rights run a file. True; or false and the reason in `why`. Any signal handler may call it.
 */
bool identity_may_choose_program(int sock, struct text *why);

/* The effective user that this program was started as. */
uint32_t identity_user_at_start(void);

/* The program has entered a Landlock domain: /proc does not tell. */
void identity_landlocked(void);

/* How many seccomp filters are on: a container's, or a supervisor's, are there from the start. */
int identity_seccomp_filters(void);

#endif
