/* SPDX-License-Identifier: MIT */
/* What becomes of a connection when this generation leaves. */
#ifndef CPR_MODEL_FATE_H
#define CPR_MODEL_FATE_H

#include <stdbool.h>

/* What is known of it. */
struct standing {
	bool stands;      /* at a boundary, or in a silence */
	bool comes_again; /* its listener will be there in the next generation */
	bool seen_whole;  /* every byte that was read passed by us */
	bool one_set;     /* it is in one epoll set at most */
	bool ended;       /* the peer has sent its end, or the program has shut its side */
	bool untouched;   /* as good as still in the accept queue */
	bool http_idle;   /* HTTP/1.x, and between two requests */
	bool wanted;      /* a rule says that its protocol is without state */
	bool unwanted;    /* a rule says that it is not to be carried */
};

/* Carried; ended with FIN, where nothing is cut by it; or cut. */
enum fate { FATE_CARRY, FATE_END, FATE_CUT };

enum fate fate_of(const struct standing *s);

#endif
