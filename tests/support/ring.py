# SPDX-License-Identifier: MIT
"""Rings the doorbell of a process as shim/model/protocol.h says. It is in Python, so that the tests can also ring it
wrongly."""

import ctypes
import os
import secrets
import select
import signal
import socket
import struct
import time

MAGIC = 0x43505231
STATUS, LIST, RESTART, RETIRE = 1, 2, 3, 4
DOORBELL = signal.SIGRTMAX - 5
REQUEST = struct.Struct("=IIII4096s")
ANSWER_MAX = 8192

_libc = ctypes.CDLL(None, use_errno=True)


class _Value(ctypes.Union):
    _fields_ = [("number", ctypes.c_int), ("pointer", ctypes.c_void_p)]


_libc.sigqueue.argtypes = [ctypes.c_int, ctypes.c_int, _Value]


def queue_signal(pid, value, signo=DOORBELL):
    """sigqueue(3); OSError if the process may not be rung."""
    if _libc.sigqueue(pid, signo, _Value(pointer=value)):
        error = ctypes.get_errno()
        raise OSError(error, os.strerror(error))


def request(verb, path=b"", magic=MAGIC):
    return REQUEST.pack(magic, verb, 0, 0, path)


def fields(answer):
    """The lines of key=value as a dictionary."""
    return dict(line.split("=", 1) for line in answer.decode(errors="replace").splitlines() if "=" in line)


class Silence(Exception):
    """No process answered in time."""


class Call:
    """One nonce: listens, rings, and hears whatever connects."""

    def __init__(self, pid, nonce=None):
        self.pid, self.nonce = pid, nonce or secrets.randbits(56) | 1
        self.listener = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self.listener.bind(b"\0cpr." + format(self.nonce, "x").encode())
        self.listener.listen(8)
        self.line = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for end in (self.line, self.listener):
            if end:
                end.close()

    def ring(self):
        queue_signal(self.pid, self.nonce)

    def answered(self, seconds):
        """Whether the process connects; its line is open then."""
        if not select.select([self.listener], [], [], seconds)[0]:
            return False
        if self.line:
            self.line.close()
        self.line, _ = self.listener.accept()
        return True

    def send(self, message):
        self.line.send(message)

    def hear(self, seconds):
        """One message on the open line: b"" when it was closed."""
        if not select.select([self.line], [], [], seconds)[0]:
            raise Silence(f"process {self.pid} said nothing for {seconds:g} s")
        try:
            return self.line.recv(ANSWER_MAX)
        except ConnectionResetError:
            return b""


def ask(pid, verb, seconds=5.0, path=b""):
    """One question, one answer, as a dictionary."""
    with Call(pid) as call:
        call.ring()
        if not call.answered(seconds):
            raise Silence(f"process {pid} did not answer the doorbell in {seconds:g} s")
        call.send(request(verb, path))
        return fields(call.hear(seconds))


def restart(pid, seconds=10.0, path=b""):
    """Restarts; the last answer: ready, refused, failed or busy."""
    until = time.monotonic() + seconds
    with Call(pid) as call:
        call.ring()
        if not call.answered(seconds):
            raise Silence(f"process {pid} did not answer the doorbell in {seconds:g} s")
        call.send(request(RESTART, path))
        answer = fields(call.hear(seconds))
        if answer.get("result") != "leaving":
            return answer
        message = call.hear(max(0.0, until - time.monotonic()))
        if message:
            return fields(message)
        if not call.answered(max(0.0, until - time.monotonic())):
            raise Silence(f"no next generation of process {pid} in {seconds:g} s")
        return fields(call.hear(seconds))
