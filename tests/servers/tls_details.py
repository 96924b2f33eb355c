# SPDX-License-Identifier: MIT
"""The trial of connections that are never carried: TLS and WebSocket. Each is served or ends cleanly."""

import os
import socket
import ssl
import subprocess
import threading
import time

import details
from details import Bench, run_checks, scripted
from harness import Failure, await_until, program
from protocols import BODY, GOOD, PATH, PENDING, LAST, judge_http
from setups import nginx_command

CLIENTS = 16
RESTARTS = 5
ROUNDS_BETWEEN = 64         # answers that must come between two restarts
PAUSE = 0.005


class Talker(threading.Thread):
    """A client that asks again and again. After a clean end between two answers it connects again."""

    def __init__(self, load):
        super().__init__(daemon=True)
        self.load = load

    def run(self):
        while not self.load.over:
            try:
                with self.load.connect() as sock:
                    sock.settimeout(details.PATIENCE)
                    while not self.load.over and self.load.exchange(sock):
                        self.load.answered()
                        time.sleep(PAUSE)
                    self.load.ended += not self.load.over
            except Exception as error:      # every unclean end is a failure
                self.load.failures.append(f"{type(error).__name__}: {error}")
                return


class TalkLoad:
    """Sixteen talkers. `connect` returns a socket. `exchange` returns False at a clean end before an answer."""

    def __init__(self, connect, exchange):
        self.connect, self.exchange = connect, exchange
        self.over, self.ended, self.count, self.failures = False, 0, 0, []
        self.lock = threading.Lock()
        self.talkers = [Talker(self) for _ in range(CLIENTS)]
        for talker in self.talkers:
            talker.start()

    def answered(self):
        with self.lock:
            self.count += 1

    def progress(self):
        enough = self.count + ROUNDS_BETWEEN
        if not await_until(lambda: self.count >= enough or self.failures, 20):
            raise Failure("the clients get too few answers")

    def end(self):
        self.over = True
        for talker in self.talkers:
            talker.join(details.PATIENCE + 5)


def under_load(result, bench, load, expect_ended):
    """
    Five restarts. A connection that the server accepts during the drain and does not read is fresh: it is carried. If a
    connection were carried after a read, its client would fail.
    """
    carried = cut = 0
    try:
        load.progress()
        for _ in range(RESTARTS):
            said = bench.restart()
            carried, cut = carried + said["carried"], cut + said["cut"]
            load.progress()
    finally:
        load.end()
    result.requests += load.count
    result.figures.append(f"{bench.name}: {load.count} answers, {RESTARTS} restarts, {carried} carried, {cut} cut, "
                          f"{load.ended} connections ended cleanly")
    result.expect(not load.failures, f"{len(load.failures)} clients saw {sorted(set(load.failures))}")
    result.expect(load.ended or not expect_ended, "no connection ended: did the server restart?")


# -- https

def certificate(room):
    """Makes key and certificate, and returns the path of a file with both, as haproxy needs it."""
    both = room.path("both.pem")
    subprocess.run([program("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256",
                    "-nodes", "-days", "2", "-subj", "/CN=localhost", "-keyout", room.path("key.pem"),
                    "-out", room.path("certificate.pem")],
                   check=True, capture_output=True, timeout=30)
    with open(both, "w", encoding="ascii") as file:
        for part in ("certificate.pem", "key.pem"):
            with open(room.path(part), encoding="ascii") as source:
                file.write(source.read())
    os.chmod(both, 0o644)
    return both


def nginx_with_tls(processes):
    def prepare(room):
        both = certificate(room)
        return nginx_command(room, processes, listen="ssl",
                             server=f"ssl_certificate {both}; ssl_certificate_key {both};")
    return prepare


def ask_over_tls(sock):
    """True: the connection goes on; False: it ended cleanly. An end after the first byte of an answer is a failure."""
    received = b""
    try:
        sock.sendall(f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        while (verdict := judge_http(received)) is PENDING:
            data = sock.recv(65536)
            if not data:
                break
            received += data
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError, BrokenPipeError):
        verdict = PENDING
    if verdict in (GOOD, LAST):
        return verdict is GOOD
    if received:
        raise Failure(f"cut or garbled after {len(received)} bytes: {received[:80]!r}, "
                      f"expected {len(BODY)} bytes of body")
    return False


def https(result, options, processes):
    with Bench(result, options, "nginx-tls", nginx_with_tls(processes)) as bench:
        bench.server.await_ready()
        bench.name = f"https, nginx, {processes}"
        context = ssl.create_default_context(cafile=bench.room.path("certificate.pem"))
        context.check_hostname = False

        def connect():
            plain = socket.create_connection(("127.0.0.1", bench.room.port), details.PATIENCE)
            return context.wrap_socket(plain)
        under_load(result, bench, TalkLoad(connect, ask_over_tls), expect_ended=True)


# -- clients with a slow handshake, as over a long network path

SLOW = 12
STEP = 0.3              # seconds that each client waits before it sends
STAGGER = 0.1


def nginx_tls(room):
    both = certificate(room)
    return nginx_command(room, "worker_processes 2;", listen="ssl",
                         server=f"ssl_certificate {both}; ssl_certificate_key {both}; ssl_protocols TLSv1.2 TLSv1.3;")


def haproxy_tls(room):
    answer = room.write("answer", BODY.decode())
    return [program("haproxy"), "-db", "-f", room.write("haproxy.cfg", f"""
defaults
    mode http
    timeout client 60s
    timeout connect 5s
    timeout server 60s
frontend test
    bind 127.0.0.1:{room.port} ssl crt {certificate(room)}
    http-request return status 200 content-type text/plain file {answer}
""")]


SLOW_SERVERS = {"nginx": nginx_tls, "haproxy": haproxy_tls}
VERSIONS = {"1.2": ssl.TLSVersion.TLSv1_2, "1.3": ssl.TLSVersion.TLSv1_3}


class SlowClient:
    """A TLS client over memory BIOs, which waits each time before it sends."""

    def __init__(self, address, version):
        context = ssl._create_unverified_context()
        context.minimum_version = context.maximum_version = VERSIONS[version]
        self.came, self.goes = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.tls = context.wrap_bio(self.came, self.goes)
        self.sock = socket.create_connection(address, details.PATIENCE)

    def flush(self):
        if self.goes.pending:
            time.sleep(STEP)
            self.sock.sendall(self.goes.read())

    def do(self, what, *arguments):
        while True:
            try:
                done = what(*arguments)
                self.flush()
                return done
            except ssl.SSLWantReadError:
                self.flush()
                data = self.sock.recv(65536)
                if not data:
                    raise Failure("the connection ended before its first answer") from None
                self.came.write(data)

    def run(self):
        with self.sock:
            self.do(self.tls.do_handshake)
            self.do(self.tls.write, f"GET {PATH} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            received = b""
            while judge_http(received) is PENDING:
                received += self.do(self.tls.read, 65536)
            if judge_http(received) not in (GOOD, LAST):
                raise Failure(f"a wrong answer: {received[:80]!r}")


def slow_handshakes(result, options, name, version):
    """Every client gets its first answer, at whatever step of the handshake the restart finds it."""
    with Bench(result, options, f"slow-{name}", SLOW_SERVERS[name]) as bench:
        bench.server.await_ready()
        address = ("127.0.0.1", bench.room.port)
        asides = []
        for number in range(SLOW):
            asides.append(details.Aside(lambda: SlowClient(address, version).run()))
            time.sleep(STAGGER)
            if number == SLOW // 2:
                restart = bench.begin_restart()
        said = bench.end_restart(restart)
        lost = []
        for aside in asides:
            try:
                aside.result()
            except (Failure, OSError) as failure:
                lost.append(str(failure))
        result.figures.append(f"slow handshakes, {name}, TLS {version}: drained {said['drain_us'] / 1e6:.2f} s, "
                              f"{len(lost)} of {SLOW} lost")
        result.expect(not lost, f"{len(lost)} of {SLOW} were not answered: {sorted(set(lost))}")


# -- websocket

def upgraded(bench):
    sock = socket.create_connection(("127.0.0.1", bench.room.port), details.PATIENCE)
    sock.sendall(b"GET /websocket HTTP/1.1\r\nHost: localhost\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                 b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n")
    head = b""
    while not head.endswith(b"\r\n\r\n"):
        data = sock.recv(4096)
        if not data:
            return sock     # it ended before the upgrade: the first exchange finds that
        head += data
    if not head.startswith(b"HTTP/1.1 101") or b"s3pPLMBiTxaQ9kYGzzhZRbK+xOo=" not in head:
        raise Failure(f"no upgrade: {head!r}")
    return sock


def echo(sock):
    """Sends a masked frame and expects the same bytes back: scripted.py does not decode frames. False: a clean end."""
    frame = b"\x81\x88" + os.urandom(12)
    received = b""
    try:
        sock.sendall(frame)
    except BrokenPipeError:
        return False
    while len(received) < len(frame):
        data = sock.recv(len(frame) - len(received))
        if not data:
            if received:
                raise Failure(f"cut in the middle of an echo, after {len(received)} bytes")
            return False
        received += data
    if received != frame:
        raise Failure(f"garbled: {frame!r} came back as {received!r}")
    return True


def websocket(result, options, how):
    """A WebSocket is never at a boundary, so each restart waits for --drain and cuts it."""
    with scripted(result, options, how, cpr=("-d", "1")) as bench:
        bench.name = f"websocket, {how}"
        under_load(result, bench, TalkLoad(lambda: upgraded(bench), echo), expect_ended=True)


CHECKS = [(https, processes) for processes in ("master_process off;", "worker_processes 4;")]
CHECKS += [(slow_handshakes, name, version) for name in SLOW_SERVERS for version in VERSIONS]
CHECKS += [(websocket, how) for how in ("asyncio", "threads")]


def run(options):
    return run_checks("tls-websocket", CHECKS, options)


TRIALS = {"tls-websocket": run}
