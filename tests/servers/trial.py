# SPDX-License-Identifier: MIT
"""The trial of a stream server: restarts it again and again under load, and checks what must not change."""

import dataclasses
import json
import os
import signal
import statistics
import subprocess
import time

import proc
from harness import READY_WITHIN, Failure, Load, Result, Room, Server, await_until
from protocols import BY_NAME

RESTART_TIMEOUT = 20            # seconds, for cprctl
IMAGE_CHANGED_WITHIN = 20.0     # seconds, for a server that execs itself
FRESH_PER_RESTART = 8           # requests of each kind that must succeed after every restart
FRESH_AT_THE_END = 100
SETTLED_WITHIN = 7.0            # seconds, for old workers to end
STABLE_FOR = 0.3
STARTS = 2                      # measured before the restarts, and again after them
CLIENTS = 32
WAIT_MS = 50                    # that a restart may add to the server's own start


@dataclasses.dataclass(frozen=True)
class Census:
    descriptors: int
    memfds: int
    processes: int

    def __str__(self):
        return f"{self.descriptors} descriptors, {self.memfds} memfds, {self.processes} processes"

    def exceeds(self, other):
        return (self.descriptors > other.descriptors or self.memfds > other.memfds
                or self.processes > other.processes)


def census(pid):
    targets = proc.descriptors(pid).values()
    return Census(len(targets), len(proc.memfds(targets)), len(proc.family(pid)))


def settled_census(server, fits):
    """The census once it fits and is stable for STABLE_FOR; after SETTLED_WITHIN seconds, the last one."""
    last, since = None, 0.0

    def settled():
        nonlocal last, since
        server.require_running()
        now, seen = time.monotonic(), census(server.pid)
        if seen != last:
            last, since = seen, now
        return fits(seen) and now - since >= STABLE_FOR
    await_until(settled, SETTLED_WITHIN, step=0.05)
    return last


def quiet_census(server, load, fits):
    """The census without the load's connections."""
    load.pause()
    seen = settled_census(server, fits)
    load.resume()
    return seen


def restart_by_cprctl(server, options):
    """Restarts the server. Returns when the request was made and when the server was ready."""
    command = [options.cprctl, "restart", str(server.pid), "--timeout", str(RESTART_TIMEOUT), "--json"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=RESTART_TIMEOUT + 10, check=False)
    except subprocess.TimeoutExpired:
        raise Failure(f"cprctl did not return within {RESTART_TIMEOUT + 10} s") from None
    if done.returncode:
        server.require_running()
        raise Failure(f"cprctl restart: exit {done.returncode}: {done.stderr.strip() or done.stdout.strip()}")
    ready = time.monotonic()
    try:
        return ready - json.loads(done.stdout)["ready_us"] / 1e6, ready
    except (ValueError, KeyError):
        raise Failure(f"cprctl restart --json: not JSON: {done.stdout[:200]!r}") from None


def restart_once(server, load, options, hangs_up, result):
    """Restarts once and waits until the new image serves. Returns the ms until cprctl reports ready; for a server that
    execs itself, until the first answers."""
    before = proc.stack(server.pid)

    def image_changed():
        server.require_running()
        return proc.stack(server.pid) not in (None, before)

    began = time.monotonic()
    if hangs_up:
        os.kill(server.pid, signal.SIGHUP)
    else:
        result.windows.append(restart_by_cprctl(server, options))
    if not await_until(image_changed, IMAGE_CHANGED_WITHIN if hangs_up else 1.0, step=0.002):
        raise Failure("the image did not change: [stack] has the same addresses")
    took = (time.monotonic() - began) * 1000
    if not load.progress(FRESH_PER_RESTART, FRESH_PER_RESTART):
        server.require_running()
        raise Failure("new requests are not answered after the restart")
    return (time.monotonic() - began) * 1000 if hangs_up else took


def restarts(server, load, setup, options, result):
    """Makes all restarts, and takes a census before and after them: it must not grow."""
    start = quiet_census(server, load, lambda seen: True)
    first = None
    for number in range(1, options.restarts + 1):
        result.restart_ms.append(restart_once(server, load, options, setup.hangs_up, result))
        result.restarts = number
        if number == 1:
            first = quiet_census(server, load, lambda seen: not seen.exceeds(start))
    if not load.progress(FRESH_AT_THE_END, FRESH_AT_THE_END):
        raise Failure("the server does not serve after the last restart")
    if first:
        last = quiet_census(server, load, lambda seen: not seen.exceeds(first))
        result.expect(not last.exceeds(first), f"it grew: {first} after the first restart, {last} after the last")
        result.expect(first.processes <= start.processes,
                      f"{start.processes} processes before the first restart, {first.processes} after it")


def listeners_of(server):
    """What restarts must not change: the listening sockets, and the inode of a unix socket's path."""
    room = server.room
    if room.port:
        return proc.listeners(server.pid, room.port)
    status = os.stat(room.socket_path)
    return proc.unix_listeners(server.pid, room.socket_path) | {("path", status.st_dev, status.st_ino)}


def check_listeners(server, before, setup, result):
    after = listeners_of(server)
    result.expect(before and after == before, f"the listeners were {sorted(map(str, before))}, "
                                              f"now they are {sorted(map(str, after))}")
    sockets = {inode for inode in after if isinstance(inode, int)}
    holders = proc.family(server.pid) if setup.workers_bind else {server.pid}
    result.expect(proc.hold(holders, sockets), f"none of the processes {holders} holds the listeners")


def take_counters(counters, setup, options, result, own_ends=0):
    for name in ("refused", "timed_out", "cut", "idle_closed", "longest_ms", "samples"):
        setattr(result, name, counters[name])
    result.requests = counters["ok"]
    result.expect(not counters["refused"], f"{counters['refused']} connections were refused")
    result.expect(not counters["timed_out"], f"{counters['timed_out']} connects timed out")
    result.expect(not counters["wrong"], f"{counters['wrong']} wrong answers")
    if setup.hangs_up or not options.cprctl:
        result.expect(not counters["stalled"], f"{counters['stalled']} requests got no answer and no end")
        return
    lost = counters["stalled"] + counters["resets"] + counters["cut"]
    if setup.carries:
        lost += counters["idle_closed"]
    if own_ends:
        seen = min(own_ends, counters["idle_closed"] + counters["crossed"])
        result.figures.append(f"the server logs {own_ends} idle connections that it closed itself, as it would without "
                              f"cpr; clients saw {seen}")
        lost -= seen
    result.expect(not lost,
                  f"{counters['cut']} requests were cut, {counters['stalled']} got no answer and no end, "
                  f"{counters['resets']} connections were reset, {counters['idle_closed']} idle ones were closed")


def own_start(setup, options):
    """
    The cost of a start without cpr: the ms from exec to the first client's first answer, and to the last client's. All
    clients ask from before the server listens.
    """
    room = Room(setup.name, setup.unix)
    server = load = None
    try:
        command = setup.prepare(room)
        load = Load(setup.protocol, room)
        if not await_until(lambda: load.resume()["refused"] >= CLIENTS, READY_WITHIN):
            raise Failure("the clients do not ask before a start without cpr")
        server = Server(command, room, dataclasses.replace(options, cpr_exec=None))
        return [int((at - server.began) * 1000) for at in load.everyone_served()]
    finally:
        if load:
            load.end()
        if server:
            server.stop()
        room.leave()


def longest_waits(waits, result):
    """
    For each restart, the longest wait of a client in ms. A wait begins with the client's request, or with the restart's
    if that is later.
    """
    longest = []
    for asked, ready in result.windows:
        ends = [(max(asked, began), began + ms / 1000) for began, ms, retransmitted in waits
                if asked <= began <= ready or began < asked < began + ms / 1000 and not retransmitted]
        longest.append(max((round((end - since) * 1000) for since, end in ends), default=0))
    return longest


def are_long(waits, everyone):
    """Is the median wait WAIT_MS over the median start, or the longest one WAIT_MS over twice the longest start?"""
    return (statistics.median(waits) > statistics.median(everyone) + WAIT_MS
            or max(waits) > 2 * max(everyone) + WAIT_MS)


def check_waits(waits, own, setup, options, result):
    """
    A client that asks during a restart may wait as long as for the server's own start with as many clients, and WAIT_MS
    more. A request that began before the restart does not count if one of its segments was retransmitted: the server's
    short queue dropped that, and the client sends it again a whole second later. A busy machine makes single restarts
    and single starts late, so the medians are compared. If they differ too much, more starts are measured, up to the
    number of restarts.
    """
    while are_long(waits, [everyone for _, everyone in own]) and len(own) < result.restarts:
        own.append(own_start(setup, options))
    firsts, everyone = zip(*own)
    usual, longest = round(statistics.median(waits)), max(waits)
    result.figures.append(f"wait during a restart: {usual} ms (median), {longest} ms at most; the server's own start: "
                          f"{round(statistics.median(firsts))} ms to its first answer, "
                          f"{round(statistics.median(everyone))} ms to the last client's, {max(everyone)} ms at most")
    result.expect_in_time(not are_long(waits, everyone), f"a client waited {usual} ms (median) during a restart, "
                                                         f"{longest} ms at most")


def starts(setup, options):
    return [own_start(setup, options) for _ in range(STARTS)] if options.cprctl and not setup.hangs_up else []


def under_load(server, load, setup, options, result):
    try:
        if not load.progress(FRESH_PER_RESTART, FRESH_PER_RESTART):
            raise Failure("the server does not serve before the first restart")
        before = listeners_of(server)
        if options.cprctl:
            restarts(server, load, setup, options, result)
        elif not load.progress(FRESH_AT_THE_END, FRESH_AT_THE_END):
            raise Failure("the server does not serve under load")
        check_listeners(server, before, setup, result)
    finally:
        counters = load.pause()
        take_counters(counters, setup, options, result, setup.says_ended(server.output()) if setup.says_ended else 0)
    return counters["waits"]


def run(setup, options):
    """The whole trial: set up, start, load, restart, check, stop."""
    result = Result(setup.name)
    room = Room(setup.name, setup.unix)
    server = load = None
    try:
        own = starts(setup, options)
        server = Server(setup.prepare(room), room, options, cpr=setup.cpr)
        server.await_ready()
        result.start_ms = server.await_answer(BY_NAME[setup.protocol])
        load = Load(setup.protocol, room)
        waits = under_load(server, load, setup, options, result)
        if own:
            check_waits(longest_waits(waits, result), own + starts(setup, options), setup, options, result)
    except (Failure, OSError, subprocess.SubprocessError) as failure:
        result.reasons.append(str(failure))
    finally:
        if load:
            load.end()
        if server:
            result.expect(server.stop(), "SIGTERM does not stop the server")
            result.tail = server.tail()
        room.leave()
    return result
