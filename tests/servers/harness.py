# SPDX-License-Identifier: MIT
"""What every trial uses: a room, the server's process, the load's process, and waits with a time limit."""

import dataclasses
import json
import os
import selectors
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

import proc
from protocols import PENDING

HERE = os.path.dirname(os.path.abspath(__file__))
READY_WITHIN = 30.0         # seconds from start to the first accepted connection
STOPPED_WITHIN = 10.0       # seconds from SIGTERM to the end
TAIL_LINES = 20
PORTS = range(20000, 32000)     # below the kernel's range of ephemeral ports, which the load's connections use
SYSTEM_PATH = os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin:/sbin"


class Failure(Exception):
    """A trial cannot go on; the text says why."""


class Late(str):
    """A reason that only concerns time. A busy machine alone can make something take longer."""


@dataclasses.dataclass
class Options:
    """The command line's options. Without cpr (--plain), cpr_exec and cprctl are None."""
    restarts: int
    cpr_exec: str | None
    cprctl: str | None


@dataclasses.dataclass
class Result:
    """One row of the report."""
    name: str
    restarts: int = 0
    requests: int = 0
    refused: int = 0
    timed_out: int = 0
    cut: int = 0
    idle_closed: int = 0
    longest_ms: int = 0
    start_ms: int = 0           # from a cold start to the first answer
    windows: list = dataclasses.field(default_factory=list)     # of each restart: requested, ready
    restart_ms: list = dataclasses.field(default_factory=list)
    reasons: list = dataclasses.field(default_factory=list)
    samples: list = dataclasses.field(default_factory=list)
    figures: list = dataclasses.field(default_factory=list)     # printed for trials that passed, too
    tail: str = ""
    seconds: float = 0.0
    tries: int = 1

    def expect(self, holds, reason):
        if not holds:
            self.reasons.append(reason)

    def expect_in_time(self, holds, reason):
        """As expect, for a duration or a share of the processor. No request is lost if it fails."""
        self.expect(holds, Late(reason))

    @property
    def is_only_late(self):
        """May the trial run again? Never after a lost request or a cut or closed connection: one is a defect."""
        return bool(self.reasons) and all(isinstance(reason, Late) for reason in self.reasons)


def program(name):
    """The path of an installed program."""
    path = shutil.which(name, path=SYSTEM_PATH)
    if not path:
        raise Failure(f"{name} is not installed: run tests/servers/setup")
    return path


def await_until(condition, seconds, step=0.01):
    """Polls what gives no event, such as /proc, until it holds or the time is over. Returns what it saw last."""
    until = time.monotonic() + seconds
    while True:
        seen = condition()
        if seen or time.monotonic() >= until:
            return seen
        time.sleep(step)


class Room:
    """A trial's own directory and address."""

    used_ports = set()

    def __init__(self, name, unix=False):
        self.dir = tempfile.mkdtemp(prefix=f"cpr-{name}-")
        os.chmod(self.dir, 0o755)       # workers that are not root read it
        self.port = None if unix else self.free_port()
        self.host = "127.0.0.1"
        self.socket_path = self.path("server.sock") if unix else None

    def path(self, name):
        return os.path.join(self.dir, name)

    def write(self, name, text):
        with open(self.path(name), "w", encoding="utf-8") as file:
            file.write(text)
        return self.path(name)

    def directory(self, name):
        os.makedirs(self.path(name), exist_ok=True)
        return self.path(name)

    def leave(self):
        shutil.rmtree(self.dir, ignore_errors=True)

    @classmethod
    def free_port(cls):
        for port in PORTS:
            if port in cls.used_ports:
                continue
            for kind in (socket.SOCK_STREAM, socket.SOCK_DGRAM):
                with socket.socket(socket.AF_INET, kind) as probe:
                    if kind == socket.SOCK_STREAM:
                        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                    try:
                        probe.bind(("127.0.0.1", port))
                    except OSError:
                        break
            else:
                cls.used_ports.add(port)
                return port
        raise Failure("no free port")


class Server:
    """The server under test, in the foreground of a session of its own."""

    def __init__(self, command, room, options, stdout=None, cpr=(), before=(), pass_fds=()):
        self.room, self.log = room, room.path("output")
        if options.cpr_exec:
            command = [*before, options.cpr_exec, *cpr, "--", *command]
        self.began = time.monotonic()
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(command, cwd=room.dir, stdin=subprocess.DEVNULL, stdout=stdout or log,
                                            stderr=log, start_new_session=True, pass_fds=pass_fds)
        self.pid = self.process.pid

    def running(self):
        return self.process.poll() is None

    def require_running(self):
        code = self.process.poll()
        if code is not None:
            how = f"by {signal.Signals(-code).name}" if code < 0 else f"with status {code}"
            raise Failure(f"the server ended {how}")

    def await_ready(self):
        def accepts():
            self.require_running()
            return self._try_to_connect()
        if not await_until(accepts, READY_WITHIN, step=0.002):
            raise Failure(f"not listening after {READY_WITHIN:.0f} s")

    def await_answer(self, protocol):
        """The ms from the server's start to the end of its first answer."""
        question, judge = protocol(0)
        received = b""
        with self._probe() as probe:
            probe.connect(self._address())
            probe.sendall(question)
            while judge(received) is PENDING:
                data = probe.recv(65536)
                if not data:
                    raise Failure("the server's first answer is cut")
                received += data
        return int((time.monotonic() - self.began) * 1000)

    def _probe(self):
        family = socket.AF_INET6 if ":" in self.room.host else socket.AF_INET
        probe = socket.socket(socket.AF_UNIX if self.room.socket_path else family, socket.SOCK_STREAM)
        probe.settimeout(5)
        return probe

    def _address(self):
        return self.room.socket_path or (self.room.host, self.room.port)

    def _try_to_connect(self):
        with self._probe() as probe:
            return probe.connect_ex(self._address()) == 0

    def stop(self):
        """SIGTERM, after a time limit SIGKILL; then SIGKILL to the rest of the session. True: SIGTERM sufficed."""
        polite = True
        if self.running():
            self.process.terminate()
            try:
                self.process.wait(STOPPED_WITHIN)
            except subprocess.TimeoutExpired:
                polite = False
                self.process.kill()
                self.process.wait(STOPPED_WITHIN)
        for pid in proc.family(self.pid) - {self.pid}:
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                pass
        return polite

    def output(self):
        with open(self.log, encoding="utf-8", errors="replace") as log:
            return log.read()

    def tail(self):
        return "".join(self.output().splitlines(keepends=True)[-TAIL_LINES:])


class Load:
    """The load's process. Each method sends it one command and returns its counters."""

    def __init__(self, protocol, room):
        where = ["unix", room.socket_path] if room.socket_path else ["tcp", str(room.port)]
        command = [sys.executable, "-B", os.path.join(HERE, "load.py"), protocol, *where]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.process.stdout, selectors.EVENT_READ)

    def ask(self, command, patience=30.0):
        self.process.stdin.write(json.dumps(command).encode() + b"\n")
        self.process.stdin.flush()
        if not self.selector.select(patience):
            raise Failure(f"the load does not answer {command}")
        line = self.process.stdout.readline()
        if not line:
            raise Failure("the load ended")
        return json.loads(line)

    def progress(self, fresh, kept, within=20.0):
        """Waits until so many new requests of both kinds of client succeed; False: they did not in time."""
        command = {"do": "await", "fresh": fresh, "kept": kept, "within": within}
        return self.ask(command, within + 10)["done"]

    def everyone_served(self, within=20.0):
        """When the first client and when the last client got its first answer (CLOCK_MONOTONIC)."""
        answer = self.ask({"do": "everyone", "within": within}, within + 10)
        if not answer["done"]:
            raise Failure("not every client got an answer")
        return answer["first"], answer["last"]

    def pause(self):
        return self.ask({"do": "pause"})

    def resume(self):
        return self.ask({"do": "resume"})

    def end(self):
        self.process.stdin.close()      # the load ends at the end of its input
        try:
            self.process.wait(5)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()
        self.selector.close()
