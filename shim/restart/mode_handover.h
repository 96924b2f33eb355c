/* SPDX-License-Identifier: MIT */
/* Handover: carries out the supervisor's requests in all processes of a generation. */
#ifndef CPR_RESTART_MODE_HANDOVER_H
#define CPR_RESTART_MODE_HANDOVER_H

#include "model/protocol.h"

#include <stdbool.h>

/* Called once, when the library starts: from then on the task carries out requests. */
void handover_init(void);

/* Answers the caller on `sock`, and owns `sock` from now on. `nonce`: where the caller listens. */
void handover_asked(int sock, uint64_t nonce, const struct protocol_request *request);

#endif
