# SPDX-License-Identifier: MIT
"""What programs under the preload leave to the images that they become by their own exec."""

import os
import signal
import subprocess
import sys

import preload
from outside import WITHIN, must


def _preloaded(build, *command, **more):
    return subprocess.run(command, env=os.environ | preload.environment(build / "libcpr.so"), capture_output=True,
                          text=True, check=True, timeout=WITHIN, **more)


def a_shell_with_a_getenv_of_its_own_execs_itself(build):
    """bash: its own unsetenv would leave CPR_STATE_FD where it is, for each of its children to complain of."""
    script = 'test "$AGAIN" && { env; exec true; }; AGAIN=1 exec bash -c "$0" "$0"'
    done = _preloaded(build, "bash", "-c", script, script)
    must("AGAIN=1" in done.stdout and "CPR_STATE_FD" not in done.stdout, "the state is in the environment")
    must(not done.stderr, done.stderr)


def a_stranger_without_the_library_ignores_no_signal(build):
    """The doorbell is muted for an image that hangs it anew. Any other would ignore its signal for good, and so would
    all that it starts."""
    script = 'import os; os.fork() or os.execve("/bin/cat", ["cat", "/proc/self/status"], {}); os.wait()'
    done = _preloaded(build, sys.executable, "-c", script,
                      preexec_fn=lambda: signal.signal(signal.SIGRTMAX - 5, signal.SIG_DFL))
    ignored = int(done.stdout.partition("SigIgn:")[2].split()[0], 16)
    must(not ignored >> (signal.SIGRTMAX - 6) & 1, f"ignored: {ignored:x}")


CHECKS = {check.__name__: check for check in (
    a_shell_with_a_getenv_of_its_own_execs_itself, a_stranger_without_the_library_ignores_no_signal)}
