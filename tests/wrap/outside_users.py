# SPDX-License-Identifier: MIT
"""What processes of other users may ask of a program, and what they are refused."""

import os
import pathlib
import pwd
import shutil
import subprocess
import tempfile

import preload
import ring
from outside import WITHIN, must, server


def _other_users():
    if os.geteuid():
        return None
    return pwd.getpwnam("nobody"), pwd.getpwnam("daemon")


def _identity(user):
    return {"cwd": "/", "user": user.pw_uid, "group": user.pw_gid, "extra_groups": [],
            "env": {"PYTHONPATH": _readable_support()}}


def _as_user(user, code, *arguments):
    """Runs a piece of Python as another user; what it prints."""
    command = ["/usr/bin/python3", "-B", "-c", code, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False, **_identity(user))
    must(done.returncode == 0, done.stderr.strip())
    return done.stdout.strip()


def _readable_support():
    """A place of the ring client that all users can read, whatever user owns this tree."""
    if not hasattr(_readable_support, "room"):
        _readable_support.room = tempfile.TemporaryDirectory(prefix="cpr-wrap-")
        os.chmod(_readable_support.room.name, 0o755)
        shutil.copy(ring.__file__, _readable_support.room.name)
        os.chmod(os.path.join(_readable_support.room.name, "ring.py"), 0o644)
    return _readable_support.room.name


RING_AS_OTHER = """
import sys, ring
try:
    print(ring.ask(int(sys.argv[1]), ring.STATUS, 1.0))
except OSError as error:
    print(type(error).__name__)
"""

LISTEN_AS_OTHER = """
import sys, ring
with ring.Call(0, int(sys.argv[1])) as call:
    print("listening", flush=True)
    heard = call.answered(5.0)
    if heard:
        try:
            call.send(ring.request(ring.RESTART))
            print(call.hear(5.0))
        except OSError as error:
            print(type(error).__name__)
    else:
        print("nobody")
"""


RESTART_AS_OTHER = """
import sys, ring
print(ring.restart(int(sys.argv[1]), 10.0, sys.argv[2].encode()).get("result"))
"""


def a_program_is_named_only_with_all_rights(build):
    """The server may bind low ports, and its user may not: no process of that user makes it run another file."""
    users = _other_users()
    if not users or not shutil.which("setpriv"):
        return
    user, python = users[0], os.path.realpath("/usr/bin/python3")
    may = ["setpriv", f"--reuid={user.pw_uid}", f"--regid={user.pw_gid}", "--clear-groups"]
    more = ["--inh-caps=+net_bind_service", "--ambient-caps=+net_bind_service"]
    with tempfile.TemporaryDirectory(prefix="cpr-wrap-") as room:
        os.chmod(room, 0o755)
        shutil.copy(build / "libcpr.so", room)
        env = preload.environment(pathlib.Path(room) / "libcpr.so")
        under = ["env", *(f"{name}={value}" for name, value in env.items())]
        for rights, expected in ((more, "refused"), ([], "ready")):
            with server(pathlib.Path(room), start=[*may, *rights, *under]) as running:
                must(_as_user(user, RESTART_AS_OTHER, running.pid, python) == expected,
                     f"to name a program is not {expected}")
                if expected == "refused":
                    must(_as_user(user, RESTART_AS_OTHER, running.pid, "") == "ready", "a plain restart is not allowed")
                    must(ring.restart(running.pid, WITHIN, python.encode())["result"] == "ready", "root may not")


def another_user_cannot_ring(build):
    users = _other_users()
    if not users:
        return
    with server(build) as running:
        must(_as_user(users[0], RING_AS_OTHER, running.pid) == "PermissionError", "nobody rang root")
    with server(build, user=users[1].pw_uid) as running:
        must(_as_user(users[0], RING_AS_OTHER, running.pid) == "PermissionError", "nobody rang daemon")
        must("'result': 'ok'" in _as_user(users[1], RING_AS_OTHER, running.pid), "daemon cannot ring its own")
        must(running.generation() == 1, "root cannot ring it")


def a_forged_ring_is_not_answered(build):
    """A ring that came with rights leads to a socket of a process that has none. SO_PEERCRED tells, and nothing is
    read."""
    users = _other_users()
    if not users:
        return
    nonce = 0x5eed0000 + os.getpid()
    with server(build) as running:
        listener = subprocess.Popen(["/usr/bin/python3", "-B", "-c", LISTEN_AS_OTHER, str(nonce)],
                                    stdout=subprocess.PIPE, text=True, **_identity(users[0]))
        with listener:
            must(listener.stdout.readline() == "listening\n", "the listener did not start")
            ring.queue_signal(running.pid, nonce)
            said = listener.stdout.read().strip()
        must(said in ("b''", "BrokenPipeError", "ConnectionResetError"), f"it was told {said!r}")
        must(running.generation() == 1, "it restarted")


CHECKS = {check.__name__: check for check in (
    a_program_is_named_only_with_all_rights, another_user_cannot_ring, a_forged_ring_is_not_answered)}
