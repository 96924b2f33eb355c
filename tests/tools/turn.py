# SPDX-License-Identifier: MIT
"""cpr-exec --one-at-a-time: the old generation has ended, and saved its data, before the next one starts."""
import json
import os
import shutil
import signal
import socket
import threading

from common import CTL, EXEC, PATIENCE, SERVER, executable, expect, run, scratch, test, until, until_handled
from supervise import Supervised

# It counts its answers, saves the count when it is told to end, and cannot run twice: the count is locked.
COUNTER = """
import fcntl, os, select, signal, socket, sys
if os.path.exists("die"):
    sys.exit(3)
file = os.fdopen(os.open("count", os.O_RDWR | os.O_CREAT), "r+")
fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
count = int(file.read() or 0)
def leave(*_):
    if os.path.exists("stay"):
        return
    file.seek(0)
    file.write(str(count))
    sys.exit(0)
signal.signal(signal.SIGTERM, leave)
listener = socket.socket()
listener.bind(("127.0.0.1", int(sys.argv[1])))
listener.listen(50)
listener.setblocking(False)
events = select.epoll()
events.register(listener, select.EPOLLIN)
clients = {}
open("ready", "w").close()
while True:
    for fd, _ in events.poll():
        try:
            if fd == listener.fileno():
                client = listener.accept()[0]
                client.setblocking(False)
                clients[client.fileno()] = client
                events.register(client, select.EPOLLIN)
                continue
            asked = clients[fd].recv(100)
        except BlockingIOError:
            continue
        if not asked:
            events.unregister(fd)
            clients.pop(fd).close()
            continue
        count += 1
        clients[fd].sendall(b"%d\\n" % count)
"""


class Counter(Supervised):
    def __init__(self, *options):
        super().__init__("--one-at-a-time", "-c", "tcp:*", *options, code=COUNTER)

    def connect(self):
        return socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE)


def ask(client):
    client.sendall(b"?")
    answer = client.recv(100)
    assert answer, "the connection was closed"
    return int(answer)


class Clients:
    """Two that keep their connections and ask without a pause, and two that come anew."""

    def __init__(self, server):
        self.server, self.answers, self.failed, self.over = server, [], [], False
        self.threads = [threading.Thread(target=self.work, args=(i % 2,)) for i in range(4)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.over = True
        for thread in self.threads:
            thread.join()

    def work(self, keeps):
        client = None
        try:
            while not self.over:
                client = client if client and keeps else self.server.connect()
                self.answers.append(ask(client))
        except (OSError, AssertionError) as error:
            self.failed.append(repr(error))


@test
def one_at_a_time_loses_no_data_and_no_request():
    with Counter() as server, server.connect() as idle:
        ask(idle)
        with Clients(server) as clients:
            for _ in range(3):
                before = len(clients.answers)
                until("answers", lambda: len(clients.answers) > before + 50)
                said = json.loads(server.restart("--json").out)
                assert said["carried"] >= 1 and said["cut"] == 0, said
        ask(idle)
        assert not clients.failed, clients.failed
        assert sorted(clients.answers) == list(range(2, len(clients.answers) + 2)), "the count has a gap"
        assert server.status()["generation"] == 4


@test
def a_script_that_execs_its_server_hands_on_what_it_was_handed():
    for mode in ((), ("--one-at-a-time",)):
        with Supervised(*mode, command=["/bin/sh", "-c", 'true; exec /usr/bin/python3 -c "$0" "$@"', SERVER]) as server:
            for number in range(2, 5):
                assert server.restart().status == 0 and server.serves()
                owner = run(CTL, "status", str(server.status()["server"]), "--json")
                assert json.loads(owner.out)["generation"] == number, owner


@test
def one_at_a_time_says_that_nothing_serves_when_the_next_one_dies():
    with Counter() as server:
        server.touch("die")
        expect(server.restart(), 5, "the next generation ended with status 3 before it was ready")
        with server.connect() as early:
            os.remove(os.path.join(server.directory, "die"))
            assert ask(early) == 1   # it is started again, and finds its queue


@test
def one_at_a_time_lets_one_that_does_not_end_serve_again():
    with Counter("--ready-timeout", "1", "--drain", "1") as server, server.connect() as idle:
        first, one = server.status()["server"], ask(idle)
        server.touch("stay")
        expect(server.restart(), 1, "the old generation, PID [0-9]+, has not ended within 2 s")
        assert server.status()["server"] == first and ask(idle) == one + 1
        with server.connect() as another:
            assert ask(another) == one + 2
        os.remove(os.path.join(server.directory, "stay"))
        assert server.restart().status == 0 and ask(idle) == one + 3


@test
def one_at_a_time_cuts_what_cannot_be_carried_and_says_how_many():
    code = COUNTER.replace('clients[fd].sendall(b"%d\\n" % count)', 'pass')
    with Supervised("--one-at-a-time", "--drain", "1", code=code) as server:
        with socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as long:
            long.sendall(b"?")
            said = json.loads(server.restart("--json").out)
            assert said["cut"] == 1 and long.recv(10) == b"", said


@test
def one_at_a_time_looks_at_the_program_before_it_ends_the_old_one():
    with scratch() as directory, Counter() as server:
        first = server.status()["server"]
        path = executable(directory, "server", b"not a program")
        expect(server.restart("--exec", path), 1)
        assert server.status()["server"] == first


@test
def one_at_a_time_goes_by_the_programs_name():
    with scratch() as directory:
        shutil.copy("/bin/true", os.path.join(directory, "redis-server"))
        named = os.path.join(directory, "redis-server")
        expect(run(EXEC, "-m", "handover", "--rollback", "5", named), 2, "one generation at a time .*redis-server")
        expect(run(EXEC, "-m", "handover", "--rollback", "5", "--no-defaults", named), 0)
        expect(run(EXEC, "-m", "handover", "--one-at-a-time", "--ready-http", "/", "true"), 2, "--ready-http: ")
        expect(run(EXEC, "--one-at-a-time", "true"), 2, "--one-at-a-time is for handover mode")


@test
def a_server_never_gets_the_signal_at_which_it_would_replace_itself():
    code = SERVER.replace("import os, socket", "import os, signal, socket").replace("listener = socket.socket()", """
for name in ("USR1", "USR2"):
    signal.signal(getattr(signal, "SIG" + name), lambda *_, name=name: open(name, "w").close())
listener = socket.socket()""")
    os.environ["CPR_REPLACE_SIGNAL"] = str(int(signal.SIGUSR2))
    try:
        server = Supervised("--no-defaults", code=code)
    finally:
        del os.environ["CPR_REPLACE_SIGNAL"]
    with server:
        for name in ("USR2", "USR1"):
            os.kill(server.status()["server"], getattr(signal, f"SIG{name}"))
        until_handled("the other signal", server.port, lambda: server.has("USR1"))
        assert not server.has("USR2") and server.serves()
