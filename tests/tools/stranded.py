# SPDX-License-Identifier: MIT
"""Handover mode with workers that are other programs, which have inherited a door: they are told of the gate."""
import socket
import threading

from common import SERVER, expect, test, until
from supervise import Supervised

# The listener is accepted from by programs that it starts, as uvicorn's master does with --workers.
WORKER = r"""
import os, socket, sys
listener = socket.socket(fileno=int(sys.argv[1]))
if sys.argv[2] == "epoll":
    import select
    poller = select.epoll()
    poller.register(listener, select.EPOLLIN)
    listener.setblocking(False)
open("ready", "w").close()
while True:
    if sys.argv[2] == "epoll":
        poller.poll()
    try:
        connection = listener.accept()[0]
    except BlockingIOError:
        continue
    connection.setblocking(True)
    connection.sendall(b"%d\n" % os.getppid())
    connection.close()
"""
SPAWNING = SERVER.replace('open("ready"', """import subprocess
number = listener.fileno()
command = [sys.executable, "-c", sys.argv[2], str(number), sys.argv[3]]
workers = [subprocess.Popen(command, pass_fds=[number]) for _ in range(2)]
def end(*_):
    for worker in workers:
        worker.terminate()
    os._exit(0)
import signal
signal.signal(signal.SIGTERM, end)
for worker in workers:
    worker.wait()
open("ready\"""", 1)


def answered_by(server):
    with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
        return int(client.makefile().readline())


@test
def a_generation_that_execs_its_own_program_as_workers_never_takes_over():
    with Supervised(code=SPAWNING, arguments=(WORKER, "accept")) as server:
        expect(server.restart(), 1, "is another program, and no gate can be opened for it: use exec mode")
        assert answered_by(server) == server.status()["server"]
        assert server.status()["generation"] == 1


# What accepts is another program than what binds: start_server's way. Another file of the same interpreter is one.
STARTING = SPAWNING.replace("command = [sys.executable,", """import shutil
if not os.path.exists("worker-python"):
    shutil.copy(os.path.realpath(sys.executable), "worker-python")
command = ["./worker-python",""", 1)


def are_handed_over(how):
    wrong = []
    with Supervised(code=STARTING, arguments=(WORKER, how)) as server:
        over = threading.Event()

        def asks():
            while not over.is_set():
                try:
                    answered_by(server)
                except (OSError, ValueError) as error:
                    wrong.append(repr(error))
        clients = [threading.Thread(target=asks) for _ in range(4)]
        for client in clients:
            client.start()
        try:
            for number in range(2, 5):
                assert server.restart().status == 0
                now = server.status()
                assert now["generation"] == number
                assert {answered_by(server) for _ in range(16)} == {now["server"]}
        finally:
            over.set()
            for client in clients:
                client.join()
        assert not wrong, wrong[:3]
        until("old ones to leave", lambda: len(server.family()) == 3)


@test
def workers_of_another_program_are_handed_over():
    are_handed_over("accept")


@test
def workers_of_another_program_that_poll_are_handed_over():
    are_handed_over("epoll")


@test
def a_helper_that_has_only_inherited_the_listener_is_no_obstacle():
    helper = 'import subprocess\nsubprocess.Popen(["sleep", "60"], pass_fds=[listener.fileno()])\nopen("ready"'
    with Supervised(code=SERVER.replace('open("ready"', helper, 1)) as server:
        assert server.restart().status == 0 and server.serves()


# It may be the one that accepts, as workers of start_server are, and cannot be told where.
STOPPED = SERVER.replace('open("ready"', """import subprocess
subprocess.Popen(["sh", "-c", "kill -STOP $$; exec sleep 60"], pass_fds=[listener.fileno()])
open("ready\"""", 1)


@test
def a_process_that_cannot_be_told_of_its_listener_calls_the_handover_off():
    with Supervised("--ready-timeout", "2", code=STOPPED) as server:
        expect(server.restart(), 1, "cannot be told of its listener", "does not answer", "use exec mode")
        assert server.serves() and server.status()["generation"] == 1


@test
def a_process_that_is_only_late_is_waited_for():
    """It goes on after the supervisor has asked it once in vain, which it does for 2 s."""
    late = STOPPED.replace("kill -STOP $$;", "(sleep 3; kill -CONT $$) & kill -STOP $$;", 1)
    with Supervised("--ready-timeout", "20", code=late) as server:
        assert server.restart().status == 0 and server.serves()
        assert server.status()["generation"] == 2
