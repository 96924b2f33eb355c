# SPDX-License-Identifier: MIT
"""Every process may have 430 descriptors, and 400 clients are idle: a restart carries them in batches."""

import dataclasses
import json
import os
import socket

from handover import Scene, children, cprctl, restart, trial
from harness import Room, Server
from protocols import PATH
from setups import ROOT, SETUPS, nginx_command

DESCRIPTORS = 430
CLIENTS = 400
PATIENCE = 10
RESTARTS = 2
LIMITED = ("prlimit", f"--nofile={DESCRIPTORS}:{DESCRIPTORS}")
NOBODY = ("setpriv", "--reuid=65534", "--regid=65534", "--clear-groups")
EMFILE = "Too many open files"


class Idle:
    """A client that has asked once, and keeps its connection."""

    def __init__(self, port):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.file = self.sock.makefile("rb")
        self.ask()

    def ask(self):
        self.sock.sendall(b"GET " + PATH.encode() + b" HTTP/1.1\r\nHost: x\r\n\r\n")
        line, length = self.file.readline(), 0
        assert line, "the connection is closed"
        assert line.startswith(b"HTTP/1.1 "), f"answered {line!r}"
        while head := self.file.readline().strip():
            name, _, value = head.partition(b":")
            length = int(value) if name.lower() == b"content-length" else length
        assert len(self.file.read(length)) == length, "the answer is cut"

    def close(self):
        self.file.close()
        self.sock.close()


def limit_of(pid):
    with open(f"/proc/{pid}/limits", encoding="ascii") as text:
        return next(int(line.split()[3]) for line in text if line.startswith("Max open files"))


def ask_all(result, clients, when):
    wrong = []
    for client in clients:
        try:
            client.ask()
        except (AssertionError, OSError) as error:
            wrong.append(f"{type(error).__name__}: {error}")
    result.expect(not wrong, f"{when}: {len(wrong)} of {len(clients)} are not answered, the first: {wrong[:1]}")


def look_at_limits(result, pids):
    for pid in pids:
        result.expect(limit_of(pid) == DESCRIPTORS, f"{pid} may have {limit_of(pid)} descriptors")


def look_at_output(result, server):
    said = [line for line in server.output().splitlines() if EMFILE in line]
    result.expect(not said, f"{len(said)} lines like {said[:1]}")


def hand_over(name, prepare, before=LIMITED):
    @trial(f"handover-few-descriptors-{name}")
    def run(options, result):
        """The old generation, the supervisor and the next generation have the limit."""
        setup = dataclasses.replace(SETUPS["nginx-single"], name=f"few-{name}",
                                    prepare=lambda room: prepare(room, options))
        with Scene(setup, options, result, loaded=False, before=before) as scene:
            processes, clients = len(children(scene.server.pid)), [Idle(scene.room.port) for _ in range(CLIENTS)]
            for number in range(1, RESTARTS + 1):
                look_at_limits(result, {scene.server.pid, *children(scene.server.pid)})
                said, _ = restart(options, scene.server)
                result.restarts = number
                result.expect(said["generation"] == number + 1, f"generation {said['generation']}")
                result.expect(scene.settles(processes), "the old generation still runs: not all are carried")
                ask_all(result, clients, f"after handover {number}")
            look_at_limits(result, {scene.server.pid, *children(scene.server.pid)})
            look_at_output(result, scene.server)
            for client in clients:
                client.close()


@trial("exec-few-descriptors")
def in_place(options, result):
    """The same in exec mode: they stay in the one process, which finds numbers for them and for the knocks."""
    room = Room("few-exec")
    server = Server(httpd(room, options), room, options, before=LIMITED)
    try:
        server.await_ready()
        clients = [Idle(room.port) for _ in range(CLIENTS)]
        for number in range(1, RESTARTS + 1):
            look_at_limits(result, {server.pid})
            said = json.loads(cprctl(options, "restart", str(server.pid), "--json").stdout)
            result.restarts = number
            result.expect((said["carried"], said["cut"]) == (CLIENTS, 0), f"restarted: {said}")
            ask_all(result, clients, f"after restart {number}")
        look_at_output(result, server)
        for client in clients:
            client.close()
    finally:
        server.stop()
        result.tail = server.tail()
        room.leave()


def httpd(room, options):
    return [os.path.join(os.path.dirname(options.cpr_exec), "tests/programs/httpd"), str(room.port)]


def nginx(room, _):
    return nginx_command(room, "master_process off;", connections=DESCRIPTORS)


hand_over("httpd", httpd)
hand_over("nginx", nginx)
if ROOT:    # nobody has no right to go beyond its limit of descriptors that are on their way
    hand_over("nobody", httpd, (*LIMITED, *NOBODY))
