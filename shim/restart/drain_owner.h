/* SPDX-License-Identifier: MIT */
/*
 * The owner's part in a drain of several processes: workers drain when it does, and pass it their idle connections. In
 * the doorbell's handler.
 */
#ifndef CPR_RESTART_DRAIN_OWNER_H
#define CPR_RESTART_DRAIN_OWNER_H

#include "drain/carry.h"

/* Once, at the start. */
void drain_owner_init(void);

/*
 * Before the drain: asks the workers for slow requests with this number, which is not 0. Returns how many have not
 * reported that they have none. The other ends the survey.
 */
size_t drain_owner_slow(uint64_t survey);
void drain_owner_survey_over(void);

/* Makes every worker drain until `deadline` (CLOCK_MONOTONIC, ns). Returns the number of workers. */
size_t drain_owner_call(int64_t deadline);

/* Did this worker report, in the last drain, that it serves connections and has passed all on? */
bool drain_owner_is_empty(int pid);

/* Takes what they have passed so far. Returns how many have not finished. */
size_t drain_owner_collect(void);

/* Writes the collected connections into `into`, like carry_choose, and adds up the counts. Returns how many. */
size_t drain_owner_passed(struct passed *into, size_t most, struct carry_count *count);

/* The restart was called off: the workers thaw, and keep what they had. */
void drain_owner_dismiss(void);

#endif
