# SPDX-License-Identifier: MIT
"""What the trials of single behaviours share: a server in its room, its restarts, and strict clients."""

import contextlib
import json
import socket
import subprocess
import threading
import time

import proc
from harness import Failure, Result, Room, Server, await_until
from setups import python

PATIENCE = 10.0


class Client:
    """A client that keeps what it reads. It takes every reset for a failure."""

    def __init__(self, address, buffer=0, source=None):
        if isinstance(address, str):
            family = socket.AF_UNIX
        else:
            family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
        self.sock = socket.socket(family, socket.SOCK_STREAM)
        if buffer:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        if source:
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.sock.bind(source)
        self.sock.settimeout(PATIENCE)
        self.sock.connect(address)
        self.rest = b""
        self.name = "unix" if family == socket.AF_UNIX else str(self.sock.getsockname()[1])

    def send(self, path, more=""):
        self.sock.sendall(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n{more}\r\n".encode())

    def _more(self):
        data = self.sock.recv(65536)
        if not data:
            raise Failure(f"a client was cut off after {self.rest[:80]!r}")
        self.rest += data

    def head(self):
        while b"\r\n\r\n" not in self.rest:
            self._more()
        head, _, self.rest = self.rest.partition(b"\r\n\r\n")
        return head

    def body(self, length):
        while len(self.rest) < length:
            self._more()
        body, self.rest = self.rest[:length], self.rest[length:]
        return body

    def receive(self):
        head = self.head()
        length = head.lower().partition(b"content-length:")[2].split(b"\r\n")[0]
        if not head.startswith(b"HTTP/1.1 200") or not length:
            raise Failure(f"a wrong answer: {head[:80]!r}")
        return self.body(int(length))

    def ask(self, path, more=""):
        self.send(path, more)
        return self.receive()

    def ends(self, within=PATIENCE):
        """The bytes up to the end of the stream, or None if it does not end in time."""
        self.sock.settimeout(within)
        try:
            while data := self.sock.recv(65536):
                self.rest += data
        except TimeoutError:
            return None
        return self.rest

    def close(self):
        self.sock.close()


class Bench:
    """One server and its clients."""

    def __init__(self, result, options, name, prepare, unix=False, host="127.0.0.1", cpr=(), before=()):
        self.result, self.options, self.clients = result, options, []
        self.room = Room(name, unix)
        self.room.host = host
        try:
            self.server = Server(prepare(self.room), self.room, options, cpr=cpr, before=before)
        except BaseException:
            self.room.leave()
            raise

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for client in self.clients:
            client.close()
        self.server.stop()
        self.result.tail = self.server.tail()
        self.room.leave()

    @property
    def pid(self):
        return self.server.pid

    def client(self, host=None, buffer=0):
        address = self.room.socket_path or (host or self.room.host, self.room.port)
        self.clients.append(Client(address, buffer))
        return self.clients[-1]

    def status(self, pid):
        """cprctl's status of this process; {} if it has ended or is not under cpr."""
        done = subprocess.run([self.options.cprctl, "status", str(pid), "--json"], capture_output=True, text=True,
                              timeout=20, check=False)
        return json.loads(done.stdout) if not done.returncode else {}

    def await_status(self, what, reached):
        """Waits until reached(statuses) holds, for the statuses of the server and its workers."""
        if not await_until(lambda: reached([self.status(pid) for pid in proc.family(self.pid)]), 10, step=0.01):
            raise Failure(f"not within 10 s: {what}")

    def await_busy(self, count=1):
        """Waits until the server has read `count` requests. A restart before that would find an idle server."""
        self.await_status(f"{count} requests under way", lambda statuses: count <= sum(
            status.get("connections_busy", 0) for status in statuses))

    def await_draining(self):
        self.await_status("a drain", lambda statuses: any(status.get("draining") for status in statuses))

    def begin_restart(self, *more):
        command = [self.options.cprctl, "restart", str(self.pid), "--timeout", "20", "--json", *more]
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def end_restart(self, cprctl, status=0):
        """cprctl's answer as a dictionary; {} if the expected status is not 0."""
        try:
            said, why = cprctl.communicate(timeout=30)
        except subprocess.TimeoutExpired:
            cprctl.kill()
            raise Failure("cprctl does not return") from None
        if cprctl.returncode != status:
            self.server.require_running()
            raise Failure(f"cprctl restart: exit {cprctl.returncode} instead of {status}: "
                          f"{why.strip() or said.strip()}")
        self.result.restarts += not status
        return json.loads(said) if not status else {}

    def restart(self, *more):
        began = time.monotonic()
        said = self.end_restart(self.begin_restart(*more))
        self.result.restart_ms.append((time.monotonic() - began) * 1000)
        return said

    def await_new_image(self, before):
        if not await_until(lambda: proc.stack(self.pid) not in (None, before), 10, step=0.001):
            raise Failure("the image did not change")


def scripted(result, options, how, unix=False, host="127.0.0.1", cpr=(), start=0.0, late=0.0):
    """A bench with scripted.py on it."""
    def prepare(room):
        where = [room.socket_path] if unix else [host, str(room.port)]
        return python("scripted.py", how, *where, f"start={start}", f"late={late}")
    bench = Bench(result, options, f"scripted-{how}", prepare, unix, host, cpr)
    bench.room.host = "127.0.0.1" if host == "::" else host
    try:
        bench.server.await_ready()
    except BaseException:
        bench.__exit__()
        raise
    return bench


class Aside:
    """Runs a function in a thread. result() returns what it returned, or raises what it raised."""

    def __init__(self, function, *arguments):
        self.value = self.error = None
        self.thread = threading.Thread(target=self._run, args=(function, arguments), daemon=True)
        self.thread.start()

    def _run(self, function, arguments):
        try:
            self.value = function(*arguments)
        except Exception as error:      # result() raises it
            self.error = error

    def result(self, within=30.0):
        self.thread.join(within)
        if self.thread.is_alive():
            raise Failure("a function beside the restart takes too long")
        if self.error:
            raise self.error
        return self.value


def run_checks(name, checks, options):
    """Runs each check by itself: a failed one does not keep the next from running."""
    result = Result(name)
    for check in checks:
        label = check[0].__name__ + "".join(f" {argument}" for argument in check[1:])
        before = len(result.reasons)
        try:
            check[0](result, options, *check[1:])
        except (Failure, OSError, EOFError, subprocess.SubprocessError, ValueError, KeyError) as failure:
            result.reasons.append(str(failure) or repr(failure))
        result.reasons[before:] = [type(reason)(f"{label}: {reason}") for reason in result.reasons[before:]]
    return result


@contextlib.contextmanager
def at_most(result, seconds, what):
    began = time.monotonic()
    yield
    took = time.monotonic() - began
    result.expect_in_time(took <= seconds, f"{what} took {took:.1f} s")
