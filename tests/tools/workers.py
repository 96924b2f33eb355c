# SPDX-License-Identifier: MIT
"""Workers that do not answer as others do: stopped, of another user, other programs, without their owner."""
import errno
import os
import signal
import socket

from common import CTL, SERVER, Server, alive, expect, run, test, until
from supervise import Supervised

NOBODY = 65534


@test
def a_stopped_worker_does_not_stand_in_the_way():
    """It closes its gate when it goes on."""
    with Supervised(code=SERVER, arguments=("2",)) as server:
        first = server.status()["server"]
        worker = min(server.family() - {first})
        os.kill(worker, signal.SIGSTOP)
        for _ in range(2):
            assert server.restart().status == 0
            assert server.serves()
        os.kill(worker, signal.SIGCONT)
        until("it to leave", lambda: not alive(worker))
        assert server.serves()


# The owner gives up its rights, and has a worker that keeps them: it may not signal that one.
PRIVILEGED = SERVER.replace('open("ready"', f"""if os.fork() == 0:
    while True:
        time.sleep(60)
os.setgid({NOBODY})
os.setuid({NOBODY})
open("ready\"""", 1)


@test
def a_worker_that_has_more_rights_than_its_owner_closes_its_gate():
    if os.getuid():
        return  # only root has rights to give up
    with Supervised(code=PRIVILEGED, preexec=lambda: os.chmod(".", 0o777)) as server:
        for number in range(2, 5):
            assert server.restart().status == 0
            assert server.status()["generation"] == number and server.serves()


# A child of its own for each client, which becomes another program, as inetd's do.
INETD = SERVER.replace('    connection.sendall(b"hello\\n")\n', r"""    import subprocess
    subprocess.Popen(["cat"], stdin=connection, stdout=connection)
""", 1)


@test
def a_program_that_was_started_for_a_client_serves_it_to_its_end():
    with Supervised(code=INETD) as server:
        first = server.status()["server"]
        with socket.create_connection(("127.0.0.1", server.port), timeout=10) as client:
            for word in (b"one", b"two", b"three"):
                client.sendall(word)
                assert client.recv(16) == word, f"{word} is not echoed"
                assert server.restart().status == 0
            assert alive(first)
            client.sendall(b"the end")
            assert client.recv(16) == b"the end"
        until("the first generation to leave", lambda: not alive(first))


# Children, one after the other, which hear no signal: at each look there are some that have not been rung.
# (libc's own syscall(2): the library would leave its signal out of what is blocked.)
FORKING = SERVER.replace('open("ready"', """import ctypes, threading
libc = ctypes.CDLL("libc.so.6")
everything = ctypes.c_ulong(2**64 - 1)
def fork_for_ever():
    while True:
        child = os.fork()
        if not child:
            libc.syscall(14, 0, ctypes.byref(everything), None, 8)  # rt_sigprocmask
            time.sleep(0.03)
            os._exit(0)
        os.waitpid(child, 0)
if os.uname().machine == "x86_64":
    for _ in range(6):
        threading.Thread(target=fork_for_ever, daemon=True).start()
open("ready\"""", 1)


@test
def children_that_are_born_all_the_time_do_not_stand_in_the_way():
    with Supervised(code=FORKING) as server:
        for _ in range(2):
            expect(server.restart(), 0)
            assert server.serves()


@test
def old_workers_end_with_a_server_that_ends_right_after_its_restart():
    """Its next image would have told them to leave a moment later. None of them must become the owner of the rest."""
    with Server(arguments=("3",)) as server:
        old = server.workers()
        assert len(old) == 3 and server.restart().status == 0
        new = set(server.workers()) - set(old)
        server.process.kill()
        server.process.wait()
        for pid in new:
            os.kill(pid, signal.SIGKILL)    # it leaves them behind without cpr as well
        try:
            until("them to end", lambda: not any(alive(pid) for pid in old))
        finally:
            for pid in filter(alive, old):
                os.kill(pid, signal.SIGKILL)
        with socket.socket() as client:
            assert client.connect_ex(("127.0.0.1", server.port)) == errno.ECONNREFUSED


# Its worker alone has the listener, as with haproxy's master process.
ALONE = SERVER.replace('open("ready", "w").close()\n', """open("ready", "w").close()
if os.fork():
    listener.close()
    while True:
        time.sleep(60)
""")


@test
def an_owner_without_listeners_can_take_its_work_back():
    """It has closed its gate, and has nothing behind it. Both generations refused, and nothing accepted any more."""
    with Supervised("--rollback=20", code=ALONE) as server:
        for number in (2, 3):
            expect(server.restart(), 0, f"generation {number}, 1 descriptor, ", where="out")
            assert server.serves()
            expect(run(CTL, "rollback", server.pid), 0, "^rolled back ", where="out")
            assert server.serves()
        expect(server.restart(), 0, "generation 4, 1 descriptor, ", where="out")
        assert server.serves()
