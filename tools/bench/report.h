/* SPDX-License-Identifier: MIT */
/* The report as a whole: begun before the first benchmark, ended after the last. */
#ifndef CPR_BENCH_REPORT_H
#define CPR_BENCH_REPORT_H

#include "bench.h"

/* `json`: only JSON on stdout, at the end. Exits without memory, and so does every call that adds. */
struct report *report_new(bool json, bool quick);

/* Prints what was added since the last report_section; with JSON, everything. */
void report_end(struct report *report);
void report_free(struct report **report);

/* Returns the number of lines whose target is not met. */
size_t report_unmet(const struct report *report);

/* Returns the number of sections. */
size_t report_sections(const struct report *report);

/* A benchmark failed that began when there were `before` sections. What it has reported so far stays. */
void report_failed(struct report *report, size_t before, const char *name, const char *reason);

#endif
