# SPDX-License-Identifier: MIT
"""A server like apache's event MPM, with TCP_DEFER_ACCEPT on its listener.

An accepted connection occupies one of a few threads until its first request. For later ones it waits in epoll.

    deferring.py HOST PORT
"""

import os
import queue
import select
import socket
import sys
import threading

THREADS = 20
DEFER_SECONDS = 30


def answer(sock):
    """False at the end of the stream."""
    request = sock.recv(65536)
    text = b"%d" % os.getpid()
    if request:
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text))
    return bool(request)


def hear_first_word(fresh, poll, clients):
    while True:
        sock = fresh.get()
        if answer(sock):
            clients[sock.fileno()] = sock
            poll.register(sock, select.EPOLLIN)
        else:
            sock.close()


def main():
    host, port = sys.argv[1:]
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT, DEFER_SECONDS)
    listener.bind((host, int(port)))
    listener.listen(128)
    poll, clients, fresh = select.epoll(), {}, queue.Queue()
    poll.register(listener, select.EPOLLIN)
    for _ in range(THREADS):
        threading.Thread(target=hear_first_word, args=(fresh, poll, clients), daemon=True).start()
    while True:
        for fd, _ in poll.poll():
            if fd == listener.fileno():
                fresh.put(listener.accept()[0])
            elif not answer(clients[fd]):
                clients.pop(fd).close()


if __name__ == "__main__":
    main()
