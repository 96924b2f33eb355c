# SPDX-License-Identifier: MIT
"""A master that does not accept, and two workers: HTTP/1.1 with keep-alive.

    prefork.py PORT reuseport|closing|threads|spawning
        reuseport  each worker binds a listener of its own after the fork
        closing    the master binds the listener; at its start a worker closes all other descriptors, as varnish's
                   do: the first worker in one call, the second one by one
        threads    several threads of a worker block in accept(); each connection has a thread
        spawning   for every fourth answer a worker starts a program, by vfork and by posix_spawn in turn
"""

import os
import select
import signal
import socket
import subprocess
import sys
import threading

from protocols import BODY

WORKERS = 2
NUMBERS = 1024
ACCEPTING = 4       # threads of a worker
SPAWN_EVERY = 4     # answers
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
            pass        # this number was not open


def accept(listener, poll, clients):
    try:
        sock, _ = listener.accept()
    except BlockingIOError:
        return          # the other worker was quicker
    clients[sock.fileno()] = sock
    poll.register(sock, select.EPOLLIN)


def spawn(number):
    """Starts a program and waits for it, as a server that needs its output would."""
    if number % 2:
        subprocess.run(["/bin/true"], check=True)       # vfork
    else:
        pid = os.posix_spawn("/bin/true", ["true"], os.environ)
        if os.waitpid(pid, 0)[1]:
            raise ChildProcessError("/bin/true failed")


def serve_one(sock):
    while request(sock):
        sock.sendall(ANSWER)
    sock.close()


def accept_for_ever(listener):
    while True:
        threading.Thread(target=serve_one, args=(listener.accept()[0],), daemon=True).start()


def serve_by_threads(listener):
    listener.setblocking(True)
    for _ in range(ACCEPTING):
        threading.Thread(target=accept_for_ever, args=(listener,), daemon=True).start()
    while True:
        signal.pause()


def serve(listener, spawns=False):
    """Each read is one whole request: the load's clients send a request in one segment, one at a time."""
    answers = 0
    poll, clients = select.epoll(), {}
    poll.register(listener, select.EPOLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd == listener.fileno():
                accept(listener, poll, clients)
            elif request(clients[fd]):
                answers += 1
                if spawns and answers % SPAWN_EVERY == 0:
                    spawn(answers // SPAWN_EVERY)
                clients[fd].sendall(ANSWER)
            else:
                clients.pop(fd).close()


def request(sock):
    """False at the end of the stream."""
    try:
        return bool(sock.recv(65536))
    except ConnectionResetError:
        return False


def work(port, listener, number, how):
    if how == "closing":
        close_all_but(listener.fileno(), number == 0)
    if how == "threads":
        serve_by_threads(listener)
    serve(listener or listen(port, socket.SO_REUSEPORT), how == "spawning")


def main():
    port, how = int(sys.argv[1]), sys.argv[2]
    listener = None if how == "reuseport" else listen(port)
    workers = []
    for number in range(WORKERS):
        pid = os.fork()
        if not pid:
            work(port, listener, number, how)
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
