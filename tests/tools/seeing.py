# SPDX-License-Identifier: MIT
"""cprctl top and metrics: what runs under cpr, to be seen by a person and by Prometheus."""
import json
import os
import pty
import re
import select
import socket
import time

from common import CTL, PATIENCE, ROOT, Server, expect, run, test, until

SAMPLE = re.compile(r'([a-z_]+)\{((?:[a-z]+="(?:[^"\\]|\\.)*",?)+)\} (\S+)')


def metrics():
    """{name: [(labels, value)]}. HELP and TYPE come before the samples, and families are whole."""
    done, families, samples, family = expect(run(CTL, "metrics"), 0), {}, {}, None
    for line in done.out.splitlines():
        if line.startswith("# HELP "):
            family = line.split()[2]
            assert family not in families, f"{family} is told of twice"
            families[family] = None
        elif line.startswith("# TYPE "):
            assert line.split()[2] == family and families[family] is None, line
            families[family] = line.split()[3]
            assert families[family] in ("gauge", "counter", "histogram"), line
        else:
            name, labels, value = SAMPLE.fullmatch(line).groups()
            own = re.sub("_(bucket|sum|count)$", "", name) if families[family] == "histogram" else name
            assert own == family, f"{line} stands among {family}"
            assert families[family] != "counter" or name.endswith("_total"), line
            labels = dict(re.findall(r'([a-z]+)="((?:[^"\\]|\\.)*)"', labels))
            assert all(labels != others for others, _ in samples.get(name, [])), f"{line} twice"
            samples.setdefault(name, []).append((labels, float(value)))
    return samples


def of(samples, name, pid, **labels):
    """The one value of this server."""
    found = [value for all_of_it, value in samples.get(name, [])
             if all_of_it["pid"] == pid and labels.items() <= all_of_it.items()]
    assert len(found) == 1, f"{name} {labels}: {found} in {samples.get(name)}"
    return found[0]


def check_histogram(samples, name, pid, count):
    buckets = [(float(labels["le"]), value) for labels, value in samples[f"{name}_bucket"] if labels["pid"] == pid]
    assert buckets == sorted(buckets) and [n for _, n in buckets] == sorted(n for _, n in buckets), buckets
    assert buckets[-1] == (float("inf"), count), buckets
    assert of(samples, f"{name}_count", pid) == count
    assert (of(samples, f"{name}_sum", pid) > 0) == (count > 0)


@test
def metrics_count_restarts_and_failures_and_outlive_the_supervisors_exec():
    with Server("-m", "handover", "--ready-timeout", "5") as server:
        before = metrics()
        assert of(before, "cpr_restarts_total", server.pid) == 0
        check_histogram(before, "cpr_restart_duration_seconds", server.pid, 0)
        for _ in range(2):
            expect(server.restart(), 0)
        server.touch("die")
        expect(server.restart(), 1)
        for _ in range(2):
            after = metrics()
            assert of(after, "cpr_restarts_total", server.pid) == 2
            assert of(after, "cpr_restart_failures_total", server.pid) == 1
            assert of(after, "cpr_generation", server.pid) == 3
            assert of(after, "cpr_connections_cut_total", server.pid) == 0
            check_histogram(after, "cpr_restart_duration_seconds", server.pid, 2)
            check_histogram(after, "cpr_restart_gate_seconds", server.pid, 2)
            expect(run(CTL, "reexec", server.pid), 0)


@test
def metrics_that_the_dashboard_asks_for_exist():
    asked = set(re.findall(r"\bcpr_[a-z_]+", (ROOT / "contrib/grafana/cpr.json").read_text()))
    with Server("-m", "handover") as server:
        expect(server.restart(), 0)
        done = expect(run(CTL, "metrics"), 0)
    told = set(re.findall(r"(?m)^# HELP (\S+)", done.out)) | set(re.findall(r"(?m)^(\S+)\{", done.out))
    assert asked and asked <= told, asked - told
    json.loads((ROOT / "contrib/grafana/cpr.json").read_text())


@test
def metrics_tell_what_drains_in_which_generation():
    code = """
import socket, sys, threading
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
open("ready", "w").close()
def serve(connection):
    connection.sendall(b"hello\\n")
    while connection.recv(100):
        connection.sendall(b"hello\\n")
while True:
    threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
"""
    with Server("-m", "handover", "--no-carry", code=code) as server, \
            socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as client:
        assert client.recv(100) == b"hello\n"
        expect(server.restart(), 0)
        until("the connection to be counted", lambda: [
            value for labels, value in metrics().get("cpr_draining_connections", [])
            if labels["pid"] == server.pid and labels["generation"] == "1"] == [1.0])


@test
def metrics_of_exec_mode_tell_its_generation_and_connections():
    with Server() as server:
        expect(server.restart(), 0)
        samples = metrics()
        assert of(samples, "cpr_generation", server.pid) == 2
        assert of(samples, "cpr_last_restart_duration_seconds", server.pid) > 0
        for state in ("fresh", "idle", "busy"):
            assert of(samples, "cpr_connections", server.pid, state=state) == 0
        assert all(labels["pid"] != server.pid for labels, _ in samples.get("cpr_restarts_total", []))


@test
def top_prints_one_table_where_there_is_no_terminal():
    with Server("-m", "handover") as server:
        for words in ((), ("--once",)):
            done = expect(run(CTL, "top", *words), 0)
            lines = done.out.splitlines()
            assert lines[0].split() == "PID GEN STATE UP FRESH IDLE BUSY CONN/S COMMAND".split(), done
            assert "\033" not in done.out, done
            at = [i for i, line in enumerate(lines) if line.split()[0] == server.pid]
            assert len(at) == 1 and "supervises" in lines[at[0]] and " \\_ " in lines[at[0] + 1], done
            assert lines[at[0] + 1].split()[1:3] == ["1", "serving"], done
        rows = {row["pid"]: row for row in json.loads(expect(run(CTL, "top", "--json"), 0).out)}
        one, = (row for row in rows.values() if row.get("supervisor") == int(server.pid))
        assert (one["state"], one["generation"], one["connections"]) == ("serving", 1, 0), rows


class Terminal:
    """cprctl top on a terminal of its own."""

    def __init__(self, *words, **environment):
        self.text, self.status = "", None
        self.pid, self.fd = pty.fork()
        if not self.pid:
            os.environ.pop("NO_COLOR", None)
            os.environ.update(environment, TERM="xterm")
            os.execv(CTL, [CTL, "top", *words])

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.status is None:
            os.kill(self.pid, 9)
            os.waitpid(self.pid, 0)
        os.close(self.fd)

    def read(self):
        try:
            while select.select([self.fd], [], [], 0.01)[0]:
                self.text += os.read(self.fd, 65536).decode(errors="replace")
        except OSError:     # it has ended
            pass

    def until(self, what, true):
        until(what, lambda: (self.read(), true())[1])

    def press(self, key):
        os.write(self.fd, key)

    def left(self):
        pid, status = os.waitpid(self.pid, os.WNOHANG)
        self.status = os.waitstatus_to_exitcode(status) if pid else None
        return pid

    def leaves(self, key):
        self.press(key)
        self.until("it to leave", self.left)
        assert self.status == 0, self.status
        assert self.text.endswith("\033[?25h\033[?1049l"), self.text[-60:]


@test
def top_on_a_terminal_is_redrawn_and_leaves_with_q():
    with Server() as server, Terminal("--interval", "0.1") as top:
        top.until("three tables", lambda: top.text.count("\033[H") >= 3)
        assert f"\033[1m{'PID':>7}" in top.text and server.pid in top.text and "+0.0" in top.text, top.text
        began = time.monotonic()
        top.leaves(b"q")
        assert time.monotonic() - began < PATIENCE


@test
def top_leaves_with_ctrl_c_and_respects_no_color():
    with Server(), Terminal("--interval", "600", NO_COLOR="1") as top:
        top.until("a table", lambda: "BUSY" in top.text)
        drawn = top.text.count("\033[H")
        top.press(b" ")
        top.until("the next table", lambda: top.text.count("\033[H") > drawn)
        assert not re.search("\033\\[[0-9;]*m", top.text), top.text
        top.leaves(b"\x03")


@test
def top_refuses_an_interval_that_is_none():
    for wrong in ("0", "x", "-1", "nan"):
        expect(run(CTL, "top", "--interval", wrong), 2, "--interval takes seconds from 0.1 to 3600")


LISTED = """
import ctypes, os, socket, sys
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
quiet = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
quiet.bind(("127.0.0.1", 0))
held = [open(name, "a") for name in ("kept.log", "dropped.log", "other.txt")]
unnamed = os.dup(listener.fileno())
pipe = os.pipe()
assert ctypes.CDLL(None).cpr_save_fd(b"mine", 0, os.open("/dev/null", os.O_RDONLY)) == 0
open("ready", "w").close()
peers = []
while True:
    peers.append(listener.accept()[0])
    peers[-1].sendall(b"hello\\n")
"""


def check_listed(shown, port):
    why = {}
    for one in shown["descriptors"]:
        why.setdefault(one.get("tag", one["what"]), []).append((one["kept"], one["why"]))
    named = {name.rsplit("/", 1)[-1]: found for name, found in why.items()}
    assert named["kept.log"] == [(True, "rule 2: keep *.log")], why
    assert named["dropped.log"] == [(False, "rule 1: drop *dropped*")], why
    assert named["other.txt"] == [(False, "the default")], why
    first, second = why[f"tcp:127.0.0.1:{port}"]
    assert first == (True, "the default") and second[0] and second[1].startswith("the same as "), why
    assert why["udp:127.0.0.1:0"] == [(True, "the default")], why
    assert why["/dev/null"][0] == (True, "given at the start, as to every generation"), why
    (kept, _), = named["mine"]      # and not what was given at the start, which is another opening of the same file
    assert kept, why
    connections = [found for name, found in why.items() if name.startswith("socket:")]
    assert [(False, "no name: a connection, which is carried or ends by itself")] in connections, why
    assert any(found[0] == (False, "no name") for name, found in why.items() if name.startswith("pipe:")), why


@test
def list_all_shows_every_descriptor_and_its_rule():
    for mode in ("exec", "handover"):
        with Server("-m", mode, "-x", "*dropped*", "-k", "*.log", code=LISTED) as server, \
                socket.create_connection(("127.0.0.1", server.port), timeout=PATIENCE) as client:
            assert client.recv(100) == b"hello\n"
            shown = json.loads(expect(run(CTL, "list", "--all", "--json", server.pid), 0).out)
            check_listed(shown, server.port)
            # but for those that cpr has open while it answers
            missing = {int(name) for name in os.listdir(f"/proc/{shown['pid']}/fd")} - {
                one["fd"] for one in shown["descriptors"]}
            assert not missing, (missing, shown)
            table = expect(run(CTL, "list", server.pid, "--all"), 0).out
            assert re.match(" *FD +KEPT +CLOEXEC +WHAT +WHY\n", table), table
            assert re.search("yes +file:/.*/kept.log +rule 2: keep \\*.log\n", table), table
