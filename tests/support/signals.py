# SPDX-License-Identifier: MIT
"""What a runner was started with must not decide what its tests see. nohup, cron and `&` in scripts ignore signals, and
every program started by us would ignore them too."""

import signal

PYTHONS_OWN = {signal.SIGPIPE, signal.SIGXFSZ}      # ignored by Python, which gives them back to what it starts


def reset():
    """Every signal as in a fresh login: none ignored, none blocked."""
    for sig in signal.valid_signals() - PYTHONS_OWN:
        if signal.getsignal(sig) == signal.SIG_IGN:
            signal.signal(sig, signal.default_int_handler if sig == signal.SIGINT else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, [])
