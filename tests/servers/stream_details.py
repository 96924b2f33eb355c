# SPDX-License-Identifier: MIT
"""The trial of streams beside HTTP: a connection without a boundary goes on for --drain, and delays no other client."""

import threading
import time

from details import Aside, run_checks, scripted
from harness import Failure
from tls_details import echo, upgraded

BESIDE = 4
STREAMS = 4
HELD = 0.25             # seconds that another connection may delay a client
SLACK = 0.25            # for a busy machine
DRAIN = 3


def longest_wait(client, over):
    """Asks again and again until `over`. Returns the longest wait in seconds."""
    longest = 0.0
    while not over.is_set():
        began = time.monotonic()
        client.ask("/")
        longest = max(longest, time.monotonic() - began)
        time.sleep(0.005)
    return longest


class Beside:
    """HTTP clients that ask during a restart."""

    def __init__(self, bench):
        self.over = threading.Event()
        self.asides = [Aside(longest_wait, bench.client(), self.over) for _ in range(BESIDE)]

    def longest(self):
        self.over.set()
        return max(aside.result() for aside in self.asides)


def restart_beside(result, bench):
    """Returns cprctl's answer. Expects that no client waits longer than the start takes, plus HELD."""
    beside = Beside(bench)
    said = bench.restart()
    waited, start = beside.longest(), (said["ready_us"] - said["drain_us"]) / 1e6
    result.figures.append(f"{bench.name}: drained {said['drain_us'] / 1e6:.2f} s, an HTTP client waited "
                          f"{waited - start:.2f} s longer than the start")
    result.expect_in_time(waited <= start + HELD + SLACK,
                          f"a client waited {waited:.2f} s, of which the start took {start:.2f}")
    return said


def idle_ones_cost_nothing(result, options, how):
    with scripted(result, options, how, cpr=("-d", str(DRAIN))) as bench:
        bench.name = f"idle websockets, {how}"
        socks = [upgraded(bench) for _ in range(STREAMS)]
        bench.await_busy(STREAMS)
        said = restart_beside(result, bench)
        result.expect_in_time(said["drain_us"] < DRAIN * 1e6 / 2, f"the drain took {said['drain_us'] / 1e6:.1f} s")
        result.expect(said["cut"] == 0 and said["closed"] == STREAMS, f"{STREAMS} idle streams, and cprctl says {said}")
        for sock in socks:
            result.expect(sock.recv(1) == b"", "an idle stream did not end")


def talk(sock, pause):
    """Counts the echoes until a clean end between two of them."""
    count = 0
    while echo(sock):
        count += 1
        time.sleep(pause)
    return count


def talking_ones_have_the_drain(result, options, how):
    """No pause reaches 40 ms, so the streams go on for all of --drain."""
    with scripted(result, options, how, cpr=("-d", str(DRAIN))) as bench:
        bench.name = f"talking websockets, {how}"
        socks = [upgraded(bench) for _ in range(STREAMS)]
        talks = [Aside(talk, sock, 0.005) for sock in socks]
        bench.await_busy(STREAMS)
        said = restart_beside(result, bench)
        result.expect(said["drain_us"] > (DRAIN - 0.5) * 1e6,
                      f"the drain took {said['drain_us'] / 1e6:.1f} s of {DRAIN}")
        for aside in talks:
            try:
                result.expect(aside.result() > 20, "a stream had too few echoes")
            except Failure as failure:
                result.expect("cut in the middle" in str(failure), str(failure))


def pausing_ones_end_in_a_silence(result, options, how):
    with scripted(result, options, how, cpr=("-d", str(DRAIN))) as bench:
        bench.name = f"pausing websockets, {how}"
        talks = [Aside(talk, upgraded(bench), 0.2 + 0.01 * number) for number in range(STREAMS)]
        bench.await_busy(STREAMS)
        said = restart_beside(result, bench)
        result.expect(said["cut"] == 0, f"{said['cut']} were cut")
        for aside in talks:
            aside.result()


CHECKS = [(check, how)
          for check in (idle_ones_cost_nothing, talking_ones_have_the_drain, pausing_ones_end_in_a_silence)
          for how in ("asyncio", "threads")]


def run(options):
    return run_checks("streams", CHECKS, options)


TRIALS = {"streams": run}
