# SPDX-License-Identifier: MIT
"""The trial of workers: how the old ones leave, and how the new ones get what was carried."""

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
LIMIT = 128     # open files of an owner
ENDING = 8      # clients at once that end when they are answered
IDLE = 300      # connections of its workers
REAL = {"nginx": (lambda room: nginx_command(room, "worker_processes 4;"), 4), "apache": (SETUPS["apache"].prepare, 2)}


def forking(result, options, *how, cpr=()):
    bench = Bench(result, options, "forking", lambda room: python("forking.py", "127.0.0.1", str(room.port), *how), cpr=cpr)
    bench.server.await_ready()
    workers_of(bench, WORKERS)
    return bench


def workers_of(bench, count):
    """So many, once there are."""
    return await_until(lambda: len(proc.family(bench.pid)) == count + 1 and proc.family(bench.pid) - {bench.pid}, 5) or set()


def seconds_until_gone(bench, old, within=8.0):
    began = time.monotonic()
    await_until(lambda: not old & proc.family(bench.pid), within, step=0.005)
    return time.monotonic() - began


def deaf_and_idle_leave_soon(result, options):
    """They have nothing left and do nothing: not only after --drain."""
    with forking(result, options, "deaf") as bench:
        for _ in range(3):
            old = workers_of(bench, WORKERS)
            clients = [bench.client() for _ in range(8)]
            for client in clients:
                client.ask("/")
            said = bench.restart()
            took = seconds_until_gone(bench, old)
            result.expect(said["carried"] == 8 and said["cut"] == 0, f"8 idle clients, and it says {said}")
            result.expect(old, "there were no old workers")
            result.expect_in_time(took < 1.5, f"the old workers {old} left after {took:.1f} s")
            for client in clients:
                result.expect(int(client.ask("/").split()[0]) not in old, "an old worker answers")
                client.close()


def clients_of(pid):
    """How many threads it has for clients: beside its first one, the one that accepts, and the library's task."""
    try:
        return max(0, len(os.listdir(f"/proc/{pid}/task")) - 3)
    except FileNotFoundError:
        return 0


def ask_and_end(bench, failures, over):
    """A client after the other, each ends as soon as it is answered."""
    while not over.is_set():
        try:
            client = Client((bench.room.host, bench.room.port))
            client.ask("/")
            client.close()
        except (Failure, OSError) as failure:
            failures.append(str(failure))


def ended_ones_keep_no_worker(result, options):
    """Clients that end in the middle of a drain: the threads that poll their connections learn of it."""
    failures, over = [], threading.Event()
    with forking(result, options, "polls") as bench:
        clients = [threading.Thread(target=ask_and_end, args=(bench, failures, over)) for _ in range(ENDING)]
        for client in clients:
            client.start()
        for _ in range(5):
            old = workers_of(bench, WORKERS)
            bench.restart()
            result.expect(old, "there were no old workers")
            # a deaf one that does nothing is ended after a second
            over_soon = await_until(lambda: not any(map(clients_of, old)), 0.9)
            result.expect_in_time(over_soon, f"threads for clients in the old workers: {[*map(clients_of, old)]}")
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
        result.expect(old and not left, f"{left} of {old} were killed while they tidied up, {took:.1f} s after the restart")


def written(bench, pid):
    try:
        with open(bench.room.path(f"tidy-{pid}"), encoding="ascii") as file:
            return file.read()
    except FileNotFoundError:
        return ""


def deaf_do_not_pile_up(result, options):
    """Each is killed --drain seconds after it was told to leave, however many restarts come after."""
    with forking(result, options, "jobs", cpr=("-d", "1")) as bench:
        first, began, most = workers_of(bench, WORKERS), time.monotonic(), 0
        while time.monotonic() < began + 4:
            bench.restart()
            most = max(most, len(proc.family(bench.pid)))
            if time.monotonic() > began + 2.5:
                result.expect_in_time(not first & proc.family(bench.pid),
                                      "workers of the first generation are still there after 2.5 s")
            await_until(lambda: False, 0.2)
        result.expect(first and seconds_until_gone(bench, first) < 1, "workers of the first generation never leave")
        result.figures.append(f"at most {most} processes")


def rest_is_counted_through_restarts(result, options):
    """Idle ones that are deaf are ended a second after they were told, also where restarts come faster than that."""
    with forking(result, options, "deaf", cpr=("-d", "10")) as bench:
        with contextlib.closing(bench.client()) as client:
            client.ask("/")
            first, began = workers_of(bench, WORKERS), time.monotonic()
            while first & proc.family(bench.pid) and time.monotonic() < began + 5:
                bench.restart()
                client.ask("/")
            took = time.monotonic() - began
        result.figures.append(f"the first workers were gone {took:.1f} s after the first of several restarts")
        result.expect_in_time(took < 4, f"the first workers were there for {took:.1f} s")


def dead_are_reaped(result, options):
    """Who has died by itself when the next restart comes, before the tick has seen it, is no zombie for ever."""
    with forking(result, options, "follow") as bench:
        for _ in range(4):
            bench.restart()
        result.expect(workers_of(bench, WORKERS), f"after 5 s there are {len(proc.family(bench.pid))} processes, the dead too")


def no_crowd_at_the_door(result, options):
    """
    The first worker that looks does not find everything that was carried in front of it; and workers know knocks that were made after their birth. What has not been
    accepted for a second is no reason to wait with twice as much: on a machine where that takes seconds, there is more to be found.
    """
    with forking(result, options, "deaf", "start=0.3") as bench:
        clients = [bench.client() for _ in range(64)]
        for client in clients:
            client.ask("/")
        said = bench.restart()
        result.expect(said["carried"] == 64, f"64 idle clients, and it says {said}")
        looks = {tuple(map(float, client.ask("/").split())) for client in clients}
        after, found = min((after, found) for _, found, after in looks)
        result.expect_in_time(found <= FIRST_KNOCKS * (2 ** (int(after) + 1) - 1),
                              f"{found} of 64 were waiting when a worker first looked, after {after:.1f} s")


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
        result.figures.append(f"{name}: the last old worker is gone {' '.join(f'{1000 * took:.0f}' for took in times)} ms after the restart")


def more_than_the_owner_may_open_are_carried(result, options):
    """A limit of 128 open files is the master's own: its workers raise theirs, and pass on to it what they hold."""
    def prepare(room):
        return nginx_command(room, f"worker_processes 2; worker_rlimit_nofile {8 * LIMIT};", connections=4 * LIMIT)
    with Bench(result, options, "nginx", prepare, before=("sh", "-c", f'ulimit -Sn {LIMIT}; exec "$@"', "sh")) as bench:
        bench.server.await_ready()
        clients = [bench.client() for _ in range(IDLE)]
        for client in clients:
            client.ask(PATH)
        for _ in range(2):
            old = workers_of(bench, 2)
            said = bench.restart()
            result.expect(said["carried"] == IDLE and said["cut"] == 0, f"{IDLE} idle clients, and it says {said}")
            for client in clients:
                client.ask(PATH)
            result.expect(old, "there were no old workers")
            took = seconds_until_gone(bench, old)
            result.expect_in_time(took < 1.5, f"the old workers {old} left after {took:.1f} s")


@contextlib.contextmanager
def open_for_writing(room, program):
    """A copy of it, whose exec fails."""
    copy = shutil.copy(program, room.path("busy"))
    writer = os.open(copy, os.O_WRONLY)
    try:
        yield copy
    finally:
        os.close(writer)


def late_failure_leaves_everything(result, options):
    """An exec that fails: workers serve on those whom they had passed on, and no file is removed for a generation that does not come."""
    with Bench(result, options, "nginx", REAL["nginx"][0], cpr=("-u", "stale")) as bench:
        bench.server.await_ready()
        stale, old = bench.room.write("stale", ""), workers_of(bench, REAL["nginx"][1])
        clients = [bench.client() for _ in range(64)]
        for client in clients:
            client.ask(PATH)
        with open_for_writing(bench.room, os.readlink(f"/proc/{bench.pid}/exe")) as busy:
            for _ in range(3):
                bench.end_restart(bench.begin_restart("--exec", busy), status=1)
                result.expect(os.path.exists(stale), "the file of -u is removed, and there is no next generation")
                for client in clients:
                    client.ask(PATH)
                bench.client().ask(PATH)
        result.expect(old and old <= proc.family(bench.pid), f"of the workers {old} some are gone")
        said = bench.restart()
        result.expect(said["carried"] == 67 and said["cut"] == 0, f"67 idle clients, and it says {said}")
        result.expect(not os.path.exists(stale), "the file of -u is still there, and so is the next generation")
        for client in clients:
            client.ask(PATH)


CHECKS = [(check,) for check in (deaf_and_idle_leave_soon, ended_ones_keep_no_worker, tidy_is_waited_for, deaf_do_not_pile_up,
                                 rest_is_counted_through_restarts, dead_are_reaped, no_crowd_at_the_door,
                                 more_than_the_owner_may_open_are_carried, late_failure_leaves_everything)]
CHECKS += [(real_workers_leave_soon, name) for name in REAL]


def run(options):
    return run_checks("worker-details", CHECKS, options)


TRIALS = {"worker-details": run}
