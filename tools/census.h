/* SPDX-License-Identifier: MIT */
/* Every process under cpr on this machine, as far as this user may see it, and its own status. */
#ifndef CPR_CENSUS_H
#define CPR_CENSUS_H

#include "client.h"

#include <stdbool.h>
#include <stddef.h>

struct row {
	pid_t pid;
	pid_t owner;      /* 0: it is an owner itself, or does not tell */
	pid_t supervisor; /* 0: it has none */
	char phase[48];   /* from its supervisor */
	uid_t uid;
	bool silent; /* it did not answer */
	struct answer answer;
};

struct census {
	struct row *row; /* by pid */
	size_t count;
};

/*
 * Asks all of them, a second at most each. `says`: prints a line on stderr for each that does not answer. Exits if
 * there is no memory.
 */
void census_take(struct census *rows, bool says);
void census_free(struct census *rows);

/* Returns the process under which it is listed; 0: none. A supervisor that was killed is none. */
pid_t census_parent(const struct census *rows, const struct row *row);

bool census_is_supervisor(const struct row *row);

#define cleanup_census __attribute__((cleanup(census_free)))

#endif
