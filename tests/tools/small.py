# SPDX-License-Identifier: MIT
"""What a supervisor costs when there is nothing to do, and as the first process of a container."""
import os
import pathlib
import signal
import socket
import subprocess
import time

from common import CTL, EXEC, PATIENCE, PYTHON, SERVER, expect, free_port, run, scratch, test, until
import memory
from supervise import HOLDING, Supervised

MOST_KB = 3072
SILENCE_S = 2


def switches(pid):
    """How often it has run."""
    lines = pathlib.Path(f"/proc/{pid}/status").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if "ctxt_switches" in line)


def sleeps(pid):
    before = switches(pid)
    time.sleep(SILENCE_S)
    return switches(pid) == before


@test
def an_idle_supervisor_is_small_and_sleeps():
    """Also while an old generation goes on with a connection. It looks at the server three times, and no more."""
    with Supervised(code=HOLDING) as server, socket.create_connection(("127.0.0.1", server.port)) as long:
        assert long.recv(16) == b"hello\n"
        assert server.restart().status == 0
        until("it to sleep", lambda: sleeps(server.pid))
        assert memory.sizes(server.pid)["Rss"] < MOST_KB, memory.sizes(server.pid)
        assert len(server.family()) == 2 and server.serves()


@test
def a_supervisor_that_is_pid_1_restarts_and_ends():
    if os.geteuid():
        return
    with scratch() as directory:
        port = free_port()
        command = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc", EXEC, "-m", "handover", "--"]
        outside = subprocess.Popen([*command, PYTHON, "-c", SERVER, str(port)], cwd=directory,
                                   stdin=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            until("the server", lambda: os.path.exists(os.path.join(directory, "ready")))
            first = pathlib.Path(f"/proc/{outside.pid}/task/{outside.pid}/children").read_text().split()[0]
            until("it to be known", lambda: run(CTL, "status", first).status == 0)
            inside = ["nsenter", "-t", first, "--pid", "--mount", "--root", CTL]
            until("it to be ready", lambda: '"arriving": false' in run(*inside, "status", "1", "--json").out)
            expect(run(*inside, "restart", "1"), 0, "^restarted 1: generation 2, 1 descriptor, ", where="out")
            expect(run(*inside, "reexec", "1"), 0, "^reexecuted 1: ", where="out")
            expect(run(*inside, "restart", "1"), 0, "^restarted 1: generation 3, 1 descriptor, ", where="out")
            with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
                assert client.recv(16) == b"hello\n"
            os.kill(int(first), signal.SIGTERM)
            assert outside.wait(PATIENCE) == 128 + signal.SIGTERM
        finally:
            outside.kill()
            outside.wait(PATIENCE)
