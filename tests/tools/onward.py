# SPDX-License-Identifier: MIT
"""Connections that an old generation passes on long after a restart, when the new one is not what it was."""
import os
import signal
import socket

from common import PATIENCE, test, until
from supervise import Supervised

# It answers each line with its pid and the number of its start; after HUP it executes itself.
ANEW = """
import os, select, signal, socket, sys
with open("starts", "a") as starts:
    starts.write("x")
number = os.path.getsize("starts")
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", int(sys.argv[1])))
listener.listen(50)
events = select.epoll()
wake, note = socket.socketpair()
note.setblocking(False)
signal.set_wakeup_fd(note.fileno())
signal.signal(signal.SIGHUP, lambda *_: None)
events.register(listener, select.EPOLLIN)
events.register(wake, select.EPOLLIN)
clients, asked = {}, {}
open("ready", "w").close()
open(f"ready.{number}", "w").close()
while True:
    for fd, _ in events.poll():
        if fd == wake.fileno():
            os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
        if fd == listener.fileno():
            client = listener.accept()[0]
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


class Anew(Supervised):
    def __init__(self):
        super().__init__("-c", "tcp:*", code=ANEW)

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)


def ask(client, words=b"?\n"):
    client.sendall(words)
    answer = client.recv(100)
    assert answer, "the connection was closed"
    return tuple(int(word) for word in answer.split())


@test
def what_comes_late_goes_to_a_server_that_has_executed_itself_meanwhile():
    """The line on which the first were passed has ended with the program that read it."""
    with Anew() as server, server.connect() as idle, server.connect() as busy:
        old, _ = ask(idle)
        assert ask(busy) == (old, 1)
        busy.sendall(b"half of a question, ")
        assert server.restart().status == 0
        until("the idle connection to be carried", lambda: ask(idle)[1] == 2)
        new, _ = ask(idle)
        os.kill(new, signal.SIGHUP)
        until("it to have executed itself", lambda: server.has("ready.3"))
        assert ask(busy, b"and the rest\n") == (old, 1)
        until("the other to be carried", lambda: ask(busy) == (new, 3))
