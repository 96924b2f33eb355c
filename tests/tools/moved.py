# SPDX-License-Identifier: MIT
"""Unix sockets that are bound under a temporary name, then renamed: the supervisor finds which socket has the file."""
import ctypes
import json
import os
import subprocess

from common import CTL, PYTHON, SERVER, expect, run, test, until
from supervise import Supervised

PR_CAPBSET_DROP, CAP_NET_ADMIN = 24, 12

MOVING = SERVER.replace("workers = ", """
here = socket.socket(socket.AF_UNIX)
here.bind(os.path.abspath("passing"))
here.listen(5)
os.rename("passing", "s")
workers = """)


def inode(server):
    return os.stat(os.path.join(server.directory, "s")).st_ino


def held(server):
    return json.loads(run(CTL, "status", server.pid, "--json").out)["descriptors"]


def is_handed_over(server):
    until("both to be held", lambda: held(server) == 2)
    before = inode(server)
    for number in (2, 3):
        expect(server.restart(), 0, rf"^restarted {server.pid}: generation {number}, 2 descriptors, ", where="out")
        assert inode(server) == before and not server.has("passing")


def drop_net_admin():
    ctypes.CDLL(None).prctl(PR_CAPBSET_DROP, CAP_NET_ADMIN, 0, 0, 0)


@test
def a_socket_that_was_moved_is_handed_over():
    with Supervised(code=MOVING) as server:
        is_handed_over(server)


@test
def a_socket_that_was_moved_is_handed_over_by_a_supervisor_with_fewer_rights():
    """The kernel then says it by sock_diag."""
    if os.geteuid():
        return      # as in the one above
    with Supervised(code=MOVING, preexec=drop_net_admin) as server:
        is_handed_over(server)


@test
def a_socket_whose_path_is_anothers_is_not_handed_over_as_that():
    """A server that has dropped its rights must not pass off its own socket as one that it could not have bound."""
    with Supervised(code=MOVING) as server:
        until("both to be held", lambda: held(server) == 2)
        other = os.path.join(server.directory, "other")
        binds = f"import socket; socket.socket(socket.AF_UNIX).bind({other!r})"
        subprocess.run([PYTHON, "-c", binds], check=True)
        os.rename(other, os.path.join(server.directory, "s"))
        done = server.restart()
        expect(done, 0, "^restarted .*, 1 descriptor, ", where="out")
        expect(done, 0, "1 descriptors of the old generation are not what they claim to be")
