# SPDX-License-Identifier: MIT
"""What is seen only from outside of a program: bad rings, two restarts at once, and what starts under cpr-exec."""

import contextlib
import os
import pathlib
import shutil
import socket
import subprocess
import tempfile
import threading
import time

import ports
import preload
import ring
from conversation import Wrong

HERE = pathlib.Path(__file__).resolve().parent
WITHIN = 10.0       # seconds

# A server that knows nothing of cpr. It says its port's inode whenever it starts.
SERVER = """#!/usr/bin/python3 -B
import os, socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print(os.fstat(listener.fileno()).st_ino, flush=True)
while True:
    peer, _ = listener.accept()
    peer.close()
"""


class Server:
    """One of those, under the preload (or cpr-exec), as root or as another user."""

    def __init__(self, build, room, start=None, user=None, directly=False, script=SERVER):
        self.port = ports.four()
        program = pathlib.Path(room) / "server.py"
        program.write_text(script, encoding="utf-8")
        env = dict(os.environ, CPR_LOG=f"warn:{room}/cpr.log")
        if not start:
            env |= preload.environment(build / "libcpr.so")
        program.chmod(0o755)
        command = [*(start or []), *([] if directly else ["/usr/bin/python3"]), str(program), str(self.port)]
        self.process = subprocess.Popen(command, env=env, stdout=subprocess.PIPE, user=user, group=user,
                                        extra_groups=[] if user else None)
        self.pid = self.process.pid
        self.inode = self.hear_inode()

    def hear_inode(self):
        line = self.process.stdout.readline()
        if not line.strip():
            raise Wrong("the server did not start")
        return int(line)

    def restart(self):
        answer = ring.restart(self.pid, WITHIN)
        if answer.get("result") != "ready":
            raise Wrong(f"restart: {answer}")
        must(self.hear_inode() == self.inode, "the next generation has another listener")

    def serves(self):
        with socket.create_connection(("127.0.0.1", self.port), WITHIN) as client:
            must(client.recv(1) == b"", "the server answers otherwise")

    def generation(self):
        return int(ring.ask(self.pid, ring.STATUS, WITHIN)["generation"])


def must(holds, reason):
    if not holds:
        raise Wrong(reason)


@contextlib.contextmanager
def server(build, **how):
    room = tempfile.mkdtemp(prefix="cpr-wrap-")
    os.chmod(room, 0o777)
    running = None
    try:
        running = Server(build, room, **how)
        yield running
        must(running.process.poll() is None, "the server died")
        running.serves()
    finally:
        if running:
            running.process.kill()
            running.process.wait()
            running.process.stdout.close()
        shutil.rmtree(room, ignore_errors=True)


# --- rings that are none

def a_bad_request_is_refused(build):
    long_path = b"/" + b"x" * 4095      # no end
    bad = [ring.request(ring.STATUS, magic=1), ring.request(0), ring.request(99),
           ring.request(ring.RESTART, b"relative"), ring.request(ring.RESTART, long_path), b"x", b"", b"\0" * 5000,
           ring.request(ring.STATUS)[:-1], ring.request(ring.STATUS) + b"x", ring.request(ring.RETIRE)]
    with server(build) as running:
        for request in bad:
            with ring.Call(running.pid) as call:
                call.ring()
                must(call.answered(WITHIN), "not answered")
                call.send(request)
                answer = ring.fields(call.hear(WITHIN))
                must(answer.get("result") == "refused" and answer.get("reason"), f"{request[:20]}: {answer}")
        must(running.generation() == 1, "it restarted")


def a_ring_that_says_nothing_is_let_go(build):
    with server(build) as running, ring.Call(running.pid) as silent, ring.Call(running.pid) as gone:
        silent.ring()
        must(silent.answered(WITHIN), "not answered")
        gone.ring()
        gone.listener.close()       # before or after it connects
        running.serves()
        must(running.generation() == 1, "no answer")


def a_ring_without_a_listener_does_nothing(build):
    with server(build) as running:
        for nonce in (0, 1, 2**64 - 1, 0xdeadbeef):
            ring.queue_signal(running.pid, nonce)
        running.serves()
        must(running.generation() == 1, "it restarted")


def a_hundred_callers_at_once_are_answered(build):
    answers = []
    with server(build) as running:
        def call():
            try:
                answers.append(ring.ask(running.pid, ring.STATUS, WITHIN)["result"])
            except (ring.Silence, OSError) as error:
                answers.append(str(error))
        threads = [threading.Thread(target=call) for _ in range(100)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    must(answers == ["ok"] * 100, f"{sorted(set(answers))}")


# --- the files that the next generation is made of

@contextlib.contextmanager
def with_own_library(build):
    """A server, and the path of the copy of the library that is preloaded into it."""
    with tempfile.TemporaryDirectory(prefix="cpr-wrap-") as room:
        os.chmod(room, 0o755)
        library = pathlib.Path(shutil.copy(build / "libcpr.so", room))
        with server(pathlib.Path(room)) as running:
            yield running, library


def is_refused(running, *because):
    answer = ring.restart(running.pid, WITHIN)
    must(answer.get("result") == "refused" and all(word in answer["reason"] for word in because), f"{answer}")
    running.serves()
    must(running.generation() == 1, "it restarted")


def replace(path, content):
    """As a package upgrade does: what is mapped stays as it was."""
    fresh = path.with_name("fresh")
    fresh.write_bytes(content)
    fresh.rename(path)


def a_library_that_is_gone_is_refused(build):
    with with_own_library(build) as (running, library):
        away = library.rename(library.with_name("away"))
        is_refused(running, f"the library {library}", "cannot be read")
        away.rename(library)
        running.restart()


def a_library_of_another_format_is_refused(build):
    with with_own_library(build) as (running, library):
        whole = library.read_bytes()
        note = b"CPR\0" + (1).to_bytes(4, "little")
        must(whole.count(note) == 1, "the library's note is not where it was")
        replace(library, whole.replace(note, b"CPR\0" + (0).to_bytes(4, "little")))
        is_refused(running, f"{library}, which LD_PRELOAD names, is not cpr's library")
        replace(library, whole.replace(b"CPR\0", b"RPC\0"))
        is_refused(running, f"{library}, which LD_PRELOAD names, is not cpr's library")
        replace(library, b"")
        is_refused(running, f"{library}, which LD_PRELOAD names, is not cpr's library")
        replace(library, whole.replace(note, b"CPR\0" + (2).to_bytes(4, "little")))
        running.restart()


def a_script_that_is_gone_is_refused(build):
    with server(build) as running:
        script = pathlib.Path(running.process.args[1])
        away = script.rename(script.with_name("away"))
        is_refused(running, f"{script}, which /", "cannot be read")
        away.rename(script)
        running.restart()


# --- when it is ready

# It looks for children in its handler of SIGCHLD, and is busy for a while before it accepts.
BUSY = """#!/usr/bin/python3 -B
import os, signal, socket, sys, time
def look(*_):
    try:
        os.waitpid(-1, os.WNOHANG)
    except ChildProcessError:
        pass
signal.signal(signal.SIGCHLD, look)
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print(os.fstat(listener.fileno()).st_ino, flush=True)
os.kill(os.getpid(), signal.SIGCHLD)
until = time.monotonic() + SECONDS
while time.monotonic() < until:
    pass
while True:
    peer, _ = listener.accept()
    peer.close()
"""

RECEIVING = """#!/usr/bin/python3 -B
import os, socket, sys
sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
sock.bind(("127.0.0.1", int(sys.argv[1])))
print(os.fstat(sock.fileno()).st_ino, flush=True)
while True:
    sock.recv(100)
"""


def _restarted(running):
    answer = ring.restart(running.pid, WITHIN)
    must(answer.get("result") == "ready", f"{answer}")
    must(running.hear_inode() == running.inode, "the next generation has another socket")
    return answer, int(answer["ready_us"]) / 1000


def a_look_for_children_is_no_wait_for_work(build):
    with server(build, script=BUSY.replace("SECONDS", "1.2")) as running:
        running.serves()
        _, ms = _restarted(running)
        must(ms >= 1200, f"it was called ready after {ms:.0f} ms, and accepted after 1200")


def one_that_shows_no_wait_is_taken_for_ready(build):
    with server(build, script=BUSY.replace("SECONDS", "3")) as running:
        running.serves()
        answer, ms = _restarted(running)
        must(2000 <= ms < 3000 and "taken for ready after 2 s" in answer.get("warning", ""), f"{ms:.0f} ms: {answer}")


def a_program_that_receives_is_ready(build):
    with server(build, script=RECEIVING) as running:
        running.serves = lambda: None
        answer, _ = _restarted(running)
        must("warning" not in answer, f"{answer}")


# --- a pid file of the program's own

PIDFILE = """#!/usr/bin/python3 -B
import os, socket, sys
path = os.path.dirname(sys.argv[0]) + "/server.pid"
if os.path.exists(path):
    with open(path) as file:
        if os.path.exists("/proc/" + file.read().strip()):
            sys.exit("already running")
RENAME
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
print(os.fstat(listener.fileno()).st_ino, flush=True)
while True:
    peer, _ = listener.accept()
    peer.close()
"""
WRITES = """
with open(path, "w") as file:
    file.write(str(os.getpid()))
"""
RENAMES = """
with open(path + "~", "w") as file:
    file.write(str(os.getpid()))
os.rename(path + "~", path)
"""


def a_pid_file_of_its_own_is_no_obstacle(build):
    for how in WRITES, RENAMES:
        with server(build, script=PIDFILE.replace("RENAME", how)) as running:
            path = pathlib.Path(running.process.args[1]).with_name("server.pid")
            path.chmod(0o640)
            for _ in range(3):
                running.restart()
                must(path.read_text(encoding="ascii") == str(running.pid), "the pid file holds another pid")


def a_pid_file_is_put_back_when_exec_fails(build):
    with server(build, script=PIDFILE.replace("RENAME", WRITES)) as running:
        path = pathlib.Path(running.process.args[1]).with_name("server.pid")
        path.chmod(0o640)
        busy = path.with_name("busy")
        shutil.copy("/usr/bin/true", busy)
        with open(busy, "ab"):
            answer = ring.restart(running.pid, WITHIN, str(busy).encode())
            must(answer["result"] == "failed" and "busy" in answer["reason"], f"{answer}")
        must(path.read_text(encoding="ascii") == str(running.pid) and path.stat().st_mode & 0o777 == 0o640,
             "it is not what it was")
        running.restart()


# --- fewer listeners than before

# As many listeners on one port as the file says.
GROUP = """#!/usr/bin/python3 -B
import os, select, socket, sys
with open(os.path.dirname(sys.argv[0]) + "/count") as file:
    count = int(file.read())
poller, listeners = select.epoll(), {}
for _ in range(count):
    listener = socket.socket()
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(("127.0.0.1", int(sys.argv[1])))
    listener.listen(64)
    listener.setblocking(False)
    listeners[listener.fileno()] = listener
    poller.register(listener, select.EPOLLIN)
first = next(iter(listeners))
print(os.fstat(first).st_ino, flush=True)
while True:
    for fd, _ in poller.poll():
        try:
            peer, _ = listeners[fd].accept()
            peer.send(b"x")
            peer.close()
        except BlockingIOError:
            pass
"""


def clients_of_listeners_that_are_gone_are_served(build):
    room = tempfile.mkdtemp(prefix="cpr-wrap-")
    count = pathlib.Path(room) / "count"
    count.write_text("4", encoding="ascii")
    running = Server(build, room, script=GROUP)
    waits, stop = [], threading.Event()

    def client():
        while not stop.is_set():
            began = time.monotonic()
            with socket.create_connection(("127.0.0.1", running.port), WITHIN) as peer:
                must(peer.recv(1) == b"x", "a client was not answered")
            waits.append(time.monotonic() - began)
            time.sleep(0.005)

    def fellow(failures):
        try:
            client()
        except (Wrong, OSError) as error:
            failures.append(str(error))
    failures = []
    clients = [threading.Thread(target=fellow, args=(failures,)) for _ in range(8)]
    try:
        for one in clients:
            one.start()
        for number in ("4", "2", "1"):
            count.write_text(number, encoding="ascii")
            running.restart()
        time.sleep(0.5)     # none of the listeners that are left may be forgotten
    finally:
        stop.set()
        for one in clients:
            one.join()
        running.process.kill()
        running.process.wait()
        running.process.stdout.close()
        shutil.rmtree(room, ignore_errors=True)
    must(not failures, f"{len(failures)} of 8 clients failed: {failures[:1]}")
    must(max(waits) < 5, f"a client waited {max(waits):.1f} s")


# --- restarts

def two_restarts_at_once(build):
    with server(build) as running:
        for generation in range(2, 7):
            answers = []
            threads = [threading.Thread(target=lambda: answers.append(ring.restart(running.pid, WITHIN)))
                       for _ in range(2)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            results = [answer.get("result") for answer in answers]
            must("ready" in results and set(results) <= {"ready", "busy"}, f"{answers}")
            for _ in range(results.count("ready")):
                must(running.hear_inode() == running.inode, "another listener")
            must(running.generation() >= generation, "the generation is not counted")
            running.serves()


def two_cprctl_restarts_at_once(build):
    with server(build) as running:
        command = [str(build / "cprctl"), "restart", str(running.pid)]
        for _ in range(3):
            both = [subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
                    for _ in range(2)]
            said = [process.communicate(timeout=WITHIN * 2) for process in both]
            codes = sorted(process.returncode for process in both)
            must(codes[0] == 0 and codes[1] in (0, 1), f"exit statuses {codes}: {said}")
            for process in both:
                if process.returncode == 0:
                    must(running.hear_inode() == running.inode, "another listener")
            running.serves()


def a_restart_while_clients_come_refuses_none(build):
    over, refused = threading.Event(), []

    def knock(port):
        while not over.is_set():
            try:
                with socket.create_connection(("127.0.0.1", port), WITHIN) as client:
                    client.recv(1)
            except ConnectionResetError:
                pass        # it was accepted by the last generation: a later issue's
            except OSError as error:
                refused.append(str(error))
    with server(build) as running:
        thread = threading.Thread(target=knock, args=(running.port,))
        thread.start()
        try:
            for _ in range(5):
                running.restart()
        finally:
            over.set()
            thread.join()
    must(not refused, f"{len(refused)} refused: {refused[:3]}")


def a_process_that_dies_while_it_is_rung(build):
    """The caller is told so, and does not wait for its time to run out."""
    with tempfile.TemporaryDirectory(prefix="cpr-wrap-") as room:
        running = Server(build, room)
        with ring.Call(running.pid) as call:
            call.ring()
            must(call.answered(WITHIN), "not answered")
            running.process.kill()
            running.process.wait()
            must(call.hear(WITHIN) == b"", "a dead process spoke")
        running.process.stdout.close()
        began = time.monotonic()
        done = subprocess.run([build / "cprctl", "restart", str(running.pid)], capture_output=True, text=True,
                              check=False)
        must(done.returncode == 3 and time.monotonic() - began < 5, f"{done.returncode}: {done.stderr}")


def cpr_exec_starts_the_same(build):
    with server(build, start=[str(build / "cpr-exec"), "--"]) as running:
        for _ in range(3):
            running.restart()
        must(running.generation() == 4, "not the fourth generation")


def a_script_by_its_first_line(build):
    """The kernel puts the interpreter and its argument in front: the next generation must not get them twice."""
    with server(build, directly=True) as running:
        for _ in range(3):
            running.restart()
            with open(f"/proc/{running.pid}/cmdline", "rb") as line:
                must(line.read().split(b"\0")[:2] == [b"/usr/bin/python3", b"-B"], "another command line")


CHECKS = {check.__name__: check for check in (
    a_bad_request_is_refused, a_ring_that_says_nothing_is_let_go, a_ring_without_a_listener_does_nothing,
    a_hundred_callers_at_once_are_answered, a_library_that_is_gone_is_refused, a_library_of_another_format_is_refused,
    a_script_that_is_gone_is_refused, a_look_for_children_is_no_wait_for_work,
    one_that_shows_no_wait_is_taken_for_ready, a_program_that_receives_is_ready, a_pid_file_of_its_own_is_no_obstacle,
    a_pid_file_is_put_back_when_exec_fails, clients_of_listeners_that_are_gone_are_served, two_restarts_at_once,
    two_cprctl_restarts_at_once, a_restart_while_clients_come_refuses_none, a_process_that_dies_while_it_is_rung,
    cpr_exec_starts_the_same, a_script_by_its_first_line)}
