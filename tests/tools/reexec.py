# SPDX-License-Identifier: MIT
"""cprctl reexec: a supervisor goes on as its own new version, or as it is."""
import http.client
import json
import os
import pathlib
import shutil
import signal
import socket
import subprocess
import tempfile
import threading

from common import (BUILD, CTL, PATIENCE, PYTHON, SERVER, Server, alive, descriptors, executable, expect, free_port,
                    run, scratch, test, until)
from fdstore import Manager, ask
from supervise import HOLDING, Supervised
from unpreloaded import Static, answers


class Upgradable(Supervised):
    """Its cpr-exec is a copy, which a test can replace."""

    def __init__(self, *options, code=SERVER, **more):
        self.tools = tempfile.mkdtemp(prefix="cpr-tools-")
        self.file = os.path.join(self.tools, "cpr-exec")
        for name in "cpr-exec", "libcpr.so":
            shutil.copy2(BUILD / name, self.tools)
        super().__init__(*options, code=code, exec=self.file, **more)

    def __exit__(self, *_):
        super().__exit__()
        shutil.rmtree(self.tools)

    def install(self, content):
        executable(self.tools, "next", content)
        os.rename(os.path.join(self.tools, "next"), self.file)

    def install_version(self, version):
        """The same program, which says another version."""
        ours = run(self.file, "--version").out.split()[1]
        assert len(ours) == len(version)
        whole = pathlib.Path(BUILD, "cpr-exec").read_bytes()
        self.install(whole.replace(ours.encode() + b"\0", version.encode() + b"\0"))

    def reexec(self, *more):
        return run(CTL, "reexec", self.pid, *more)

    def descriptors(self):
        return len(os.listdir(f"/proc/{self.pid}/fd"))


class Load:
    """Clients one after the other, until the end: each must be answered."""

    def __init__(self, port):
        self.port, self.done, self.count, self.wrong = port, False, 0, None

    def __enter__(self):
        self.thread = threading.Thread(target=self.run)
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.done = True
        self.thread.join()
        assert not self.wrong and self.count, f"{self.count} were answered, and then {self.wrong!r}"

    def run(self):
        while not self.done and not self.wrong:
            try:
                with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as client:
                    said = client.recv(16)
                if said != b"hello\n":
                    self.wrong = said
            except OSError as error:
                self.wrong = error
            self.count += 1


@test
def reexec_goes_on_as_the_new_version():
    """With an old generation that drains, under load; a handover, a crash and the end follow it."""
    with scratch() as directory:
        path = os.path.join(directory, "pid")
        with Upgradable("-p", path, code=HOLDING) as server:
            first = server.status()["server"]
            with socket.create_connection(("127.0.0.1", server.port)) as long, Load(server.port):
                assert long.recv(16) == b"hello\n"
                assert server.restart().status == 0
                second = server.status()["server"]
                server.install_version("9.9.9")
                said = rf"^reexecuted {server.pid}: version 9.9.9, generation 2 serves, 1 descriptor, 1 draining, "
                expect(server.reexec(), 0, said, where="out")
                status = server.status()
                assert status["version"] == "9.9.9" and status["server"] == second, status
                assert status["generation"] == 2 and status["restarts"] == 1, status
                assert alive(first) and server.process.poll() is None
                assert server.restart().status == 0 and server.status()["generation"] == 3
                assert alive(first)
            until("the first generation to end with its last connection", lambda: not os.path.exists(f"/proc/{first}"))
            third = server.status()["server"]
            os.kill(third, signal.SIGKILL)
            until("it to be started again", lambda: server.status().get("server", 0) not in (0, third))
            until("what it holds to be known", lambda: server.status()["descriptors"] > 0)
            assert server.serves()
            expect(run(server.file, "-m", "handover", "-p", path, "true"), 1, f"already running as PID {server.pid}")
            family = server.family()
            server.process.terminate()
            assert server.process.wait(PATIENCE) == -signal.SIGTERM
            assert not os.path.exists(path) and not [pid for pid in family if alive(pid)]


# Shows the real one a state of another version.
OTHER_STATE = f"""#!{PYTHON}
import fcntl, os, sys
fd = int(sys.argv[1].split("=")[1])
state = os.pread(fd, 1 << 20, 0)
assert state.startswith(b"cpr supervisor 1")
changed = os.memfd_create("state", os.MFD_ALLOW_SEALING)
os.write(changed, state.replace(b"cpr supervisor 1", b"cpr supervisor 7", 1))
fcntl.fcntl(changed, fcntl.F_ADD_SEALS, 15)
os.set_inheritable(changed, True)
os.execv("{BUILD}/cpr-exec", ["cpr-exec", f"--resume={{changed}}", *sys.argv[2:]])
"""
HALF_STATE = OTHER_STATE.replace("7", "1").replace("state.replace", "state[:-9].replace")


@test
def reexec_of_what_does_not_run_changes_nothing():
    whole = pathlib.Path(BUILD, "cpr-exec").read_bytes()
    bad = {
        "garbage": (b"garbage\0\1\2", "cannot take over: Exec format error"),
        "another architecture": (whole[:18] + b"\x08\x00" + whole[20:], "cannot take over: Exec format error"),
        "a program that is no cpr-exec": (b"#!/bin/sh\nexit 3\n", "cannot take over: it ended with status 3"),
        "one that hangs": (b"#!/bin/sh\nexec sleep 60\n", "gave no answer in 5 s"),
        "one without this option": (b"#!/bin/sh\necho no such option >&2\nexit 2\n", "over: no such option"),
        "one that knows another state": (OTHER_STATE.encode(), "over: .*of a version that this cpr-exec does not know"),
        "one that finds half of it": (HALF_STATE.encode(), "cannot take over: .*it is cut off"),
    }
    with Upgradable() as server:
        first, before = server.status()["server"], server.descriptors()
        for what, (content, reason) in bad.items():
            server.install(content)
            expect(server.reexec(), 1, reason)
            assert server.status()["server"] == first and server.serves(), what
        os.remove(server.file)
        expect(server.reexec(), 1, "cpr-exec: No such file or directory")
        shutil.copy2(BUILD / "cpr-exec", server.file)
        os.rename(os.path.join(server.tools, "libcpr.so"), os.path.join(server.tools, "gone"))
        expect(server.reexec(), 1, "libcpr.so is neither beside this tool")
        os.rename(os.path.join(server.tools, "gone"), os.path.join(server.tools, "libcpr.so"))
        until("its line to cprctl to be closed", lambda: server.descriptors() == before)
        assert server.restart().status == 0 and server.reexec().status == 0 and server.serves()


@test
def nothing_grows_over_reexecs():
    with Upgradable() as server:
        first = server.descriptors()
        for _ in range(20):
            said = json.loads(server.reexec("--json").out)
            assert said["pid"] == int(server.pid) and said["generation"] == 1 and said["descriptors"] == 1, said
        until("its line to cprctl to be closed", lambda: server.descriptors() == first)
        assert server.restart().status == 0 and server.serves()
        targets = descriptors(server.status()["server"]).values()
        assert targets and not any("supervisor" in target for target in targets), targets


@test
def reexec_keeps_the_way_back():
    with Upgradable("--rollback", "60", "--ready-command", "true") as server:
        first = server.status()["server"]
        assert server.restart().status == 0 and server.status()["server"] != first
        assert server.reexec().status == 0
        expect(run(CTL, "rollback", server.pid), 0, rf"generation 1, PID {first}, serves again", where="out")
        assert server.status()["server"] == first and server.serves()


@test
def reexec_keeps_an_eye_on_files():
    with scratch() as directory:
        path = pathlib.Path(directory, "conf")
        path.write_text("one")
        with Upgradable("--watch", str(path)) as server:
            assert server.reexec().status == 0
            path.write_text("something else")
            until("the restart", lambda: server.status()["generation"] == 2)
            assert server.serves()


@test
def reexec_keeps_what_a_static_program_has():
    port = free_port()
    with Static(f"tcp:{port}", f"udp:{port}") as server:
        tags = server.tags()
        expect(run(CTL, "reexec", server.pid), 0)
        assert server.tags() == tags and answers(f"tcp:{port}") == server.status()["server"]
        said = server.hand_over()
        assert said["generation"] == 2 and server.tags() == tags
        assert answers(f"tcp:{port}") == answers(f"udp:{port}") == said["server"]


@test
def reexec_keeps_the_managers_store():
    with Manager() as manager:
        manager.start()
        manager.until("the listener to be stored", lambda: manager.names() == ["cpr-kept", "cpr-state"])
        client = http.client.HTTPConnection("127.0.0.1", manager.port, timeout=PATIENCE)
        first = ask(client)[1]
        expect(run(CTL, "reexec", str(manager.process.pid)), 0)
        manager.stop()
        assert manager.names() == ["cpr-carried", "cpr-kept", "cpr-state"], manager.store
        sock = client.sock
        manager.start()
        assert ask(client)[1] != first and client.sock is sock


@test
def reexec_waits_for_no_restart():
    with Upgradable() as server:
        server.touch("dawdle")
        asking = subprocess.Popen([CTL, "restart", server.pid], stderr=subprocess.DEVNULL)
        until("the next generation", lambda: len(server.family()) == 2)
        expect(server.reexec(), 1, "a restart is under way")
        server.process.terminate()
        asking.wait(PATIENCE)


@test
def reexec_is_for_supervisors():
    with Server() as server:
        expect(run(CTL, "reexec", server.pid), 3, f"PID {server.pid} has no supervisor")
