# SPDX-License-Identifier: MIT
"""cpr-exec --canary: a share of the clients for the next generation, and the way back from it."""
import os
import signal
import socket
import subprocess
import threading
import time

from common import CTL, EXEC, PATIENCE, SERVER, alive, expect, run, test, until
from supervise import Supervised

# It says which process answers, and is ill while a file of that name is there.
ANSWERING = SERVER.replace('connection.sendall(b"hello\\n")', 'connection.sendall(b"%d\\n" % os.getpid())')
# A blocking accept is let through, a little later: one that polls and does not block shows how long a turn is over.
POLLING = ANSWERING.replace("connection = listener.accept()[0]", """listener.setblocking(False)
    import select
    select.select([listener], [], [])
    try:
        connection = listener.accept()[0]
    except BlockingIOError:
        continue""")
HEALTH = "test ! -e ill"
WITHIN_PERCENT = 3


class Canary(Supervised):
    def __init__(self, spec, *options, code=ANSWERING):
        super().__init__("--canary", spec, *options, code=code)
        self.asking, self.answered, self.wrong, self.done = None, [], [], False
        self.longest = 0.0      # that a client waited, s

    def __enter__(self):
        super().__enter__()
        self.old = self.status()["server"]
        self.clients = [threading.Thread(target=self.load) for _ in range(2)]
        for client in self.clients:
            client.start()
        return self

    def __exit__(self, *_):
        self.done = True
        for client in self.clients:
            client.join()
        super().__exit__()
        if self.asking:
            self.asking.communicate(timeout=PATIENCE)
        assert not self.wrong, self.wrong[:3]

    def load(self):
        """Clients at an even pace, each of which must be answered."""
        while not self.done:
            self.ask()
            time.sleep(0.002)

    def ask(self):
        began = time.monotonic()
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE) as client:
                pid = int(client.recv(16))
        except (OSError, ValueError) as error:
            self.wrong.append(error)
            return 0
        self.answered.append(pid)
        self.longest = max(self.longest, time.monotonic() - began)
        return pid

    def begin(self):
        self.asking = subprocess.Popen([CTL, "restart", self.pid], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
                                       text=True)
        self.answered.clear()
        until("a new one to have a client", lambda: set(self.answered) - {self.old})
        self.new, = set(self.answered) - {self.old}

    def share(self):
        return 100 * self.answered.count(self.new) / len(self.answered)

    def ends(self, status):
        _, err = self.asking.communicate(timeout=PATIENCE)
        assert self.asking.returncode == status, err
        return err

    def is_back(self):
        """The old one serves alone."""
        until("the new one to end", lambda: not alive(self.new))
        self.answered.clear()
        until("clients", lambda: len(self.answered) > 20)
        assert set(self.answered) == {self.old} and self.status()["server"] == self.old


@test
def a_canary_takes_its_share():
    with Canary("20:60") as server:
        server.begin()
        assert "[canary] " in run(CTL, "ps").out
        server.answered.clear()
        until("2,000 clients", lambda: len(server.answered) >= 2000)
        until("its share of all of them", lambda: abs(server.share() - 20) <= WITHIN_PERCENT)
        assert set(server.answered) == {server.old, server.new}


@test
def a_canary_shares_clients_and_not_time():
    """Rushes of clients, each of which begins with a turn of the new one."""
    with Canary("10:60") as server:
        server.begin()
        first = len(server.answered)
        while len(server.answered) - first < 2000:
            for one in server.old, server.new:
                until("the turn of each", lambda: server.answered[-1] == one)
            for _ in range(200):
                server.ask()
        taken = server.answered[first:]
        share = 100 * taken.count(server.new) / len(taken)
        assert abs(share - 10) <= WITHIN_PERCENT, f"{share:.1f} % of {len(taken)}"


@test
def no_client_waits_for_a_check_that_outlasts_its_turn():
    """A turn of some clients is over within milliseconds, and a check takes 0.7 s."""
    with Canary("10:60", "--ready-command", "sleep 0.7", code=POLLING) as server:
        server.begin()
        server.answered.clear()
        server.longest = 0.0
        both = {server.old, server.new}
        until("a turn of each", lambda: len(server.answered) >= 500 and set(server.answered) == both)
        assert server.longest < 0.5, f"one waited for {server.longest:.3f} s"


@test
def a_canary_takes_all_in_the_end():
    with Canary("50:1") as server:
        server.begin()
        server.ends(0)
        until("the old one to end", lambda: not alive(server.old))
        server.answered.clear()
        until("clients", lambda: len(server.answered) > 20)
        assert set(server.answered) == {server.new} and server.status()["generation"] == 2


@test
def a_canary_that_is_ill_gives_its_clients_back():
    with Canary("50:60", "--ready-command", HEALTH) as server:
        server.begin()
        server.touch("ill")
        assert "failed: the health check failed: exit status 1" in server.ends(1)
        server.is_back()


@test
def a_canary_that_dies_gives_its_clients_back():
    """Clients that it has in its hands then are its own: they are paused for that moment."""
    with Canary("50:60") as server:
        server.begin()
        server.done = True
        for client in server.clients:
            client.join()
        os.kill(server.new, signal.SIGKILL)
        assert "failed: the next generation was ended by signal 9, after it had been ready" in server.ends(1)
        server.done, server.clients = False, [threading.Thread(target=server.load)]
        server.clients[0].start()
        server.is_back()


@test
def a_canary_can_be_rolled_back_and_followed_by_another():
    with Canary("50:60") as server:
        for _ in range(2):
            server.begin()
            expect(run(CTL, "rollback", server.pid), 0, f"generation 1, PID {server.old}, serves again", where="out")
            assert "failed: it was rolled back" in server.ends(1)
            server.is_back()


@test
def a_canary_whose_old_generation_hangs_does_not_end_the_service():
    """Its gate cannot be opened again: it is ended, and started again."""
    with Canary("50:60") as server:
        server.begin()
        server.done = True
        for client in server.clients:
            client.join()
        os.kill(server.old, signal.SIGSTOP)
        server.ends(1)
        until("the old one to be ended", lambda: not alive(server.old))
        server.answered.clear()
        server.done, server.clients = False, [threading.Thread(target=server.load)]
        server.clients[0].start()
        until("clients", lambda: len(server.answered) > 20)
        assert server.old not in server.answered and server.new not in server.answered


@test
def a_canary_whose_old_generation_dies_serves_alone():
    with Canary("5:60") as server:
        server.begin()
        server.done = True
        for client in server.clients:
            client.join()
        os.kill(server.old, signal.SIGKILL)
        server.ends(0)
        server.done, server.clients = False, [threading.Thread(target=server.load)]
        server.clients[0].start()
        server.answered.clear()
        until("clients", lambda: len(server.answered) > 20)
        assert set(server.answered) == {server.new}


@test
def a_supervisor_ends_in_a_canary():
    with Canary("50:60") as server:
        server.begin()
        server.done = True
        for client in server.clients:
            client.join()
        server.process.terminate()
        assert server.process.wait(PATIENCE) == -signal.SIGTERM
        assert not alive(server.old) and not alive(server.new)


@test
def a_canary_is_a_share():
    for bad in "0", "100", "5:0", "five", "5:", "":
        expect(run(EXEC, "-m", "handover", "--canary", bad, "true"), 2, "--canary .*: give PERCENT or PERCENT:SEC")
    expect(run(EXEC, "--canary", "5", "true"), 2, "--canary is for handover mode")
    expect(run(EXEC, "-m", "handover", "--one-at-a-time", "--canary", "5", "true"), 2, "--canary: with one generation")
