# SPDX-License-Identifier: MIT
"""cpr-exec --adopt: a server whose supervisor was killed has one again."""
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile

from common import CTL, EXEC, PATIENCE, PYTHON, SERVER, Server, alive, executable, expect, run, scratch, test, until
from reexec import Load
from supervise import HOLDING, Supervised

# It execs itself at SIGHUP.
EXECING = SERVER.replace("listener =", "import signal\nsignal.signal(signal.SIGHUP, "
                         "lambda *_: os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]]))\nlistener =", 1)

# A master with two workers, which accept on its listener.
PREFORK = SERVER.replace('open("ready", "w").close()\nwhile True:', '''for _ in range(2):
    if os.fork() == 0:
        break
else:
    open("ready", "w").close()
    os.wait()
while True:''')


class Orphaned(Supervised):
    """Its supervisor is killed at once; adopt() gives it another one."""

    def __enter__(self):
        super().__enter__()
        self.child = self.status()["server"]
        self.started = self.family()  # its workers too, which nothing else would end
        self.end_supervisor()
        return self

    def end_supervisor(self):
        self.process.kill()
        self.process.wait()

    def adopt(self, *options, directory="/"):
        self.process = subprocess.Popen([EXEC, "--adopt", str(self.child), *options], cwd=directory,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
                                        text=True)
        self.pid = str(self.process.pid)
        until("it to be adopted", lambda: self.process.poll() is not None or self.is_supervisor())
        assert self.process.poll() is None, f"{self.process.returncode}: {self.process.stderr.read()}"

    def is_supervisor(self):
        return run(CTL, "status", self.pid).status == 0 and self.status().get("server") == self.child

    def __exit__(self, *_):
        super().__exit__()
        if self.process.stderr:
            self.process.stderr.close()
        for pid in self.started:
            if alive(pid):
                os.kill(pid, signal.SIGKILL)


def adopted_server_is_handed_over(code):
    with Orphaned(code=code) as server, Load(server.port):
        server.adopt()
        status = server.status()
        assert status["generation"] == 1 and status["descriptors"] == 1 and status["command"].startswith(PYTHON), status
        assert status["directory"] == server.directory, status
        expect(server.restart(), 0, rf"^restarted {server.pid}: generation 2, 1 descriptor, ", where="out")
        second = server.status()["server"]
        assert second != server.child
        until("the adopted generation to end", lambda: not alive(server.child))
        assert os.readlink(f"/proc/{second}/cwd") == server.directory
        assert server.restart().status == 0


@test
def an_adopted_server_is_handed_over():
    adopted_server_is_handed_over(SERVER)


@test
def adopted_workers_are_handed_over():
    adopted_server_is_handed_over(PREFORK)


@test
def an_adopted_server_that_execs_itself_belongs_to_its_adopter():
    """Its environment still names the supervisor that was killed: without one it would end with its last connection."""
    with Orphaned(code=EXECING) as server:
        server.adopt()
        os.unlink(os.path.join(server.directory, "ready"))
        os.kill(server.child, signal.SIGHUP)
        until("its next image", lambda: server.has("ready"))
        own = json.loads(run(CTL, "status", str(server.child), "--json").out)
        assert own["supervisor"] == server.process.pid, own
        expect(server.restart(), 0, rf"^restarted {server.pid}: generation \d, 1 descriptor, ", where="out")
        assert server.serves() and server.status()["server"] != server.child


@test
def an_adopted_generation_drains_and_comes_back():
    """It does not end by itself for its first supervisor, which is dead."""
    with Orphaned(code=HOLDING) as server:
        server.adopt("--rollback", "60")
        with socket.create_connection(("127.0.0.1", server.port)) as long:
            assert long.recv(16) == b"hello\n"
            assert server.restart().status == 0
            second = server.status()["server"]
            said = rf"generation 1, PID {server.child}, serves again"
            expect(run(CTL, "rollback", server.pid), 0, said, where="out")
            assert server.serves() and server.status()["server"] == server.child
            until("the second one to end", lambda: not alive(second))
            assert server.restart().status == 0 and alive(server.child)


@test
def what_an_adopted_server_was_started_with_goes_on():
    """A descriptor, an environment, and sockets that a manager gave to the process of that number."""
    code = SERVER.replace("if os.path", 'os.write(9, (os.environ["WORD"] + "\\n").encode())\n'
                          'assert os.environ["LISTEN_PID"] == str(os.getpid())\nif os.path', 1)
    with scratch() as directory:
        wrap = f'#!/bin/sh\nexport WORD=$$ LISTEN_PID=$$\nexec 9>>{directory}/words\nexec {EXEC} "$@"\n'
        with Orphaned(code=code, exec=executable(directory, "wrap", wrap.encode())) as server:
            first = server.pid
            server.adopt()
            assert server.restart().status == 0 and server.serves()
            assert pathlib.Path(directory, "words").read_text().split() == [first, first]


@test
def an_adopted_server_that_crashes_is_started_again():
    with scratch() as directory:
        path = os.path.join(directory, "pid")
        with Orphaned("-p", path) as server:
            server.adopt("-p", path)
            assert pathlib.Path(path).read_text().strip() == server.pid
            os.kill(server.child, signal.SIGKILL)
            until("it to be started again", lambda: server.status().get("server", 0) not in (0, server.child))
            assert server.serves()
            family = server.family()
            server.process.terminate()
            assert server.process.wait(PATIENCE) == -signal.SIGTERM
            assert not os.path.exists(path) and not [pid for pid in family if alive(pid)]


@test
def an_adopted_server_ends_with_its_supervisor():
    with Orphaned() as server:
        server.adopt()
        server.process.terminate()
        assert server.process.wait(PATIENCE) == 0  # how it ended, only its parent hears
        assert not alive(server.child)


@test
def an_adopter_can_be_replaced_and_killed_as_well():
    with Orphaned() as server:
        server.adopt()
        expect(run(CTL, "reexec", server.pid), 0)
        server.end_supervisor()
        server.process.stderr.close()
        assert server.serves()
        server.adopt()
        assert server.restart().status == 0 and server.serves()


@test
def what_cannot_be_adopted_is_refused_and_goes_on():
    with Supervised() as server:
        child = server.status()["server"]
        refused = f"PID {child} still has its supervisor, PID {server.pid}: cprctl restart {server.pid}"
        expect(run(EXEC, "--adopt", str(child)), 1, refused)
        expect(run(EXEC, "--adopt", server.pid), 1, f"PID {server.pid} is a supervisor itself")
        assert server.status()["server"] == child and server.restart().status == 0
    with Server() as server:
        expect(run(EXEC, "--adopt", server.pid), 1, f"PID {server.pid} is in exec mode, and needs no supervisor")
        assert server.serves()
    with subprocess.Popen(["sleep", "60"]) as stranger:
        expect(run(EXEC, "--adopt", str(stranger.pid)), 1, f"PID {stranger.pid} is not under cpr")
        stranger.kill()
    expect(run(EXEC, "--adopt", str(stranger.pid)), 1, f"no process has the PID {stranger.pid}")
    expect(run(EXEC, "--adopt", "0"), 2, '--adopt "0" is too small')
    expect(run(EXEC, "--adopt", "1", "true"), 2, "--adopt takes no command")
    with Orphaned(code=PREFORK) as server:
        task = pathlib.Path(f"/proc/{server.child}/task/{server.child}/children")
        worker = task.read_text().split()[0]
        expect(run(EXEC, "--adopt", worker), 1, f"PID {worker} is a worker of PID {server.child}: adopt that one")
        if not os.geteuid():
            tools = tempfile.mkdtemp(prefix="cpr-tools-")  # where a stranger may read it
            os.chmod(tools, 0o755)
            shutil.copy2(EXEC, tools)
            stranger = run(os.path.join(tools, "cpr-exec"), "--adopt", str(server.child), user="nobody")
            expect(stranger, 1, f"PID {server.child} belongs to ")
            shutil.rmtree(tools)
        assert server.serves()


@test
def adopt_does_not_believe_a_server_that_has_given_up_the_rights_it_claims():
    """Root would start what it names, as root."""
    if os.geteuid():
        return
    with Orphaned(code=SERVER.replace('.close()\nwhile', '.close()\nos.setuid(65534)\nwhile', 1)) as server:
        refused = run(EXEC, "--adopt", str(server.child))
        assert refused.status == 1 and "user 0 has started it, and runs as user 65534" in refused.err, refused
