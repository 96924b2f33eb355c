/* SPDX-License-Identifier: MIT */
/* A generation that does not serve, and whose supervisor was killed: nothing else would end it. */
#ifndef CPR_RESTART_ABANDONED_H
#define CPR_RESTART_ABANDONED_H

#include <stdbool.h>
#include <stdint.h>

/* Has this process no connection any more? */
bool abandoned_is_empty(void);

/*
 * The owner's errand. Behind its gate the generation ends at once. After it has served, it ends when no process of it
 * has a connection. `ask_all` commands PROTOCOL_RETIRE in all processes, and returns the command's number: a worker has
 * carried it out when it is empty. Returns the ms until the next look; 0: this generation serves.
 */
int abandoned_look(uint64_t (*ask_all)(void));

#endif
