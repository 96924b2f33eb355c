# SPDX-License-Identifier: MIT
"""The trial of workers: how the old ones end, and how the new ones get the carried connections."""

import contextlib
import os
import shutil
import threading
import time

import proc
from details import Bench, Client, run_checks
from harness import Failure, await_until
from protocols import PATH
from setups import SETUPS, nginx_command, python

WORKERS = 2
FIRST_KNOCKS = 2
LIMIT = 128     # open files of the owner
ENDING = 8      # clients at a time that close after their answer
IDLE = 300      # connections of the owner's workers
REAL = {"nginx": (lambda room: nginx_command(room, "worker_processes 4;"), 4), "apache": (SETUPS["apache"].prepare, 2)}


def forking(result, options, *how, cpr=()):
    def prepare(room):
        return python("forking.py", "127.0.0.1", str(room.port), *how)
    bench = Bench(result, options, "forking", prepare, cpr=cpr)
    bench.server.await_ready()
    workers_of(bench, WORKERS)
    return bench


def workers_of(bench, count):
    """The pids of the workers, once there are `count` of them; empty if there are not in time."""
    def complete():
        return len(proc.family(bench.pid)) == count + 1 and proc.family(bench.pid) - {bench.pid}
    return await_until(complete, 5) or set()


def seconds_until_gone(bench, old, within=8.0):
    began = time.monotonic()
    await_until(lambda: not old & proc.family(bench.pid), within, step=0.005)
    return time.monotonic() - began


def deaf_and_idle_leave_soon(result, options):
    """Old workers without connections that ignore SIGTERM end soon, long before --drain is over."""
    with forking(result, options, "deaf") as bench:
        for _ in range(3):
            old = workers_of(bench, WORKERS)
            clients = [bench.client() for _ in range(8)]
            for client in clients:
                client.ask("/")
            said = bench.restart()
            took = seconds_until_gone(bench, old)
            result.expect(said["carried"] == 8 and said["cut"] == 0, f"8 idle clients, and cprctl says {said}")
            result.expect(old, "there were no old workers")
            result.expect_in_time(took < 1.5, f"the old workers {old} left after {took:.1f} s")
            for client in clients:
                result.expect(int(client.ask("/").split()[0]) not in old, "an old worker answers")
                client.close()


def clients_of(pid):
    """The number of its threads for clients: all but the main one, the one that accepts, and the library's task."""
    try:
        return max(0, len(os.listdir(f"/proc/{pid}/task")) - 3)
    except FileNotFoundError:
        return 0


def ask_and_end(bench, failures, over):
    """One client after the other, each of which closes after its answer."""
    while not over.is_set():
        try:
            client = Client((bench.room.host, bench.room.port))
            client.ask("/")
            client.close()
        except (Failure, OSError) as failure:
            failures.append(str(failure))


def ended_ones_keep_no_worker(result, options):
    """Clients close in the middle of a drain. The threads that poll their connections see the end of the stream."""
    failures, over = [], threading.Event()
    with forking(result, options, "polls") as bench:
        clients = [threading.Thread(target=ask_and_end, args=(bench, failures, over)) for _ in range(ENDING)]
        for client in clients:
            client.start()
        for _ in range(5):
            old = workers_of(bench, WORKERS)
            bench.restart()
            result.expect(old, "there were no old workers")
            # cpr kills an idle deaf worker after a second
            over_soon = await_until(lambda: not any(map(clients_of, old)), 0.9)
            result.expect_in_time(over_soon, f"client threads left in the old workers: {[*map(clients_of, old)]}")
            seconds_until_gone(bench, old)
        over.set()
        for client in clients:
            client.join()
        result.expect(not failures, f"{len(failures)} clients lost their answer: {failures[:3]}")


def tidy_is_waited_for(result, options):
    with forking(result, options, "tidy") as bench:
        old = workers_of(bench, WORKERS)
        bench.client().ask("/")
        bench.restart()
        took = seconds_until_gone(bench, old)
        left = [pid for pid in old if not await_until(lambda: written(bench, pid), 0.1)]
        result.expect(old and not left,
                      f"{left} of {old} were killed while they cleaned up, {took:.1f} s after the restart")


def written(bench, pid):
    try:
        with open(bench.room.path(f"tidy-{pid}"), encoding="ascii") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def deaf_do_not_pile_up(result, options):
    """Each worker is killed --drain seconds after its SIGTERM, however many restarts follow."""
    with forking(result, options, "jobs", cpr=("-d", "1")) as bench:
        first, began, most = workers_of(bench, WORKERS), time.monotonic(), 0
        while time.monotonic() < began + 4:
            bench.restart()
            most = max(most, len(proc.family(bench.pid)))
            if time.monotonic() > began + 2.5:
                result.expect_in_time(not first & proc.family(bench.pid),
                                      "workers of the first generation still run after 2.5 s")
            await_until(lambda: False, 0.2)
        result.expect(first and seconds_until_gone(bench, first) < 1, "workers of the first generation do not end")
        result.figures.append(f"at most {most} processes")


def rest_is_counted_through_restarts(result, options):
    """An idle deaf worker is killed a second after its SIGTERM, even if restarts follow faster than that."""
    with forking(result, options, "deaf", cpr=("-d", "10")) as bench:
        with contextlib.closing(bench.client()) as client:
            client.ask("/")
            first, began = workers_of(bench, WORKERS), time.monotonic()
            while first & proc.family(bench.pid) and time.monotonic() < began + 5:
                bench.restart()
                client.ask("/")
            took = time.monotonic() - began
        result.figures.append(f"the first workers ended {took:.1f} s after the first of several restarts")
        result.expect_in_time(took < 4, f"the first workers ran on for {took:.1f} s")


def dead_are_reaped(result, options):
    """A worker that ends by itself just before the next restart is reaped, too."""
    with forking(result, options, "follow") as bench:
        for _ in range(4):
            bench.restart()
        result.expect(workers_of(bench, WORKERS),
                      f"after 5 s there are {len(proc.family(bench.pid))} processes, zombies included")


def no_crowd_at_the_door(result, options):
    """
    The first worker that looks at the queue does not find a knock for every carried connection. Workers also recognise
    knocks that were made after their fork. Each second without an accept() lets the library make twice as many knocks,
    so the bound grows with the time of the first look.
    """
    with forking(result, options, "deaf", "start=0.3") as bench:
        clients = [bench.client() for _ in range(64)]
        for client in clients:
            client.ask("/")
        said = bench.restart()
        result.expect(said["carried"] == 64, f"64 idle clients, and cprctl says {said}")
        looks = {tuple(map(float, client.ask("/").split())) for client in clients}
        after, found = min((after, found) for _, found, after in looks)
        result.expect_in_time(found <= FIRST_KNOCKS * (2 ** (int(after) + 1) - 1),
                              f"a worker's first look, after {after:.1f} s, found {found} of 64 in the queue")


def real_workers_leave_soon(result, options, name):
    prepare, count = REAL[name]
    with Bench(result, options, name, prepare) as bench:
        bench.server.await_ready()
        times = []
        for _ in range(5):
            old = workers_of(bench, count)
            clients = [bench.client() for _ in range(16)]
            for client in clients:
                client.ask(PATH)
            bench.restart()
            times.append(seconds_until_gone(bench, old))
            result.expect(old, "there were no old workers")
            result.expect_in_time(times[-1] < 1.5, f"the old workers {old} left after {times[-1]:.1f} s")
            for client in clients:
                client.ask(PATH)
                client.close()
        shown = " ".join(f"{1000 * took:.0f}" for took in times)
        result.figures.append(f"{name}: the last old worker ended {shown} ms after the restart")


def more_than_the_owner_may_open_are_carried(result, options):
    """The limit of 128 open files is the master's alone: its workers raise theirs, and pass more connections to it."""
    def prepare(room):
        return nginx_command(room, f"worker_processes 2; worker_rlimit_nofile {8 * LIMIT};", connections=4 * LIMIT)
    limited = ("sh", "-c", f'ulimit -Sn {LIMIT}; exec "$@"', "sh")
    with Bench(result, options, "nginx", prepare, before=limited) as bench:
        bench.server.await_ready()
        clients = [bench.client() for _ in range(IDLE)]
        for client in clients:
            client.ask(PATH)
        for _ in range(2):
            old = workers_of(bench, 2)
            said = bench.restart()
            result.expect(said["carried"] == IDLE and said["cut"] == 0, f"{IDLE} idle clients, and cprctl says {said}")
            for client in clients:
                client.ask(PATH)
            result.expect(old, "there were no old workers")
            took = seconds_until_gone(bench, old)
            result.expect_in_time(took < 1.5, f"the old workers {old} left after {took:.1f} s")


@contextlib.contextmanager
def open_for_writing(room, program):
    """A copy of the program that is open for writing, so that its exec fails (ETXTBSY)."""
    copy = shutil.copy(program, room.path("busy"))
    writer = os.open(copy, os.O_WRONLY)
    try:
        yield copy
    finally:
        os.close(writer)


def late_failure_leaves_everything(result, options):
    """After a failed exec the workers serve the connections that they had passed on, and no file of -u is removed."""
    with Bench(result, options, "nginx", REAL["nginx"][0], cpr=("-u", "stale")) as bench:
        bench.server.await_ready()
        stale, old = bench.room.write("stale", ""), workers_of(bench, REAL["nginx"][1])
        clients = [bench.client() for _ in range(64)]
        for client in clients:
            client.ask(PATH)
        with open_for_writing(bench.room, os.readlink(f"/proc/{bench.pid}/exe")) as busy:
            for _ in range(3):
                bench.end_restart(bench.begin_restart("--exec", busy), status=1)
                result.expect(os.path.exists(stale), "the file of -u is removed without a next generation")
                for client in clients:
                    client.ask(PATH)
                bench.client().ask(PATH)
        result.expect(old and old <= proc.family(bench.pid), f"some of the workers {old} have ended")
        said = bench.restart()
        result.expect(said["carried"] == 67 and said["cut"] == 0, f"67 idle clients, and cprctl says {said}")
        result.expect(not os.path.exists(stale), "the file of -u still exists in the next generation")
        for client in clients:
            client.ask(PATH)


CHECKS = [(check,) for check in (deaf_and_idle_leave_soon, ended_ones_keep_no_worker, tidy_is_waited_for,
                                 deaf_do_not_pile_up, rest_is_counted_through_restarts, dead_are_reaped,
                                 no_crowd_at_the_door, more_than_the_owner_may_open_are_carried,
                                 late_failure_leaves_everything)]
CHECKS += [(real_workers_leave_soon, name) for name in REAL]


def run(options):
    return run_checks("worker-details", CHECKS, options)


TRIALS = {"worker-details": run}
