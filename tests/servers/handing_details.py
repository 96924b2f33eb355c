# SPDX-License-Identifier: MIT
"""The trial of workers that are other programs, hold no listener, and are given their connections by message."""

import os
import signal
import sys
import time

import proc
from details import Bench, run_checks
from drain_details import copied
from harness import HERE, Failure, await_until

SCRIPT = os.path.join(HERE, "handing.py")
WORKERS = 2
CLIENTS = 8
STOPPED_FOR = 0.1


def prepare(room):
    return [copied(room, os.path.realpath(sys.executable)), "-B", SCRIPT, "127.0.0.1", str(room.port)]


def handing(result, options):
    bench = Bench(result, options, "handing", prepare)
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


def idle_ones_are_carried(result, options):
    """From workers to workers, again and again; and nobody warns of what does not happen."""
    with handing(result, options) as bench:
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


def busy_one_is_finished(result, options):
    with handing(result, options) as bench:
        clients, old = asked(bench)
        busy = bench.client()
        busy.send("/sleep/1")
        bench.await_busy()
        said = bench.restart()
        result.expect(said["cut"] == 0, f"it says {said}")
        result.expect(int(busy.receive()) in old, "another generation has answered")
        for client in [*clients, busy]:
            result.expect(int(client.ask("/")) not in old, "an old worker answers")


def queue(bench):
    """How many wait for the primary's accept()."""
    return sum(int(line.split()[4].partition(":")[2], 16) for line in open("/proc/net/tcp", encoding="ascii")
               if line.split()[1].endswith(f":{bench.room.port:04X}") and line.split()[3] == "0A")


def what_is_on_its_way_is_received(result, options):
    """Accepted by the primary, and sent; the workers are stopped, and receive it when the drain has begun."""
    with handing(result, options) as bench:
        clients, old = asked(bench)
        for _ in range(3):
            for worker in old:
                os.kill(worker, signal.SIGSTOP)
            late = [bench.client() for _ in range(CLIENTS)]
            for client in late:
                client.send("/")
            if not await_until(lambda: queue(bench) == 0, 5):
                raise Failure("the primary does not accept")
            restart = bench.begin_restart()
            time.sleep(STOPPED_FOR)
            result.expect(restart.poll() is None, "it has restarted before what it had sent was received")
            for worker in old:
                os.kill(worker, signal.SIGCONT)
            said = bench.end_restart(restart)
            result.expect((said["closed"], said["cut"]) == (0, 0), f"it says {said}")
            for client in late:
                client.receive()
            clients += late
            for client in clients:
                result.expect(int(client.ask("/")) not in old, "an old worker answers")
            old = workers_of(bench)


def called_off_gives_back(result, options):
    """The program cannot be executed any more, which turns out when all were frozen for a second; and then it can."""
    with handing(result, options) as bench:
        program = bench.room.path("copy-of-" + os.path.basename(os.path.realpath(sys.executable)))
        clients, old = asked(bench)
        for _ in range(2):
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


CHECKS = [(check,) for check in (idle_ones_are_carried, busy_one_is_finished, what_is_on_its_way_is_received, called_off_gives_back)]


def run(options):
    return run_checks("handing-details", CHECKS, options)


TRIALS = {"handing-details": run}
