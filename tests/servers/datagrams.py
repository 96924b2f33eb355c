# SPDX-License-Identifier: MIT
"""The trial of a UDP server: datagrams wait in the queue while it restarts, and it serves every one."""

import os
import selectors
import socket
import subprocess
import time

import proc
from harness import READY_WITHIN, Failure, Result, Room, Server
from setups import python
from trial import RESTART_TIMEOUT

NAME = "udp"
BURST = 100             # sent before cprctl starts, so that the server is busy when the doorbell rings
DURING = 100            # sent during the restart; both together fit a receive buffer of default size
PACE = 0.001            # seconds between two of them
RECORDED_WITHIN = 20.0
PLAIN_ROUNDS = 3


class Recorder:
    """Reads the server's standard output, which every generation inherits. The server writes each datagram there."""

    def __init__(self):
        self.end, self.theirs = os.pipe()
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.end, selectors.EVENT_READ)
        self.rest, self.bound, self.seen = b"", 0, set()

    def server_started(self):
        os.close(self.theirs)
        self.theirs = None

    def read_until(self, condition, seconds):
        until = time.monotonic() + seconds
        while not condition():
            left = until - time.monotonic()
            if left <= 0 or not self.selector.select(left):
                return False
            data = os.read(self.end, 65536)
            if not data:
                return False
            *lines, self.rest = (self.rest + data).split(b"\n")
            self.bound += lines.count(b"bound")
            self.seen.update(int(line) for line in lines if line.isdigit())
        return True

    def close(self):
        self.selector.close()
        os.close(self.end)
        if self.theirs is not None:
            os.close(self.theirs)


class Sender:
    def __init__(self, port):
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.connect(("127.0.0.1", port))
        self.sent = self.refused = 0

    def send(self, count, pace=0.0):
        due = time.monotonic()
        for _ in range(count):
            due += pace
            time.sleep(max(0.0, due - time.monotonic()))    # this sets the rate; it waits for nothing
            try:
                self.sock.send(b"%d" % self.sent)
            except ConnectionRefusedError:      # tells of the datagram before: no socket had the port
                self.refused += 1
            self.sent += 1


def restart_round(server, sender, recorder, options, result):
    before, generations = proc.stack(server.pid), recorder.bound
    sender.send(BURST)
    if options.cprctl:
        began = time.monotonic()
        command = [options.cprctl, "restart", str(server.pid), "--timeout", str(RESTART_TIMEOUT), "--json"]
        with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True) as cprctl:
            sender.send(DURING, PACE)
            try:
                _, why = cprctl.communicate(timeout=RESTART_TIMEOUT + 10)
            except subprocess.TimeoutExpired:
                cprctl.kill()
                raise Failure("cprctl does not return") from None
        if cprctl.returncode:
            server.require_running()
            raise Failure(f"cprctl restart: exit {cprctl.returncode}: {why.strip()}")
        result.restart_ms.append((time.monotonic() - began) * 1000)
        result.restarts += 1
    else:
        sender.send(DURING, PACE)
    if not recorder.read_until(lambda: len(recorder.seen) >= sender.sent, RECORDED_WITHIN):
        server.require_running()
        raise Failure(f"{sender.sent - len(recorder.seen)} of {sender.sent} datagrams were lost")
    if options.cprctl:
        result.expect(proc.stack(server.pid) not in (None, before), "the image did not change")
        result.expect(recorder.read_until(lambda: recorder.bound == generations + 1, READY_WITHIN),
                      "the new generation did not say that it is bound")


def rounds(server, sender, recorder, options, result):
    if not recorder.read_until(lambda: recorder.bound, READY_WITHIN):
        server.require_running()
        raise Failure("it does not bind")
    before = proc.datagram_sockets(server.pid, server.room.port)
    for _ in range(options.restarts if options.cprctl else PLAIN_ROUNDS):
        restart_round(server, sender, recorder, options, result)
    after = proc.datagram_sockets(server.pid, server.room.port)
    result.expect(before.keys() == after.keys(), f"the socket was {list(before)}, it is {list(after)}")
    result.expect(not any(after.values()), "the kernel's queue was full: the test sends too fast")
    result.expect(proc.hold({server.pid}, after), "the server's own process does not hold its socket")


def run(options):
    result, room, recorder = Result(NAME), Room(NAME), Recorder()
    sender, server = Sender(room.port), None
    try:
        server = Server(python("udp_record.py", str(room.port)), room, options, stdout=recorder.theirs)
        recorder.server_started()
        rounds(server, sender, recorder, options, result)
    except (Failure, OSError, subprocess.SubprocessError) as failure:
        result.reasons.append(str(failure))
    finally:
        result.requests, result.refused = len(recorder.seen), sender.refused
        result.expect(not sender.refused, f"{sender.refused} datagrams were refused")
        if server:
            result.expect(server.stop(), "SIGTERM does not stop it")
            result.tail = server.tail()
        sender.sock.close()
        recorder.close()
        room.leave()
    return result


TRIALS = {NAME: run}
