# SPDX-License-Identifier: MIT
"""Which trials are made again."""

TRIES = 3       # on a busy machine a client may wait for reasons of its own


def attempts(trial, most=TRIES):
    """Makes the trial until it passes, fails for another reason than time, or has failed `most` times; each result."""
    for number in range(1, most + 1):
        result = trial()
        result.tries = number
        yield result
        if not result.is_only_late:
            return
