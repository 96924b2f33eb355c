# SPDX-License-Identifier: MIT
"""cprctl restart --dry-run: what would be done, and that nothing is."""
import json
import os
import socket
import subprocess

from common import CTL, PATIENCE, SERVER, Server, expect, run, test, until
from supervise import Supervised

# An HTTP server whose /slow is never answered, with a file beside its listener.
HTTP = SERVER.replace("import os, socket, sys, time", '''import os, socket, sys, threading, time
def serve(connection):
    while True:
        asked = connection.recv(1000)
        if not asked or b"/slow" in asked:
            break
        connection.sendall(b"HTTP/1.1 200 OK\\r\\nContent-Length: 2\\r\\n\\r\\nok")
    time.sleep(60)
''').replace('    connection.sendall(b"hello\\n")\n    connection.close()\n',
             "    threading.Thread(target=serve, args=(connection,), daemon=True).start()\n")


def connected(port, path=None):
    connection = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
    if path:
        connection.sendall(f"GET {path} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    if path == "/":
        assert connection.recv(100).endswith(b"ok")
    return connection


def dry(server, *more):
    return run(CTL, "restart", server.pid, "--dry-run", *more)


def foreseen(server):
    said = json.loads(expect(dry(server, "--json"), 0).out)
    assert said["pid"] == int(server.pid) and said["generation"] == 2 and not said["tested"], said
    assert said["kept"] == [{"tag": f"tcp:127.0.0.1:{server.port}", "id": 0}], said
    return said


def sees_connections(server, under_way, mode, human):
    clients = [connected(server.port, path) for path in ("/", "/", "/slow")]
    try:
        until("what it sees", lambda: (foreseen(server)["carried"], foreseen(server)[under_way]) == (2, 1))
        assert foreseen(server)["mode"] == mode
        expect(dry(server), 0, rf"(?m)^kept: +tcp:127.0.0.1:{server.port}$", r"(?m)^carried: +2 connections$", human,
               where="out")
        for client in clients[:2]:
            client.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
            assert client.recv(100).endswith(b"ok")
        status = json.loads(run(CTL, "status", server.pid, "--json").out)
        assert status["generation"] == 1 and status["restarts"] == 0, status
    finally:
        for client in clients:
            client.close()


@test
def a_dry_run_of_a_handover_does_nothing():
    with Supervised(code=HTTP) as server:
        sees_connections(server, "go_on", "handover", r"(?m)^go on: +1 in the old generation, for 3600 s at the most$")


@test
def a_dry_run_of_one_at_a_time_does_nothing():
    with Supervised("--one-at-a-time", "--drain", "7", code=HTTP) as server:
        expect(dry(server), 0, "would be restarted: generation 2, after the old one", where="out")
        human = r"(?m)^waited for: +1 that cannot be carried now, for 7 s, "
        sees_connections(server, "waited_for", "handover", human)


@test
def a_dry_run_in_exec_mode_does_nothing():
    with Server(code=HTTP) as server:
        sees_connections(server, "waited_for", "exec", r"(?m)^waited for: +1 that cannot be carried now, for 5 s, ")


@test
def a_dry_run_says_what_would_be_refused():
    with Server("--test", "test ! -e bad") as server:
        expect(dry(server), 0, r"(?m)^test: +succeeds$", where="out")
        server.touch("bad")
        expect(dry(server), 1, "refused: the test `test ! -e bad` failed")
        expect(dry(server, "--exec", "/etc/passwd"), 1, "refused: ")
    with Supervised("--generations", "1", "--rollback", "60") as server:
        assert server.restart().status == 0
        expect(dry(server), 0, r"(?m)^told to end: +generation 1, which drains", where="out")
        server.touch("dawdle")
        asking = subprocess.Popen([CTL, "restart", server.pid], stderr=subprocess.DEVNULL)
        until("the next generation", lambda: server.status()["arriving"])
        expect(dry(server), 1, "would be refused: a restart is under way already")
        server.process.terminate()
        asking.wait(PATIENCE)


@test
def a_dry_run_of_a_parent_is_refused_as_a_restart():
    """It has nothing to hand over but children."""
    code = "import subprocess\nchild = subprocess.Popen(['sleep', '60'])\nopen('ready', 'w').close()\nchild.wait()"
    with Server(code=code) as server:
        expect(dry(server), 1, "would be refused: it holds no listening socket itself")
        os.kill(int(server.pid), 0)
