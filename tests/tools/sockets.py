# SPDX-License-Identifier: MIT
"""LISTEN_FDS, over restarts, in both modes. A program that knows nothing of socket activation binds the address of a
socket that it was given, and gets that very socket. One that knows it takes it by its number."""
import http.client
import os
import re
import signal
import socket
import subprocess
import tempfile

from common import CTL, EXEC, PATIENCE, PYTHON, await_end, expect, free_port, run, test, until

HANDLER = """
import http.server, os, socket, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = f"{os.getpid()} {os.stat(self.server.fileno()).st_ino}".encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def address_string(self):
        return "client"
class Server(http.server.ThreadingHTTPServer):
    daemon_threads = True
    def server_bind(self):
        self.socket.bind(self.server_address)
"""
IGNORANT = HANDLER + """
Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
CLOSES_ALL = HANDLER + """
os.closerange(3, 64)
os.dup2(2, 3)
os.close(3)
Server(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
LOCAL = HANDLER + """
Server.address_family = socket.AF_UNIX
if os.path.exists(sys.argv[2]):
    os.unlink(sys.argv[2])
Server(sys.argv[2], Handler).serve_forever()
"""
KNOWING = HANDLER + """
assert int(os.environ["LISTEN_PID"]) == os.getpid() and os.environ["LISTEN_FDS"] == "1", os.environ
server = Server(("127.0.0.1", int(sys.argv[1])), Handler, bind_and_activate=False)
server.socket.close()
server.socket = socket.socket(fileno=3)
server.serve_forever()
"""
# It moves its listener, and daemonises.
MOVES = KNOWING.replace("fileno=3)", "fileno=os.dup(3))\nos.close(3)")
DAEMON = """
import os
if os.fork():
    os._exit(0)
os.setsid()
""" + IGNORANT


class Unit:
    """A service with a socket unit: the socket is ours, and the program finds it at number 3."""

    def __init__(self, code, *options, path=False, program=PYTHON, kind=socket.SOCK_STREAM):
        self.directory = tempfile.TemporaryDirectory(prefix="cpr-sockets-")
        self.path = os.path.join(self.directory.name, "socket")
        self.port = free_port()
        self.listener = socket.socket(socket.AF_UNIX if path else socket.AF_INET, kind)
        self.listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.address = self.path if path else ("127.0.0.1", self.port)
        self.listener.bind(self.address)
        if kind == socket.SOCK_STREAM:
            self.listener.listen(64)
        self.daemon = None
        self.inode = os.fstat(self.listener.fileno()).st_ino
        os.dup2(self.listener.fileno(), 200)
        self.process = subprocess.Popen(
            ["bash", "-c", 'export LISTEN_PID=$$ LISTEN_FDS=1 LISTEN_FDNAMES=web; exec "$@" 3<&200 200<&-', "bash",
             EXEC, *options, "--", program, "-c", code, str(self.port), self.path],
            pass_fds=[200], stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        os.close(200)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for pid in {self.process.pid, self.daemon}:
            try:
                os.kill(pid or self.process.pid, signal.SIGTERM)
            except ProcessLookupError:
                pass
        await_end(self.process)
        self.process.stderr.close()
        self.listener.close()
        self.directory.cleanup()

    def client(self):
        client = http.client.HTTPConnection("127.0.0.1", timeout=PATIENCE)
        client.sock = socket.socket(self.listener.family)
        client.sock.settimeout(PATIENCE)
        client.sock.connect(self.address)
        return client

    def ask(self, client):
        """The pid that answers, on the very socket of the unit."""
        client.request("GET", "/")
        pid, inode = map(int, client.getresponse().read().split())
        assert inode == self.inode, f"another socket answers: {inode}, and not {self.inode}"
        return pid


def survives(unit, restarts=2, pid=None):
    """One connection stays, and new ones are answered, by each generation."""
    idle = unit.client()
    first = unit.ask(idle)
    unit.daemon = first
    pid = pid or first
    for _ in range(restarts):
        done = expect(run(CTL, "restart", str(pid)), 0)
        now = re.search(r"now PID (\d+)", done.out)
        pid = unit.daemon = int(now[1]) if now else pid
        assert re.search(r", [12] connections? carried, 0 cut", done.out), done
        unit.ask(unit.client())
        last = unit.ask(idle)
    return first, last


@test
def a_program_that_knows_nothing_gets_the_socket_in_exec_mode():
    with Unit(IGNORANT) as unit:
        survives(unit)


@test
def a_program_that_knows_nothing_gets_the_socket_in_handover_mode():
    with Unit(IGNORANT, "-m", "handover") as unit:
        first, last = survives(unit, pid=unit.process.pid)
        assert first != last


@test
def a_program_that_closes_everything_first_gets_the_socket():
    with Unit(CLOSES_ALL) as unit:
        survives(unit)
    with Unit(CLOSES_ALL, "-m", "handover") as unit:
        survives(unit, pid=unit.process.pid)


@test
def a_program_that_unlinks_its_path_first_gets_the_socket():
    for mode in ("exec", "handover"):
        with Unit(LOCAL, "-m", mode, path=True) as unit:
            inode = os.stat(unit.path).st_ino
            survives(unit, pid=unit.process.pid)
            assert os.stat(unit.path).st_ino == inode


@test
def a_daemon_gets_the_socket():
    with Unit(DAEMON) as unit:
        survives(unit)


@test
def a_program_that_knows_socket_activation_is_given_it_again_in_exec_mode():
    with Unit(KNOWING) as unit:
        survives(unit)


@test
def a_program_that_knows_socket_activation_is_given_it_again_in_handover_mode():
    with Unit(KNOWING, "-m", "handover") as unit:
        survives(unit, pid=unit.process.pid)


@test
def a_listener_that_the_program_has_moved_is_found_at_its_number_again():
    with Unit(MOVES) as unit:
        survives(unit)


DATAGRAMS = """
import os, socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("127.0.0.1", int(sys.argv[1])))
while True:
    client = sock.recvfrom(100)[1]
    sock.sendto(f"{os.getpid()} {os.fstat(sock.fileno()).st_ino}".encode(), client)
"""


@test
def a_program_that_knows_nothing_gets_the_datagram_socket():
    for mode in ("exec", "handover"):
        with Unit(DATAGRAMS, "-m", mode, kind=socket.SOCK_DGRAM) as unit, \
                socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as client:
            client.settimeout(PATIENCE)
            client.connect(unit.address)
            for generation in (1, 2, 3):
                client.send(b"whose?")
                assert int(client.recv(100).split()[1]) == unit.inode, mode
                unit.daemon = None
                until("the socket to be known", lambda: "udp:" in run(CTL, "list", str(unit.process.pid)).out)
                if generation < 3:
                    expect(run(CTL, "restart", str(unit.process.pid)), 0)


@test
def without_cpr_the_address_is_in_use():
    """What these tests prove is no way of the kernel's."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        done = run(PYTHON, "-c", IGNORANT, str(listener.getsockname()[1]))
        assert "Address already in use" in done.err, done
