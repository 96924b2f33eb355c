# SPDX-License-Identifier: MIT
"""cpr-exec --fdstore before a service manager: what is stored at SIGTERM, and how the next supervisor goes on."""
import array
import http.client
import json
import os
import select
import signal
import socket
import subprocess
import tempfile

from common import CTL, EXEC, PATIENCE, PYTHON, expect, free_port, run, test, until
from turn import COUNTER
from turn import ask as ask_counter
from unpreloaded import SOURCE as LISTENERS
from unpreloaded import answers, connect_to

HTTP = """
import http.server, sys
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        body = str(__import__("os").getpid()).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
http.server.ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Handler).serve_forever()
"""
HIGH = 2000     # above what a test holds


class Manager:
    """What of systemd the supervisor sees: a notify socket, a descriptor store, LISTEN_FDS at the start."""
    prefix = ""   # of the program's last word, a port
    most = 4096   # FileDescriptorStoreMax=

    def __init__(self, *options, code=HTTP, program=None, **environment):
        self.options, self.environment = options, environment
        self.program = program or [PYTHON, "-c", code]
        self.directory = tempfile.TemporaryDirectory(prefix="cpr-fdstore-")
        self.path = os.path.join(self.directory.name, "notify")
        self.errors = open(os.path.join(self.directory.name, "errors"), "w+", encoding="utf-8")
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(self.path)
        self.socket.settimeout(0.05)
        self.port, self.store, self.said, self.process = free_port(), [], [], None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process and self.process.poll() is None:
            self.stop()
        for _, fd in self.store:
            os.close(fd)
        self.socket.close()
        self.errors.close()
        self.directory.cleanup()

    def start(self):
        self.launch()
        self.until_hears("READY=1")

    def launch(self):
        """LISTEN_PID is the supervisor's own: a shell sets it before it becomes the supervisor."""
        self.said.clear()
        environment = dict(os.environ, NOTIFY_SOCKET=self.path) | self.environment
        inherited = []
        if self.store:
            names = ":".join(name for name, _ in self.store)
            environment |= {"LISTEN_FDS": str(len(self.store)), "LISTEN_FDNAMES": names}
            inherited = [fd for _, fd in self.store]
        moves = " ".join(f"{3 + i}<&{HIGH + i}" for i in range(len(inherited)))
        high = []
        for i, fd in enumerate(inherited):
            os.dup2(fd, HIGH + i, inheritable=True)
            high.append(HIGH + i)
        shell = f"export LISTEN_PID=$$ WATCHDOG_PID=$$; exec \"$@\" {moves} " + " ".join(f"{fd}<&-" for fd in high)
        command = [EXEC, "-m", "handover", "--fdstore", *self.options, "--", *self.program,
                   self.prefix + str(self.port)]
        self.process = subprocess.Popen(["bash", "-c", shell, "bash", *command], env=environment, pass_fds=high,
                                        cwd=self.directory.name, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL,
                                        stderr=self.errors)
        for fd in high:
            os.close(fd)

    def hear(self):
        try:
            text, control, _, _ = self.socket.recvmsg(8192, socket.CMSG_SPACE(4 * 4))
        except socket.timeout:
            return
        fds = array.array("i")
        for _, _, data in control:
            fds.frombytes(data)
        lines = dict(line.split("=", 1) for line in text.decode().split("\n") if "=" in line)
        self.said += text.decode().split("\n")
        if "FDSTORE" in lines:
            same = [1 for _, fd in self.store if os.fstat(fd).st_ino == os.fstat(fds[0]).st_ino]
            if not same and len(self.store) < self.most:
                self.store.append((lines["FDNAME"], os.dup(fds[0])))
        if "FDSTOREREMOVE" in lines:
            for name, fd in [one for one in self.store if one[0] == lines["FDNAME"]]:
                self.store.remove((name, fd))
                os.close(fd)
        for fd in fds:
            os.close(fd)

    def until(self, what, true):
        until(what, lambda: (self.hear(), true())[1])

    def until_hears(self, line):
        self.until(line, lambda: line in self.said)

    def errors_since(self, at=0):
        self.errors.seek(at)
        return self.errors.read()

    def names(self):
        return sorted(name.rsplit("-", 1)[0] if name != "cpr-state" else name for name, _ in self.store)

    def stop(self, signo=signal.SIGTERM):
        self.process.send_signal(signo)
        self.until("the supervisor's end", lambda: self.process.poll() is not None)


def ask(connection):
    connection.request("GET", "/")
    answer = connection.getresponse()
    return answer.status, int(answer.read())


# Three listeners: the first one's port is the last word, the others' are put in below.
SEVERAL = HTTP.replace("http.server.Threading", """import threading
servers = [http.server.ThreadingHTTPServer(("127.0.0.1", port), Handler) for port in PORTS]
for one in servers:
    threading.Thread(target=one.serve_forever, daemon=True).start()
http.server.Threading""")


def clients_of(ports, each):
    clients = [http.client.HTTPConnection("127.0.0.1", port, timeout=PATIENCE) for port in ports for _ in range(each)]
    for client in clients:
        ask(client)
    return clients


@test
def a_restart_through_the_store_keeps_more_than_one_message_of_connections():
    """A message between processes takes 253 descriptors at most, and the store has more."""
    others = [free_port(), free_port()]
    with Manager(code=SEVERAL.replace("PORTS", str(others))) as manager:
        manager.start()
        clients = clients_of([manager.port, *others], 102)
        sockets, pids = [client.sock for client in clients], set()
        for _ in range(2):
            manager.stop()
            assert manager.names() == ["cpr-carried"] * 306 + ["cpr-kept"] * 3 + ["cpr-state"], len(manager.store)
            manager.start()
            answers_now = {ask(client) for client in clients}
            assert len(answers_now) == 1 and [client.sock for client in clients] == sockets, answers_now
            pids |= answers_now
            manager.until("the connections to leave the store", lambda: "cpr-carried" not in manager.names())
        assert len(pids) == 2, pids


def is_closed(client):
    return bool(select.select([client.sock], [], [], 0)[0]) and client.sock.recv(1) == b""


@test
def a_small_store_takes_the_listener_first_and_the_other_connections_are_closed():
    line = "3 of 6 idle connections were closed: the manager's store takes 5 descriptors (FileDescriptorStoreMax=)"
    for options, environment in ((["--fdstore=5"], {}), (["--fdstore=4000"], {"FDSTORE": "5"})):
        with Manager(*options, **environment) as manager:
            manager.most = 5
            manager.start()
            clients = clients_of([manager.port], 6)
            for _ in range(2):
                manager.stop()
                assert manager.names() == ["cpr-carried"] * 3 + ["cpr-kept", "cpr-state"], manager.store
                clients = [client for client in clients if not is_closed(client)]
                sockets = [client.sock for client in clients]
                manager.start()
                assert len({ask(client) for client in clients}) == 1 and len(clients) == 3
                assert [client.sock for client in clients] == sockets
                manager.until("the connections to leave the store", lambda: "cpr-carried" not in manager.names())
            assert manager.errors_since().count(line) == 1, manager.errors_since()


@test
def a_store_too_small_for_the_listener_is_said_and_not_used():
    with Manager("--fdstore=1") as manager:
        manager.most = 1
        manager.start()
        manager.stop()
        assert not manager.store, manager.store
        said = manager.errors_since()
        line = "the manager's store takes 1 descriptors, and the listeners need 2: nothing is stored"
        assert said.count(line) == 1, said


# It saves its data for longer than the 10 seconds of the drain, after which it would be killed.
SAVES = "import signal, time" + HTTP.replace("class", """
def end(*_):
    time.sleep(11)
    open("saved", "w").close()
    sys.exit(0)
signal.signal(signal.SIGTERM, end)
class""", 1)


@test
def a_server_has_the_time_of_stop_timeout_to_end():
    with Manager("--stop-timeout=30", code=SAVES) as manager:
        manager.start()
        manager.stop()
        assert "EXTEND_TIMEOUT_USEC=45000000" in manager.said, manager.said
        assert os.path.exists(os.path.join(manager.directory.name, "saved"))


ASKS = """
import select, socket
peer = socket.create_connection(("127.0.0.1", PEER))
one = select.poll()
one.register(peer, select.POLLIN)
one.poll()
""" + HTTP


@test
def a_server_that_asks_another_one_at_its_start_is_not_ready():
    """As libpq does, and the look-up of a user's name under DynamicUser=: it has bound nothing yet."""
    with socket.create_server(("127.0.0.1", 0)) as peer:
        with Manager(code=ASKS.replace("PEER", str(peer.getsockname()[1]))) as manager:
            manager.launch()
            peer.settimeout(PATIENCE)
            with peer.accept()[0] as asked:
                for _ in range(10):
                    manager.hear()
                assert "READY=1" not in manager.said, manager.said
                asked.sendall(b"answer")
                manager.until_hears("READY=1")
            assert ask(http.client.HTTPConnection("127.0.0.1", manager.port, timeout=PATIENCE))[0] == 200


def kill_all(manager, server):
    manager.process.kill()
    manager.process.wait()
    os.kill(server, signal.SIGKILL)


@test
def a_restart_through_the_store_keeps_listener_and_idle_connection():
    with Manager() as manager:
        manager.start()
        client = http.client.HTTPConnection("127.0.0.1", manager.port, timeout=PATIENCE)
        pids = [ask(client)[1]]
        first = client.sock
        for _ in range(3):
            manager.said.clear()
            manager.stop()
            assert {"STOPPING=1", "EXTEND_TIMEOUT_USEC=20000000"} <= set(manager.said), manager.said
            assert manager.names() == ["cpr-carried", "cpr-kept", "cpr-state"], manager.store
            with socket.create_connection(("127.0.0.1", manager.port), timeout=PATIENCE) as early:
                early.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")  # nothing runs: it waits in the queue
                manager.start()
                assert early.recv(100).startswith(b"HTTP/1.1 200")
            pids.append(ask(client)[1])
            assert client.sock is first, "the connection was closed"
            manager.until("the connection to leave the store", lambda: "cpr-carried" not in manager.names())
        assert len(set(pids)) == 4, pids


@test
def a_static_program_s_listener_goes_through_the_store():
    with tempfile.TemporaryDirectory(prefix="cpr-fdstore-") as directory:
        program = f"{directory}/listeners"
        subprocess.run(["cc", "-static", "-O1", "-o", program, str(LISTENERS)], check=True)
        with Manager(program=[program, f"unix:{directory}/socket"]) as manager:
            manager.prefix = "tcp:"
            manager.start()
            words = f"tcp:{manager.port}", f"unix:{directory}/socket"
            pids = [answers(words[0])]
            for stop in (manager.stop, manager.stop, lambda: kill_all(manager, pids[-1])):
                manager.until("the listeners to be stored", lambda: manager.names() == ["cpr-kept"] * 2 + ["cpr-state"])
                stop()
                early = [connect_to(word) for word in words]   # nothing runs: they wait in the queues
                manager.start()
                for sock in early:
                    with sock:
                        pids.append(int(sock.recv(32)))
                assert pids[-1] == pids[-2] == answers(words[0]) != pids[-3], pids


@test
def a_killed_supervisor_and_server_come_back_with_their_listener():
    with Manager() as manager:
        manager.start()
        manager.until("the listener to be stored", lambda: manager.names() == ["cpr-kept", "cpr-state"])
        server = ask(http.client.HTTPConnection("127.0.0.1", manager.port, timeout=PATIENCE))[1]
        kill_all(manager, server)
        late = http.client.HTTPConnection("127.0.0.1", manager.port, timeout=PATIENCE)
        late.connect()
        manager.start()
        assert ask(late)[0] == 200


def is_told_to_end(supervisor):
    """The one generation of it: all that is idle has been given by then."""
    shown = json.loads(run(CTL, "ps", "--json").out)
    return any(one.get("supervisor") == supervisor and one.get("phase") == "retiring" for one in shown)


@test
def connections_that_wait_for_the_next_one_are_stored_as_well():
    """--one-at-a-time, and the manager's restart comes while no generation serves."""
    with Manager("--one-at-a-time", "-c", "tcp:*", code=COUNTER) as manager:
        manager.start()
        with socket.create_connection(("127.0.0.1", manager.port), timeout=PATIENCE) as client:
            assert ask_counter(client) == 1
            stay = os.path.join(manager.directory.name, "stay")
            open(stay, "w").close()
            restart = subprocess.Popen([CTL, "restart", str(manager.process.pid)], stdout=subprocess.DEVNULL,
                                       stderr=subprocess.DEVNULL)
            manager.until("its end to be asked for", lambda: is_told_to_end(manager.process.pid))
            os.remove(stay)
            manager.stop()
            restart.wait(PATIENCE)
            assert "cpr-carried" in manager.names(), manager.store
            manager.start()
            assert ask_counter(client) == 2


@test
def a_handover_is_a_reload_for_the_manager():
    with Manager() as manager:
        manager.start()
        manager.said.clear()
        asked = subprocess.Popen([CTL, "restart", str(manager.process.pid)], stdout=subprocess.DEVNULL)
        manager.until_hears("RELOADING=1")
        assert any(line.startswith("MONOTONIC_USEC=") for line in manager.said), manager.said
        manager.until_hears("READY=1")
        manager.until_hears("STATUS=generation 2, 1 draining")
        assert asked.wait(PATIENCE) == 0


@test
def a_reload_by_signal_is_one_for_the_manager():
    """Type=notify-reload sends SIGHUP, and waits for these two lines."""
    with Manager("--restart-signal", "HUP") as manager:
        manager.start()
        manager.said.clear()
        manager.process.send_signal(signal.SIGHUP)
        manager.until_hears("STATUS=generation 2, 1 draining")
        words = [line.split("=")[0] for line in manager.said if line and not line.startswith("FDSTORE")]
        assert words.index("RELOADING") < words.index("MONOTONIC_USEC") < words.index("READY"), manager.said


def pings(manager, times):
    manager.said.clear()
    manager.until("pings", lambda: manager.said.count("WATCHDOG=1") >= times)


@test
def a_supervisor_pings_its_manager_over_restarts_and_its_own():
    with Manager(WATCHDOG_USEC="200000") as manager:
        manager.start()
        pings(manager, 2)
        restart = subprocess.Popen([CTL, "restart", str(manager.process.pid)], stdout=subprocess.DEVNULL)
        pings(manager, 2)
        manager.until("the restart", lambda: restart.poll() == 0)
        reexec = subprocess.Popen([CTL, "reexec", str(manager.process.pid)], stdout=subprocess.DEVNULL)
        manager.until("the new supervisor", lambda: reexec.poll() == 0)
        pings(manager, 2)


# It says that it is alive when it is asked, and at its start.
PINGS = HTTP.replace("    def do_GET(self):\n", "    def do_GET(self):\n        ping()\n").replace("class", """
import os, socket
assert os.environ["WATCHDOG_PID"] == str(os.getpid())
def ping():
    name = os.environ["NOTIFY_SOCKET"].replace("@", "\\0", 1)
    socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM).sendto(b"WATCHDOG=1", name)
ping()
class""", 1)


@test
def a_server_that_pings_is_not_pinged_for():
    with Manager(code=PINGS, WATCHDOG_USEC="100000") as manager:
        manager.start()
        client = http.client.HTTPConnection("127.0.0.1", manager.port, timeout=PATIENCE)
        ask(client)
        for _ in range(8):      # what is under way; then there is silence for longer than the interval, ten times
            manager.hear()
        manager.said.clear()
        for _ in range(10):
            manager.hear()
        assert "WATCHDOG=1" not in manager.said, manager.said
        ask(client)
        manager.until_hears("WATCHDOG=1")


@test
def a_manager_hears_with_which_status_a_server_failed():
    with Manager() as manager:
        subprocess.run([EXEC, "-m", "handover", "--", "sh", "-c", "exit 3"], check=False, stderr=subprocess.DEVNULL,
                       env=dict(os.environ, NOTIFY_SOCKET=manager.path), timeout=PATIENCE)
        manager.until_hears("EXIT_STATUS=3")


@test
def fdstore_is_for_handover_mode():
    expect(run(EXEC, "--fdstore", "true"), 2, "--fdstore is for handover mode")
