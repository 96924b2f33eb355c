/* SPDX-License-Identifier: MIT */
/* The order in which the library starts. */
#ifndef CPR_WRAP_INIT_H
#define CPR_WRAP_INIT_H

/* Called by the constructor, once per image. Returns 0; or -errno, and the program runs without cpr. */
int cpr__init(void);

#endif
