/* SPDX-License-Identifier: MIT */
/* What becomes of a connection. */
#include "model/fate.h"

enum fate fate_of(const struct standing *s)
{
	if (!s->stands)
		return FATE_CUT;
	if (!s->comes_again || !s->seen_whole || !s->one_set || s->ended || s->unwanted)
		return FATE_END;
	return s->untouched || s->http_idle || s->wanted ? FATE_CARRY : FATE_END;
}
