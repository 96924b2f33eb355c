# SPDX-License-Identifier: MIT
"""Clients of services. Each ask() makes one request and checks the answer."""
import http.client
import os
import socket
import ssl
import struct
import threading

TIMEOUT = 20


class Http:
    """An HTTP client on one connection. `good` is the expected status; None accepts any."""
    port, path, good = 80, "/", 200
    again = True   # may the load send a second request on a connection?

    def __init__(self):
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)

    def ask(self):
        """None, or what is wrong with the answer."""
        self.connection.request("GET", self.path)
        answer = self.connection.getresponse()
        answer.read()
        return None if self.good in (answer.status, None) else f"status {answer.status}"

    def socket(self):
        return self.connection.sock


def http_at(port, path="/", good=200, keeps=True):
    return type("HttpAt", (Http,), {"port": port, "path": path, "good": good, "keeps": keeps})


class Line:
    """A protocol of lines: one line asks, one line answers."""

    def __init__(self):
        self.connection = socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT)

    def ask(self):
        self.connection.sendall(self.question)
        answer = self.connection.recv(1000)
        if not answer:
            raise ConnectionError("the connection was closed")
        return self.wrong(answer)

    def wrong(self, answer):
        return None if answer.startswith(self.begins) and answer.endswith(b"\r\n") else repr(answer)

    def socket(self):
        return self.connection


class Redis(Line):
    """INCR over all clients: each answer is the next number. So no data are lost, and no command runs twice."""
    port, question, begins, most, lock = 6379, b"INCR cpr\r\n", b":", 0, threading.Lock()
    seen = 0

    def wrong(self, answer):
        with Redis.lock:
            Redis.seen += 1
            Redis.most = max(Redis.most, int(answer[1:]))
        return super().wrong(answer)

    @classmethod
    def lost(cls):
        return abs(cls.most - cls.seen)


class Memcached(Line):
    port, question, begins = 11211, b"version\r\n", b"VERSION "


class Once:
    """A connection for each request; the client closes it. If `question` is empty, the server sends first."""
    port, question, begins, family = 0, b"", b"", socket.AF_INET

    def ask(self):
        with socket.socket(self.family) as connection:
            connection.settimeout(TIMEOUT)
            connection.connect(self.port if self.family == socket.AF_UNIX else ("127.0.0.1", self.port))
            connection.sendall(self.question)
            answer = connection.recv(1000)
        if not answer:
            raise ConnectionError("the connection was closed")
        return None if answer.startswith(self.begins) else repr(answer[:60])

    def socket(self):
        return None


class Dns:
    """DNS over UDP. A datagram without an answer counts as lost. The answer's content is not checked."""
    port = 53

    def ask(self):
        number = os.urandom(2)
        query = number + struct.pack(">HHHHH", 0x0100, 1, 0, 0, 0) + b"\x09localhost\x00" + struct.pack(">HH", 1, 1)
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
            sock.settimeout(5)
            sock.connect(("127.0.0.1", self.port))
            sock.send(query)
            return None if sock.recv(512)[:2] == number else "the answer to another question"

    def socket(self):
        return None


class Tls:
    """A handshake."""
    port = 443

    def ask(self):
        context = ssl.create_default_context()
        context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
        with socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT) as sock, context.wrap_socket(sock):
            return None

    def socket(self):
        return None
