# SPDX-License-Identifier: MIT
"""The trial of draining: what ends before the exec, what counts as cut after --drain, and restarts that fail late."""

import os
import shutil
import sys
import threading
import time

from details import Aside, Bench, at_most, run_checks, scripted
from harness import Failure, program
from protocols import BODY, PATH
from setups import nginx_command

DOWNLOAD = os.urandom(1 << 16) * 32     # 2 MiB
PIECE = 1 << 15
TICKS = os.sysconf("SC_CLK_TCK")


# -- a slow download from nginx, by sendfile

def nginx_with_file(room, processes):
    command = nginx_command(room, processes, listen="sndbuf=32k")
    with open(room.path("documents/download"), "wb") as file:
        file.write(DOWNLOAD)
    return command


def download(client, seconds):
    """Reads an answer evenly over so many seconds. Returns its Content-Length and the bytes that came."""
    length = int(client.head().lower().partition(b"content-length:")[2].split(b"\r\n")[0])
    began, received = time.monotonic(), bytearray(client.rest)
    while len(received) < length:
        due = began + seconds * len(received) / length
        time.sleep(max(0.0, due - time.monotonic()))
        data = client.sock.recv(PIECE)
        if not data:
            break
        received += data
    return length, bytes(received)


def slow_download(result, options, processes, drain, seconds):
    finishes = drain > seconds
    def prepare(room):
        return nginx_with_file(room, processes)
    with Bench(result, options, "nginx", prepare, cpr=("-d", str(drain))) as bench:
        bench.server.await_ready()
        slow, other = bench.client(buffer=1 << 14), bench.client()
        other.ask(PATH)
        slow.send("/download")
        bench.await_busy()
        aside = Aside(download, slow, seconds)
        said = bench.restart()
        length, received = aside.result()
        if finishes:
            result.expect(received == DOWNLOAD, f"{len(received)} of {length} bytes came, or wrong ones")
            result.expect(said["cut"] == 0, f"{said['cut']} cut")
        else:
            result.expect(said["cut"] == 1, f"{said['cut']} counted as cut")
            result.expect(length == len(DOWNLOAD) > len(received), f"{length} promised, {len(received)} came")
            result.expect(received == DOWNLOAD[:len(received)], "what came is garbled")
        result.expect(other.ask(PATH) == BODY, "an idle client got a wrong answer")


# -- answers that take time

def is_finished(result, options, how, path, body):
    with scripted(result, options, how) as bench:
        client = bench.client()
        token = client.ask("/").split()[0]
        client.send(path)
        bench.await_busy()
        said = bench.restart()
        answer = client.receive()
        result.expect(answer in (body, token + body), f"the answer was {answer!r}")
        result.expect(said["cut"] == 0, f"{said['cut']} cut")
        result.expect(client.ask("/").split()[0] != token, "answered by the old generation")


def is_cut(result, options, how, path):
    """A request under way is never carried. It counts as cut, and its client sees the end of the stream."""
    with scripted(result, options, how, cpr=("-d", "1")) as bench:
        client, other = bench.client(), bench.client()
        other.ask("/")
        client.ask("/")
        client.send(path)
        bench.await_busy()
        if path.startswith("/events"):
            client.head()
        with at_most(result, 2.5, "a restart with --drain 1"):
            said = bench.restart()
        ended = "closed" if path == "/events" else "cut"    # a pause ends the stream
        result.expect(said[ended] == 1 and said["carried"] == 1, f"expected one {ended} and one carried, got {said}")
        rest = client.ends(3)
        result.expect(rest is not None, "the client does not see the end of the stream")
        result.expect(path.startswith("/events") or not rest, f"the client got {rest!r}")
        other.ask("/")


def upload(client):
    """Sends as fast as the socket takes it. True: the server ended the connection; False: it stopped reading."""
    piece = bytes(1 << 20)
    try:
        while True:
            client.sock.sendall(piece)
    except ConnectionError:
        return True
    except TimeoutError:
        return False


def endless_upload(result, options, how):
    """A client sends without end after our FIN. Its bytes are read and dropped, and the connection is ended."""
    with scripted(result, options, how, cpr=("-d", "1")) as bench:
        client, other = bench.client(), bench.client()
        other.ask("/")
        client.send("/sleep/20")
        bench.await_busy()
        uploading = Aside(upload, client)
        with at_most(result, 2.5, "a restart with --drain 1 beside an endless upload"):
            said = bench.restart()
        result.expect(said["cut"] == 1 and said["carried"] == 1, f"expected one cut and one carried, got {said}")
        other.ask("/")
        result.expect(uploading.result(), "the upload is neither read nor ended")


# -- a server that always has requests under way, each of most of a second

CROWD = 12


def ask_on_and_on(client, path, over):
    """Asks again and again until `over`. Returns the number of answers."""
    answered = 0
    while not over.is_set():
        client.ask(path)
        answered += 1
    return answered


def crowd_of_slow_requests(result, options, how, streams):
    """No request is cut, though some are always under way and no two end at once.

    A stream is closed in a pause, and delays no other connection.
    """
    with scripted(result, options, how) as bench:
        over = threading.Event()
        for _ in range(streams):
            bench.client().send("/events")
        crowd = []
        for number in range(CROWD):
            client = bench.client()
            crowd.append(Aside(ask_on_and_on, client, f"/sleep/{0.5 + 0.5 * number / CROWD}", over))
        bench.await_busy(CROWD + streams)
        said = bench.restart()
        over.set()
        answered = [aside.result() for aside in crowd]
        result.expect(said["cut"] == 0 and said["carried"] == CROWD,
                      f"{CROWD} slow requests beside {streams} streams, and cprctl says {said}")
        result.expect(min(answered) > 0, f"the clients got {answered} answers")


def no_drain_does_not_wait(result, options, how):
    with scripted(result, options, how, cpr=("-d", "0")) as bench:
        client, other = bench.client(), bench.client()
        client.ask("/")
        other.ask("/")
        client.send("/sleep/5")
        bench.await_busy()
        with at_most(result, 1.0, "a restart with --drain 0"):
            said = bench.restart()
        result.expect(said["cut"] == 1, f"{said['cut']} counted as cut")
        result.expect(client.ends(3) == b"", "the client does not see the end of the stream")


# -- what a drain costs

def cpu_seconds(pid):
    with open(f"/proc/{pid}/stat", "rb") as stat:
        fields = stat.read().rpartition(b")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def does_not_spin(result, options, how):
    with scripted(result, options, how) as bench:
        clients = [bench.client() for _ in range(16)]
        for client in clients:
            client.ask("/")
        busy = bench.client()
        busy.send("/sleep/2.2")
        bench.await_busy()
        restart = bench.begin_restart()
        bench.await_draining()  # from here on, a request arrives on a frozen connection
        for client in clients:
            client.send("/")
        began, used = time.monotonic(), cpu_seconds(bench.pid)
        time.sleep(1.5)         # the interval that is measured; it waits for nothing
        share = (cpu_seconds(bench.pid) - used) / (time.monotonic() - began)
        result.figures.append(f"a drain of 2 s, {how}, 16 frozen and readable: {share:.0%} of a core")
        result.expect_in_time(share < 0.1, f"the drain takes {share:.0%} of a core")
        result.expect(busy.receive().endswith(b" slept"), "a wrong answer")
        tokens = {client.receive().split()[0] for client in clients}
        said = bench.end_restart(restart)
        result.expect(len(tokens) == 1, "different generations answered the frozen clients")
        result.expect(said["cut"] == 0 and said["carried"] >= 16, f"16 idle clients, and cprctl says {said}")


# -- restarts that fail

def refused_at_once(result, options, how):
    with scripted(result, options, how) as bench:
        client = bench.client()
        token = client.ask("/").split()[0]
        bench.end_restart(bench.begin_restart("--exec", "/nonexistent"), status=1)
        result.expect(client.ask("/").split()[0] == token, "another generation answers")


def copied(room, path):
    copy = room.path("copy-of-" + os.path.basename(path))
    shutil.copy(path, copy)
    return copy


def called_off_after_drain(result, options, how):
    """execve() fails after the drain: the program file lost its execute permission while connections were frozen."""
    def prepare(room):
        script = os.path.join(os.path.dirname(os.path.abspath(__file__)), "scripted.py")
        return [copied(room, os.path.realpath(sys.executable)), "-B", script, how, "127.0.0.1", str(room.port)]
    with Bench(result, options, "called-off", prepare) as bench:
        bench.server.await_ready()
        clients = [bench.client() for _ in range(8)]
        token = clients[0].ask("/").split()[0]
        for client in clients[1:]:
            client.ask("/")
        busy = bench.client()
        busy.send("/sleep/1")
        bench.await_busy()
        restart = bench.begin_restart()
        bench.await_draining()
        os.chmod(bench.room.path("copy-of-" + os.path.basename(os.path.realpath(sys.executable))), 0o644)
        clients[0].send("/")
        late = bench.client()
        late.send("/")
        bench.end_restart(restart, status=1)
        result.expect(busy.receive() == token + b" slept", "the busy client got a wrong answer")
        for client in (clients[0], late):
            result.expect(client.receive().split()[0] == token,
                          "a client that asked during the drain got a wrong answer")
        for client in clients:
            result.expect(client.ask("/").split()[0] == token, "an idle client got a wrong answer")
        result.expect(busy.ask("/").split()[0] == token, "the busy client's connection does not go on")


def called_off_nginx(result, options, processes):
    def prepare(room):
        command = nginx_with_file(room, processes)
        return [copied(room, program("nginx")), *command[1:]]
    with Bench(result, options, "called-off", prepare) as bench:
        bench.server.await_ready()
        clients = [bench.client() for _ in range(8)]
        for client in clients:
            client.ask(PATH)
        slow = bench.client(buffer=1 << 14)
        slow.send("/download")
        bench.await_busy()
        aside = Aside(download, slow, 1.0)
        restart = bench.begin_restart()
        bench.await_draining()
        os.chmod(bench.room.path("copy-of-nginx"), 0o644)
        bench.end_restart(restart, status=1)
        result.expect(aside.result()[1] == DOWNLOAD, "the download is not complete")
        closed = 0
        for client in clients:
            try:
                result.expect(client.ask(PATH) == BODY, "a wrong answer")
            except (Failure, BrokenPipeError):
                closed += 1
        result.expect(not closed, f"{closed} of {len(clients)} idle connections were closed")
        result.expect(bench.client().ask(PATH) == BODY, "the server does not serve a new client")


BOTH = ("asyncio", "threads")
SINGLE, FOUR = "master_process off;", "worker_processes 4;"
CHECKS = [(slow_download, processes, drain, 2.0) for processes in (SINGLE, FOUR) for drain in (5, 1)]
CHECKS += [(is_finished, how, path, body) for how in BOTH for path, body in (
    ("/pieces/30", b"".join(b"%02d" % n for n in range(30))), ("/sleep/2", b" slept"))]
CHECKS += [(is_cut, how, path) for how in BOTH for path in ("/events", "/sleep/20")]
CHECKS += [(check, how) for check in (endless_upload, no_drain_does_not_wait, does_not_spin, refused_at_once,
                                      called_off_after_drain) for how in BOTH]
CHECKS += [(called_off_nginx, processes) for processes in (SINGLE, FOUR)]
CHECKS += [(crowd_of_slow_requests, how, streams) for how in ("asyncio", "threads", "forks") for streams in (0, 1)]


def run(options):
    return run_checks("drain-details", CHECKS, options)


TRIALS = {"drain-details": run}
