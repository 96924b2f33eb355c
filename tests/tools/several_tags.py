# SPDX-License-Identifier: MIT
"""Several tags of one descriptor (cpr_save_fd): one number before a handover is one number after it."""
import os
import pathlib

from common import SERVER, test, until
from reexec import Upgradable

NAMES = ("disk", "backup", "mirror")

# It says which number each name has. The first generation saves one file under all of them, and a duplicate as "copy".
SAVING = f'''
import ctypes, os
cpr = ctypes.CDLL(None, use_errno=True)
def number(name):
    return cpr.cpr_find_fd(name.encode(), 7)
if cpr.cpr_generation() == 1:
    shared = os.open("data", os.O_RDWR | os.O_CREAT, 0o600)
    for name in {NAMES!r}:
        assert cpr.cpr_save_fd(name.encode(), 7, shared) == 0
    assert cpr.cpr_save_fd(b"copy", 7, os.dup(shared)) == 0
said = " ".join(str(number(name)) for name in {(*NAMES, "copy")!r})
open("numbers", "w").write(said + " %d" % (number("copy") >= 0 and os.fstat(number("copy")).st_ino))
''' + SERVER


def numbers(server):
    """Of the generation that serves."""
    *found, inode = map(int, pathlib.Path(server.directory, "numbers").read_text().split())
    assert inode == os.stat(os.path.join(server.directory, "data")).st_ino, f"not the file: {inode}"
    return found


def settled(server):
    """How many descriptors the supervisor has when the generation before has ended. One more may be just being closed.
    """
    until("the old generation to end", lambda: len(server.family()) == 1)
    return server.descriptors()


@test
def tags_that_share_a_number_share_one_after_a_handover():
    with Upgradable(code=SAVING) as server:
        until("the supervisor to hold all", lambda: server.status()["descriptors"] == 5)
        held = None
        for step in (server.restart, server.restart, server.reexec, server.restart):
            assert step().status == 0
            *shared, copy = numbers(server)
            assert shared[0] >= 0 and len(set(shared)) == 1 and copy not in shared, (shared, copy)
            assert server.status()["descriptors"] == 5
            held = held or settled(server)
        until("no number more than after the first", lambda: server.descriptors() <= held)
