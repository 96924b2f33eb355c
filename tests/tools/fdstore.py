# SPDX-License-Identifier: MIT
"""cpr-exec --fdstore before a service manager: what is stored at SIGTERM, and how the next supervisor goes on with it."""
import array
import http.client
import os
import signal
import socket
import subprocess
import tempfile

from common import CTL, EXEC, PATIENCE, PYTHON, expect, free_port, run, test, until

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


class Manager:
    """What of systemd the supervisor sees: a notify socket, a descriptor store, LISTEN_FDS at the start."""

    def __init__(self):
        self.directory = tempfile.TemporaryDirectory(prefix="cpr-fdstore-")
        self.path = os.path.join(self.directory.name, "notify")
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
        self.directory.cleanup()

    def start(self):
        """LISTEN_PID is the supervisor's own: a shell sets it before it becomes the supervisor."""
        self.said.clear()
        environment = dict(os.environ, NOTIFY_SOCKET=self.path)
        inherited = []
        if self.store:
            names = ":".join(name for name, _ in self.store)
            environment |= {"LISTEN_FDS": str(len(self.store)), "LISTEN_FDNAMES": names}
            inherited = [fd for _, fd in self.store]
        moves = " ".join(f"{3 + i}<&{200 + i}" for i in range(len(inherited)))
        high = []
        for i, fd in enumerate(inherited):
            os.dup2(fd, 200 + i, inheritable=True)
            high.append(200 + i)
        shell = f"export LISTEN_PID=$$; exec \"$@\" {moves} " + " ".join(f"{fd}<&-" for fd in high)
        command = [EXEC, "-m", "handover", "--fdstore", "--", PYTHON, "-c", HTTP, str(self.port)]
        self.process = subprocess.Popen(["bash", "-c", shell, "bash", *command], env=environment, pass_fds=high,
                                        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for fd in high:
            os.close(fd)
        self.until_hears("READY=1")

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
            self.store += [(lines["FDNAME"], os.dup(fds[0]))] if not same else []
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

    def names(self):
        return sorted(name.rsplit("-", 1)[0] if name != "cpr-state" else name for name, _ in self.store)

    def stop(self, signo=signal.SIGTERM):
        self.process.send_signal(signo)
        self.until("the supervisor's end", lambda: self.process.poll() is not None)


def ask(connection):
    connection.request("GET", "/")
    answer = connection.getresponse()
    return answer.status, int(answer.read())


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
def a_killed_supervisor_and_server_come_back_with_their_listener():
    with Manager() as manager:
        manager.start()
        manager.until("the listener to be stored", lambda: manager.names() == ["cpr-kept", "cpr-state"])
        server = ask(http.client.HTTPConnection("127.0.0.1", manager.port, timeout=PATIENCE))[1]
        manager.process.kill()
        manager.process.wait()
        os.kill(server, signal.SIGKILL)
        late = http.client.HTTPConnection("127.0.0.1", manager.port, timeout=PATIENCE)
        late.connect()
        manager.start()
        assert ask(late)[0] == 200


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
def a_manager_hears_with_which_status_a_server_failed():
    with Manager() as manager:
        subprocess.run([EXEC, "-m", "handover", "--", "sh", "-c", "exit 3"], check=False, stderr=subprocess.DEVNULL,
                       env=dict(os.environ, NOTIFY_SOCKET=manager.path), timeout=PATIENCE)
        manager.until_hears("EXIT_STATUS=3")


@test
def fdstore_is_for_handover_mode():
    expect(run(EXEC, "--fdstore", "true"), 2, "--fdstore is for handover mode")
