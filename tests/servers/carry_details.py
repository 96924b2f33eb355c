# SPDX-License-Identifier: MIT
"""The trial of carried connections: each kind of socket, unread requests, pipelined requests, several workers."""

import contextlib
import random
import resource
import select
import socket

import proc
from details import Aside, Bench, Client, at_most, run_checks, scripted
from harness import Failure, await_until
from protocols import BODY, PATH
from setups import SETUPS, nginx_command, python

KINDS = {"ipv4": ("127.0.0.1", False), "ipv6": ("::1", False), "dual": ("::", False), "unix": (None, True)}


def bench_of(result, options, how, kind, **more):
    host, unix = KINDS[kind]
    return scripted(result, options, how, unix=unix, host=host or "127.0.0.1", **more)


def kept_connection_is_carried(result, options, how, kind):
    with bench_of(result, options, how, kind) as bench:
        hosts = ("127.0.0.1", "::1") if kind == "dual" else (None,)
        clients = [bench.client(host) for host in hosts for _ in range(4)]
        silent = bench.client()
        first = [client.ask("/").decode().split() for client in clients]
        for _ in range(2):
            said = bench.restart()
            result.expect(said["cut"] == 0, f"{said['cut']} cut")
            result.expect(said["carried"] >= len(clients), f"only {said['carried']} of {len(clients)} carried")
            for client, before in zip(clients, first):
                token, peer = client.ask("/").decode().split()
                result.expect(token != before[0], "answered by the old generation")
                result.expect(peer == client.name == before[1],
                              f"accept() gave port {peer}, the client's is {client.name}")
        token, peer = silent.ask("/").decode().split()
        result.expect(peer == silent.name, f"accept() gave port {peer}, the silent client's is {silent.name}")


def request_during_exec_is_answered(result, options, how, kind):
    with bench_of(result, options, how, kind, start=0.3) as bench:
        clients = [bench.client() for _ in range(4)]
        before = clients[0].ask("/").split()[0]
        for client in clients[1:]:
            client.ask("/")
        image = proc.stack(bench.pid)
        restart = bench.begin_restart()
        bench.await_new_image(image)
        for client in clients:
            client.send("/")
        answers = [client.receive().split()[0] for client in clients]
        bench.end_restart(restart)
        result.expect(before not in answers and len(set(answers)) == 1, f"it was {before}, the answers are {answers}")


def pipelined_in_order(result, options, how, kind):
    with bench_of(result, options, how, kind) as bench:
        client, late = bench.client(), bench.client()
        late.ask("/")
        client.send("/pieces/20")
        client.head()
        restart = bench.begin_restart()
        late.send("/sleep/0.2")
        client.send("/sleep/0.1")
        client.send("/")
        body = client.body(40)
        result.expect(body == b"".join(b"%02d" % n for n in range(20)), f"a garbled answer: {body!r}")
        result.expect(client.receive().endswith(b" slept"), "the second answer is not the second's")
        result.expect(client.receive().decode().split()[1] == client.name, "the third answer is not the third's")
        result.expect(late.receive().endswith(b" slept"), "a wrong answer to a request sent when the restart began")
        said = bench.end_restart(restart)
        result.expect(said["cut"] == 0, f"{said['cut']} cut")
        client.ask("/")


def carried_connection_ends(result, options, how, kind):
    with bench_of(result, options, how, kind) as bench:
        client = bench.client()
        client.ask("/")
        bench.restart()
        client.ask("/close")
        result.expect(client.ends(3) == b"", "the client sees no end of a connection that the server closed")


def later_client_is_no_knock(result, options, how):
    """A knock's port number proves nothing: a client from another address may have the same one."""
    with open("/proc/sys/net/ipv4/ip_local_port_range", encoding="ascii") as file:
        first, last = map(int, file.read().split())
    with scripted(result, options, how) as bench:
        clients = [bench.client() for _ in range(200)]
        for client in clients:
            client.ask("/")
        result.expect(bench.restart()["carried"] == len(clients), "not all were carried")
        for client in clients:
            client.ask("/")
        hurt = 0
        for port in random.sample(range(first, last, 2), 1200):     # connect() prefers every other port
            try:
                later = Client(("127.0.0.1", bench.room.port), source=("127.0.0.2", port))
                hurt += later.ask("/").decode().split()[1] != str(port)
                later.close()
            except (Failure, ConnectionError):
                hurt += 1
        result.expect(not hurt, f"{hurt} of 1200 later clients were taken for knocks, and closed")


@contextlib.contextmanager
def descriptors(count):
    """Sets the limit of open files to `count`, or to the hard limit if that is lower. Yields the limit that is set."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    most = count if hard == resource.RLIM_INFINITY else min(count, hard)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, most), hard))
    try:
        yield max(soft, most)
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def more_than_the_queue_holds(result, options, how, kind):
    """All connections are carried and new clients are answered, even if the program calls accept() late."""
    with open("/proc/sys/net/core/somaxconn", encoding="ascii") as file:
        wanted = int(file.read()) + 500
    with descriptors(wanted + 200) as most:
        if most < wanted + 200:
            result.figures.append(f"more_than_the_queue_holds {how} {kind}: not tried with {most} descriptors")
            return
        with bench_of(result, options, how, kind, late=1.5) as bench:
            clients = []
            for _ in range(wanted):
                clients.append(bench.client())
                clients[-1].ask("/")
            said = bench.restart()
            result.expect(said["carried"] == wanted and said["cut"] == 0,
                          f"{wanted} idle clients, and cprctl says {said}")
            with at_most(result, 4, "the first answer to a new client"):
                bench.client().ask("/")
            with at_most(result, 15, f"an answer to each of {wanted}"):
                for client in clients:
                    client.ask("/")


# -- servers with TCP_DEFER_ACCEPT, where a client that sends nothing would occupy a thread

SILENT = 120    # more than deferring.py and apache have threads, and no more than apache accepts
DEFERRING = {"threads": lambda room: python("deferring.py", "127.0.0.1", str(room.port)),
             "apache": SETUPS["apache"].prepare}


def silent_ones_leave_threads(result, options, name):
    """All are carried. A connection takes a thread only once its client sends a request, in whatever order they do."""
    with Bench(result, options, name, DEFERRING[name]) as bench:
        bench.server.await_ready()
        clients = []
        for _ in range(SILENT):
            clients.append(bench.client())
            clients[-1].ask(PATH)
        for _ in range(3):
            said = bench.restart()
            result.expect(said["carried"] == len(clients), f"{len(clients)} silent clients, and cprctl says {said}")
            with at_most(result, 3, "the first answer to a new client"):
                new = bench.client()
                new.ask(PATH)
                new.close()
            random.shuffle(clients)
            for client in clients[:5]:
                client.close()
            clients = clients[5:]
            with at_most(result, 5, f"an answer to each of {len(clients)}"):
                for client in clients:
                    client.ask(PATH)


# -- nginx with 4 workers

def nginx_of_four(room):
    return nginx_command(room, "worker_processes 4;", server="keepalive_requests 6; keepalive_timeout 60s;")


def workers_of(pid):
    return {other for other in proc.family(pid) if other != pid}


def workers_pass_and_leave(result, options):
    with Bench(result, options, "nginx-4", nginx_of_four) as bench:
        bench.server.await_ready()
        for _ in range(4):
            old = await_until(lambda: len(workers_of(bench.pid)) == 4 and workers_of(bench.pid), 5)
            result.expect(old, f"not 4 workers, but {workers_of(bench.pid)}")
            clients = [bench.client() for _ in range(12)]
            for client in clients:
                result.expect(client.ask(PATH) == BODY, "a wrong answer")
            said = bench.restart()
            result.expect(said["carried"] == 12 and said["cut"] == 0, f"12 idle clients, and cprctl says {said}")
            for client in clients:
                result.expect(client.ask(PATH) == BODY, "a wrong answer")
            new = await_until(lambda: len(workers_of(bench.pid)) == 4 and not workers_of(bench.pid) & (old or set()), 5)
            result.expect(new, f"the old workers were {old}, after 5 s there are {workers_of(bench.pid)}")
            ended_by_workers(result, clients)


def ended_by_workers(result, clients):
    """The worker ends half of the connections for `Connection: close`, and half at its limit of requests."""
    half = len(clients) // 2
    for client in clients[:half]:
        client.ask(PATH, "Connection: close\r\n")
    for client in clients[half:]:
        for _ in range(6):      # the old generation may have counted the first one
            client.send(PATH)
            head = client.head()
            client.body(len(BODY))
            if b"connection: close" in head.lower():
                break
        else:
            result.expect(False, "keepalive_requests is not kept")
    for client in clients:
        result.expect(client.ends(3) == b"", "a worker closed the connection, but another process still holds it")


def pipelined_at_nginx(result, options):
    with Bench(result, options, "nginx-4", nginx_of_four) as bench:
        bench.server.await_ready()
        clients = [bench.client() for _ in range(8)]
        for client in clients:
            client.ask(PATH)
        restart = bench.begin_restart()
        asides = [Aside(two_at_once, client) for client in clients]
        answers = [aside.result() for aside in asides]
        bench.end_restart(restart)
        result.expect(answers == [[BODY, BODY]] * len(clients), f"wrong answers: {answers}")


def two_at_once(client):
    client.send(PATH)
    client.send(PATH)
    return [client.receive(), client.receive()]


CHECKS = [(check, how, kind)
          for check in (kept_connection_is_carried, request_during_exec_is_answered, pipelined_in_order)
          for how in ("asyncio", "threads") for kind in KINDS]
CHECKS += [(kept_connection_is_carried, "forks", kind) for kind in ("ipv4", "unix")]
CHECKS += [(carried_connection_ends, how, "ipv4") for how in ("asyncio", "threads", "forks")]
CHECKS += [(later_client_is_no_knock, how) for how in ("asyncio", "threads")]
CHECKS += [(more_than_the_queue_holds, "asyncio", "ipv4")]
CHECKS += [(silent_ones_leave_threads, name) for name in DEFERRING]
CHECKS += [(workers_pass_and_leave,), (pipelined_at_nginx,)]


def run(options):
    return run_checks("carry-details", CHECKS, options)


TRIALS = {"carry-details": run}
