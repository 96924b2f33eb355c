# SPDX-License-Identifier: MIT
"""Handover mode: the trials of stream servers, with two generations side by side, and next generations that fail."""

import dataclasses
import json
import os
import signal
import socket
import subprocess
import threading
import time

import memory
import proc
from harness import Failure, Load, Result, Room, Server, await_until, program
from protocols import BODY, PATH
from setups import SETUPS, apache, apache_prefork, documents, nginx_command, lighttpd_workers

RESTART_TIMEOUT = 40            # seconds, for cprctl
FRESH_PER_RESTART = 8           # requests of each kind that must succeed after every restart
GONE_WITHIN = 15.0              # seconds, for an old generation without connections
GATE_MS = 500                   # the longest time without an accept(): 1 to 2 ms, more on a busy machine
MEMORY_KB = 3072                # the supervisor's

TRIALS = {}


def guard(result, run):
    """An exception that ends a trial early becomes a reason of its result."""
    try:
        run()
    except (Failure, OSError, subprocess.SubprocessError, AssertionError, ValueError, KeyError) as failure:
        result.reasons.append(str(failure) or type(failure).__name__)


def trial(name):
    def register(run):
        def guarded(options):
            result = Result(name)
            guard(result, lambda: run(options, result))
            return result
        TRIALS[name] = guarded
        return run
    return register


# ---- requests to a supervisor ----

def cprctl(options, *words, status=0):
    done = subprocess.run([options.cprctl, *words], capture_output=True, text=True, timeout=RESTART_TIMEOUT + 10,
                          check=False)
    if done.returncode != status:
        why = done.stderr.strip() or done.stdout.strip()
        raise Failure(f"cprctl {' '.join(words)}: exit {done.returncode} instead of {status}: {why}")
    return done


def status(options, server):
    return json.loads(cprctl(options, "status", str(server.pid), "--json").stdout)


def restart(options, server, *more):
    said = cprctl(options, "restart", str(server.pid), "--timeout", str(RESTART_TIMEOUT), "--json", *more)
    return json.loads(said.stdout), said


def serves(options, server):
    """The first generation is ready, and the supervisor holds its listeners."""
    said = subprocess.run([options.cprctl, "status", str(server.pid), "--json"], capture_output=True, text=True,
                          check=False, timeout=30)
    if said.returncode:
        return False
    said = json.loads(said.stdout)
    return not said.get("arriving", True) and said["descriptors"] > 0


def is_relay(pid):
    """A relay is the supervisor's child that passes on a generation's standard error."""
    try:
        with open(f"/proc/{pid}/comm", encoding="utf-8") as comm:
            return comm.read() == "cpr-relay\n"
    except OSError:
        return True     # the process has just ended


def children(pid):
    return {child for child in proc.family(pid) - {pid} if not is_relay(child)}


# ---- a server under supervision, and its clients ----

class Scene:
    def __init__(self, setup, options, result, *more, loaded=True, before=()):
        self.setup, self.options, self.result, self.loaded = setup, options, result, loaded
        self.room = Room(setup.name, setup.unix)
        self.server = self.load = None
        self.more, self.before = more, before

    def __enter__(self):
        try:
            command = self.setup.prepare(self.room)
            self.server = Server(command, self.room, self.options, cpr=("-m", "handover", *self.setup.cpr, *self.more),
                                 before=self.before)
            self.server.await_ready()
            if not await_until(lambda: self.is_up(), 20):
                raise Failure("the first generation is not ready")
            self.load = Load(self.setup.protocol, self.room) if self.loaded else None
            if self.load and not self.load.progress(FRESH_PER_RESTART, FRESH_PER_RESTART):
                raise Failure("the server does not serve before the first restart")
        except BaseException:
            self.__exit__()
            raise
        return self

    def is_up(self):
        self.server.require_running()
        return serves(self.options, self.server)

    def __exit__(self, *_):
        if self.load:
            self.load.end()
        if self.server:
            self.stopped = self.server.stop()
            self.result.tail = self.server.tail() + f"(the supervisor ended with {self.server.process.returncode})"
        self.room.leave()

    def settles(self, processes):
        """Waits until old generations without connections have ended."""
        return await_until(lambda: len(children(self.server.pid)) <= processes, GONE_WITHIN, step=0.05)

    def judge(self, result, allowed=0):
        """No client noticed a restart."""
        counters = self.load.pause()
        result.requests, result.samples = counters["ok"], counters["samples"]
        for name in ("refused", "timed_out", "cut", "idle_closed", "longest_ms"):
            setattr(result, name, counters[name])
        names = ("refused", "timed_out", "cut", "stalled", "resets", "wrong", "idle_closed")
        lost = {name: counters[name] for name in names if counters[name]}
        if self.setup.ends_idle and counters["crossed"]:
            result.figures.append(f"{counters['crossed']} requests crossed the FIN of a server that closes idle "
                                  "connections")
            lost["cut"] -= counters["crossed"]
        own = self.setup.says_ended(self.server.output()) if self.setup.says_ended else 0
        if own:
            seen = min(own, counters["idle_closed"] + counters["crossed"])
            result.figures.append(f"the server logs {own} idle connections that it closed itself; clients saw {seen}")
            allowed += seen
        if not self.setup.carries:
            lost.pop("idle_closed", None)
            lost.pop("resets", None)
        result.expect(sum(lost.values()) <= allowed, f"clients noticed: {lost}")
        return counters


def census(server):
    """Of its supervisor: descriptors, KB, those of them that are no file's."""
    takes = memory.sizes(server.pid)
    return len(proc.descriptors(server.pid)), takes["Rss"], takes["Anonymous"]


def hand_over_again_and_again(setup, options, result, more=()):
    with Scene(setup, options, result, *more) as scene:
        server, load = scene.server, scene.load
        processes, gates, first = len(children(server.pid)), [], None
        for number in range(1, options.restarts + 1):
            began = time.monotonic()
            said, _ = restart(options, server)
            result.restart_ms.append((time.monotonic() - began) * 1000)
            result.restarts = number
            gates.append(said["gate_us"])
            if not load.progress(FRESH_PER_RESTART, FRESH_PER_RESTART):
                raise Failure("new requests are not answered after the restart")
            result.expect(said["generation"] == number + 1, f"generation {said['generation']} after {number} restarts")
            wrong = setup.beside and setup.beside(scene.room)
            result.expect(not wrong, f"after {number} restarts {wrong}")
            if number == 2:
                scene.settles(processes)
                first = census(server)
        scene.judge(result)
        result.expect(scene.settles(processes), f"{len(children(server.pid))} processes, {processes} before: "
                                                "an old generation still runs")
        if first:
            await_until(lambda: census(server)[0] <= first[0], GONE_WITHIN, step=0.05)
            last = census(server)
            result.expect(last[0] <= first[0], f"the supervisor had {first[0]} descriptors, now {last[0]}")
            result.expect(last[2] <= first[2] + 128, f"the supervisor grew from {first[2]} to {last[2]} KB")
            result.expect(last[1] < MEMORY_KB, f"the supervisor takes {last[1]} KB")
        gates.sort()
        result.figures.append(f"no generation accepted for {gates[len(gates) // 2]} us, at most {gates[-1]} us; "
                              f"the supervisor takes {census(server)[1]} KB")
        result.expect_in_time(gates[-1] <= GATE_MS * 1000, f"no generation accepted for {gates[-1]} us")
    result.expect(scene.stopped, "SIGTERM does not stop the supervisor")
    left = {pid: proc.command(pid) for pid in children(server.pid) if proc.command(pid)}     # else: it has just ended
    result.expect(not left, f"processes are left: {left}")


def again_and_again(name, *more, prepare=None):
    @trial(f"handover-{name}")
    def run(options, result):
        setup = SETUPS[name]
        hand_over_again_and_again(dataclasses.replace(setup, prepare=prepare or setup.prepare), options, result, more)


for each in ("nginx", "nginx-single", "haproxy", "haproxy-master", "lighttpd", "python-http.server", "python-threading",
             "prefork-closing", "prefork-reuseport", "node", "node-cluster", "java", "unix"):
    again_and_again(each)


@trial("handover-lighttpd-workers")
def lighttpd_with_workers(options, result):
    setup = dataclasses.replace(SETUPS["lighttpd"], prepare=lighttpd_workers)
    hand_over_again_and_again(setup, options, result)


# Each client may occupy two of its threads at a time. While no generation accepts, all clients wait, and then all
# connect at once; the connections that they closed before still have their threads.
again_and_again("apache", prepare=lambda room: apache(room, 64))


@trial("handover-apache-prefork")
def apache_with_many_processes(options, result):
    hand_over_again_and_again(dataclasses.replace(SETUPS["apache"], prepare=apache_prefork), options, result)



for each in ("redis", "memcached"):   # a protocol other than HTTP; here both generations can run at once
    again_and_again(each, "--no-defaults")


# ---- next generations that fail ----

# A threaded HTTP server. At its start it reads from the file `way` how it is to behave.
FICKLE = """
import http.server, os, signal, sys, time
port, way = int(sys.argv[1]), open("way").read()
if way == "exits":
    sys.exit("a new version that does not want to")
if way == "hangs":
    time.sleep(3600)
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        good = way != "answers 500"
        body = BODY if good else b"no"
        self.send_response(200 if good else 500)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True
    def handle_error(self, *_):
        pass
server = Server(("127.0.0.1", port), Handler)
if way == "crashes":
    os.kill(os.getpid(), signal.SIGSEGV)
if way == "never listens":
    server.socket.close()
    time.sleep(3600)
server.serve_forever()
"""


def fickle(room):
    room.write("way", "serves")
    return [SETUPS["python-threading"].prepare(room)[0], "-B", "-c", FICKLE.replace("BODY", repr(BODY)), str(room.port)]


FICKLE_SETUP = dataclasses.replace(SETUPS["python-threading"], name="fickle", prepare=fickle)


@trial("handover-bad-versions")
def bad_versions(options, result):
    """Several of each kind, under load: the old generation serves on, and cprctl gives the reason."""
    ways = {"exits": "status 1", "hangs": "not ready within 2 s", "crashes": "signal 11", "answers 500": "answered 500"}
    with Scene(FICKLE_SETUP, options, result, "--ready-timeout", "2", "--ready-http", PATH + "=200") as scene:
        for way, reason in ways.items():
            scene.room.write("way", way)
            for _ in range(2 if way in ("hangs", "answers 500") else 10):
                said = cprctl(options, "restart", str(scene.server.pid), status=1)
                result.expect(reason in said.stderr, f"{way}: {said.stderr!r} does not contain {reason!r}")
                result.restarts += 1
            if way == "exits":
                result.expect("a new version that does not want to" in said.stderr,
                              f"{said.stderr!r} does not contain the last lines of the new version")
        scene.room.write("way", "serves")
        said, _ = restart(options, scene.server)
        result.expect(said["generation"] == 2, f"generation {said['generation']} instead of 2 after the failed ones")
        scene.judge(result)


# ---- connections that cannot be carried go on in the old generation ----

# A download that lasts as long as its client reads slowly, and an echo without an end.
SLOW = """
import http.server, os, sys
port = int(sys.argv[1])
class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        if self.path == "/echo":
            self.send_response(101)
            self.send_header("Upgrade", "echo")
            self.send_header("Connection", "Upgrade")
            self.end_headers()
            while True:
                line = self.rfile.readline()
                if not line:
                    break
                self.wfile.write(b"%d " % os.getpid() + line)
            self.close_connection = True
            return
        body = BODY if self.path != "/download" else bytes(16 << 20)
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
    def log_message(self, *_):
        pass
class Server(http.server.ThreadingHTTPServer):
    request_queue_size = 256
    daemon_threads = True
    def handle_error(self, *_):
        pass
Server(("127.0.0.1", port), Handler).serve_forever()
"""


def slow(room):
    return [SETUPS["python-threading"].prepare(room)[0], "-B", "-c", SLOW.replace("BODY", repr(BODY)), str(room.port)]


SLOW_SETUP = dataclasses.replace(SETUPS["python-threading"], name="slow", prepare=slow)


class Talk:
    """An upgraded connection, which is never at a boundary."""

    def __init__(self, port):
        self.sock = socket.create_connection(("127.0.0.1", port), timeout=10)
        self.sock.sendall(b"GET /echo HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: echo\r\n\r\n")
        self.file = self.sock.makefile("rb")
        assert b" 101 " in self.file.readline()
        while self.file.readline().strip():
            pass

    def answered_by(self):
        self.sock.sendall(b"hello\n")
        pid, word = self.file.readline().split()
        assert word == b"hello"
        return int(pid)

    def close(self):
        self.file.close()
        self.sock.close()


@trial("handover-long-connections")
def long_connections(options, result):
    """Echoes and downloads through five handovers: their own generation answers each, and ends after its last one."""
    with Scene(SLOW_SETUP, options, result, "--generations", "10") as scene:
        port, talks, downloads = scene.room.port, [], []
        for number in range(1, 6):
            talks.append((Talk(port), None))
            talks[-1] = (talks[-1][0], talks[-1][0].answered_by())
            download = socket.create_connection(("127.0.0.1", port), timeout=10)
            download.sendall(b"GET /download HTTP/1.1\r\nHost: x\r\n\r\n")
            downloads.append((download, len(download.recv(4096))))
            said, _ = restart(options, scene.server)
            result.restarts = number
            result.expect(said["draining_connections"] >= 2 * number,
                          f"{said['draining_connections']} connections go on, expected at least {2 * number}")
            for talk, pid in talks:
                answered = talk.answered_by()
                result.expect(answered == pid, f"process {answered} answered an echo of process {pid}")
        result.expect(len({pid for _, pid in talks}) == 5, "the five echoes are not of five generations")
        for number, (download, got) in enumerate(downloads):
            while got < 16 << 20:
                data = download.recv(1 << 20)
                if not data:
                    break
                got += len(data)
            result.expect(got >= 16 << 20, f"download {number} ended after {got} bytes")
            download.close()
        for talk, _ in talks:
            talk.close()
        ended = time.monotonic()
        result.expect(scene.settles(1), f"old generations still run: {children(scene.server.pid)}")
        result.figures.append(f"the last old generation ended {time.monotonic() - ended:.1f} s after its connections")
        scene.judge(result)


# ---- crashes ----

@trial("handover-crash")
def crash(options, result):
    """The server is killed under load. It starts again with the same listener, and no connection is refused."""
    with Scene(FICKLE_SETUP, options, result) as scene:
        for number in range(3):
            os.kill(status(options, scene.server)["server"], signal.SIGKILL)
            if not scene.load.progress(FRESH_PER_RESTART, FRESH_PER_RESTART):
                raise Failure("the supervisor does not start the server again")
            result.expect(await_until(scene.is_up, 10), "the next generation is not ready")
            result.restarts = number + 1
        counters = scene.load.pause()
        result.requests = counters["ok"]
        for name in ("refused", "timed_out", "stalled", "wrong"):
            result.expect(not counters[name], f"{counters[name]} {name}")


@trial("handover-signals")
def signals(options, result):
    """SIGTERM to the supervisor ends every process, in each phase of a handover."""
    for way, sig in (("hangs", signal.SIGTERM), ("serves", signal.SIGTERM), ("answers 500", signal.SIGTERM)):
        with Scene(FICKLE_SETUP, options, result, "--ready-http", PATH + "=200") as scene:
            scene.room.write("way", way)
            asking = subprocess.Popen([options.cprctl, "restart", str(scene.server.pid)], stderr=subprocess.PIPE,
                                      stdout=subprocess.PIPE)
            if way != "serves":
                await_until(lambda: len(children(scene.server.pid)) > 1, 10)
            else:
                asking.wait(RESTART_TIMEOUT)
            scene.load.pause()
            family = children(scene.server.pid)
            os.kill(scene.server.pid, sig)
            code = scene.server.process.wait(15)
            result.expect(code == -sig or code == 0, f"{way}: the supervisor ended with {code}")
            left = [pid for pid in family if os.path.exists(f"/proc/{pid}")]
            result.expect(not left, f"{way}: processes are left: {left}")
            asking.wait(10)
            asking.stdout.close()
            asking.stderr.close()
            result.restarts += 1


# ---- rollback ----

@trial("handover-rollback")
def way_back(options, result):
    """A rollback by request, and one when the new generation dies."""
    with Scene(FICKLE_SETUP, options, result, "--rollback", "60", "--ready-http", PATH + "=200") as scene:
        cprctl(options, "rollback", str(scene.server.pid), status=1)
        first = status(options, scene.server)["server"]
        said, _ = restart(options, scene.server)
        result.expect(said["server"] != first and said["generation"] == 2, f"restarted: {said}")
        said = json.loads(cprctl(options, "rollback", str(scene.server.pid), "--json").stdout)
        result.expect(said["pid"] == first and said["generation"] == 1, f"rolled back: {said}, expected PID {first}")
        result.figures.append(f"no generation accepted for {said['gate_us']} us during the rollback")
        if not scene.load.progress(FRESH_PER_RESTART, FRESH_PER_RESTART):
            raise Failure("new requests are not answered after the rollback")
        scene.judge(result)
        scene.load.resume()
        said, _ = restart(options, scene.server)
        os.kill(said["server"], signal.SIGKILL)
        result.expect(await_until(lambda: status(options, scene.server)["server"] == first, 10),
                      "the old generation does not serve again after the new one died")
        if not scene.load.progress(FRESH_PER_RESTART, FRESH_PER_RESTART):
            raise Failure("new requests are not answered after the new generation died")
        counters = scene.load.pause()
        result.restarts, result.requests = 2, counters["ok"]
        for name in ("refused", "timed_out", "stalled", "wrong"):
            result.expect(not counters[name], f"{counters[name]} {name}")


def rolled_back_at_once(name):
    @trial(f"handover-rollback-{name}")
    def run(options, result):
        """A rollback as soon as the next generation serves, when connections are on their way; to generation 1 and to a
        later one."""
        with Scene(SETUPS[name], options, result, "--rollback", "60") as scene:
            processes = len(children(scene.server.pid))
            for number in range(1, 7):
                restart(options, scene.server)
                if number == 4:     # from here on, the rollback is to a later generation
                    restart(options, scene.server)
                cprctl(options, "rollback", str(scene.server.pid))
                result.restarts = number
                if not scene.load.progress(FRESH_PER_RESTART, FRESH_PER_RESTART):
                    raise Failure("new requests are not answered after the rollback")
                result.expect(scene.settles(processes), "the generation that was rolled back still runs")
            scene.judge(result)


for each in ("nginx", "nginx-single", "prefork-closing", "haproxy"):
    rolled_back_at_once(each)
