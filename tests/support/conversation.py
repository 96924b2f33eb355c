# SPDX-License-Identifier: MIT
"""What a case of tests/wrap may ask of the runner, one line each, and the runner's answers, one line each."""

import contextlib
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import time

import handover
import ring

SECONDS = float(os.environ.get("WRAP_SECONDS", 20))     # the longest that anything here may take
CROWD = os.path.join(os.path.dirname(os.path.abspath(__file__)), "crowd.py")


class Wrong(Exception):
    """The case cannot go on; the text says why."""


class Conversation:
    """The program's standard output and input."""

    def __init__(self, process, cprctl):
        self.process, self.pid, self.cprctl = process, process.pid, cprctl
        self.until = time.monotonic() + SECONDS
        self.peers, self.restarts, self.rings, self.call, self.daemon = [], [], None, None, None
        self.crowd = self.server = None
        self.begin_next = self.next = self.next_talk = self.passing = None
        self._buffer = b""

    def hold(self):
        """Talks until the program says "end" or ends."""
        while True:
            line = self._line()
            if line is None:
                return
            word, *rest = line.split(" ")
            if word == "end":
                self._settle()
                self.process.stdin.write(b"\n")
                self.process.stdin.flush()
                return
            answer = getattr(self, "do_" + word.replace("-", "_"))(*rest)
            if answer is not None:
                self.process.stdin.write(answer.encode() + b"\n")
                self.process.stdin.flush()

    def close(self):
        if self.crowd:
            self.crowd.kill()
            self.crowd.communicate()
        for peer in [*self.peers, *([self.server] if self.server else [])]:
            peer.close()
        if self.passing:
            self.passing.close()
        if self.next:
            with contextlib.suppress(OSError):
                os.killpg(self.next.pid, signal.SIGKILL)
            self.next.process.wait()
        if self.daemon:
            with contextlib.suppress(OSError):
                os.kill(self.daemon, signal.SIGKILL)

    # --- restarts and rings

    def do_restart(self, path=""):
        """cprctl restart, while the next generation goes on talking; no answer."""
        self._settle()
        command = [self.cprctl, "restart", str(self.pid), "--timeout", "10", *(["--exec", path] if path else [])]
        self.restarts.append(subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT))

    def do_try_restart(self, path=""):
        """A restart that is expected to come back: its last answer."""
        self._settle()
        answer = ring.restart(self.pid, path=path.encode())
        return " ".join(f"{key}={value}" for key, value in answer.items())

    def do_status(self):
        answer = ring.ask(self.pid, ring.STATUS)
        return " ".join(f"{key}={value}" for key, value in answer.items())

    def do_call(self):
        """Rings, and is answered; what is wanted it does not say yet."""
        self.call = ring.Call(self.pid)
        self.call.ring()
        return "ok" if self.call.answered(5.0) else "silence"

    def do_status_on_it(self):
        with self.call as call:
            call.send(ring.request(ring.STATUS))
            return " ".join(f"{key}={value}" for key, value in ring.fields(call.hear(5.0)).items())

    def do_rings(self, count, every_ms, patience="5"):
        """Status rings from now on, in the background."""
        def work():
            for _ in range(int(count)):
                try:
                    self.heard += ring.ask(self.pid, ring.STATUS, float(patience)).get("result") == "ok"
                except (ring.Silence, OSError):
                    pass
                time.sleep(int(every_ms) / 1000)
        self.heard = 0
        self.rings = threading.Thread(target=work, daemon=True)
        self.rings.start()
        return "ok"

    def do_rung(self):
        """How many of them were answered, when they are over."""
        self.rings.join(SECONDS)
        return str(self.heard)

    def do_signal(self, name, count="1", every_ms="0"):
        """Signals of the program's own, in the background."""
        def work():
            for _ in range(int(count)):
                time.sleep(int(every_ms) / 1000)
                self.process.send_signal(signal.Signals[name])
        threading.Thread(target=work, daemon=True).start()
        return "ok"

    def do_crowd(self, at_a_time):
        """Strangers, in a process of their own: so many descriptors are too many for this one's select()."""
        self.crowd = subprocess.Popen([sys.executable, "-S", "-E", CROWD, str(self.pid), at_a_time], text=True,
                                      stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        return "ok"

    def do_crowd_ends(self):
        """How many of their connections were let in."""
        crowd, self.crowd = self.crowd, None
        return crowd.communicate(timeout=SECONDS)[0].strip()

    def do_adopt(self, pid):
        """The program goes on as this process: it is a daemon now."""
        self.daemon = self.pid = int(pid)
        return "ok"

    def do_restart_of(self, pid):
        """What another process answers when it is asked to restart."""
        answer = ring.restart(int(pid))
        return " ".join(f"{key}={value}" for key, value in answer.items())

    # --- handover: this conversation's program is the old generation

    def do_next(self):
        """The next generation, behind its gate beside this one, once it is ready: its doors."""
        self.next = self.begin_next(self)
        talk = Conversation(self.next.process, self.cprctl)
        self.next_talk = threading.Thread(target=talk.hold, daemon=True)
        self.next_talk.start()
        self.next.await_ready()
        return " ".join(door for door, _ in handover.doors(self.next.pid)) or "none"

    def do_wish(self, verb):
        """CLOSE, OPEN or FORGET of this generation."""
        return self._wish(self.pid, verb)

    def do_wish_of_next(self, verb):
        return self._wish(self.next.pid, verb)

    def do_hand_over(self):
        handover.hand_over(self, self.next)
        return "ok"

    def do_hand_back(self):
        handover.hand_over(self.next, self)
        return "ok"

    def do_pass(self, left):
        """Idle connections go to the next generation from now on: how many are left, once it are so many."""
        self.passing = handover.Passing(self, self.next)
        return f"left {self.passing.await_left(int(left))}"

    def do_passed(self):
        return str(self.passing.carried)

    def do_pass_no_more(self):
        self.passing.close()
        self.passing = None
        return "ok"

    def do_end_of_next(self):
        """How the next generation ended."""
        self.next_talk.join(SECONDS)
        return str(self.next.process.wait(SECONDS))

    @staticmethod
    def _wish(pid, verb):
        try:
            handover.wish(pid, getattr(handover, verb))
            return "ok"
        except handover.Refused as refused:
            return f"{refused}"

    # --- a client

    def do_connect(self, family, *where):
        """A connection: its number, or the error's name."""
        if family == "unix":
            address = where[0].encode() if not where[0].startswith("@") else b"\0" + where[0][1:].encode()
            kind = getattr(socket, where[1] if len(where) > 1 else "SOCK_STREAM")
            peer = socket.socket(socket.AF_UNIX, kind)
        else:
            address = (where[0], int(where[1]))
            kind = socket.SOCK_STREAM if family.startswith("tcp") else socket.SOCK_DGRAM
            peer = socket.socket(socket.AF_INET6 if ":" in where[0] else socket.AF_INET, kind)
        peer.settimeout(5)
        try:
            peer.connect(address)
        except OSError as error:
            peer.close()
            return type(error).__name__
        self.peers.append(peer)
        return str(len(self.peers) - 1)

    def do_send(self, number, *words):
        self.peers[int(number)].send(" ".join(words).encode())
        return "ok"

    def do_close(self, number):
        self.peers[int(number)].close()
        return "ok"

    def do_recv(self, number):
        try:
            return self.peers[int(number)].recv(4096).decode() or "eof"
        except OSError as error:
            return type(error).__name__

    def do_request(self, number, path):
        """An HTTP request on a connection."""
        self.peers[int(number)].sendall(f"GET {path} HTTP/1.1\r\nHost: test\r\n\r\n".encode())
        return "ok"

    def do_response(self, number):
        """The body of the next response; what was wrong with it else."""
        received = b""
        try:
            while b"\r\n\r\n" not in received:
                more = self.peers[int(number)].recv(4096)
                if not more:
                    return f"eof after {received!r}"
                received += more
            head, _, body = received.partition(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length:")[2].split()[0])
            while len(body) < length:
                body += self.peers[int(number)].recv(length - len(body)) or b"(cut)"
        except OSError as error:
            return type(error).__name__
        return body.decode()

    # --- a server

    def do_server(self, path="", backlog=16):
        """A server that the program may ask, on this path: its port, or 0."""
        self.server = socket.socket(socket.AF_UNIX if path else socket.AF_INET)
        self.server.bind(path or ("127.0.0.1", 0))
        self.server.listen(backlog)
        return "0" if path else str(self.server.getsockname()[1])

    def do_server_of_one(self):
        """Its queue has room for one connection."""
        return self.do_server(backlog=0)

    def do_accept(self):
        """The next connection to it: its number."""
        self.server.settimeout(5)
        self.peers.append(self.server.accept()[0])
        return str(len(self.peers) - 1)

    def do_children(self):
        """How many processes are this program's children."""
        with open(f"/proc/{self.pid}/task/{self.pid}/children", encoding="ascii") as children:
            return str(len(children.read().split()))

    # --- within

    def _line(self):
        while b"\n" not in self._buffer:
            left = self.until - time.monotonic()
            if left <= 0 or not select.select([self.process.stdout], [], [], left)[0]:
                raise Wrong(f"still not done after {SECONDS:g} s")
            more = os.read(self.process.stdout.fileno(), 4096)
            if not more:
                return None
            self._buffer += more
        line, _, self._buffer = self._buffer.partition(b"\n")
        return line.decode(errors="replace")

    def _settle(self):
        """The last restart must have gone well before the next begins."""
        for restart in self.restarts:
            try:
                said, _ = restart.communicate(timeout=max(0.1, self.until - time.monotonic()))
            except subprocess.TimeoutExpired:
                restart.kill()
                raise Wrong("cprctl restart did not end") from None
            if restart.returncode:
                raise Wrong(f"cprctl restart said {restart.returncode}: {said.decode(errors='replace').strip()}")
        self.restarts = []
