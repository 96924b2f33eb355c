# SPDX-License-Identifier: MIT
"""A primary that accepts, and passes each connection by message (SCM_RIGHTS) to a worker, as node's cluster does.

The workers are other programs and hold no listener. Each serves a connection in a thread of its own.

    handing.py HOST PORT [WORKERS]      the primary
    handing.py serve FD                 a worker; FD is its end of a socketpair
"""

import os
import socket
import subprocess
import sys
import threading
import time

from protocols import BODY, PATH

WORKERS = 2


def answer(connection, path):
    if path.startswith("/sleep/"):
        time.sleep(float(path[7:]))
    body = BODY if path == PATH else b"%d" % os.getpid()
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))


def converse(connection):
    received = b""
    with connection:
        while data := connection.recv(65536):
            received += data
            while b"\r\n\r\n" in received:
                head, _, received = received.partition(b"\r\n\r\n")
                answer(connection, head.split()[1].decode())


def serve(channel):
    while True:
        message, handed, _, _ = socket.recv_fds(channel, 1, 1)
        if not message:
            os._exit(0)     # a worker of node's cluster, too, ends with its primary
        threading.Thread(target=converse, args=(socket.socket(fileno=handed[0]),), daemon=True).start()


def hand_out(host, port, count):
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, port))
    listener.listen(512)
    channels = []
    for _ in range(count):
        ours, theirs = socket.socketpair()
        subprocess.Popen([sys.executable, "-B", os.path.abspath(__file__), "serve", str(theirs.fileno())],
                         pass_fds=[theirs.fileno()])
        theirs.close()
        channels.append(ours)
    while True:
        for channel in channels:
            with listener.accept()[0] as connection:
                socket.send_fds(channel, [b"x"], [connection.fileno()])


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        serve(socket.socket(fileno=int(sys.argv[2])))
    else:
        hand_out(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else WORKERS)
