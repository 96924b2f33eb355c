/* SPDX-License-Identifier: MIT */
/* Fitness: can the program of a service be served in handover mode, and how is it to be started for that? */
#ifndef CPR_FITNESS_H
#define CPR_FITNESS_H

#include "base/text.h"
#include "starter.h"
#include "unit.h"

/*
 * True, what is to be known of it in `note`, and what it asks for in `way`, which names what lies in `starter`; or
 * false, and `why`.
 */
bool fitness_look(const struct unit *u, struct unit_way *way, struct starter *starter, struct text *note,
		  struct text *why);

#endif
