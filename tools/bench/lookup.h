/* SPDX-License-Identifier: MIT */
/* The results that the lookup benchmark's child sends to its parent. */
#ifndef CPR_BENCH_LOOKUP_H
#define CPR_BENCH_LOOKUP_H

#include "bench.h"

enum lookup_rival { RIVAL_GHASHTABLE, RIVAL_LIST, RIVALS };
enum lookup_what { LOOKUP_HIT, LOOKUP_MISS, LOOKUP_INSERT, LOOKUP_DELETE, LOOKUP_MEMORY, LOOKUP_KINDS };

enum { LOOKUP_RESULTS = RIVALS * LOOKUP_KINDS, LOOKUP_LIST_MOST = 7530 };

struct lookup_result {
	enum lookup_rival rival;
	enum lookup_what what;
	struct figure ours, theirs, ratio;
};

#endif
