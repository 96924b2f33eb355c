# SPDX-License-Identifier: MIT
"""A master that serves nobody, and two workers: HTTP/1.1 with keep-alive.

    prefork.py PORT reuseport|closing
        reuseport: each worker binds a listener of its own, after it is forked; closing: the master binds one, and each worker closes everything but that
        when it starts, as varnish's do: one in one call, the other number by number
"""

import os
import select
import signal
import socket
import sys

from protocols import BODY

WORKERS = 2
NUMBERS = 1024
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(BODY), BODY)


def listen(port, *options):
    listener = socket.socket()
    for option in (socket.SO_REUSEADDR, *options):
        listener.setsockopt(socket.SOL_SOCKET, option, 1)
    listener.bind(("127.0.0.1", port))
    listener.listen(128)
    listener.setblocking(False)
    return listener


def close_all_but(kept, at_once):
    if at_once:
        os.closerange(3, kept)
        os.closerange(kept + 1, NUMBERS)
        return
    for fd in range(3, NUMBERS):
        try:
            if fd != kept:
                os.close(fd)
        except OSError:
            pass        # it was not open


def accept(listener, poll, clients):
    try:
        sock, _ = listener.accept()
    except BlockingIOError:
        return          # the other worker was quicker
    clients[sock.fileno()] = sock
    poll.register(sock, select.EPOLLIN)


def serve(listener):
    """Requests of these clients come in one piece, one at a time."""
    poll, clients = select.epoll(), {}
    poll.register(listener, select.EPOLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd == listener.fileno():
                accept(listener, poll, clients)
            elif request(clients[fd]):
                clients[fd].sendall(ANSWER)
            else:
                clients.pop(fd).close()


def request(sock):
    """False at the end of the stream."""
    try:
        return bool(sock.recv(65536))
    except ConnectionResetError:
        return False


def work(port, listener, number):
    if listener:
        close_all_but(listener.fileno(), number == 0)
    serve(listener or listen(port, socket.SO_REUSEPORT))


def main():
    port, how = int(sys.argv[1]), sys.argv[2]
    listener = listen(port) if how == "closing" else None
    workers = []
    for number in range(WORKERS):
        pid = os.fork()
        if not pid:
            work(port, listener, number)
        workers.append(pid)

    def stop(*_):
        for pid in workers:
            os.kill(pid, signal.SIGTERM)
        sys.exit(0)
    signal.signal(signal.SIGTERM, stop)
    while True:
        signal.sigwaitinfo([signal.SIGCHLD])


if __name__ == "__main__":
    main()
