/* SPDX-License-Identifier: MIT */
/* Signals by name or number. */
#ifndef CPR_SIGNAME_H
#define CPR_SIGNAME_H

/* Parses "TERM", "sigterm", "15", "RTMIN+3" or "SIGRTMAX-2". Returns the signal's number, or -EINVAL. */
int signame_parse(const char *name);

#endif
