# SPDX-License-Identifier: MIT
"""Handover mode and locks: a next generation that waits for the last one's is no generation that waits for work."""
from common import SERVER, expect, test
from supervise import Supervised

LOCK = """import fcntl
held = open("own.lock", "a")
fcntl.flock(held, fcntl.LOCK_EX)
"""
BOUND = SERVER.replace('open("ready"', LOCK + 'open("ready"', 1)    # start_server's way, and so h2o's
UNBOUND = SERVER.replace("listener = socket", LOCK + "listener = socket", 1)


def is_called_off(code):
    with Supervised(code=code) as server:
        first = server.status()["server"]
        for _ in range(2):
            expect(server.restart(), 1, rf"waits for a lock that PID {first} holds \(.*own.lock\)", "--one-at-a-time")
            assert server.serves() and server.status()["server"] == first


@test
def a_generation_that_waits_for_the_last_ones_lock_is_called_off():
    is_called_off(BOUND)


@test
def so_is_one_that_waits_for_it_before_it_binds():
    is_called_off(UNBOUND)


@test
def one_at_a_time_waits_for_no_lock():
    with Supervised("--one-at-a-time", code=BOUND) as server:
        assert server.restart().status == 0 and server.serves()


# Two processes accept in turns.
TURNS = SERVER.replace('open("ready"', """import fcntl, signal
child = os.fork()
turn = open("turn%d" % os.getppid() if not child else "turn%d" % os.getpid(), "a")
def end(*_):
    if child:
        os.kill(child, signal.SIGKILL)
    os._exit(0)
signal.signal(signal.SIGTERM, end)
open("ready\"""", 1).replace("    connection = listener.accept()[0]", """    fcntl.lockf(turn, fcntl.LOCK_EX)
    connection = listener.accept()[0]
    fcntl.lockf(turn, fcntl.LOCK_UN)""", 1)


@test
def workers_that_accept_in_turns_are_handed_over():
    with Supervised(code=TURNS) as server:
        for _ in range(2):
            expect(server.restart(), 0)
            assert server.serves()
