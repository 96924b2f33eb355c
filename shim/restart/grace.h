/* SPDX-License-Identifier: MIT */
/* Grace: what is not claimed is closed in the end. */
#ifndef CPR_RESTART_GRACE_H
#define CPR_RESTART_GRACE_H

#include "model/table.h"

#include <stdbool.h>

/* When it ends: CLOCK_MONOTONIC, ns. */
int64_t grace_end(void);

/* When something is to be closed next: at that end, or the end of what the program has closed itself. */
int64_t grace_next(int64_t now);

/* An orphan that this generation is expected to ask for. */
bool grace_is_unclaimed(const struct entry *e);

/* How many of these there are. */
size_t grace_unclaimed(void);

/* A look: after grace, closes what was not claimed; what is still `carrying` is closed by its deliverer. */
void grace_look(int64_t now, bool carrying);

#endif
