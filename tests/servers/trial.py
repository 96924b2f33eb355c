# SPDX-License-Identifier: MIT
"""The trial of a stream server: restart it again and again under load, and look at what must not change."""

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
IMAGE_CHANGED_WITHIN = 20.0     # seconds, for a server that executes itself
FRESH_PER_RESTART = 8           # requests of each kind that must go well after every restart
FRESH_AT_THE_END = 100
SETTLED_WITHIN = 7.0            # old workers may take their time to leave
STABLE_FOR = 0.3
STARTS = 2                      # before the restarts, and again after them
CLIENTS = 32
WAIT_MS = 50                    # that a restart may cost a client, beside the server's own start


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
    """The census once it fits and has not changed for a moment; after a bound, whatever it is then."""
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
    """The census without the load's connections in it."""
    load.pause()
    seen = settled_census(server, fits)
    load.resume()
    return seen


def restart_by_cprctl(server, options):
    """When the server was asked, and when it was ready again."""
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
    """One restart, waited for until the new image serves; the ms until cprctl, or else the first answers, said so."""
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
        raise Failure("the image did not change: [stack] is where it was")
    took = (time.monotonic() - began) * 1000
    if not load.progress(FRESH_PER_RESTART, FRESH_PER_RESTART):
        server.require_running()
        raise Failure("new requests are not answered after the restart")
    return (time.monotonic() - began) * 1000 if hangs_up else took


def restarts(server, load, setup, options, result):
    """All restarts, and the two looks at what must not grow."""
    start = quiet_census(server, load, lambda seen: True)
    first = None
    for number in range(1, options.restarts + 1):
        result.restart_ms.append(restart_once(server, load, options, setup.hangs_up, result))
        result.restarts = number
        if number == 1:
            first = quiet_census(server, load, lambda seen: not seen.exceeds(start))
    if not load.progress(FRESH_AT_THE_END, FRESH_AT_THE_END):
        raise Failure("it no longer serves after the last restart")
    if first:
        last = quiet_census(server, load, lambda seen: not seen.exceeds(first))
        result.expect(not last.exceeds(first), f"it grew: {first} after the first restart, {last} after the last")
        result.expect(first.processes <= start.processes,
                      f"{start.processes} processes before the first restart, {first.processes} after it")


def listeners_of(server):
    """What must stay the same: the listening sockets, and the inode of a unix path."""
    room = server.room
    if room.port:
        return proc.listeners(server.pid, room.port)
    status = os.stat(room.socket_path)
    return proc.unix_listeners(server.pid, room.socket_path) | {("path", status.st_dev, status.st_ino)}


def check_listeners(server, before, setup, result):
    after = listeners_of(server)
    result.expect(before and after == before, f"the listeners were {sorted(map(str, before))}, "
                                              f"they are {sorted(map(str, after))}")
    sockets = {inode for inode in after if isinstance(inode, int)}
    holders = proc.family(server.pid) if setup.workers_bind else {server.pid}
    result.expect(proc.hold(holders, sockets), f"of the processes {holders} none holds the listeners")


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
        result.figures.append(f"it says that it ended {own_ends} idle connections itself, with cpr or without; {seen} of them were seen")
        lost -= seen
    result.expect(not lost,
                  f"{counters['cut']} requests were cut, {counters['stalled']} got no answer and no end, "
                  f"{counters['resets']} connections were reset, {counters['idle_closed']} idle ones closed")


def own_start(setup, options):
    """
    What the server's own start costs these clients, without cpr: the ms from its exec until the first of them, who all ask from before it listens, has had an answer; and
    until each has.
    """
    room = Room(setup.name, setup.unix)
    server = load = None
    try:
        command = setup.prepare(room)
        load = Load(setup.protocol, room)
        if not await_until(lambda: load.resume()["refused"] >= CLIENTS, READY_WITHIN):
            raise Failure("the clients of a start without cpr do not ask")
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
    For each restart the ms that a client waited of it at the most: from when it was asked for, or from its own request
    on.
    """
    longest = []
    for asked, ready in result.windows:
        ends = [(max(asked, began), began + ms / 1000) for began, ms, retransmitted in waits
                if asked <= began <= ready or began < asked < began + ms / 1000 and not retransmitted]
        longest.append(max((round((end - since) * 1000) for since, end in ends), default=0))
    return longest


def are_long(waits, everyone):
    """The usual one by more than WAIT_MS over the usual start, or the longest by as much over two of the longest starts."""
    return (statistics.median(waits) > statistics.median(everyone) + WAIT_MS
            or max(waits) > 2 * max(everyone) + WAIT_MS)


def check_waits(waits, own, setup, options, result):
    """
    Who asks during a restart waits for as long as the server's own start would let it wait, and a little: with as many
    others, who all want to be served first. Not counted are those whose first segment the server's own short queue had
    dropped before the restart was asked for: they come again a whole second later. A busy machine makes single restarts
    and single starts late: what they usually take is compared, with as many starts where a few say that it is too long.
    """
    while are_long(waits, [everyone for _, everyone in own]) and len(own) < result.restarts:
        own.append(own_start(setup, options))
    firsts, everyone = zip(*own)
    usual, longest = round(statistics.median(waits)), max(waits)
    result.figures.append(f"wait during a restart: {usual} ms usually, {longest} ms at the most; the server's own start: "
                          f"{round(statistics.median(firsts))} ms to its first answer, "
                          f"{round(statistics.median(everyone))} ms to everybody's, {max(everyone)} ms at the most")
    result.expect_in_time(not are_long(waits, everyone), f"a client usually waited for {usual} ms during a restart, "
                                                         f"and for {longest} ms at the most")


def starts(setup, options):
    return [own_start(setup, options) for _ in range(STARTS)] if options.cprctl and not setup.hangs_up else []


def under_load(server, load, setup, options, result):
    try:
        if not load.progress(FRESH_PER_RESTART, FRESH_PER_RESTART):
            raise Failure("it does not serve, even before any restart")
        before = listeners_of(server)
        if options.cprctl:
            restarts(server, load, setup, options, result)
        elif not load.progress(FRESH_AT_THE_END, FRESH_AT_THE_END):
            raise Failure("it does not serve under load")
        check_listeners(server, before, setup, result)
    finally:
        counters = load.pause()
        take_counters(counters, setup, options, result, setup.says_ended(server.output()) if setup.says_ended else 0)
    return counters["waits"]


def run(setup, options):
    """The whole trial: set up, start, load, restart, look, stop."""
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
            result.expect(server.stop(), "SIGTERM does not stop it")
            result.tail = server.tail()
        room.leave()
    return result
