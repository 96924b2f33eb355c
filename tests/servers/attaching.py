# SPDX-License-Identifier: MIT
"""Servers that start without cpr: under load, cpr-exec --attach takes each over, and two restarts follow."""

import dataclasses

import handover
import proc
from harness import Load, Result, Room, Server, await_until
from setups import SETUPS

TRIALS = {}
GRACEFUL = ("nginx",)       # these finish their requests after SIGTERM
OTHER_END = 5.0             # seconds, for the server that ran without cpr


class Attached(Server):
    """The supervisor that takes over a running server."""

    def __init__(self, plain, room, options, setup):
        command = setup.prepare(room)
        attached = dataclasses.replace(options, cpr_exec=None)
        super().__init__([options.cpr_exec, "--attach", str(plain.pid), *setup.cpr, "--", *command], room, attached)


def attach(name, options, result):
    setup = SETUPS[name]
    room = Room(f"attach-{name}")
    plain = server = load = None
    try:
        plain = Server(setup.prepare(room), room, dataclasses.replace(options, cpr_exec=None))
        plain.await_ready()
        load = Load(setup.protocol, room)
        result.expect(load.progress(8, 8), "the server does not serve before the attach")
        server = Attached(plain, room, options, setup)
        result.expect(await_until(lambda: is_up(options, server), 20),
                      "the supervisor does not serve: " + server.tail())
        result.expect(await_until(lambda: not plain.running(), OTHER_END), "the server without cpr still runs")
        for number in (1, 2):
            result.expect(load.progress(8, 8), "new requests are not answered")
            said, _ = handover.restart(options, server)
            result.restarts = number
            result.expect(said["descriptors"] == 1, f"{said['descriptors']} descriptors")
        counters = load.pause()
        result.requests, result.samples = counters["ok"], counters["samples"]
        for column in ("refused", "timed_out", "cut", "idle_closed", "longest_ms"):
            setattr(result, column, counters[column])
        lost = {key: counters[key] for key in ("refused", "timed_out", "stalled", "wrong") if counters[key]}
        result.expect(not lost, f"clients noticed: {lost}")
        if name in GRACEFUL:
            result.expect(counters["cut"] == counters["crossed"], f"{counters['cut']} cut")
    finally:
        if load:
            load.end()
        for one in filter(None, (server, plain)):
            one.stop()
            result.tail += one.tail()
        room.leave()


def is_up(options, server):
    server.require_running()
    return proc.command(server.pid) and handover.serves(options, server)


def register(name):
    def run(options):
        result = Result(f"attach-{name}")
        handover.guard(result, lambda: attach(name, options, result))
        return result
    TRIALS[f"attach-{name}"] = run


for each in ("nginx", "redis", "python-threading", "node"):
    register(each)
