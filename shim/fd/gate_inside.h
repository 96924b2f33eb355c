/* SPDX-License-Identifier: MIT */
/* Shared by the files of the gate. Holding the guard. */
#ifndef CPR_FD_GATE_INSIDE_H
#define CPR_FD_GATE_INSIDE_H

#include "fd/gate.h"
#include "fd/tagging.h"

#define GATE_NAME TAGGING_HIDDEN "gate:"

/* Returns the listener that is hidden behind e, or NULL. */
struct entry *gate_hidden_of(const struct entry *e);

/* Returns the door of a hidden listener; NULL: the program has closed it. */
struct entry *gate_shown_of(const struct entry *hidden);

/* Hides e's listener at `fd`. Returns its entry; NULL without memory. */
struct entry *gate_hide(const struct entry *e, int fd, const struct object *object);

/* A door replaces this listener, which was not behind the gate. */
bool gate_add_door(struct entry *e);

/* Was this the file of a listener that this generation has given up? */
bool gate_left_path(uint64_t dev, uint64_t ino);

#endif
