# SPDX-License-Identifier: MIT
"""A master and two workers that do not end on SIGTERM.

As in apache, a worker serves in a thread of its own, and its main thread waits for a byte from the master.

    forking.py HOST PORT [deaf|tidy|jobs|follow|polls] [start=SEC]
        deaf    the worker ignores SIGTERM
        tidy    SIGTERM keeps the worker busy for a second; then it writes a file and ends
        jobs    deaf, and the worker accepts no connections
        follow  deaf, but the worker ends with its master
        polls   deaf, and each connection has a thread that polls it
        start   seconds until a worker begins to accept
"""

import os
import select
import signal
import socket
import sys
import threading
import time

WORKERS = 2
TIDY_SECONDS = 1.0


def answer(sock, found):
    """False at the end of the stream."""
    request = sock.recv(65536)
    text = f"{os.getpid()} {found}".encode()
    if request:
        sock.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(text), text))
    return bool(request)


def serve(listener, start, since):
    """Serves in one thread. An answer gives the pid, how many connections the first look at the queue found, and how
    many seconds after listen() that was."""
    time.sleep(start)
    poll, clients, found = select.epoll(), {}, None
    poll.register(listener, select.EPOLLIN)
    while True:
        for fd, _ in poll.poll():
            if fd == listener.fileno():
                accepted, looked_at = 0, time.monotonic()
                while sock := accept(listener):
                    clients[sock.fileno()] = sock
                    poll.register(sock, select.EPOLLIN)
                    accepted += 1
                found = found or f"{accepted} {looked_at - since}"
            elif not answer(clients[fd], found):
                clients.pop(fd).close()


def poll_alone(sock):
    poll = select.poll()
    poll.register(sock, select.POLLIN)
    while poll.poll() and answer(sock, None):
        pass
    sock.close()


def serve_by_threads(listener):
    """A thread polls each connection; between accept() and its first poll() the thread starts."""
    poll = select.epoll()
    poll.register(listener, select.EPOLLIN)
    while poll.poll():
        while sock := accept(listener):
            threading.Thread(target=poll_alone, args=(sock,), daemon=True).start()


def accept(listener):
    try:
        return listener.accept()[0]
    except BlockingIOError:
        return None


def tidy(*_):
    until, turns = time.process_time() + TIDY_SECONDS, 0
    while time.process_time() < until:
        turns += 1
    with open(f"tidy-{os.getpid()}", "w", encoding="ascii") as file:
        file.write(f"{turns}\n")
    os._exit(0)


def work(listener, how, start, since, word):
    signal.signal(signal.SIGTERM, tidy if how == "tidy" else lambda *_: None)
    if how == "polls":
        threading.Thread(target=serve_by_threads, args=(listener,), daemon=True).start()
    elif how != "jobs":
        threading.Thread(target=serve, args=(listener, start, since), daemon=True).start()
    os.read(word, 1)        # the master holds the other end
    os._exit(0)


def main():
    host, port, *rest = sys.argv[1:]
    start = float(rest.pop()[6:]) if rest and rest[-1].startswith("start=") else 0.0
    how = rest[0] if rest else "deaf"
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind((host, int(port)))
    listener.listen(512)
    since = time.monotonic()
    listener.setblocking(False)
    word, end = os.pipe()
    workers = []
    for _ in range(WORKERS):
        pid = os.fork()
        if not pid:
            if how == "follow":
                os.close(end)       # else the worker would see no end of the pipe when the master ends
            work(listener, how, start, since, word)
        workers.append(pid)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        while True:
            signal.pause()
    finally:
        os.write(end, b"." * WORKERS)
        for pid in workers:
            os.waitpid(pid, 0)


if __name__ == "__main__":
    main()
