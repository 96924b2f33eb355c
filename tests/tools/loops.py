# SPDX-License-Identifier: MIT
"""Exec mode and a server of one thread with blocking sockets: a read that sleeps would hold up all its clients."""
import random
import socket
import threading

from common import PATIENCE, Server, test
from onward import ANEW, ask

CLIENTS, RESTARTS = 30, 2


class Restless(threading.Thread):
    """It asks without a pause, often in two halves, and often anew."""

    def __init__(self, server, seed):
        super().__init__()
        self.server, self.random, self.over = server, random.Random(seed), threading.Event()
        self.answers, self.failed = 0, []

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.server.port), timeout=PATIENCE)

    def lost(self, error):
        self.failed.append(repr(error))

    def run(self):
        client = self.connect()
        while not self.over.is_set():
            try:
                if self.random.random() < 0.3:
                    client.sendall(b"half of a question, ")
                    self.over.wait(self.random.random() * 0.3)
                ask(client)
                self.answers += 1
                if self.random.random() < 0.1:
                    client.close()
                    client = self.connect()
            except (OSError, AssertionError) as error:
                self.lost(error)
                client = self.connect()
        client.close()


@test
def an_event_loop_of_blocking_sockets_does_not_sleep_in_a_late_read():
    """It read for one late client in each drain, and slept at the second one: up to 22 of 30 were cut."""
    with Server("-c", "tcp:*", "--drain=15", code=ANEW) as server:
        clients = [Restless(server, seed) for seed in range(CLIENTS)]
        for client in clients:
            client.start()
        told = [server.restart() for _ in range(RESTARTS)]
        for client in clients:
            client.over.set()
        for client in clients:
            client.join()
    assert not [one for one in told if one.status or " 0 cut, " not in one.out], told
    assert not [one.failed for one in clients if one.failed]
