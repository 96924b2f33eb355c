# SPDX-License-Identifier: MIT
"""Connections that an old generation passes on long after a restart, when the new one is not what it was."""
import json
import os
import signal
import socket
import subprocess
import time

from common import CTL, PATIENCE, alive, run, test, until
from supervise import Supervised

# It answers each line with its pid and the number of its start; at HUP it executes itself. While there is a file
# hold.N, the N-th start of it takes no clients; while there is wait.N, it has no listener yet. FORKING does so in three
# workers.
ANEW = """
import os, select, signal, socket, sys, time
def stay(name):
    while os.path.exists(f"{name}.{number}"):
        open(f"{name}.{number}.seen", "w").close()
        time.sleep(0.005)
with open("starts", "a") as starts:
    starts.write("x")
number = os.path.getsize("starts")
stay("wait")
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", int(sys.argv[1])))
listener.listen(50)
listener.setblocking(False)
open("ready", "w").close()
open(f"ready.{number}", "w").close()
events = select.epoll()
events.register(listener, select.EPOLLIN)
signal.signal(signal.SIGHUP, lambda *_: os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]]))
clients, asked = {}, {}
while True:
    stay("hold")
    for fd, _ in events.poll(0.05):     # HUP may come just before the wait
        if fd == listener.fileno():
            try:
                client = listener.accept()[0]
            except BlockingIOError:     # another worker was first
                continue
            clients[client.fileno()], asked[client.fileno()] = client, b""
            events.register(client, select.EPOLLIN)
            continue
        more = clients[fd].recv(100)
        asked[fd] += more
        if not more:
            events.unregister(fd)
            clients.pop(fd).close()
        elif asked[fd].endswith(b"\\n"):
            asked[fd] = b""
            clients[fd].sendall(b"%d %d\\n" % (os.getpid(), number))
"""


FORKING = ANEW.replace("events = ", """
def leave(*_):
    for worker in workers:
        os.kill(worker, signal.SIGKILL)
        os.waitpid(worker, 0)
    os._exit(0)
workers = []
while len(workers) < 3 and (worker := os.fork()):
    workers.append(worker)
if len(workers) == 3:
    signal.signal(signal.SIGTERM, leave)
    while True:
        signal.pause()
events = """, 1)


class Anew(Supervised):
    def __init__(self, *options, code=ANEW):
        super().__init__("-c", "tcp:*", *options, code=code)

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)

    def hand_over(self, count):
        """An idle client, which the second generation has, and `count` that the first one has: half of a question has
        come from each."""
        idle, *busy = [self.connect() for _ in range(count + 1)]
        for client in (idle, *busy):
            ask(client)
        for client in busy:
            client.sendall(b"half of a question, ")
        assert self.restart().status == 0
        until("the idle connection to be carried", lambda: ask(idle)[1] == 2)
        return idle, busy

    def hold(self, number):
        self.touch(f"hold.{number}")
        until("it to take no clients", lambda: self.has(f"hold.{number}.seen"))


def ask(client, words=b"?\n"):
    client.sendall(words)
    answer = client.recv(100)
    assert answer, "the connection was closed"
    return tuple(int(word) for word in answer.split())


@test
def what_comes_late_goes_to_a_server_that_has_executed_itself_meanwhile():
    """The line on which the first were passed has ended with the program that read it."""
    with Anew() as server:
        idle, (busy,) = server.hand_over(1)
        new, _ = ask(idle)
        os.kill(new, signal.SIGHUP)
        until("it to have executed itself", lambda: server.has("ready.3"))
        assert ask(busy, b"and the rest\n")[1] == 1
        until("the other to be carried", lambda: ask(busy) == (new, 3))
        idle.close()
        busy.close()


def waiting(pid):
    return json.loads(run(CTL, "status", str(pid), "--json").out)["connections_waiting"]


@test
def what_is_carried_and_not_accepted_goes_on_when_the_server_executes_itself():
    """With what comes while its next image has no listener yet."""
    with Anew() as server:
        idle, busy = server.hand_over(9)
        new, _ = ask(idle)
        server.hold(2)
        for client in busy[:4]:
            assert ask(client, b"and the rest\n")[1] == 1
        until("them to wait", lambda: waiting(new) == 4)
        server.touch("wait.3")
        os.kill(new, signal.SIGHUP)
        until("its next image", lambda: server.has("wait.3.seen"))
        for client in busy[4:]:
            assert ask(client, b"and the rest\n")[1] == 1
        until("the others to wait", lambda: waiting(new) == 9)
        os.unlink(os.path.join(server.directory, "wait.3"))
        for client in busy:
            assert ask(client) == (new, 3)
            client.close()
        idle.close()


@test
def what_is_on_its_way_to_a_server_that_executes_itself_is_not_lost():
    """It has come from the old generation, and the server's last image has not read it yet."""
    with Anew() as server:
        idle, busy = server.hand_over(19)
        new, _ = ask(idle)
        server.hold(2)
        for number, client in enumerate(busy):
            assert ask(client, b"and the rest\n")[1] == 1
            if number == len(busy) // 2:
                os.kill(new, signal.SIGHUP)
        until("its next image", lambda: server.has("ready.3"))
        for client in busy:
            assert ask(client)[1] in (1, 3)     # the last may be with the old one still
            client.close()
        idle.close()


@test
def what_is_on_its_way_to_a_server_that_is_rolled_back_is_not_lost():
    """Its gate is closed, and a door is where its listener was, when it finds what has come for that."""
    for _ in range(10):     # by chance in one of eight
        with Anew("--rollback=20", code=FORKING) as server:
            idle, busy = server.hand_over(5)
            time.sleep(0.2)     # the longer nothing comes, the rarer it looks: every 50 ms at least
            rolled_back = subprocess.Popen([CTL, "rollback", server.pid], stdout=subprocess.DEVNULL)
            for client in busy:
                assert ask(client, b"and the rest\n")[1] == 1
            assert rolled_back.wait(PATIENCE) == 0
            for client in (idle, *busy):
                assert ask(client)[1] in (1, 2)     # it may be on its way back still
                client.close()


# At the end of a connection it sets an option of it, as nginx does behind an answer.
SETTING = ANEW.replace("        if not more:\n", """        if not more:
            try:
                clients[fd].setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            except OSError:
                open("failed", "w").close()
""")


@test
def options_of_a_connection_that_was_passed_on_can_be_set():
    """What stands in its place is no TCP socket: nginx said "setsockopt(TCP_NODELAY) failed" in its log."""
    with Anew(code=SETTING) as server, server.connect() as idle:
        old, _ = ask(idle)
        assert server.restart().status == 0
        until("the idle connection to be carried", lambda: ask(idle)[1] == 2)
        until("the old one to end", lambda: not alive(old))
        assert not server.has("failed")
