# SPDX-License-Identifier: MIT
"""cprctl: exit statuses, messages and JSON, against real processes."""
import ctypes
import inspect
import json
import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import threading
import time

from common import CTL, PYTHON, PATIENCE, SERVER, Server, executable, expect, run, scratch, test, until


@test
def ctl_usage_errors_exit_with_2():
    for words, pattern in (
            ([], "which command"),
            (["frob"], '"frob" is not a command'),
            (["--frob"], "unrecognized option"),
            (["ps", "x"], "one word too many"),
            (["ps", "--frob"], "unrecognized option"),
            (["list"], "PID is missing"),
            (["status", "1", "2"], "one word too many"),
            (["status", "x"], '"x" is not a process id'),
            (["status", "0"], "not a process id"),
            (["status", "--", "-5"], "not a process id"),
            (["restart", "1x"], "not a process id"),
            (["restart", "1", "--timeout", "0"], "give seconds"),
            (["restart", "1", "--timeout", "nan"], "give seconds"),
            (["restart", "1", "--timeout", "1.2.3"], "give seconds"),
            (["restart", "1", "--timeout", ""], "give seconds"),
            (["restart", "1", "--exec"], "requires an argument"),
            (["restart", "1", "--wait", "forever"], '--wait "forever": there are ready and drained'),
            (["dump"], "FILE is missing")):
        result = expect(run(CTL, *words), 2, r"^cprctl( \w+)?: ", pattern)
        assert result.err.count("\n") <= 2, result


@test
def absent_processes_exit_with_3():
    gone = subprocess.Popen(["true"])
    gone.wait()
    zombie = subprocess.Popen(["true"])
    stat = pathlib.Path(f"/proc/{zombie.pid}/stat")
    until("the zombie", lambda: stat.read_text().rsplit(")", 1)[1].split()[0] == "Z")
    for command in "status", "list", "restart":
        expect(run(CTL, command, str(gone.pid)), 3, f"^cprctl: no process has the PID {gone.pid}\n$")
        expect(run(CTL, command, str(2**31 - 1)), 3, "no process")
        expect(run(CTL, command, str(os.getpid())), 3, f"PID {os.getpid()} is not under cpr: start it with cpr-exec")
        expect(run(CTL, command, str(zombie.pid)), 3, "has ended")
    zombie.wait()
    leave = threading.Event()
    thread = threading.Thread(target=leave.wait)
    thread.start()
    expect(run(CTL, "status", str(thread.native_id)), 3, f"is a thread of process {os.getpid()}")
    leave.set()


@test
def status_says_the_generation():
    with Server("-t", "true") as server:
        human = run(CTL, "status", server.pid)
        expect(human, 0, r"(?m)^generation: +1$", rf"(?m)^pid: +{server.pid}$", where="out")
        assert human.err == ""
        status = json.loads(run(CTL, "status", server.pid, "--json").out)
        assert status["pid"] == int(server.pid) and status["generation"] == 1 and status["test"] == "true", status
        assert status["directory"] == server.directory and status["mode"] == "exec", status
        assert status["descriptors"] == 1, status


@test
def list_shows_tags():
    with Server() as server:
        expect(run(CTL, "list", server.pid), 0, r"^TAG +ID +FD +KIND +STATE +QUEUE\n",
               rf"\ntcp:127.0.0.1:{server.port} +0 +\d+ +stream +kept +0/5\n", where="out")
        listed = json.loads(run(CTL, "list", "--json", server.pid).out)
        tag = next(tag for tag in listed["tags"] if tag["tag"] == f"tcp:127.0.0.1:{server.port}")
        assert listed["pid"] == int(server.pid) and listed["generation"] == 1, listed
        assert tag["kind"] == "stream" and tag["state"] == "kept" and tag["backlog"] == 5 and tag["id"] == 0, tag


# Three processes that accept one connection each, answer once, and keep it.
KEEPERS = """
import os, socket, sys, time
listener = socket.socket()
listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
listener.bind(("127.0.0.1", int(sys.argv[1])))
listener.listen(5)
os.fork() and os.fork()
open("ready", "w").close()
connection = listener.accept()[0]
connection.recv(16)
connection.sendall(b"hello\\n")
time.sleep(60)
"""


@test
def connections_of_workers_are_counted():
    with Server(code=KEEPERS) as server:
        clients = [socket.create_connection(("127.0.0.1", server.port), timeout=10) for _ in range(3)]
        for client in clients:
            client.sendall(b"?")
        for client in clients:
            assert client.recv(16) == b"hello\n"
        for command in "status", "list":
            said = json.loads(run(CTL, command, server.pid, "--json").out)
            assert said["connections"] == 3 and said["connections_fresh"] == 0, said
        expect(run(CTL, "status", server.pid), 0, r"(?m)^connections: +3$", where="out")
        expect(run(CTL, "list", server.pid), 0, r"\n3 connections: 0 fresh, \d between requests, \d busy\n",
               where="out")
        for client in clients:
            client.close()


@test
def ps_shows_owners_and_workers():
    with Server(arguments=["2"]) as server, Server() as other:
        rows = {row["pid"]: row for row in json.loads(run(CTL, "ps", "--json").out)}
        workers = server.workers()
        assert len(workers) == 2
        assert rows[int(server.pid)]["role"] == rows[int(other.pid)]["role"] == "owner", rows
        for worker in workers:
            assert rows[worker]["role"] == "worker" and rows[worker]["owner"] == int(server.pid), rows
        human = expect(run(CTL, "ps"), 0, r"^ *PID +USER +GEN +MODE +UPTIME +FDS +COMMAND\n", where="out").out
        lines = human[human.index(f"{server.pid} "):].splitlines()
        assert all(r" \_ " in line for line in lines[1:3]), human
        expect(run(CTL, "restart", str(workers[0])), 1,
               f"^cprctl: PID {workers[0]} is a worker of {server.pid}; "
               f"restart that one: cprctl restart {server.pid}\n$")


@test
def strange_names_are_shown_safely():
    with Server(arguments=[b'\xff"\\\x1b[31m\n\xc3\xa9\xc2\x9b']) as server:
        human = run(CTL, "ps", encoding="utf-8").out
        assert r'\xff"\\x1b[31m' in human and "é" in human and "\x1b" not in human and "\x9b" not in human, human
        rows = {row["pid"]: row for row in json.loads(run(CTL, "ps", "--json", encoding="utf-8", errors="strict").out)}
        assert '\ufffd"\\\x1b[31m\né' in rows[int(server.pid)]["command"], rows
        json.loads(run(CTL, "status", server.pid, "--json", encoding="utf-8", errors="strict").out)


@test
def restart_reports_in_one_line():
    with Server() as server:
        for generation in 2, 3:
            expect(server.restart(), 0, rf"^restarted {server.pid}: generation {generation}, 1 descriptor, "
                   r"0 connections carried, 0 cut, \d+ ms\n$", where="out")
            assert server.serves()
        report = json.loads(server.restart("--json", "--timeout", "30.5").out)
        assert report["generation"] == 4 and report["descriptors"] == 1, report
        assert report["cut"] == 0 and report["ready_us"] > 0, report
        assert json.loads(run(CTL, "status", "--json", server.pid).out)["restarts"] == 3


@test
def restart_runs_the_test_first():
    with Server("-t", "pwd; echo no good >&2; test -e good") as server:
        result = expect(server.restart(), 1, r"(?m)^cprctl: refused: the test `.*` failed with exit status 1$")
        assert result.err.startswith(f"{server.directory}\nno good\n"), result
        server.touch("good")
        assert expect(server.restart(), 0).err == ""
    with Server("-t", "sleep 60") as server:
        expect(server.restart("--timeout", "0.3"), 1, "took too long")
    with Server("-t", "kill -9 $$") as server:
        expect(server.restart(), 1, "ended by signal 9")
        assert server.serves()


# Its child is another program, with the same listener, as those of multiprocessing's "spawn" are.
SPAWNING = SERVER.replace("listener.listen(5)", """listener.listen(5)
import subprocess
listener.set_inheritable(True)
import os
subprocess.Popen(["sleep", "60"], close_fds=False, env={"PATH": os.environ["PATH"]})""")


@test
def restart_names_exec_ed_children_that_listen_and_retires_them():
    with Server(code=SPAWNING) as server:
        old = server.workers()
        assert len(old) == 1
        expect(server.restart(), 0, rf"^cprctl: process {old[0]} \(sleep\) of the last generation also listens")
        until("the old child to be gone", lambda: not os.path.exists(f"/proc/{old[0]}"))
        assert len(server.workers()) == 1 and server.serves()


@test
def restart_refuses_a_shell_that_waits_for_its_server():
    shell = ["/bin/sh", "-c", '"$0" -c "$1" "$2"; exit $?', PYTHON, SERVER]
    with Server(command=shell) as server:
        child = server.workers()[0]
        expect(server.restart(), 1,
               rf"refused: it holds no listening socket itself, but has 1 child process \(first: {child} python3.*\)")
        assert server.serves()
        expect(run(CTL, "restart", str(child)), 0, "generation 2", where="out")
        assert server.serves()


@test
def restart_refuses_another_program_that_cannot_be_served():
    with Server() as server, scratch() as d:
        expect(server.restart("--exec", f"{d}/none"), 1, "^cprctl: refused: --exec .*No such file")
        expect(server.restart("--exec", executable(d, "text", b"x\n")), 1, "refused: --exec .*neither an ELF")
        link = f"{d}/python3"
        os.symlink(PYTHON, link)
        expect(server.restart("--exec", "python3", cwd=d, env={"PATH": d}), 0, "generation 2", where="out")
        assert server.serves()


@test
def restart_that_fails_leaves_the_old_one():
    with scratch() as d:
        script = executable(d, "server", f"#!{PYTHON}\n{SERVER}".encode())
        with Server(command=[script]) as server:
            os.unlink(script)
            expect(server.restart(), 1, "^cprctl: refused: .* is not there: No such file")
            assert server.serves()
            assert json.loads(run(CTL, "status", "--json", server.pid).out)["generation"] == 1


@test
def restart_that_dies_is_said_to():
    with Server() as server:
        server.touch("die")
        began = time.monotonic()
        threading.Thread(target=server.process.wait).start()
        expect(server.restart(), 5, f"^cprctl: PID {server.pid} died while restarting: nothing serves")
        assert time.monotonic() - began < 10


@test
def restart_not_ready_in_time_exits_with_4():
    with Server() as server:
        server.touch("dawdle")
        expect(server.restart("--timeout", "0.5"), 4,
               f"^cprctl: PID {server.pid}: its next generation is not ready after 500 ms")
        expect(server.restart("--timeout", "5"), 1, f"PID {server.pid}: a restart is under way already")


@test
def stopped_process_exits_with_4():
    with Server() as server:
        os.kill(int(server.pid), signal.SIGSTOP)
        try:
            expect(run(CTL, "status", server.pid), 4, f"^cprctl: PID {server.pid} does not answer\n$")
            expect(server.restart("--timeout", "0.2"), 4)
            rows = json.loads(expect(run(CTL, "ps", "--json"), 0).out)
            assert next(row for row in rows if row["pid"] == int(server.pid))["answers"] is False
        finally:
            os.kill(int(server.pid), signal.SIGCONT)
        assert server.serves()


def sandbox():
    """A seccomp filter of the process's own that allows everything."""
    libc = ctypes.CDLL(None, use_errno=True)
    program = ctypes.create_string_buffer(struct.pack("<HBBI", 0x06, 0, 0, 0x7fff0000))
    head = struct.pack("@HP", 1, ctypes.addressof(program))
    assert libc.prctl(38, 1, 0, 0, 0) == 0 and libc.prctl(22, 2, head, 0, 0) == 0


@test
def sandboxed_process_is_left_alone():
    code = f"import ctypes, struct\n{inspect.getsource(sandbox)}\nsandbox()\n{SERVER}"
    with Server(code=code) as server:
        for command in "status", "list", "restart":
            expect(run(CTL, command, server.pid), 1, f"PID {server.pid} has put itself under a seccomp filter")
        assert server.serves()


@test
def another_users_process_is_refused():
    if os.getuid():
        return
    with Server() as server, scratch() as d:
        os.chmod(d, 0o755)
        tool = shutil.copy(CTL, d)
        for command in "status", "list", "restart":
            expect(run(tool, command, server.pid, user=65534, group=65534), 1,
                   f"^cprctl: not permitted: PID {server.pid} belongs to root; be that user, or root\n$")
        assert server.serves()


@test
def other_network_namespace_is_entered():
    if os.getuid():
        return

    def alone():
        assert ctypes.CDLL(None).unshare(0x40000000) == 0  # CLONE_NEWNET
    with Server(preexec=alone) as server:
        expect(server.restart(), 0, "generation 2", where="out")


@test
def dump_names_what_is_wrong():
    with scratch() as d:
        path = executable(d, "state", b"")
        expect(run(CTL, "dump", f"{d}/none"), 1, f"^cprctl: {d}/none: No such file")
        expect(run(CTL, "dump", d), 1, "Is a directory")
        expect(run(CTL, "dump", path), 1, f"{path}: 0 bytes are too few")
        executable(d, "state", b"x" * 500)
        expect(run(CTL, "dump", path), 1, "not a state")
        expect(run(CTL, "dump", "-", stdin=subprocess.DEVNULL), 1, "^cprctl: standard input: ")
        expect(run(CTL, "dump", "-", "--json", input="x" * 500), 1, "not a state")


def ring(pid, signo, verb):
    """The other end of the doorbell, told once more: what the process answers, and a descriptor that came with it."""
    nonce = int.from_bytes(os.urandom(7), "little") | 1
    with socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET) as listener:
        listener.bind(f"\0cpr.{nonce:x}")
        listener.listen(1)
        listener.settimeout(PATIENCE)
        assert ctypes.CDLL(None).sigqueue(int(pid), signo, ctypes.c_void_p(nonce)) == 0
        line = listener.accept()[0]
        line.send(struct.pack("<4I4096x", 0x43505231, verb, 0, 0))
        text, fds, _, _ = socket.recv_fds(line, 8192, 1)
        line.close()
    return text.decode(), fds


@test
def dump_decodes_a_state():
    with Server(arguments=["1"]) as server:
        signo = json.loads(run(CTL, "status", "--json", server.pid).out)["signal"]
        text, fds = ring(server.pid, signo, 2)
        assert text.startswith("result=ok\n") and len(fds) == 1, text
        path = f"{server.directory}/state"
        with open(fds[0], "rb") as memfd, open(path, "wb") as file:
            file.write(memfd.read())
        tag = f"tcp:127.0.0.1:{server.port}"
        expect(run(CTL, "dump", path), 0, r"^generation 1, \d+ tags, ",
               rf"\n{tag} +0 +\d+ +stream +kept,listening", where="out")
        with open(path, "rb") as file:
            cat = subprocess.Popen(["cat"], stdin=file, stdout=subprocess.PIPE)
            decoded = json.loads(run(CTL, "dump", "--json", "-", stdin=cat.stdout).out)
            cat.stdout.close()
            cat.wait()
        entry = next(entry for entry in decoded["tags"] if entry["tag"] == tag)
        assert entry["kept"] and entry["listening"] and entry["backlog"] == 5, entry
        assert entry["domain"] == socket.AF_INET, entry
        assert decoded["generation"] == 1 and {0, 1, 2} <= {h["fd"] for h in decoded["heirlooms"]}, decoded
        with open(path, "r+b") as file:
            file.seek(100)
            file.write(b"\xff\xff")
        expect(run(CTL, "dump", path), 1, f"^cprctl: {path}: its checksum is wrong\n$")


@test
def unwritable_output_is_an_error():
    if not os.path.exists("/dev/full"):
        return
    with open("/dev/full", "w") as full:
        done = subprocess.run([CTL, "ps"], stdout=full, stderr=subprocess.PIPE, text=True)
        assert done.returncode == 1 and "No space left" in done.stderr, done
