#!/usr/bin/python3
# SPDX-License-Identifier: MIT
"""The demo's 32 clients, a process of its own: the load of tests/servers, which looks also at the version that answers.

    clients.py PORT
"""

import os
import random
import re
import sys
import time

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "servers"))

import load
import protocols

CLIENTS = 32        # every other one keeps its connection
ANSWER = re.compile(rb"HTTP/1\.1 200 OK\r\n(?:[^\r\n]+\r\n)*\r\nhello from httpd (v\d+)\n")


def httpd(_number):
    return b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", judge


def judge(received):
    if not received.partition(b"\r\n\r\n")[2].endswith(b"\n"):
        return protocols.PENDING
    return protocols.GOOD if ANSWER.fullmatch(received) else protocols.WRONG


class StubbornClient(load.Client):
    """Remembers since when it has wanted an answer: a refused client asks again, and has waited all the while."""

    def __init__(self, *arguments):
        super().__init__(*arguments)
        self.wanting_since = None

    def begin(self, now):
        self.wanting_since = self.wanting_since or now
        super().begin(now)

    def rest(self):
        """For a random time: clients that a restart has brought into step would all think through the next one."""
        super().rest()
        self.due += load.THINKING_TIME * random.uniform(-1, 1)

    def served(self):
        waited, self.wanting_since = time.monotonic() - self.wanting_since, None
        return waited


class Clients(load.Load):
    def __init__(self, port):
        super().__init__("httpd", "tcp", port)
        self.counters.answers = {}
        now = time.monotonic()
        self.clients = [StubbornClient(self, index % 2 == 1, now + index * load.THINKING_TIME / CLIENTS)
                        for index in range(CLIENTS)]

    def went_well(self, client):
        super().went_well(client)
        counters, version = self.counters, ANSWER.fullmatch(client.received)[1].decode()
        counters.answers[version] = counters.answers.get(version, 0) + 1
        counters.longest_ms = max(counters.longest_ms, int(client.served() * 1000))


if __name__ == "__main__":
    protocols.BY_NAME["httpd"] = httpd
    Clients(sys.argv[1]).run()
