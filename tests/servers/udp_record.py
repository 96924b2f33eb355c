# SPDX-License-Identifier: MIT
"""A slow UDP server that writes the text of each datagram to standard output, one a line.

It peeks at a datagram, writes it, and only then takes it out of the kernel's queue. So at every moment a datagram is
in the queue or written, perhaps twice. If one is missing, the restart lost the queue.
"""

import os
import socket
import sys
import time

WORK = 0.001    # seconds of computing for each datagram, so that the queue is not empty while the sender sends


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
