# SPDX-License-Identifier: MIT
"""A file server that knows nothing of cpr: serve.py HOW PORT.

HOW is daemon (forks into the background, without a pid file), notify (sends READY=1; only SIGINT ends it) or echo
(binds a UDP socket and returns each datagram)."""
import http.server
import os
import signal
import socket
import sys


class Handler(http.server.SimpleHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_request(self, *_):
        """Writes nothing: the journal is printed when a trial fails."""


def daemonise():
    """Forks twice. The parent waits for the first child, so that the manager does not take that for the server."""
    child = os.fork()
    if child:
        os._exit(os.waitpid(child, 0)[1])
    os.setsid()
    if os.fork():
        os._exit(0)


def notify(text):
    address = os.environ["NOTIFY_SOCKET"].replace("@", "\0", 1)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(text, address)


def echo(port):
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind(("127.0.0.1", port))
        while True:
            text, client = sock.recvfrom(2000)
            sock.sendto(text, client)


def main(how, port):
    os.chdir("/var/www/html")
    if how == "echo":
        echo(int(port))
    server = http.server.ThreadingHTTPServer(("127.0.0.1", int(port)), Handler)
    server.daemon_threads = True
    if how == "daemon":
        daemonise()
    if how == "notify":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        signal.signal(signal.SIGINT, lambda *_: os._exit(0))
        notify(b"READY=1")
    server.serve_forever()


if __name__ == "__main__":
    main(*sys.argv[1:])
