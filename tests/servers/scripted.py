# SPDX-License-Identifier: MIT
"""A small HTTP/1.1 server. The request's path chooses the length, duration and form of the answer.

    scripted.py asyncio|threads|forks HOST PORT|PATH [start=SEC] [late=SEC]
        asyncio, threads, forks  an event loop, a thread for each connection, or a process for each connection
        start  seconds to wait before listen()
        late   seconds to wait before the first accept()
"""

import asyncio
import base64
import hashlib
import os
import signal
import socket
import sys
import threading
import time

TOKEN = os.urandom(6).hex()         # every generation has another one
WEBSOCKET = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
BIG = bytes(range(256)) * 1024


def head(length, more=""):
    return f"HTTP/1.1 200 OK\r\nContent-Length: {length}\r\n{more}\r\n".encode()


def whole(text, more=""):
    return head(len(text), more) + text.encode()


def answer(path, peer, request):
    """Yields steps: bytes to send, seconds to wait, "close", or "echo" for the rest of the connection."""
    what, _, number = path.strip("/").partition("/")
    number = float(number or 0)
    if what == "sleep":
        yield number
        yield whole(f"{TOKEN} slept")
    elif what == "pieces":
        count = int(number)
        yield head(2 * count)
        for piece in range(count):
            yield 0.03
            yield b"%02d" % (piece % 100)
    elif what == "big":
        yield head(len(BIG)) + BIG
    elif what == "events":
        yield b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n"
        for event in range(1000):
            yield b"data: %d\n\n" % event
            yield 0.1
        yield "close"
    elif what == "close":
        yield whole(TOKEN, "Connection: close\r\n")
        yield "close"
    elif what == "websocket":
        key = request.partition(b"Sec-WebSocket-Key: ")[2].partition(b"\r\n")[0]
        accept = base64.b64encode(hashlib.sha1(key + WEBSOCKET.encode()).digest()).decode()
        yield (f"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
               f"Sec-WebSocket-Accept: {accept}\r\n\r\n").encode()
        yield "echo"
    else:
        yield whole(f"{TOKEN} {peer}")


def name(peer):
    return str(peer[1]) if isinstance(peer, tuple) else "unix"


async def serve_async(reader, writer):
    peer = name(writer.get_extra_info("peername"))
    try:
        while True:
            request = await reader.readuntil(b"\r\n\r\n")
            for step in answer(request.split()[1].decode(), peer, request):
                if isinstance(step, float):
                    await asyncio.sleep(step)
                elif isinstance(step, bytes):
                    writer.write(step)
                    await writer.drain()
                elif step == "close":
                    return
                else:
                    while data := await reader.read(65536):
                        writer.write(data)
                        await writer.drain()
                    return
    except (asyncio.IncompleteReadError, ConnectionError):
        pass
    finally:
        writer.close()


def serve_thread(sock, peer):
    peer, rest = name(peer), b""
    with sock:
        while True:
            while b"\r\n\r\n" not in rest:
                data = sock.recv(65536)
                if not data:
                    return
                rest += data
            request, _, rest = rest.partition(b"\r\n\r\n")
            for step in answer(request.split()[1].decode(), peer, request + b"\r\n"):
                if isinstance(step, float):
                    time.sleep(step)
                elif isinstance(step, bytes):
                    sock.sendall(step)
                elif step == "close":
                    return
                else:
                    while data := sock.recv(65536):
                        sock.sendall(data)
                    return


def listener(where):
    if len(where) == 1:
        if os.path.exists(where[0]):
            os.unlink(where[0])
        sock = socket.socket(socket.AF_UNIX)
        sock.bind(where[0])
    else:
        sock = socket.socket(socket.AF_INET6 if ":" in where[0] else socket.AF_INET)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        if where[0] == "::":        # dual stack, and on the loopback interface only
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, b"lo\0")
        sock.bind((where[0], int(where[1])))
    sock.listen(128)
    return sock


def main():
    how, *where = (argument for argument in sys.argv[1:] if "=" not in argument)
    more = dict(argument.split("=") for argument in sys.argv[1:] if "=" in argument)
    time.sleep(float(more.get("start", 0)))
    if how == "forks":
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    sock = listener(where)
    time.sleep(float(more.get("late", 0)))
    if how == "asyncio":
        async def loop():
            starts = asyncio.start_unix_server if len(where) == 1 else asyncio.start_server
            server = await starts(serve_async, sock=sock)
            await server.serve_forever()
        asyncio.run(loop())
    while True:
        connection, peer = sock.accept()
        if how == "forks":
            if not os.fork():
                sock.close()
                serve_thread(connection, peer)
                os._exit(0)
            connection.close()
            continue
        threading.Thread(target=serve_thread, args=(connection, peer), daemon=True).start()


if __name__ == "__main__":
    main()
