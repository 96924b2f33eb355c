# SPDX-License-Identifier: MIT
"""The trial of workers that are other programs (exec'ed with the listener), and of programs that are started with theirs."""

import os
import socket
import subprocess
import sys

import proc
from details import Bench, run_checks
from drain_details import copied
from harness import HERE, Server, await_until
from setups import python

SCRIPT = os.path.join(HERE, "spawning.py")
WORKERS = 2
CLIENTS = 8


def prepare(room):
    return [copied(room, os.path.realpath(sys.executable)), "-B", SCRIPT, "127.0.0.1", str(room.port)]


def spawning(result, options, cpr=()):
    bench = Bench(result, options, "spawning", prepare, cpr=cpr)
    bench.server.await_ready()
    return bench


def asked(bench, count=CLIENTS):
    """So many clients that have been answered, and all who may have answered."""
    clients = [bench.client() for _ in range(count)]
    for client in clients:
        client.ask("/")
    return clients, workers_of(bench)


def workers_of(bench):
    """As many as there are once nobody of the last generation is there."""
    await_until(lambda: len(proc.family(bench.pid)) == WORKERS + 1, 7)
    return proc.family(bench.pid) - {bench.pid}


def idle_ones_are_carried(result, options):
    """From workers to workers, again and again, whoever of them accepted; and nobody warns of what does not happen."""
    with spawning(result, options) as bench:
        clients, old = asked(bench)
        for _ in range(5):
            said = bench.restart()
            result.expect((said["carried"], said["closed"], said["cut"]) == (CLIENTS, 0, 0), f"{CLIENTS} idle clients, and it says {said}")
            by = {int(client.ask("/")) for client in clients}
            new = workers_of(bench)
            result.expect(by <= new, f"{by} have answered, and the workers are {new}")
            result.expect(not old & new, f"{old & new} do not leave")
            old = new
        result.expect("also listens" not in bench.server.tail(), "it warns of workers that have passed on what they had")


def busy_one_is_finished(result, options):
    with spawning(result, options) as bench:
        clients, old = asked(bench)
        busy = bench.client()
        busy.send("/sleep/1")
        bench.await_busy()
        said = bench.restart()
        result.expect(said["cut"] == 0, f"it says {said}")
        result.expect(int(busy.receive().split()[0]) in old, "another generation has answered")
        for client in [*clients, busy]:
            result.expect(int(client.ask("/")) not in old, "an old worker answers")


def called_off_gives_back(result, options):
    """The program cannot be executed any more, which turns out when all were frozen for a second; and then it can."""
    with spawning(result, options) as bench:
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
                result.expect(int(client.receive().split()[0]) in old, "who asked during the drain got a wrong answer")
            for client in [*clients, busy]:
                result.expect(int(client.ask("/")) in old, "an idle one got a wrong answer")
            bench.clients.remove(busy)
            bench.clients.remove(late)
            busy.close()
            late.close()
        said = bench.restart()
        result.expect((said["carried"], said["cut"]) == (CLIENTS, 0), f"{CLIENTS} idle clients, and it says {said}")
        for client in clients:
            result.expect(int(client.ask("/")) not in old, "an old worker answers")


def worker_restarts_by_itself(result, options):
    """What it was started with is there again; its siblings serve on, and nobody is given a word that was meant for a worker."""
    with spawning(result, options) as bench:
        _, old = asked(bench)
        worker = min(old)
        image = proc.stack(worker)
        subprocess.run([options.cprctl, "restart", str(worker)], capture_output=True, timeout=20, check=True)
        result.expect(await_until(lambda: proc.stack(worker) not in (None, image), 5), "it does not restart")
        for _ in range(4 * CLIENTS):
            client = bench.client()
            result.expect(int(client.ask("/")) in proc.family(bench.pid), "a wrong answer")
            client.close()


def activated(room, options, listener):
    os.set_inheritable(listener.fileno(), True)
    return Server(python("spawning.py", "serve", str(listener.fileno())), room, options, pass_fds=[listener.fileno()])


def started_with_its_listener(result, options):
    """As by socket activation: what was accepted on it is carried as on one of its own."""
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
            result.expect((said["carried"], said["cut"]) == (CLIENTS, 0), f"{CLIENTS} idle clients, and it says {said}")
            for client in clients:
                result.expect(int(client.ask("/")) == bench.pid, "a wrong answer")


CHECKS = [(check,) for check in (idle_ones_are_carried, busy_one_is_finished, called_off_gives_back, worker_restarts_by_itself, started_with_its_listener)]


def run(options):
    return run_checks("spawn-details", CHECKS, options)


TRIALS = {"spawn-details": run}
