# SPDX-License-Identifier: MIT
"""Each phase of a handover, and what may befall the supervisor and either generation in it."""
import json
import os
import pathlib
import signal
import socket
import statistics
import subprocess
import time

from common import CTL, PATIENCE, SERVER, Server, alive, expect, run, test, until
import ring
from supervise import HOLDING, Supervised


ANSWERED_S = 0.2

# It starts for as long as the file "dawdle" is there.
DAWDLING = HOLDING.replace('if os.path.exists("dawdle"):\n    time.sleep(60)',
                           'while os.path.exists("dawdle"):\n    time.sleep(0.005)')
# A check that takes as long as the file "check" is there.
CHECK = "touch checking; while test -e check; do sleep 0.01; done"


def is_python(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/comm").read_text().startswith("python")
    except OSError:
        return False


class Handover(Supervised):
    """A server in the middle of a restart, which a thread of cprctl waits for."""

    def __init__(self, *options):
        super().__init__(*options, code=DAWDLING)
        self.asking, self.old, self.seen = None, 0, 0

    def __enter__(self):
        super().__enter__()
        self.old = self.status()["server"]
        return self

    def ask(self):
        self.asking = subprocess.Popen([CTL, "restart", self.pid, "--timeout", "20"], stdout=subprocess.DEVNULL,
                                       stderr=subprocess.PIPE, text=True)

    def new(self):
        """The server's process that is not the old one; 0: there is none. A check has processes too."""
        others = [pid for pid in self.family() - {self.old} if is_python(pid)]
        return others[0] if others else 0

    def remove(self, name):
        os.remove(os.path.join(self.directory, name))

    def __exit__(self, *_):
        if alive(self.old):
            os.kill(self.old, signal.SIGCONT)
        super().__exit__()
        if self.asking:
            self.asking.communicate(timeout=PATIENCE)


def giving(server):
    """The old one is stopped, and gives nothing."""
    os.kill(server.old, signal.SIGSTOP)
    server.ask()
    until("the restart to begin", lambda: server.status()["arriving"])


def starting(server):
    server.touch("dawdle")
    server.ask()
    until("the next generation", server.new)


def checking(server):
    server.touch("check")
    server.ask()
    until("the health check", lambda: server.has("checking"))


def closing(server):
    """The old one is stopped before it closes its gate: for a second and a half the supervisor waits for it."""
    checking(server)
    server.seen = server.new()  # to look for it then would take too much of that
    os.kill(server.old, signal.SIGSTOP)
    server.remove("check")


def draining(server):
    server.long = socket.create_connection(("127.0.0.1", server.port))
    assert server.long.recv(16) == b"hello\n"
    assert server.restart().status == 0


def kept(server):
    assert server.restart().status == 0


PHASES = {
    giving: (),
    starting: (),
    checking: ("--ready-command", CHECK),
    closing: ("--ready-command", CHECK),
    draining: (),
    kept: ("--rollback", "60"),
}


def in_each_phase(act, but=()):
    for phase, options in PHASES.items():
        if phase in but:
            continue
        with Handover(*options) as server:
            phase(server)
            try:
                act(server)
            except AssertionError as error:
                raise AssertionError(f"{phase.__name__}: {error}") from error
            finally:
                if phase is draining:
                    server.long.close()


def go_on(server):
    """What holds the handover up is over."""
    for name in "dawdle", "check":
        if server.has(name):
            server.remove(name)


@test
def sigterm_in_each_phase_leaves_no_process():
    def act(server):
        family = server.family()
        server.process.terminate()
        assert server.process.wait(PATIENCE) in (-signal.SIGTERM, 0)
        until("what it has killed to end", lambda: not [pid for pid in family if alive(pid)])

    in_each_phase(act)


@test
def the_new_one_serves_when_the_old_one_is_killed_in_any_phase():
    def act(server):
        new = server.seen or server.new()
        os.kill(server.old, signal.SIGKILL)
        until("it to end", lambda: not alive(server.old))
        go_on(server)
        assert server.serves()
        until("the new one to serve", lambda: server.status().get("server", 0) == (new or server.new()))

    in_each_phase(act)


@test
def the_old_one_serves_when_the_new_one_is_killed_in_any_phase():
    def act(server):
        new = server.seen or server.new()
        os.kill(new, signal.SIGKILL)
        if alive(server.old):
            os.kill(server.old, signal.SIGCONT)
        until("it to end", lambda: not alive(new))
        assert server.serves()
        until("it to be seen", lambda: server.status().get("server", 0) not in (0, new))

    in_each_phase(act, but=(giving,))  # there is no new one yet


def status_takes(server, seconds):
    """The median, in so many seconds or until the restart is over: one alone may wait for a processor."""
    end, took = time.monotonic() + seconds, []
    while time.monotonic() < end and (not took or server.asking.poll() is None):
        began = time.monotonic()
        assert run(CTL, "status", server.pid).status == 0
        took.append(time.monotonic() - began)
    return statistics.median(took)


@test
def status_is_answered_while_a_generation_is_stopped():
    for phase in giving, closing:
        with Handover(*PHASES[phase]) as server:
            phase(server)
            took = status_takes(server, 1)
            assert took < ANSWERED_S, f"{phase.__name__}: {took * 1000:.0f} ms"
            began = time.monotonic()
            server.process.terminate()
            server.process.wait(PATIENCE)
            assert time.monotonic() - began < 4 and not alive(server.old), phase.__name__


# Its child shares nothing with it, and it waits for that one in the kernel, where it does not stop.
VFORKING = SERVER.replace("    connection = listener.accept()[0]", """    connection = listener.accept()[0]
    import ctypes
    clone, CLONE_VFORK, SIGCHLD = 56 if os.uname().machine == "x86_64" else 220, 0x4000, 17
    if ctypes.CDLL(None).syscall(clone, CLONE_VFORK | SIGCHLD, 0, 0, 0, 0) == 0:
        open("waits", "w").close()
        time.sleep(1)
        os._exit(0)""")


@test
def status_is_answered_when_the_server_stops_while_it_is_asked():
    with Supervised(code=VFORKING) as server:
        child = server.status()["server"]
        with socket.create_connection(("127.0.0.1", server.port)):
            until("it to wait for its child", lambda: server.has("waits"))
        os.kill(child, signal.SIGSTOP)
        began = time.monotonic()
        assert run(CTL, "status", server.pid).status == 0
        assert 0.5 < time.monotonic() - began < 4, f"{time.monotonic() - began:.1f} s"


@test
def status_asks_no_process_of_another_server():
    with Server() as other, Server(arguments=("2",)) as server:
        os.kill(int(other.pid), signal.SIGSTOP)
        began = time.monotonic()
        assert json.loads(run(CTL, "status", server.pid, "--json").out)["workers"] == 2
        assert time.monotonic() - began < 0.9, f"{time.monotonic() - began:.1f} s"


@test
def what_is_held_counts_while_it_is_taken_anew():
    """The owner has given its listener, and a worker that is stopped is waited for."""
    with Supervised(arguments=("1",)) as server:
        worker, = server.family() - {server.status()["server"]}
        os.kill(worker, signal.SIGSTOP)
        asking = subprocess.Popen([CTL, "restart", server.pid], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        seen = []
        while asking.poll() is None and len(seen) < 200:
            fields = ring.ask(int(server.pid), ring.STATUS, PATIENCE)
            seen += [fields["descriptors"]] if fields["arriving"] == "1" else []
        os.kill(worker, signal.SIGCONT)
        asking.wait(PATIENCE)
        assert len(seen) > 10 and set(seen) == {"1"}, seen


class Starting(Supervised):
    """Its server listens, and takes no client before it is let go."""

    def __init__(self):
        wait = 'open("bound", "w").close()\nwhile not os.path.exists("go"):\n    time.sleep(0.005)\nopen("ready"'
        super().__init__(code="import time\n" + SERVER.replace('open("ready"', wait, 1))

    def __enter__(self):
        until("the listener", lambda: self.has("bound"))
        return self


@test
def a_restart_waits_for_the_start_that_is_under_way():
    """One whose caller gives up meanwhile is not made."""
    with Starting() as server:
        expect(server.restart("--timeout", "1"), 4, "is starting still, and is not restarted after 1 s")
        asking = subprocess.Popen([CTL, "restart", server.pid], stderr=subprocess.PIPE, text=True)
        expect(server.restart("--dry-run"), 0)
        assert asking.poll() is None and server.status()["generation"] == 1
        server.touch("go")
        assert asking.wait(PATIENCE) == 0, asking.stderr.read()
        assert server.status()["generation"] == 2
        assert server.serves()
