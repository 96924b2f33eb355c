# SPDX-License-Identifier: MIT
"""Handover mode and pid files of the program's own: the next generation does not find the last one's."""
import pathlib

from common import CTL, SERVER, expect, run, test, until
from supervise import Supervised

# One that does not start twice, as its pid file says, which it reads by fopen(3); it removes that at its end.
CAREFUL = SERVER.replace("listener = socket.socket()", r"""
import ctypes, signal
libc = ctypes.CDLL(None)
libc.fopen.restype = ctypes.c_void_p
libc.fopen.argtypes = libc.unlink.argtypes = None
libc.fgets.argtypes = ctypes.c_char_p, ctypes.c_int, ctypes.c_void_p
stream, line = libc.fopen(b"own.pid", b"r"), ctypes.create_string_buffer(32)
if stream and libc.fgets(line, 32, stream):
    try:
        os.kill(int(line.value), 0)
        sys.exit("it runs already: " + line.value.decode())
    except ProcessLookupError:
        pass
with open("own.pid", "w") as own:
    own.write("%d\n" % os.getpid())
def end(*_):
    os.unlink("own.pid")
    os._exit(0)
signal.signal(signal.SIGTERM, end)
if os.path.exists("die"):
    end()
listener = socket.socket()""", 1).replace("""if os.path.exists("die"):
    sys.exit(3)
""", "", 1)


# One that looks whether it is there, and fails at what it cannot read then: hypnotoad, starman and thin do.
LOOKING = CAREFUL.replace("stream, line =", """if os.path.exists("own.pid"):
    with open("own.pid") as other:
        try:
            os.kill(int(other.read()), 0)
            sys.exit("it runs already")
        except ProcessLookupError:
            os.unlink("own.pid")
stream, line =""", 1)


def named_by(server):
    path = pathlib.Path(server.directory) / "own.pid"
    return int(path.read_text()) if path.exists() else 0


@test
def a_server_that_reads_its_pid_file_by_fopen_is_handed_over():
    with Supervised(code=CAREFUL) as server:
        for _ in range(3):
            assert server.restart().status == 0
            assert named_by(server) == server.status()["server"]


@test
def a_server_that_looks_whether_its_pid_file_is_there_is_handed_over():
    with Supervised(code=LOOKING) as server:
        for _ in range(3):
            expect(server.restart(), 0)
            assert named_by(server) == server.status()["server"]


@test
def a_generation_that_is_called_off_leaves_the_pid_file_of_the_one_that_serves():
    with Supervised("--ready-timeout", "2", code=CAREFUL) as server:
        first = named_by(server)
        assert first == server.status()["server"]
        server.touch("die")
        expect(server.restart(), 1, "ended with status 0")
        until("its pid file to be there again", lambda: named_by(server) == first)


@test
def a_rollback_brings_the_pid_file_back():
    with Supervised("--rollback", "60", code=CAREFUL) as server:
        first = named_by(server)
        assert server.restart().status == 0
        assert named_by(server) == server.status()["server"] != first
        assert run(CTL, "rollback", server.pid).status == 0
        assert named_by(server) == first
        until("the other one to leave", lambda: server.family() == {first})
        assert named_by(server) == first
