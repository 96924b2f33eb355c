# SPDX-License-Identifier: MIT
"""What to say in LD_PRELOAD for a library that may have been built with a sanitizer."""

import os
import subprocess

RUNTIMES = ("libasan", "libtsan", "libubsan")
# A process that execs in place of another ends without its destructors: no leaks are looked for. What a signal does is
# the program's.
ASAN = ("detect_leaks=0", "use_sigaltstack=0",
        *(f"handle_{signal}=0" for signal in ("segv", "sigbus", "sigfpe", "sigill", "abort")))


def runtimes(library):
    """The sanitizers' runtimes that it needs. They must come before everything else, or refuse to start."""
    needed = subprocess.run(["readelf", "-dW", library], capture_output=True, text=True, check=True).stdout
    found = []
    for name in RUNTIMES:
        if name in needed:
            command = [os.environ.get("CC", "cc"), f"-print-file-name={name}.so"]
            found.append(subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip())
    return found


def preload(library):
    return ":".join([*runtimes(library), str(library)])


def environment(library):
    """For a program under it."""
    sanitized = {"ASAN_OPTIONS": ":".join(ASAN), "UBSAN_OPTIONS": "print_stacktrace=1:halt_on_error=1"}
    return {"LD_PRELOAD": preload(library)} | (sanitized if runtimes(library) else {})
