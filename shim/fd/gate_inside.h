/* SPDX-License-Identifier: MIT */
/* Between the files of the gate. Holding the guard. */
#ifndef CPR_FD_GATE_INSIDE_H
#define CPR_FD_GATE_INSIDE_H

#include "fd/gate.h"
#include "fd/tagging.h"

#define GATE_NAME TAGGING_HIDDEN "gate:"

/* The listener that waits hidden for e. NULL: none does. */
struct entry *gate_hidden_of(const struct entry *e);

/* What stands for it. NULL: the program has closed the door. */
struct entry *gate_shown_of(const struct entry *hidden);

/* The listener at `fd` is e's, and waits there. NULL: without memory. */
struct entry *gate_hide(const struct entry *e, int fd, const struct object *object);

/* A door takes the place of this listener, which was not behind the gate. */
bool gate_add_door(struct entry *e);

/* Was this the file of a listener that this generation has given up? */
bool gate_left_path(uint64_t dev, uint64_t ino);

#endif
