#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""A stranger: fills the queue of each socket that listens by an abstract name of cpr's in a process.

crowd.py PID AT_A_TIME     until its standard input ends; then it prints how many of its connections were let in
"""
import contextlib
import os
import select
import socket
import sys


def abstract_names(pid):
    """Of cpr's sockets in this process."""
    inodes = set()
    with contextlib.suppress(OSError):
        for fd in os.listdir(f"/proc/{pid}/fd"):
            with contextlib.suppress(OSError):
                inodes.add(os.readlink(f"/proc/{pid}/fd/{fd}").removeprefix("socket:[").removesuffix("]"))
    with open("/proc/net/unix", encoding="ascii", errors="replace") as sockets:
        rows = [row.split() for row in sockets]
    return {"\0" + row[7][1:] for row in rows if len(row) == 8 and row[6] in inodes and row[7].startswith("@cpr.")}


def fill(name, most):
    """The connections that were let in."""
    held = []
    for _ in range(most):
        peer = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        peer.setblocking(False)
        try:
            peer.connect(name)
        except OSError:
            peer.close()
            break
        held.append(peer)
    return held


def main():
    pid, at_a_time = int(sys.argv[1]), int(sys.argv[2])
    connected, held = 0, []
    while not select.select([sys.stdin], [], [], 0.001)[0]:
        for name in abstract_names(pid):
            let_in = fill(name, at_a_time)
            connected += len(let_in)
            held = (held + let_in)[-at_a_time:]
    print(connected)


if __name__ == "__main__":
    main()
