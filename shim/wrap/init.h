/* SPDX-License-Identifier: MIT */
/* The order in which the library starts. */
#ifndef CPR_WRAP_INIT_H
#define CPR_WRAP_INIT_H

/* Once per image; the constructor calls it. 0, or -errno: then the program runs as if cpr were not there. */
int cpr__init(void);

#endif
