/* SPDX-License-Identifier: MIT */
/* Every process under cpr on this machine, as far as one may see it, and what it says of itself. */
#ifndef CPR_CENSUS_H
#define CPR_CENSUS_H

#include "client.h"

#include <stdbool.h>
#include <stddef.h>

struct row {
	pid_t pid;
	pid_t owner;      /* 0: it is an owner itself, or does not say */
	pid_t supervisor; /* 0: it has none */
	char phase[48];   /* what its supervisor says of it */
	uid_t uid;
	bool silent; /* it did not answer */
	struct answer answer;
};

struct census {
	struct row *row; /* by pid */
	size_t count;
};

/*
 * Asks all, each for a second at most; `says`: a line on stderr for one that does not answer. Without memory this ends
 * the program.
 */
void census_take(struct census *rows, bool says);
void census_free(struct census *rows);

/* Below which one it stands; 0: none. A supervisor that has been killed is none. */
pid_t census_parent(const struct census *rows, const struct row *row);

bool census_is_supervisor(const struct row *row);

#define cleanup_census __attribute__((cleanup(census_free)))

#endif
