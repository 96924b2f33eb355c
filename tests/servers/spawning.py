# SPDX-License-Identifier: MIT
"""A supervisor with exec'ed workers, as uvicorn's: it binds the socket; each worker inherits it, listens and accepts.

    spawning.py HOST PORT [WORKERS]     the supervisor
    spawning.py serve FD                a worker; FD is bound, and may listen already
"""

import asyncio
import os
import signal
import socket
import subprocess
import sys

from protocols import BODY, PATH

WORKERS = 2


class Http(asyncio.Protocol):
    everyone = set()

    def __init__(self):
        self.transport, self.received, self.asleep = None, b"", None

    def connection_made(self, transport):
        self.transport = transport
        self.everyone.add(self)

    def connection_lost(self, exc):
        self.everyone.discard(self)

    def data_received(self, data):
        self.received += data
        while b"\r\n\r\n" in self.received:
            head, _, self.received = self.received.partition(b"\r\n\r\n")
            path = head.split()[1].decode()
            if path.startswith("/sleep/"):
                self.asleep = asyncio.get_running_loop().create_task(self.answer_after(float(path[7:])))
            else:
                self.answer(BODY if path == PATH else b"%d" % os.getpid())

    async def answer_after(self, seconds):
        await asyncio.sleep(seconds)
        self.answer(b"%d" % os.getpid())

    def answer(self, body):
        self.transport.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(body), body))


async def serve(fd):
    loop, told = asyncio.get_running_loop(), asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, told.set)
    sock = socket.socket(fileno=fd)
    server = await loop.create_server(Http, sock=sock, backlog=512)
    await told.wait()
    server.close()
    await asyncio.gather(*(http.asleep for http in Http.everyone if http.asleep))
    for http in list(Http.everyone):
        http.transport.close()


def supervise(host, port, count):
    sock = socket.socket()
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    sock.bind((host, port))
    command = [sys.executable, "-B", os.path.abspath(__file__), "serve", str(sock.fileno())]
    workers = [subprocess.Popen(command, pass_fds=[sock.fileno()]) for _ in range(count)]
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    try:
        for worker in workers:      # only this generation's: old workers end unseen by the program
            worker.wait()
    finally:
        for worker in workers:
            worker.terminate()
        for worker in workers:
            worker.wait()


if __name__ == "__main__":
    if sys.argv[1] == "serve":
        asyncio.run(serve(int(sys.argv[2])))
    else:
        supervise(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]) if len(sys.argv) > 3 else WORKERS)
