/* SPDX-License-Identifier: MIT */
/*
 * Several processes: workers drain when their owner does, and pass it their idle connections. This is the owner's part,
 * in the doorbell's handler.
 */
#ifndef CPR_RESTART_DRAIN_OWNER_H
#define CPR_RESTART_DRAIN_OWNER_H

#include "drain/carry.h"

/* Once, at the start. */
void drain_owner_init(void);

/*
 * Before the drain: how many workers have not said yet that they have no slow requests; they are asked by this number,
 * which is not 0. And: it is not asked any more.
 */
size_t drain_owner_slow(uint64_t survey);
void drain_owner_survey_over(void);

/* Tells every worker to drain until `deadline` (CLOCK_MONOTONIC, ns). How many were told. */
size_t drain_owner_call(int64_t deadline);

/* Did this one say, in the drain that is over, that it serves connections and has none left? */
bool drain_owner_is_empty(int pid);

/* Takes what they have passed so far. How many have not finished. */
size_t drain_owner_collect(void);

/* What was collected, as carry_choose gives it; the counts are added up. How many. */
size_t drain_owner_passed(struct passed *into, size_t most, struct carry_count *count);

/* The restart was called off: they thaw, and have what they had. */
void drain_owner_dismiss(void);

#endif
