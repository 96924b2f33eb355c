/* SPDX-License-Identifier: MIT */
/* Handover: what the supervisor asks of a generation, done in all its processes. */
#ifndef CPR_RESTART_MODE_HANDOVER_H
#define CPR_RESTART_MODE_HANDOVER_H

#include "model/protocol.h"

#include <stdbool.h>

/* Once, when the library starts: from here on the task does what is asked. */
void handover_init(void);

/* Answers the caller on `sock`, which is the handover's to close from here on. `nonce`: where it listens. */
void handover_asked(int sock, uint64_t nonce, const struct protocol_request *request);

#endif
