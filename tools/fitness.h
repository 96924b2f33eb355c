/* SPDX-License-Identifier: MIT */
/* Fitness: can a service's program be served in handover mode, and how must it be started? */
#ifndef CPR_FITNESS_H
#define CPR_FITNESS_H

#include "base/text.h"
#include "starter.h"
#include "unit.h"

/*
 * Returns true, with a remark for the user in `note`, and what the drop-in needs in `way`, which points into `starter`.
 * Or returns false, with the reason in `why`.
 */
bool fitness_look(const struct unit *u, struct unit_way *way, struct starter *starter, struct text *note,
		  struct text *why);

#endif
