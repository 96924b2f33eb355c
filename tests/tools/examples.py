# SPDX-License-Identifier: MIT
"""contrib/examples: programs that keep more over a restart than their listeners, by the library's API."""
import socket
import subprocess
import tempfile

from common import BUILD, CTL, EXEC, PATIENCE, PYTHON, ROOT, expect, free_port, run, test, until

EXAMPLES = ROOT / "contrib/examples"


def ticket(port):
    with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
        return client.makefile().readline()


def serves(port):
    try:
        return ticket(port)
    except ConnectionRefusedError:
        return None


def counts_on(*command):
    for mode in ("exec", "handover"):
        port = free_port()
        server = subprocess.Popen([EXEC, "-m", mode, "--", *command, str(port)], stdin=subprocess.DEVNULL)
        try:
            until("the example to serve", lambda: serves(port) or server.poll() is not None)
            last = int(ticket(port).split(",")[0])
            assert last == 2, last
            for generation in (2, 3):
                expect(run(CTL, "restart", str(server.pid)), 0)
                last += 1
                assert ticket(port) == f"{last}, of generation {generation}\n", mode
        finally:
            server.terminate()
            server.wait(PATIENCE)


@test
def example_in_c_counts_on_over_restarts():
    with tempfile.TemporaryDirectory(prefix="cpr-example-") as room:
        expect(run("cc", "-Wall", "-Wextra", "-Werror", f"-I{ROOT}/shim", str(EXAMPLES / "tickets.c"), "-o",
                   f"{room}/tickets", f"{BUILD}/libcpr.so"), 0)
        counts_on(f"{room}/tickets")


@test
def example_in_python_counts_on_over_restarts():
    counts_on(PYTHON, str(EXAMPLES / "tickets.py"))
