/* SPDX-License-Identifier: MIT */
/* Connections between processes of one family: they are no clients. */
#ifndef CPR_DRAIN_KINSHIP_H
#define CPR_DRAIN_KINSHIP_H

/*
 * Call it before a drain. Looks for unix connections whose peer is this process, the owner, one of their descendants,
 * or the ancestor under cpr. The drain does not freeze, carry or count them. (h2o's helper answers its master in this
 * way; without an answer the master aborts.)
 */
void kinship_look(void);

#endif
