# SPDX-License-Identifier: MIT
"""A server that execs itself again on SIGHUP. Python makes its listener close-on-exec."""

import os
import signal
import sys
from http.server import ThreadingHTTPServer

from http_threading import Handler


def execute_again(_signal, _frame):
    os.execv(sys.executable, [sys.executable] + sys.argv)


if __name__ == "__main__":
    signal.signal(signal.SIGHUP, execute_again)
    ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
