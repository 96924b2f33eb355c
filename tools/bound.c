/* SPDX-License-Identifier: MIT */
/* A short list: of what neither listens nor is kept, only the last few are remembered. */
#define _GNU_SOURCE
#include "bound.h"

#include <stdlib.h>
#include <string.h>

enum { OTHERS_MAX = 256 }; /* a resolver that binds a socket for each question would have the list grow for ever */

struct bound *bounds_find(const struct bounds *b, uint64_t ino)
{
	for (size_t i = 0; i < b->count; i++)
		if (b->all[i].ino == ino)
			return &b->all[i];
	return NULL;
}

static void forget_oldest(struct bounds *b)
{
	size_t others = 0, oldest = b->count;

	for (size_t i = b->count; i--;)
		if (!b->all[i].listens && !b->all[i].kept) {
			others++;
			oldest = i;
		}
	if (others < OTHERS_MAX)
		return;
	free(b->all[oldest].name);
	memmove(&b->all[oldest], &b->all[oldest + 1], (b->count - oldest - 1) * sizeof(*b->all));
	b->count--;
}

struct bound *bounds_add(struct bounds *b, uint64_t ino, const char *name)
{
	char *copy = strdup(name);
	struct bound *one = bounds_find(b, ino);

	if (!copy)
		return NULL;
	if (!one) {
		struct bound *longer;

		forget_oldest(b);
		longer = reallocarray(b->all, b->count + 1, sizeof(*longer));
		if (!longer) {
			free(copy);
			return NULL;
		}
		b->all = longer;
		one = &longer[b->count++];
		*one = (struct bound){.ino = ino, .number = -1};
	}
	free(one->name);
	one->name = copy;
	return one;
}

void bounds_free(struct bounds *b)
{
	for (size_t i = 0; i < b->count; i++)
		free(b->all[i].name);
	free(b->all);
	*b = (struct bounds){0};
}
