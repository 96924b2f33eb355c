# SPDX-License-Identifier: MIT
"""How a runner ends."""


def summary(passed, failed):
    """The counts, and each line of `failed` once more: of a long log, the end is often all that was kept."""
    print(f"{passed} passed, {len(failed)} failed", *failed, sep="\n", flush=True)
