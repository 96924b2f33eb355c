/* SPDX-License-Identifier: MIT */
/* Signals by name or number. */
#ifndef CPR_SIGNAME_H
#define CPR_SIGNAME_H

/* "TERM", "sigterm", "15", "RTMIN+3", "SIGRTMAX-2": the signal's number, or -EINVAL. */
int signame_parse(const char *name);

#endif
