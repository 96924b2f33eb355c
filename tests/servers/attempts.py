# SPDX-License-Identifier: MIT
"""Decides which trials run again."""

TRIES = 3       # a busy machine alone can make a client wait


def attempts(trial, most=TRIES):
    """Yields each result, until the trial passes, fails for a reason other than time, or has run `most` times."""
    for number in range(1, most + 1):
        result = trial()
        result.tries = number
        yield result
        if not result.is_only_late:
            return
