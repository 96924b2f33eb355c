# SPDX-License-Identifier: MIT
"""A primary that gives each connection to another program, and keeps it until that has answered, as node's does.

The other program is not under cpr. It declines each connection a moment after it has received it: the primary then
serves it itself.

    declining.py HOST PORT      the primary
    declining.py decline FD     the other program; FD is its end of a socketpair
"""

import os
import socket
import subprocess
import sys
import threading
import time

from handing import converse

DECIDES = 0.2       # seconds


def decline(channel):
    while True:
        message, handed, _, _ = socket.recv_fds(channel, 1, 1)
        if not message:
            os._exit(0)
        time.sleep(DECIDES)
        channel.sendall(b"n")
        os.close(handed[0])


def offer(host, port):
    listener = socket.create_server((host, port), backlog=512)
    ours, theirs = socket.socketpair()
    command = [sys.executable, "-B", os.path.abspath(__file__), "decline", str(theirs.fileno())]
    bare = {name: value for name, value in os.environ.items() if name != "LD_PRELOAD"}
    subprocess.Popen(command, env=bare, pass_fds=[theirs.fileno()])
    theirs.close()
    while True:
        connection = listener.accept()[0]
        socket.send_fds(ours, [b"x"], [connection.fileno()])
        if ours.recv(1):
            threading.Thread(target=converse, args=(connection,), daemon=True).start()


if __name__ == "__main__":
    if sys.argv[1] == "decline":
        decline(socket.socket(fileno=int(sys.argv[2])))
    else:
        offer(sys.argv[1], int(sys.argv[2]))
