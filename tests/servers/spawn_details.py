# SPDX-License-Identifier: MIT
"""The trial of workers that are exec'ed with the listener, and of programs that inherit a listener at their start."""

import os
import socket
import subprocess

import proc
from details import Bench, run_checks
from exec_workers import CHECKS as SHARED, CLIENTS, asked, serving
from harness import Server, await_until
from setups import python

SCRIPT = "spawning.py"


def worker_restarts_by_itself(result, options):
    """A worker restarts alone: it has its inherited descriptors again, and its siblings serve on. A worker's verbs
    reach no other process."""
    with serving(result, options, SCRIPT) as bench:
        _, old = asked(bench)
        worker = min(old)
        image = proc.stack(worker)
        subprocess.run([options.cprctl, "restart", str(worker)], capture_output=True, timeout=20, check=True)
        result.expect(await_until(lambda: proc.stack(worker) not in (None, image), 5), "the worker does not restart")
        for _ in range(4 * CLIENTS):
            client = bench.client()
            result.expect(int(client.ask("/")) in proc.family(bench.pid), "a wrong answer")
            client.close()


def activated(room, options, listener):
    os.set_inheritable(listener.fileno(), True)
    return Server(python(SCRIPT, "serve", str(listener.fileno())), room, options, pass_fds=[listener.fileno()])


def started_with_its_listener(result, options):
    """Socket activation: connections of an inherited listener are carried like those of the program's own."""
    with Bench(result, options, "activated", lambda room: ["true"]) as bench, socket.socket() as listener:
        bench.server.stop()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(("127.0.0.1", bench.room.port))
        listener.listen(64)
        bench.server = activated(bench.room, options, listener)
        clients = [bench.client() for _ in range(CLIENTS)]
        for client in clients:
            client.ask("/")
        for _ in range(3):
            said = bench.restart()
            result.expect((said["carried"], said["cut"]) == (CLIENTS, 0),
                          f"{CLIENTS} idle clients, and cprctl says {said}")
            for client in clients:
                result.expect(int(client.ask("/")) == bench.pid, "a wrong answer")


CHECKS = [(check, SCRIPT) for check in SHARED] + [(worker_restarts_by_itself,), (started_with_its_listener,)]


def run(options):
    return run_checks("spawn-details", CHECKS, options)


TRIALS = {"spawn-details": run}
