# SPDX-License-Identifier: MIT
"""A supervisor for tests: asks one generation for what it holds, starts the next behind its gate, and hands over."""

import array
import json
import os
import select
import signal
import socket
import struct
import subprocess
import sys
import threading
import time

import preload
import ring

GIVE, DOORS, CLOSE, OPEN, PASS, TAKE, FORGET = 7, 8, 9, 10, 11, 12, 14
DESCRIPTORS, CARRY, LEFT = 1, 2, 3
BATCH_MAX = 64
BATCH = struct.Struct(f"=IIII{BATCH_MAX}Q")


class Refused(Exception):
    """A generation did not do what it was asked for."""


def receive(line, seconds=5.0):
    """One message and the descriptors beside it; b"" at the end."""
    line.settimeout(seconds)
    message, control, _, _ = line.recvmsg(ring.ANSWER_MAX, socket.CMSG_SPACE(4 * BATCH_MAX), socket.MSG_CMSG_CLOEXEC)
    fds = array.array("i")
    for level, kind, data in control:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            fds.frombytes(data[: len(data) - len(data) % 4])
    return message, list(fds)


def wish(pid, verb, seconds=5.0):
    """CLOSE, OPEN, FORGET or DOORS: the answer's text, and its fields."""
    with ring.Call(pid) as call:
        call.ring()
        if not call.answered(seconds):
            raise ring.Silence(f"process {pid} did not answer the doorbell in {seconds:g} s")
        call.send(ring.request(verb))
        message = call.hear(seconds)
        fields = ring.fields(message)
        if fields.get("result") != "ok":
            raise Refused(fields)
        return message.decode(), fields


def doors(pid):
    """(door, listener) for each."""
    text, _ = wish(pid, DOORS)
    return [tuple(line[5:].split(" ", 1)) for line in text.splitlines() if line.startswith("door=")]


def take_batches(line, found):
    """Descriptors by their number in the state."""
    while True:
        message, fds = receive(line)
        if not message:
            return
        _, kind, count, _, *values = BATCH.unpack(message)
        assert kind == DESCRIPTORS and count == len(fds), (kind, count, len(fds))
        for number, fd in zip(values, fds):
            found.setdefault(number, fd)


def given(pid, seconds=5.0):
    """What a generation holds: its state (a descriptor), and its descriptors by their number in that."""
    found, state, processes, heard = {}, None, 1, 0
    with ring.Call(pid) as call:
        call.ring()
        until = time.monotonic() + seconds
        while heard < processes and call.answered(max(0.0, until - time.monotonic())):
            if not heard:
                call.send(ring.request(GIVE))
            message, fds = receive(call.line)
            fields = ring.fields(message)
            if fields.get("result") != "ok":
                raise Refused(fields)
            heard += 1
            if fields["role"] == "owner":
                processes, state = int(fields["processes"]), fds[0]
                take_batches(call.line, found)
            else:
                os.close(fds[0])
                take_batches(call.line, {})
    if state is None:
        raise ring.Silence(f"process {pid} gave nothing")
    return state, found


# Puts descriptors where the state says that they are, and becomes the program. A function of Popen's would run in a
# forked thread.
PLACE = """
import json, os, sys
moves, library, command = json.loads(sys.argv[1]), sys.argv[2], sys.argv[3:]
high = max([900, *moves.values(), *map(int, moves)]) + 1
held = {int(fd): os.dup2(int(fd), high + i) for i, fd in enumerate(moves)}
for fd in held:
    os.close(fd)
for fd, number in moves.items():
    os.dup2(held[int(fd)], number)
    os.close(held[int(fd)])
os.environ["LD_PRELOAD"] = library
os.execvp(command[0], command)
"""
STATE_AT = 899


class Generation:
    """A program under the preload; `of`: the next one of that, behind its gate."""

    def __init__(self, library, command, env=None, of=None, **more):
        state, found = given(of.pid) if of else (None, {})
        env = {name: value for name, value in (env or os.environ).items() if name not in ("LD_PRELOAD", "CPR_STATE_FD")}
        moves = {str(fd): number for number, fd in found.items()}
        if of:
            moves[str(state)] = STATE_AT
            env.update(CPR_STATE_FD=str(STATE_AT), CPR_GATE="closed", CPR_SUPERVISOR=f"{os.getpid()}:1")
        placed = [sys.executable, "-S", "-E", "-c", PLACE, json.dumps(moves), preload.preload(library), *command]
        self.process = subprocess.Popen(placed, env=env, pass_fds=[int(fd) for fd in moves], **more)
        self.pid = self.process.pid
        for fd in moves:
            os.close(int(fd))

    def listens(self):
        """Whether it has a handler: before that, a ring would end it."""
        with open(f"/proc/{self.pid}/status", encoding="ascii") as status:
            caught = [line for line in status if line.startswith("SigCgt:")]
        return bool(caught) and int(caught[0].split()[1], 16) >> (ring.DOORBELL - 1) & 1

    def await_ready(self, seconds=10.0):
        """Until it has everything and waits for work."""
        until = time.monotonic() + seconds
        while True:
            try:
                status = ring.ask(self.pid, ring.STATUS, 1.0) if self.listens() else {}
                if status.get("result") == "ok" and status["arriving"] == "0":
                    return status
            except (OSError, ring.Silence, KeyError):
                pass        # it is not there yet, or becomes another program this moment
            if time.monotonic() > until or self.process.poll() is not None:
                raise Refused(f"process {self.pid} is not ready ({self.process.poll()})")
            time.sleep(0.01)

    def end(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(5)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


class Passing:
    """Carries what the old generation passes to the next one, as the supervisor does, until it is closed."""

    def __init__(self, old, new):
        self.carried, self.closed, self.left = 0, False, {}
        self.take = self._line_to(new.pid, TAKE)
        self.source = self._line_to(old.pid, PASS)
        self.lines = [self.source.line]
        self.relay = threading.Thread(target=self._relay, daemon=True)
        self.relay.start()

    @staticmethod
    def _line_to(pid, verb):
        call = ring.Call(pid)
        call.ring()
        if not call.answered(5.0):
            raise ring.Silence(f"process {pid} did not answer the doorbell")
        call.send(ring.request(verb))
        fields = ring.fields(call.hear(5.0))
        if fields.get("result") != "ok":
            raise Refused(fields)
        return call

    def _relay(self):
        while not self.closed:
            for ready in select.select([*self.lines, self.source.listener], [], [], 0.05)[0]:
                if ready is self.source.listener:
                    self.lines.append(ready.accept()[0])
                elif not self._hear(ready):
                    self.lines.remove(ready)
                    self.left[ready] = 0

    def _hear(self, line):
        try:
            message, fds = receive(line)
        except OSError:
            return False
        if len(message) == BATCH.size:
            _, kind, count, left, *_ = BATCH.unpack(message)
            if kind == LEFT:
                self.left[line] = left
            else:
                assert kind == CARRY and count == len(fds), (kind, count, len(fds))
                self.take.line.settimeout(5.0)
                self.take.line.sendmsg([message], [(socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", fds))])
                self.carried += count
                for fd in fds:
                    os.close(fd)
        return bool(message)

    def await_left(self, number, seconds=10.0):
        """Until so many connections are left in all processes of the old generation; how many are."""
        until = time.monotonic() + seconds
        while (len(self.left) < len(self.lines) or sum(self.left.values()) != number) and time.monotonic() < until:
            time.sleep(0.005)
        return sum(self.left.values())

    def close(self):
        self.closed = True
        self.relay.join()
        for line in self.lines:
            line.close()
        self.source.__exit__()
        self.take.__exit__()


def hand_over(old, new):
    """The microseconds in which no process accepted."""
    began = time.monotonic()
    wish(old.pid, CLOSE)
    wish(new.pid, OPEN)
    return int((time.monotonic() - began) * 1e6)
