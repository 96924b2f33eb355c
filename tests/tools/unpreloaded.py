# SPDX-License-Identifier: MIT
"""A static program in handover mode: its listeners, whatever their kind, go from generation to generation."""
import json
import os
import pathlib
import signal
import socket
import subprocess
import tempfile
import shutil

from common import CTL, EXEC, PATIENCE, await_end, expect, free_port, run, test, until

SOURCE = pathlib.Path(__file__).parent.parent / "programs" / "listeners.c"


class Static:
    """tests/programs/listeners.c, linked statically, under a supervisor."""

    def __init__(self, *words, options=()):
        self.directory = tempfile.mkdtemp(prefix="cpr-tools-")
        subprocess.run(["cc", "-static", "-O1", "-o", f"{self.directory}/listeners", str(SOURCE)], check=True)
        self.words = [word.replace("DIR", self.directory) for word in words]
        self.process = subprocess.Popen(
            [EXEC, "-m", "handover", *options, "--", f"{self.directory}/listeners", *self.words], cwd=self.directory,
            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.pid = str(self.process.pid)

    def __enter__(self):
        try:
            until("the first generation to be ready", lambda: self.is_up() or self.process.poll() is not None)
            assert self.process.poll() is None, self.process.stderr.read()
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.terminate()
        await_end(self.process)
        self.process.stderr.close()
        shutil.rmtree(self.directory)

    def is_up(self):
        said = run(CTL, "status", self.pid, "--json")
        return said.status == 0 and not json.loads(said.out).get("arriving", True)

    def status(self):
        return json.loads(run(CTL, "status", self.pid, "--json").out)

    def tags(self):
        return sorted((tag["tag"], tag["id"]) for tag in json.loads(run(CTL, "list", self.pid, "--json").out)["tags"])

    def hand_over(self):
        old = self.status()["server"]
        said = json.loads(expect(run(CTL, "restart", self.pid, "--json"), 0).out)
        until("the old generation to end", lambda: not os.path.exists(f"/proc/{old}"))
        assert said["server"] != old
        return said


def connect_to(word):
    kind, where = word.split(":", 1)
    sock = socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_INET,
                         socket.SOCK_DGRAM if kind == "udp" else socket.SOCK_STREAM)
    sock.settimeout(PATIENCE)
    sock.connect(where if kind == "unix" else ("127.0.0.1", int(where)))
    return sock


def answers(word):
    """The pid of the process that answers there."""
    with connect_to(word) as probe:
        if word.startswith("udp:"):
            probe.send(b"?")
        return int(probe.recv(32))


@test
def a_static_program_hands_over_every_kind_of_listener():
    port = free_port()
    with Static(f"tcp:{port}", f"udp:{port}", "unix:DIR/socket", "tcp:0") as server:
        tags = server.tags()
        assert [name for name, _ in tags] == sorted([f"tcp:127.0.0.1:{port}", f"udp:127.0.0.1:{port}",
                                                     f"unix:{server.directory}/socket", "tcp:127.0.0.1:0"]), tags
        for generation in (2, 3):
            said = server.hand_over()
            assert said["generation"] == generation and said["descriptors"] == 4, said
            assert server.tags() == tags
            for word in server.words[:3]:
                assert answers(word) == said["server"], word


@test
def a_static_program_s_group_of_listeners_keeps_its_ids():
    word = f"reuse:{free_port()}"
    with Static(word, word, word) as server:
        tags = server.tags()
        assert [number for _, number in tags] == [0, 1, 2], tags
        said = server.hand_over()
        assert server.tags() == tags
        for _ in range(16):
            assert answers(word) == said["server"]


@test
def a_static_program_s_clients_see_no_reset():
    """It ends with a request that it has not read: close(2) alone would send RST."""
    word = f"hold:{free_port()}"
    with Static(word) as server:
        with socket.create_connection(("127.0.0.1", int(word[5:])), timeout=PATIENCE) as client:
            assert int(client.recv(32)) == server.status()["server"]
            client.sendall(b"one more, as the server leaves")
            server.hand_over()
            assert client.recv(32) == b""


@test
def a_static_program_that_waits_for_its_predecessor_s_lock_is_handed_over():
    """It listens first, and says READY=1 when it has the lock: not before the old one has ended."""
    word = f"tcp:{free_port()}"
    with Static(word, "lock:DIR/data") as server:
        for _ in range(2):
            old = server.status()["server"]
            expect(run(CTL, "restart", server.pid), 0, "data is locked by the old generation")
            until("the old generation to end", lambda: not os.path.exists(f"/proc/{old}"))
            assert answers(word) == server.status()["server"] != old


@test
def a_static_program_may_open_a_listener_again():
    word = f"tcp:{free_port()}"
    with Static(word) as server:
        child = server.status()["server"]
        os.kill(child, signal.SIGHUP)
        assert answers(word) == child
        server.hand_over()


@test
def a_static_program_that_dies_is_started_again():
    word = f"tcp:{free_port()}"
    with Static(word, "unix:DIR/socket") as server:
        child = server.status()["server"]
        os.kill(child, signal.SIGKILL)
        assert answers(server.words[0]) != child and answers(server.words[1]) != child


@test
def a_static_program_s_bad_next_generation_changes_nothing():
    word = f"tcp:{free_port()}"
    with Static(word) as server:
        child = server.status()["server"]
        expect(run(CTL, "restart", server.pid, "--exec", "/bin/false"), 1, "ended with status 1 before it was ready")
        assert server.status()["server"] == child and answers(word) == child
        server.hand_over()


@test
def a_static_program_s_sockets_are_removed_at_the_end():
    with Static("unix:DIR/socket") as server:
        server.hand_over()
        assert os.path.exists(f"{server.directory}/socket")
        server.process.terminate()
        server.process.wait(PATIENCE)
        assert not os.path.exists(f"{server.directory}/socket")
