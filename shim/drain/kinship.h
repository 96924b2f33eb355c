/* SPDX-License-Identifier: MIT */
/* Connections between processes of one family are no clients'. */
#ifndef CPR_DRAIN_KINSHIP_H
#define CPR_DRAIN_KINSHIP_H

/*
 * Before a drain: a connection over a unix socket whose peer is this process, the owner, one of their descendants, or
 * the ancestor under cpr is none of the drain's business: it is not frozen, carried or counted. (h2o's helper accepts
 * its master's questions so; the master aborts when they are not answered.)
 */
void kinship_look(void);

#endif
