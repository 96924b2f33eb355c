/* SPDX-License-Identifier: MIT */
/* What exec cannot bring back: rights, root directory, namespaces and sandboxes, as they were at the start. */
#ifndef CPR_PROCESS_IDENTITY_H
#define CPR_PROCESS_IDENTITY_H

#include "base/text.h"
#include "process/snapshot.h"

#include <stdbool.h>

/*
 * Notes what this process is. Called once. `then`: its rights at its start, which may be a while ago. What is not in
 * `then` a program changes only after an act that ends a light start.
 */
void identity_begin(const struct rights *then);

/*
 * Is the calling thread still what the process was at its start: user, groups, capabilities, security label, root
 * directory, namespaces, seccomp, Landlock? If not, `why` gets the reason, for a person. A signal handler may call it.
 */
bool identity_unchanged(struct text *why);

/*
 * May the process at the other end of this unix socket choose the file that this process execs? Root may. A process of
 * the same user may if it has every capability of this one, and its security label. Else any user could make a server
 * with more rights run a file. If not, `why` gets the reason. A signal handler may call it.
 */
bool identity_may_choose_program(int sock, struct text *why);

/* The effective user that this program was started as. */
uint32_t identity_user_at_start(void);

/* The program has entered a Landlock domain, which /proc does not show. */
void identity_landlocked(void);

/* Returns the number of seccomp filters. Those of a container or a supervisor exist from the start. */
int identity_seccomp_filters(void);

#endif
