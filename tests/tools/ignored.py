# SPDX-License-Identifier: MIT
"""The runners start their programs with no signal ignored or blocked, whatever they were started with themselves."""
import os
import signal
import subprocess
import sys

from common import BUILD, ROOT, test

MASKS = ("SigBlk", "SigIgn")
# libc's own two, which no other code can set. A posix_spawn() of glibc 2.36, as make's, leaves them ignored; libc sets
# them anew when it needs them.
LIBCS = 1 << 32 - 1 | 1 << 33 - 1


def ignore_and_block():
    """As nohup and a shell's & do, and a bit more."""
    for sig in (signal.SIGHUP, signal.SIGINT, signal.SIGQUIT, signal.SIGCHLD, signal.SIGRTMIN):
        signal.signal(sig, signal.SIG_IGN)
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM, signal.SIGRTMAX - 5])


def masks(status):
    return [int(line.split()[1], 16) & ~LIBCS for line in status.splitlines() if line.startswith(MASKS)]


@test
def signals_are_reset_for_what_a_runner_starts():
    runner = "import signals, subprocess; signals.reset(); subprocess.run(['cat', '/proc/self/status'], check=True)"
    done = subprocess.run([sys.executable, "-B", "-c", runner],
                          env=dict(os.environ, PYTHONPATH=str(ROOT / "tests/support")),
                          preexec_fn=ignore_and_block, capture_output=True, text=True, check=True)
    assert masks(done.stdout) == [0, 0], done.stdout


@test
def signals_are_reset_by_every_runner():
    runners = sorted(ROOT.glob("tests/*/run"))
    assert len(runners) >= 7, runners
    forgetful = [path.parent.name for path in runners if "signals.reset()" not in path.read_text(encoding="utf-8")]
    assert forgetful == ["distro", "house"], forgetful     # one calls the others, one starts no program of ours


@test
def signals_are_reset_by_the_unit_tests():
    if not (BUILD / "unit-tests").exists():
        return
    done = subprocess.run([BUILD / "unit-tests", "--filter", "signals/*"], preexec_fn=ignore_and_block,
                          capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
