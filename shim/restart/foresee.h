/* SPDX-License-Identifier: MIT */
/* Foresee: what would a restart do now? */
#ifndef CPR_RESTART_FORESEE_H
#define CPR_RESTART_FORESEE_H

#include "base/text.h"
#include "model/protocol.h"

/* Writes the answer to PROTOCOL_FORESEE of the caller on `sock`. Changes nothing. Not holding the guard. */
void foresee(int sock, const struct protocol_request *request, struct text *answer);

#endif
