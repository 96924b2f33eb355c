# SPDX-License-Identifier: MIT
"""What must hold for servers whose workers are other programs (exec'ed), however these come to their connections: spawning.py, handing.py."""

import os
import sys

import proc
from details import Bench
from drain_details import copied
from harness import HERE, await_until

WORKERS = 2
CLIENTS = 8


def serving(result, options, script):
    """A bench with the script on it; it runs on a copy of the interpreter, which can be made impossible to execute."""
    def prepare(room):
        return [copied(room, os.path.realpath(sys.executable)), "-B", os.path.join(HERE, script), "127.0.0.1", str(room.port)]
    bench = Bench(result, options, script.removesuffix(".py"), prepare)
    bench.server.await_ready()
    return bench


def workers_of(bench):
    """As many as there are once nobody of the last generation is there."""
    await_until(lambda: len(proc.family(bench.pid)) == WORKERS + 1, 7)
    return proc.family(bench.pid) - {bench.pid}


def asked(bench):
    """Clients that have been answered, and all who may have answered."""
    clients = [bench.client() for _ in range(CLIENTS)]
    for client in clients:
        client.ask("/")
    return clients, workers_of(bench)


def idle_ones_are_carried(result, options, script):
    """From workers to workers, again and again, whoever of them had them; and nobody warns of what does not happen."""
    with serving(result, options, script) as bench:
        clients, old = asked(bench)
        for _ in range(5):
            said = bench.restart()
            result.expect((said["carried"], said["closed"], said["cut"]) == (CLIENTS, 0, 0), f"{CLIENTS} idle clients, and it says {said}")
            by = {int(client.ask("/")) for client in clients}
            new = workers_of(bench)
            result.expect(by <= new, f"{by} have answered, and the workers are {new}")
            result.expect(not old & new, f"{old & new} do not leave")
            old = new
        result.expect("connections" not in bench.server.tail(), f"it warns: {bench.server.tail()}")


def busy_one_is_finished(result, options, script):
    with serving(result, options, script) as bench:
        clients, old = asked(bench)
        busy = bench.client()
        busy.send("/sleep/1")
        bench.await_busy()
        said = bench.restart()
        result.expect(said["cut"] == 0, f"it says {said}")
        result.expect(int(busy.receive()) in old, "another generation has answered")
        for client in [*clients, busy]:
            result.expect(int(client.ask("/")) not in old, "an old worker answers")


def called_off_gives_back(result, options, script):
    """The program cannot be executed any more, which turns out when all were frozen for a second; and then it can."""
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
                result.expect(int(client.receive()) in old, "who asked during the drain got a wrong answer")
            for client in [*clients, busy, late]:
                result.expect(int(client.ask("/")) in old, "an idle one got a wrong answer")
            clients += [busy, late]
        said = bench.restart()
        result.expect((said["carried"], said["cut"]) == (len(clients), 0), f"{len(clients)} idle clients, and it says {said}")
        for client in clients:
            result.expect(int(client.ask("/")) not in old, "an old worker answers")


CHECKS = (idle_ones_are_carried, busy_one_is_finished, called_off_gives_back)
