# SPDX-License-Identifier: MIT
"""Handover mode: connections that cannot be carried go on in their own generation, through five handovers."""

import dataclasses
import os
import socket
import ssl
import struct
import subprocess
import time

import proc
from harness import await_until, program
from handover import SLOW_SETUP, Scene, Talk, restart, status, trial
from setups import ROOT, SETUPS, nginx_command

HANDOVERS = 5
PATIENCE = 10
DOWNLOAD_S = 8
DOWNLOAD = 800 << 10
GONE_WITHIN = 1.0       # seconds, from the end of a generation's last connection


def parent_of(pid):
    with open(f"/proc/{pid}/stat", encoding="utf-8") as stat:
        return int(stat.read().rsplit(")", 1)[1].split()[1])


class Guests:
    """Connections that go on through the handovers. On each, the generation that began it must answer until its end."""

    def __init__(self, result):
        self.result, self.all = result, []

    def add(self, name, guest, pid):
        answered = guest.answered_by()
        self.result.expect(answered == pid, f"{answered} answers {name}, expected the newest, {pid}")
        self.all.append((name, guest, pid))

    def look(self, number):
        for name, guest, pid in self.all:
            try:
                answered = guest.answered_by()
            except (OSError, ValueError, AssertionError, struct.error) as error:
                answered = f"{type(error).__name__}: {error}"
            self.result.expect(answered == pid, f"after handover {number}, {answered} answers {name} of {pid}")

    def leave_one_by_one(self, options, server):
        """A generation ends within a second after its last connection."""
        longest = 0
        for pid in sorted({pid for _, _, pid in self.all} - {status(options, server)["server"]}):
            for _, guest, at in self.all:
                if at == pid:
                    guest.close()
            ended = time.monotonic()
            gone = await_until(lambda pid=pid: not proc.command(pid), PATIENCE)
            longest = max(longest, time.monotonic() - ended)
            self.result.expect(gone, f"generation {pid} still runs after its last connection")
        for _, guest, pid in self.all:
            guest.close()
        said = f"a generation ended {longest:.1f} s after its last connection"
        self.result.figures.append(said)
        self.result.expect_in_time(longest <= GONE_WITHIN, said)


# ---- nginx: TLS, HTTP/2, a download of eight seconds ----

def trusting(protocol):
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    context.set_alpn_protocols([protocol])
    return context


def tls(port, protocol):
    return trusting(protocol).wrap_socket(socket.create_connection(("127.0.0.1", port), timeout=PATIENCE))


class Tls:
    """HTTP/1.1 on one TLS connection."""

    def __init__(self, port):
        self.sock = tls(port, "http/1.1")
        self.file = self.sock.makefile("rb")

    def answered_by(self):
        self.sock.sendall(b"GET /pid HTTP/1.1\r\nHost: x\r\n\r\n")
        assert b" 200 " in self.file.readline()
        length = 0
        while (line := self.file.readline().strip().lower()):
            length = int(line.split(b":")[1]) if line.startswith(b"content-length") else length
        return parent_of(int(self.file.read(length)))

    def close(self):
        self.file.close()
        self.sock.close()


class Http2:
    """HTTP/2 on one TLS connection: only what a request and the body of its answer need."""

    DATA, HEADERS, SETTINGS, PING, GOAWAY = 0, 1, 4, 6, 7
    END_STREAM, END_HEADERS, ACK = 1, 4, 1

    def __init__(self, port):
        self.sock, self.stream = tls(port, "h2"), 1
        assert self.sock.selected_alpn_protocol() == "h2"
        self.sock.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        self.send(self.SETTINGS, 0, 0, b"")

    def send(self, kind, flags, stream, payload):
        self.sock.sendall(struct.pack(">I", len(payload))[1:] + struct.pack(">BBI", kind, flags, stream) + payload)

    def read(self, n):
        data = b""
        while len(data) < n:
            more = self.sock.recv(n - len(data))
            assert more, "end of stream"
            data += more
        return data

    def frame(self):
        head = self.read(9)
        kind, flags, stream = struct.unpack(">BBI", head[3:])
        return kind, flags, stream, self.read(int.from_bytes(head[:3], "big"))

    def answered_by(self):
        # :method GET, :scheme https, :path and :authority as literals without a table
        self.send(self.HEADERS, self.END_STREAM | self.END_HEADERS, self.stream, b"\x82\x87\x04\x04/pid\x01\x01x")
        body = b""
        while True:
            kind, flags, stream, payload = self.frame()
            assert kind != self.GOAWAY, "GOAWAY"
            if kind == self.SETTINGS and not flags & self.ACK:
                self.send(self.SETTINGS, self.ACK, 0, b"")
            if kind == self.DATA and stream == self.stream:
                body += payload
            if kind in (self.DATA, self.HEADERS) and stream == self.stream and flags & self.END_STREAM:
                self.stream += 2
                return parent_of(int(body))

    def close(self):
        self.sock.close()


def curl(port, *more):
    said = subprocess.run([program("curl"), "-sk", *more, f"https://127.0.0.1:{port}/pid"], capture_output=True,
                          text=True, timeout=PATIENCE, check=True)
    return parent_of(int(said.stdout))


def nginx_tls(room):
    """nginx with a plain listener for the load, and a second one for TLS."""
    subprocess.run([program("openssl"), "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", "-subj", "/CN=x",
                    "-keyout", room.path("key.pem"), "-out", room.path("cert.pem")], check=True, capture_output=True)
    room.tls_port = type(room).free_port()
    with open(os.path.join(room.directory("documents"), "download"), "wb") as download:
        download.write(bytes(DOWNLOAD))
    return nginx_command(room, "worker_processes 2;", server=f"""
    }}
    server {{
        listen 127.0.0.1:{room.tls_port} ssl http2;
        root {room.directory("documents")};
        keepalive_timeout 3600;
        ssl_certificate {room.path("cert.pem")};
        ssl_certificate_key {room.path("key.pem")};
        location /pid {{ return 200 "$pid"; }}
        location /download {{ limit_rate {DOWNLOAD // DOWNLOAD_S}; }}
""")


def begin_download(room):
    return subprocess.Popen([program("curl"), "-sk", "-o", "/dev/null", "-w", "%{http_code} %{size_download}",
                             f"https://127.0.0.1:{room.tls_port}/download"], stdout=subprocess.PIPE, text=True)


@trial("handover-long-tls")
def long_tls(options, result):
    """Each generation begins HTTP/1.1 over TLS, HTTP/2, and a download of eight seconds."""
    setup = dataclasses.replace(SETUPS["nginx"], name="nginx-tls", prepare=nginx_tls)
    with Scene(setup, options, result, "--generations", "10") as scene:
        guests, downloads, port = Guests(result), [], scene.room.tls_port
        for number in range(1, HANDOVERS + 1):
            newest = status(options, scene.server)["server"]
            guests.add("HTTP/1.1 over TLS", Tls(port), newest)
            guests.add("HTTP/2", Http2(port), newest)
            downloads.append(begin_download(scene.room))
            restart(options, scene.server)
            result.restarts = number
            guests.look(number)
            newest = status(options, scene.server)["server"]
            for how in ("--http1.1", "--http2"):
                answered = curl(port, how)
                result.expect(answered == newest, f"{answered} answers curl {how}, expected {newest}")
        for number, download in enumerate(downloads, 1):
            said, _ = download.communicate(timeout=3 * DOWNLOAD_S)
            result.expect(said == f"200 {DOWNLOAD}", f"download {number} ended with {said!r}")
        guests.look("the last")
        guests.leave_one_by_one(options, scene.server)
        scene.judge(result)


# ---- WebSocket and event stream ----

class Events:
    """An event stream: an answer without an end."""

    def __init__(self, port):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE)
        self.sock.sendall(b"GET /events HTTP/1.1\r\nHost: x\r\nAccept: text/event-stream\r\n\r\n")
        self.file = self.sock.makefile("rb")
        assert b" 200 " in self.file.readline()
        while self.file.readline().strip():
            pass

    def answered_by(self):
        """The pid in the next event. Reads and drops earlier events first."""
        self.sock.setblocking(False)
        while self.file.read(1 << 16):
            pass
        self.sock.settimeout(PATIENCE)
        while not (line := self.file.readline()).startswith(b"data: "):
            assert line, "end of stream"
        return int(line.split()[1])

    def close(self):
        self.file.close()
        self.sock.close()


EVENTS = '''
        if self.path == "/events":
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            try:
                while True:
                    self.wfile.write(b"data: %d\\n\\n" % os.getpid())
                    time.sleep(0.05)
            except OSError:
                pass
            self.close_connection = True
            return
        body = '''


def streaming(room):
    command = SLOW_SETUP.prepare(room)
    code = command[command.index("-c") + 1]
    code = code.replace("import http.server, os, sys", "import http.server, os, sys, time")
    command[command.index("-c") + 1] = code.replace("\n        body = ", EVENTS, 1)
    return command


@trial("handover-long-streams")
def long_streams(options, result):
    """Each generation begins a WebSocket's echo and an event stream."""
    setup = dataclasses.replace(SLOW_SETUP, name="streams", prepare=streaming)
    with Scene(setup, options, result, "--generations", "10") as scene:
        guests, port = Guests(result), scene.room.port
        for number in range(1, HANDOVERS + 1):
            newest = status(options, scene.server)["server"]
            guests.add("a WebSocket", Talk(port), newest)
            guests.add("an event stream", Events(port), newest)
            restart(options, scene.server)
            result.restarts = number
            guests.look(number)
        guests.leave_one_by_one(options, scene.server)
        scene.judge(result)


# ---- sshd: a session is a program of its own ----

class Session:
    """A shell over ssh. Its ancestors show its generation."""

    def __init__(self, room):
        ways = ["StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR", "BatchMode=yes"]
        command = [program("ssh"), "-F", "none", "-i", room.path("client"), "-p", str(room.port),
                   *[word for way in ways for word in ("-o", way)], "127.0.0.1", "sh"]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.shell = int(self.say("echo $$"))

    def say(self, word):
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        return self.process.stdout.readline()

    def answered_by(self, owners):
        """The owner from which the session's shell descends."""
        assert int(self.say("echo $$")) == self.shell
        pid = self.shell
        while pid > 1 and pid not in owners:
            pid = parent_of(pid)
        return pid

    def close(self):
        self.process.stdin.close()
        self.process.wait(PATIENCE)
        self.process.stdout.close()


def sshd(room):
    for name in ("host", "client"):
        subprocess.run([program("ssh-keygen"), "-q", "-t", "ed25519", "-N", "", "-f", room.path(name)], check=True)
    with open(room.path("client.pub"), encoding="utf-8") as key:
        room.write("authorized", key.read())
    os.makedirs("/run/sshd", exist_ok=True)
    lenient = ["-o", "PerSourcePenalties=no"]   # unknown to OpenSSH before 9.8
    knows = subprocess.run([program("sshd"), "-t", "-f", "/dev/null", "-h", room.path("host"), *lenient],
                           capture_output=True, check=False)
    ways = ["ListenAddress=127.0.0.1", f"PidFile={room.path('sshd.pid')}", "StrictModes=no", "PermitRootLogin=yes",
            f"AuthorizedKeysFile={room.path('authorized')}"]
    return [program("sshd"), "-D", "-e", "-f", "/dev/null", "-p", str(room.port), "-h", room.path("host"),
            *[word for way in ways for word in ("-o", way)], *([] if knows.returncode else lenient)]


@trial("handover-long-ssh")
def long_ssh(options, result):
    """A session in each of five generations. There is no load: sshd forks several processes for each connection."""
    if not ROOT:
        result.figures.append("not tried: this needs root")
        return
    setup = dataclasses.replace(SETUPS["nginx"], name="sshd", prepare=sshd)
    with Scene(setup, options, result, "--generations", "10", loaded=False) as scene:
        owners, sessions = [], []
        for number in range(1, HANDOVERS + 1):
            owners.append(status(options, scene.server)["server"])
            sessions.append((Session(scene.room), owners[-1]))
            restart(options, scene.server)
            result.restarts = number
            with socket.create_connection(("127.0.0.1", scene.room.port), timeout=PATIENCE) as fresh:
                result.expect(fresh.recv(8) == b"SSH-2.0-", f"after handover {number} sshd sends no greeting")
            for session, pid in sessions:
                answered = session.answered_by(owners)
                result.expect(answered == pid, f"after handover {number} a session of {pid} descends from {answered}")
        longest = 0
        for session, pid in sessions:
            session.close()
            ended = time.monotonic()
            gone = await_until(lambda pid=pid: not proc.command(pid), PATIENCE)
            result.expect(gone, f"generation {pid} still runs after its last session")
            longest = max(longest, time.monotonic() - ended)
        result.figures.append(f"a generation ended {longest:.1f} s after its last session")
        result.expect_in_time(longest <= GONE_WITHIN, f"a generation ended {longest:.1f} s after its last session")
