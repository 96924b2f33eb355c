/* SPDX-License-Identifier: MIT */
/* The report as a whole: begun before the first benchmark, ended after the last. */
#ifndef CPR_BENCH_REPORT_H
#define CPR_BENCH_REPORT_H

#include "bench.h"

/*
 * `json`: nothing but JSON on stdout, at the end. Without memory this ends the program, as does every call that adds.
 */
struct report *report_new(bool json, bool quick);

/* What was added since the last report_section is told; with JSON, all of it is. */
void report_end(struct report *report);
void report_free(struct report **report);

/* Lines whose wanted figure was not met. */
size_t report_unmet(const struct report *report);

/* How many sections there are. */
size_t report_sections(const struct report *report);

/* A benchmark failed that began when there were `before` sections: what it has reported so far stands, if anything. */
void report_failed(struct report *report, size_t before, const char *name, const char *reason);

#endif
