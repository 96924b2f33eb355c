# SPDX-License-Identifier: MIT
"""What must hold for servers that exec their workers: those that accept (spawning.py), and those that get their
connections by message (handing.py)."""

import os
import sys

import proc
from details import Bench
from drain_details import copied
from harness import HERE, await_until

WORKERS = 2
CLIENTS = 8


def serving(result, options, script):
    """A bench that runs the script. Its interpreter is a copy, so that a check can take its execute permission away."""
    def prepare(room):
        interpreter = copied(room, os.path.realpath(sys.executable))
        return [interpreter, "-B", os.path.join(HERE, script), "127.0.0.1", str(room.port)]
    bench = Bench(result, options, script.removesuffix(".py"), prepare)
    bench.server.await_ready()
    return bench


def workers_of(bench):
    """The workers, once the old ones have ended."""
    await_until(lambda: len(proc.family(bench.pid)) == WORKERS + 1, 7)
    return proc.family(bench.pid) - {bench.pid}


def asked(bench):
    """Clients that have had an answer, and the workers that may have given it."""
    clients = [bench.client() for _ in range(CLIENTS)]
    for client in clients:
        client.ask("/")
    return clients, workers_of(bench)


def idle_ones_are_carried(result, options, script):
    """Each restart carries every idle connection from old workers to new ones, and logs no warning of lost ones."""
    with serving(result, options, script) as bench:
        clients, old = asked(bench)
        for _ in range(5):
            said = bench.restart()
            result.expect((said["carried"], said["closed"], said["cut"]) == (CLIENTS, 0, 0),
                          f"{CLIENTS} idle clients, and cprctl says {said}")
            by = {int(client.ask("/")) for client in clients}
            new = workers_of(bench)
            result.expect(by <= new, f"{by} answered, and the workers are {new}")
            result.expect(not old & new, f"the old workers {old & new} do not end")
            old = new
        result.expect("connections" not in bench.server.tail(), f"the server warns: {bench.server.tail()}")


def busy_one_is_finished(result, options, script):
    with serving(result, options, script) as bench:
        clients, old = asked(bench)
        busy = bench.client()
        busy.send("/sleep/1")
        bench.await_busy()
        said = bench.restart()
        result.expect(said["cut"] == 0, f"cprctl says {said}")
        result.expect(int(busy.receive()) in old, "another generation answered")
        for client in [*clients, busy]:
            result.expect(int(client.ask("/")) not in old, "an old worker answers")


def called_off_gives_back(result, options, script):
    """execve() fails after the drain, three times. Then the file gets its execute permission back, and it succeeds."""
    with serving(result, options, script) as bench:
        program = bench.room.path("copy-of-" + os.path.basename(os.path.realpath(sys.executable)))
        clients, old = asked(bench)
        for _ in range(3):
            busy = bench.client()
            busy.send("/sleep/1")
            bench.await_busy()
            restart = bench.begin_restart()
            bench.await_draining()
            os.chmod(program, 0o644)
            clients[0].send("/")
            late = bench.client()
            late.send("/")
            bench.end_restart(restart, status=1)
            os.chmod(program, 0o755)
            for client in (busy, clients[0], late):
                result.expect(int(client.receive()) in old, "a client that asked during the drain got a wrong answer")
            for client in [*clients, busy, late]:
                result.expect(int(client.ask("/")) in old, "an idle client got a wrong answer")
            clients += [busy, late]
        said = bench.restart()
        result.expect((said["carried"], said["cut"]) == (len(clients), 0),
                      f"{len(clients)} idle clients, and cprctl says {said}")
        for client in clients:
            result.expect(int(client.ask("/")) not in old, "an old worker answers")


CHECKS = (idle_ones_are_carried, busy_one_is_finished, called_off_gives_back)
