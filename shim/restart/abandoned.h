/* SPDX-License-Identifier: MIT */
/* A generation that does not serve, and whose supervisor was killed: nothing else would end it. */
#ifndef CPR_RESTART_ABANDONED_H
#define CPR_RESTART_ABANDONED_H

#include <stdbool.h>
#include <stdint.h>

/* Has this process no connection any more? */
bool abandoned_is_empty(void);

/*
 * The owner's errand. Behind its gate it ends at once; when it has served, once no process of it has a connection.
 * `ask_all` wishes for PROTOCOL_RETIRE in all processes, and returns the wish: a worker fulfils it when it is empty. ms
 * until the next look; 0: this generation serves.
 */
int abandoned_look(uint64_t (*ask_all)(void));

#endif
