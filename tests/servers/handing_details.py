# SPDX-License-Identifier: MIT
"""The trial of workers that are other programs, hold no listener, and get their connections by message."""

import os
import signal
import sys

from details import Bench, run_checks
from exec_workers import CHECKS as SHARED, CLIENTS, asked, serving, workers_of
from harness import HERE, Failure, await_until

SCRIPT = "handing.py"


def queue(bench):
    """The number of connections that wait for the primary's accept()."""
    return sum(int(line.split()[4].partition(":")[2], 16) for line in open("/proc/net/tcp", encoding="ascii")
               if line.split()[1].endswith(f":{bench.room.port:04X}") and line.split()[3] == "0A")


def what_is_on_its_way_is_received(result, options):
    """Connections that the primary has accepted and sent. The stopped workers receive them only during the drain."""
    with serving(result, options, SCRIPT) as bench:
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
            result.expect(await_until(lambda: bench.status(bench.pid).get("draining"), 5), "the drain does not begin")
            result.expect(restart.poll() is None, "the restart did not wait until the workers had received them")
            for worker in old:
                os.kill(worker, signal.SIGCONT)
            said = bench.end_restart(restart)
            result.expect((said["closed"], said["cut"]) == (0, 0), f"cprctl says {said}")
            for client in late:
                client.receive()
            clients += late
            for client in clients:
                result.expect(int(client.ask("/")) not in old, "an old worker answers")
            old = workers_of(bench)


def what_is_not_answered_for_is_awaited(result, options):
    """The other program has received the connection, and declines it only when the drain has begun."""
    def prepare(room):
        return [sys.executable, "-B", os.path.join(HERE, "declining.py"), "127.0.0.1", str(room.port)]
    with Bench(result, options, "declining", prepare) as bench:
        bench.server.await_ready()
        bench.client().ask("/")
        for _ in range(5):
            client = bench.client()
            client.send("/")
            if not await_until(lambda: queue(bench) == 0, 5):
                raise Failure("the primary does not accept")
            said = bench.restart()
            result.expect(said["cut"] == 0, f"cprctl says {said}")
            client.receive()


CHECKS = [(check, SCRIPT) for check in SHARED] + [(what_is_on_its_way_is_received,),
                                                  (what_is_not_answered_for_is_awaited,)]


def run(options):
    return run_checks("handing-details", CHECKS, options)


TRIALS = {"handing-details": run}
