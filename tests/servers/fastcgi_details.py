# SPDX-License-Identifier: MIT
"""The trial of php-fpm: it reads the last record of a request after its answer, and such a connection is idle."""

import glob
import os
import socket
import struct

from details import PATIENCE, Bench, run_checks
from harness import SYSTEM_PATH, Failure
from setups import ROOT

BEGIN, END, PARAMS, STDIN, STDOUT = 1, 3, 4, 5, 6
KEEP = 1
CLIENTS = 3


def php_fpm(room):
    programs = [path for directory in SYSTEM_PATH.split(":")
                for path in sorted(glob.glob(os.path.join(directory, "php-fpm[0-9]*")))]
    if not programs:
        raise Failure("php-fpm is not installed: run tests/servers/setup")
    room.write("page.php", "<?php echo getmypid(), ' hello';")
    user = "user = www-data\ngroup = www-data" if ROOT else ""
    configuration = room.write("fpm.conf", f"""
[global]
error_log = /dev/stderr
[pool]
{user}
listen = 127.0.0.1:{room.port}
pm = static
pm.max_children = {CLIENTS + 1}
""")
    return [programs[0], "-n", "-F", "-y", configuration]


def record(kind, content):
    return struct.pack(">BBHHBB", 1, kind, 1, len(content), 0, 0) + content


def pair(name, value):
    return struct.pack(">BI", len(name), len(value) | 1 << 31) + name.encode() + value.encode()


class FastCgi:
    """The web server's end of a connection that stays open between requests."""

    def __init__(self, room):
        self.script = room.path("page.php")
        self.sock = socket.create_connection(("127.0.0.1", room.port), PATIENCE)
        self.stream = self.sock.makefile("rb")

    def ask(self):
        """The body of the answer, or None if the stream ends before its first byte."""
        params = b"".join(pair(*item) for item in (("SCRIPT_FILENAME", self.script), ("REQUEST_METHOD", "GET"),
                                                   ("SCRIPT_NAME", "/page.php")))
        self.sock.sendall(record(BEGIN, struct.pack(">HB5x", 1, KEEP)) + record(PARAMS, params) +
                          record(PARAMS, b"") + record(STDIN, b""))
        said = b""
        while True:
            head = self.stream.read(8)
            if not head and not said:
                return None
            _, kind, _, length, padding, _ = struct.unpack(">BBHHBB", head)
            content = self.stream.read(length + padding)[:length]
            if kind == STDOUT:
                said += content
            if kind == END:
                return said.partition(b"\r\n\r\n")[2]

    def close(self):
        self.stream.close()
        self.sock.close()


def kept_connections_are_idle(result, options):
    with Bench(result, options, "php-fpm", php_fpm) as bench:
        bench.server.await_ready()
        clients = [FastCgi(bench.room) for _ in range(CLIENTS)]
        for client in clients:
            for _ in range(4):
                result.expect((client.ask() or b"").endswith(b" hello"), "a wrong answer")
        said = bench.restart()
        result.figures.append(f"php-fpm, {CLIENTS} kept connections: drained {said['drain_us'] / 1e6:.2f} s, "
                              f"{said['closed']} closed, {said['cut']} cut")
        result.expect(said["cut"] == 0, f"{said['cut']} idle connections counted as cut")
        result.expect(said["drain_us"] < 1.5e6, f"the drain took {said['drain_us'] / 1e6:.1f} s")
        for client in clients:
            client.close()
        new = FastCgi(bench.room)
        result.expect((new.ask() or b"").endswith(b" hello"), "the server does not serve a new client")
        new.close()


CHECKS = [(kept_connections_are_idle,)]


def run(options):
    return run_checks("fastcgi", CHECKS, options)


TRIALS = {"fastcgi": run}
