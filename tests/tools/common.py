# SPDX-License-Identifier: MIT
"""What the tests of the tools share: running them, a server that knows nothing of cpr, files to look into."""
import contextlib
import os
import pathlib
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "tests/support"))     # of which all of them may import
BUILD = ROOT / os.environ.get("BUILD", "build")
EXEC, CTL = str(BUILD / "cpr-exec"), str(BUILD / "cprctl")
LIBRARY = str(BUILD / "libcpr.so")
PYTHON = "/usr/bin/python3"
PATIENCE = 20

tests = []


def test(function):
    tests.append(function)
    return function


# A server that knows nothing of cpr. What it does in a later generation, files in its directory say.
SERVER = """
import os, socket, sys, time
if os.path.exists("die"):
    sys.exit(3)
if os.path.exists("dawdle"):
    time.sleep(60)
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", int(sys.argv[1])))
listener.listen(5)
workers = int(sys.argv[2]) if len(sys.argv) > 2 and sys.argv[2].isdigit() else 0
for _ in range(workers):
    if os.fork() == 0:
        while True:
            time.sleep(60)
open("ready", "w").close()
while True:
    connection = listener.accept()[0]
    connection.sendall(b"hello\\n")
    connection.close()
"""


class Result:
    def __init__(self, done):
        self.status, self.out, self.err = done.returncode, done.stdout, done.stderr

    def __repr__(self):
        return f"status {self.status}\n  stdout: {self.out!r}\n  stderr: {self.err!r}"


def run(*command, **more):
    more.setdefault("timeout", 90)
    more.setdefault("errors", "surrogateescape")
    return Result(subprocess.run(command, capture_output=True, text=True, **more))


def expect(result, status, *patterns, where="err"):
    assert result.status == status, f"expected status {status}: {result!r}"
    for pattern in patterns:
        assert re.search(pattern, getattr(result, where)), f"expected {pattern!r} in std{where}: {result!r}"
    if where == "err" and status and patterns:
        assert result.out == "", f"nothing but stderr should speak: {result!r}"
    return result


def until(what, condition):
    deadline = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < deadline, f"waited {PATIENCE} s for {what}"
        time.sleep(0.005)


def until_handled(what, port, condition):
    """What a handler in Python does. It runs when accept() returns, and a signal that comes just before that call does
    not make it return: a client does."""
    def handled():
        if not condition():
            socket.create_connection(("127.0.0.1", port), timeout=10).close()
        return condition()
    until(what, handled)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class Server:
    """The server above, under cpr, in a directory of its own."""

    def __init__(self, *options, arguments=(), command=None, preexec=None, code=SERVER, exec=EXEC):
        self.directory = tempfile.mkdtemp(prefix="cpr-tools-")
        self.port = free_port()
        command = command or [PYTHON, "-c", code]
        self.process = subprocess.Popen(
            [exec, *options, "--", *command, str(self.port), *arguments], cwd=self.directory, preexec_fn=preexec,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.pid = str(self.process.pid)

    def __enter__(self):
        try:
            until("the server", lambda: self.has("ready") or self.process.poll() is not None)
            assert self.process.poll() is None, f"the server ended with {self.process.returncode}"
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        born = []
        if self.process.poll() is None:
            born = self.workers()
            self.process.kill()     # first: a supervisor starts another server for one that ends
        self.process.wait()
        for pid in born:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        until("its processes to end", lambda: not any(alive(pid) for pid in born))
        shutil.rmtree(self.directory)

    def workers(self):
        task = pathlib.Path(f"/proc/{self.pid}/task/{self.pid}/children")
        return [int(pid) for pid in task.read_text().split()]

    def has(self, name):
        return os.path.exists(os.path.join(self.directory, name))

    def touch(self, name):
        open(os.path.join(self.directory, name), "w").close()

    def serves(self):
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            return connection.recv(16) == b"hello\n"

    def restart(self, *more, **keywords):
        return run(CTL, "restart", self.pid, *more, **keywords)


def await_end(process):
    """Of one that was told to end; one that does not is killed."""
    try:
        process.wait(PATIENCE)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()


def alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def descriptors(pid):
    """{number: what it is}, without those that are closed meanwhile."""
    found = {}
    for name in os.listdir(f"/proc/{pid}/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/{pid}/fd/{name}")
        except FileNotFoundError:
            pass
    return found


def scratch():
    return tempfile.TemporaryDirectory(prefix="cpr-tools-")


def executable(directory, name, content):
    path = os.path.join(directory, name)
    with open(path, "wb") as file:
        file.write(content)
    os.chmod(path, 0o755)
    return path


def real_true():
    return pathlib.Path(os.path.realpath(shutil.which("true"))).read_bytes()
