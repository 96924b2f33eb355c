# SPDX-License-Identifier: MIT
"""A server under supervision that closes its listener: to bind it again, as at a reload, or for good."""
import os
import signal
import socket
import time

from common import test, until
from supervise import Supervised

# Each connection is one byte that it greets with. HUP: it closes its listener and binds it again; USR1: it only closes.
REBINDING = """
import os, select, signal, socket, sys
def listening():
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    listener.bind(("127.0.0.1", int(sys.argv[1])))
    listener.listen(5)
    poll.register(listener, select.EPOLLIN)
    return listener
def close(*_):
    global listener
    listener.close()
    listener = None
def rebind(*_):
    close()
    globals().update(listener=listening())
    open("rebound", "w").close()
poll = select.epoll()
wake, note = socket.socketpair()    # a signal just before the wait would be looked at after the next event only
note.setblocking(False)
signal.set_wakeup_fd(note.fileno())
poll.register(wake, select.EPOLLIN)
listener = listening()
signal.signal(signal.SIGHUP, rebind)
signal.signal(signal.SIGUSR1, close)
open("ready", "w").close()
while True:
    was_closed = not listener           # what a wait reports that began before is true of the time before
    for number, _ in poll.poll():
        if number == wake.fileno():
            wake.recv(64)
            continue
        if not listener:
            if was_closed:
                open("awoken", "w").close()
                signal.pause()
            continue
        connection = listener.accept()[0]
        connection.sendall(b"hello\\n")
        connection.close()
"""


def rebinds(server):
    os.kill(int(server.pid), signal.SIGHUP)
    until("it to have bound again", lambda: server.has("rebound"))
    os.unlink(os.path.join(server.directory, "rebound"))
    return server.serves()


def refuses(server):
    try:
        socket.create_connection(("127.0.0.1", server.port), timeout=1).close()
    except ConnectionRefusedError:
        return True
    except TimeoutError:
        pass        # those that ask wait in its queue, which is full
    time.sleep(0.2)
    return False


@test
def a_server_that_closes_its_listener_may_bind_it_again():
    """In its first generation and in later ones; the supervisor holds a duplicate all the while."""
    with Supervised(code=REBINDING) as server:
        assert rebinds(server) and rebinds(server)
        for _ in range(2):
            assert server.restart().status == 0
            assert rebinds(server) and rebinds(server)
        assert server.restart().status == 0 and server.serves()


@test
def a_listener_that_is_closed_for_good_refuses_and_wakes_nothing():
    """And neither does its registration in an epoll set, which lives for as long as any descriptor of the socket."""
    with Supervised(code=REBINDING) as server:
        os.kill(int(server.pid), signal.SIGUSR1)
        until("connections to be refused", lambda: refuses(server))
        assert not server.has("awoken")
