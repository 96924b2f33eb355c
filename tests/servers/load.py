#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The load, a process of its own: new-connection and keep-alive clients, and counters of what happened to them.

    load.py PROTOCOL tcp PORT | load.py PROTOCOL unix PATH

It reads JSON commands from stdin, one a line. It answers each on stdout with a line of JSON, the counters so far:
    {"do": "await", "fresh": N, "kept": N, "within": SEC}
        answered when so many requests that begin from now on succeed, and nearly all earlier ones have ended
    {"do": "everyone", "within": SEC}
        answered when every client has had an answer from now on. "first" and "last" are the times of the first and
        the last client's first answer. A client counts only if the server's short queue dropped none of its segments.
    {"do": "pause"}
        answered when every client has finished its request and closed its connection
    {"do": "resume"}
The end of the input ends it.
"""

import errno
import json
import os
import selectors
import socket
import sys
import time

import protocols

CLIENTS_OF_A_KIND = 16
THINKING_TIME = 0.005       # between two requests of one client: long enough for a restart to find it idle
PATIENCE = 10.0             # seconds, for a connect and for an answer
FULL_QUEUE_RETRY = 0.002    # a unix connect() says EAGAIN when the queue is full, where TCP would wait
SETTLING_TIME = 0.3         # to wait for earlier requests; a dropped segment may come even later
SAMPLES = 5
LONG_WAIT_MS = 20           # longer waits are recorded one by one
WAITS = 50000
TCP_INFO_RETRANSMITTED = 100    # where tcpi_total_retrans stands in struct tcp_info

RESTING, CONNECTING, ASKING = "resting", "connecting", "asking"


class Counters:
    def __init__(self):
        self.ok = self.refused = self.timed_out = self.stalled = self.cut = 0
        self.idle_closed = self.crossed = self.resets = self.wrong = self.longest_ms = 0
        self.samples = []
        self.waits = []     # [begin (CLOCK_MONOTONIC), ms, was one of its segments retransmitted?]

    def note(self, text):
        if len(self.samples) < SAMPLES and text not in self.samples:
            self.samples.append(text)


class Client:
    """One client. `keeps`: it uses one connection for many requests."""

    def __init__(self, load, keeps, due):
        self.load, self.keeps, self.due = load, keeps, due
        self.sock, self.state = None, RESTING
        self.began = self.number = 0
        self.unsent = self.received = b""
        self.judge = None
        self.answered = False   # has this connection had an answer?

    # -- timeouts

    def tick(self, now):
        if now < self.due:
            return
        if self.state is CONNECTING:
            self.load.counters.timed_out += 1
            self.load.was_dropped(self)
            self.give_up("connect timed out")
        elif self.state is ASKING:
            self.load.counters.stalled += 1
            self.load.was_dropped(self)
            self.give_up("no answer in time")
        elif not self.load.paused:
            self.begin(now)

    def begin(self, now):
        self.began = self.began or now
        if self.sock and self.went_stale():
            self.ended("end of stream")
        elif self.sock:
            self.ask()
        else:
            self.connect()

    def went_stale(self):
        """Has the server closed the idle connection? A connection pool makes the same check before each use."""
        try:
            return not self.sock.recv(1, socket.MSG_PEEK)
        except OSError:
            return False

    def connect(self):
        self.sock = socket.socket(self.load.family, socket.SOCK_STREAM)
        self.sock.setblocking(False)
        code = self.sock.connect_ex(self.load.address)
        if code == errno.EAGAIN and time.monotonic() < self.began + PATIENCE:
            self.close()
            self.due = time.monotonic() + FULL_QUEUE_RETRY
            return
        self.state, self.due = CONNECTING, self.began + PATIENCE
        if code in (0, errno.EINPROGRESS):
            self.load.watch(self, selectors.EVENT_WRITE)
        else:
            self.connect_failed(code)

    def ask(self):
        self.number += 1
        self.unsent, self.judge = self.load.protocol(self.number)
        self.received = b""
        self.state, self.due = ASKING, time.monotonic() + PATIENCE
        self.load.watch(self, selectors.EVENT_READ)
        self.send()

    # -- events of the socket

    def ready(self):
        if self.state is CONNECTING:
            code = self.sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if code:
                self.connect_failed(code)
            else:
                self.ask()
        elif self.unsent:
            self.send()
        else:
            self.receive()

    def connect_failed(self, code):
        counters = self.load.counters
        if code in (errno.ECONNREFUSED, errno.ENOENT):
            counters.refused += 1
        elif code == errno.ETIMEDOUT or code == errno.EAGAIN:
            counters.timed_out += 1
        elif code == errno.ECONNRESET:
            counters.cut += 1
        else:
            counters.wrong += 1
        self.give_up("connect: " + os.strerror(code))

    def send(self):
        try:
            self.unsent = self.unsent[self.sock.send(self.unsent):]
        except BlockingIOError:
            pass
        except OSError as error:
            self.ended("send: " + error.strerror)
            return
        if self.unsent:
            self.load.watch(self, selectors.EVENT_WRITE)
        else:
            self.load.watch(self, selectors.EVENT_READ)

    def receive(self):
        try:
            data = self.sock.recv(65536)
        except BlockingIOError:
            return
        except OSError as error:
            self.ended(error.strerror)
            return
        if not data:
            self.ended("end of stream")
        elif self.state is RESTING:
            self.load.counters.wrong += 1
            self.give_up(f"bytes without a request: {data[:80]!r}")
        else:
            self.received += data
            self.verdict(self.judge(self.received))

    # -- the end of a request

    def verdict(self, verdict):
        if verdict is protocols.PENDING:
            return
        if verdict is protocols.WRONG:
            self.load.counters.wrong += 1
            self.give_up(f"wrong answer: {self.received[:120]!r}")
            return
        self.load.went_well(self)
        self.answered = True
        if verdict is protocols.LAST or not self.keeps or self.load.paused:
            self.close()
        self.rest()

    def ended(self, how):
        if how.endswith(os.strerror(errno.ECONNRESET)):
            self.load.counters.resets += 1
            self.load.counters.note(f"{how}, {self.state}")
        if self.state is RESTING:
            self.load.counters.idle_closed += 1
            self.close()
            self.rest()
            return
        if self.answered and not self.received:
            self.load.counters.crossed += 1     # the request crossed the FIN of an idle connection
        self.load.counters.cut += 1
        self.give_up(f"cut after {len(self.received)} bytes: {how}")

    def give_up(self, why):
        self.load.counters.note(why)
        self.close()
        self.rest()

    def rest(self):
        self.state, self.began = RESTING, 0
        self.due = time.monotonic() + THINKING_TIME

    def close(self):
        self.answered = False
        if self.sock:
            self.load.unwatch(self)
            self.sock.close()
            self.sock = None


class Load:
    def __init__(self, protocol, kind, where):
        self.protocol = protocols.BY_NAME[protocol]
        self.family = socket.AF_INET if kind == "tcp" else socket.AF_UNIX
        self.address = ("127.0.0.1", int(where)) if kind == "tcp" else where
        self.counters = Counters()
        self.selector = selectors.DefaultSelector()
        self.selector.register(sys.stdin.fileno(), selectors.EVENT_READ)
        self.commands = b""
        self.paused, self.pausing = False, False
        self.awaited = None
        # "until": the time limit; "firsts": when each client had its first answer, 0 if the server's short queue
        # dropped one of its segments
        self.everyone = None
        now = time.monotonic()
        self.clients = [Client(self, index % 2 == 1, now + index * THINKING_TIME / 4)
                        for index in range(2 * CLIENTS_OF_A_KIND)]

    def watch(self, client, events):
        key = self.selector.get_map().get(client.sock.fileno())
        if not key:
            self.selector.register(client.sock, events, client)
        elif key.events != events:
            self.selector.modify(client.sock, events, client)

    def unwatch(self, client):
        if client.sock.fileno() in self.selector.get_map():
            self.selector.unregister(client.sock)

    def went_well(self, client):
        self.counters.ok += 1
        waited = int((time.monotonic() - client.began) * 1000)
        self.counters.longest_ms = max(self.counters.longest_ms, waited)
        if waited >= LONG_WAIT_MS and len(self.counters.waits) < WAITS:
            self.counters.waits.append((client.began, waited, self.retransmitted(client.sock)))
        if self.everyone:
            self.everyone["firsts"].setdefault(client, 0 if self.retransmitted(client.sock) else time.monotonic())
        if self.awaited and client.began >= self.awaited["since"]:
            self.awaited["kept" if client.keeps else "fresh"] -= 1

    def was_dropped(self, client):
        if self.everyone:
            self.everyone["firsts"].setdefault(client, 0)

    def retransmitted(self, sock):
        if self.family == socket.AF_UNIX:
            return False
        info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, TCP_INFO_RETRANSMITTED + 4)
        return any(info[TCP_INFO_RETRANSMITTED:])

    def answer(self, done, **more):
        sys.stdout.write(json.dumps({"done": done, **more, **vars(self.counters)}) + "\n")
        sys.stdout.flush()

    def answer_when_due(self, now):
        if self.awaited:
            done = self.awaited["fresh"] <= 0 and self.awaited["kept"] <= 0
            if done and "settled" not in self.awaited:
                self.awaited["settled"] = now + SETTLING_TIME
            waiting = any(client.state is not RESTING and client.began < self.awaited["since"]
                          for client in self.clients)
            if done and (not waiting or now >= self.awaited["settled"]) or now >= self.awaited["until"]:
                self.awaited = None
                self.answer(done)
        if self.everyone:
            firsts = self.everyone["firsts"]
            done = len(firsts) == len(self.clients)
            if done or now >= self.everyone["until"]:
                self.everyone = None
                served = [at for at in firsts.values() if at]
                self.answer(done and bool(served), first=min(served, default=0), last=max(served, default=0))
        if self.pausing:
            for client in self.clients:
                if client.state is RESTING:
                    client.close()
            if all(client.state is RESTING for client in self.clients):
                self.pausing = False
                self.answer(True)

    def command(self, line):
        command = json.loads(line)
        now = time.monotonic()
        if command["do"] == "await":
            self.awaited = {"fresh": command["fresh"], "kept": command["kept"],
                            "since": now, "until": now + command["within"]}
        elif command["do"] == "everyone":
            self.everyone = {"firsts": {}, "until": now + command["within"]}
        elif command["do"] == "pause":
            self.paused = self.pausing = True
        else:
            self.paused = False
            self.answer(True)

    def read_commands(self):
        data = os.read(sys.stdin.fileno(), 65536)
        *lines, self.commands = (self.commands + data).split(b"\n")
        for line in lines:
            self.command(line)
        return bool(data)

    def run(self):
        while True:
            now = time.monotonic()
            for client in self.clients:
                client.tick(now)
            self.answer_when_due(now)
            due = min(client.due for client in self.clients)
            pause = 0.05 if self.paused else min(0.05, max(0.0, due - time.monotonic()))
            for key, _ in self.selector.select(pause):
                if key.data is None:
                    if not self.read_commands():
                        return
                elif key.data.sock is key.fileobj:
                    key.data.ready()


if __name__ == "__main__":
    Load(*sys.argv[1:4]).run()
