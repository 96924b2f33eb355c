# SPDX-License-Identifier: MIT
"""A UDP server that writes each datagram's text to standard output, a line each, and is slow about it.

It looks at a datagram, writes it down, and only then takes it out of the kernel's queue. So whatever moment
a restart chooses, a datagram is in the queue or written down (perhaps twice): one that is missing was lost
by the kernel's queue.
"""

import os
import socket
import sys
import time

WORK = 0.001    # seconds of computing a datagram: the queue is never empty while the sender sends


def serve(port):
    sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", port))
    os.write(1, b"bound\n")
    while True:
        text = sock.recv(64, socket.MSG_PEEK)
        busy_until = time.monotonic() + WORK
        while time.monotonic() < busy_until:
            pass
        os.write(1, text + b"\n")
        sock.recv(64)


if __name__ == "__main__":
    serve(int(sys.argv[1]))
