/* SPDX-License-Identifier: MIT */
/* Decides what becomes of a connection when this generation leaves. */
#ifndef CPR_MODEL_FATE_H
#define CPR_MODEL_FATE_H

#include <stdbool.h>

/* What is known of a connection. */
struct standing {
	bool stands;      /* at a boundary, or in a silence */
	bool comes_again; /* its listener will be there in the next generation */
	bool seen_whole;  /* the library has seen every byte that was read */
	bool one_set;     /* it is in at most one epoll set */
	bool ended;       /* the peer has sent FIN, or the program has shut its side down */
	bool untouched;   /* no data yet, as in the accept queue */
	bool http_idle;   /* HTTP/1.x, and between two requests */
	bool wanted;      /* a rule says that its protocol is without state */
	bool unwanted;    /* a rule says that it is not to be carried */
};

/* Carried; closed with FIN, which cuts nothing; or cut. */
enum fate { FATE_CARRY, FATE_END, FATE_CUT };

enum fate fate_of(const struct standing *s);

#endif
