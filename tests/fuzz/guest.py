# SPDX-License-Identifier: MIT
"""Asks for all that the last generation may have left, as a server would. What it gets may be anything, but it must get
through, and says ok."""

import os
import select
import socket
import sys


def attempt(action, *args):
    try:
        return action(*args)
    except OSError:
        return None


def listener(family, kind, address):
    sock = socket.socket(family, kind)
    if family != socket.AF_UNIX:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    attempt(sock.bind, address)
    if kind == socket.SOCK_STREAM:
        attempt(sock.listen, 5)
    sock.setblocking(False)
    assert sock.family == family and sock.getsockopt(socket.SOL_SOCKET, socket.SO_TYPE) == kind
    return sock


def main():
    stream, datagram, unix, fifo, file = sys.argv[1:]
    assert "CPR_STATE_FD" not in os.environ
    socks = [listener(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", int(stream))),
             listener(socket.AF_INET, socket.SOCK_DGRAM, ("127.0.0.1", int(datagram))),
             listener(socket.AF_UNIX, socket.SOCK_STREAM, unix),
             listener(socket.AF_INET, socket.SOCK_STREAM, ("127.0.0.1", 0))]
    opened = [os.open(fifo, os.O_RDWR | os.O_NONBLOCK), os.open(file, os.O_RDWR)]
    select.select(socks, [], [], 0.03)
    assert os.spawnv(os.P_WAIT, "/bin/true", ["true"]) == 0
    for fd in opened:
        os.close(fd)
    os.closerange(3, 2000)
    os.dup2(1, 50)
    os.write(50, b"ok\n")


main()
