# SPDX-License-Identifier: MIT
"""cpr-exec -m handover as scripts see it: pids, signals, exit statuses, what cprctl says of it."""
import json
import os
import pathlib
import pty
import signal
import socket
import subprocess
import time

from common import (CTL, EXEC, LIBRARY, PATIENCE, PYTHON, SERVER, Server, alive, executable, expect, free_port, run,
                    scratch, test, until, until_handled)
import memory


class Supervised(Server):
    def __init__(self, *options, **more):
        super().__init__("-m", "handover", *options, **more)

    def __enter__(self):
        super().__enter__()
        until("the supervisor to hold the listener", lambda: self.status()["descriptors"] > 0)
        return self

    def __exit__(self, kind=None, *_):
        late = None
        if self.process.poll() is None:
            self.process.terminate()
            try:
                self.process.wait(PATIENCE)
            except subprocess.TimeoutExpired as error:
                late = error
        super().__exit__()
        if late and not kind:
            raise late

    def status(self):
        return json.loads(run(CTL, "status", self.pid, "--json").out)

    def family(self):
        found, grows = {int(self.pid)}, True
        while grows:
            born = {int(pid) for pid in os.listdir("/proc") if pid.isdigit() and parent(pid) in found} - found
            found |= born
            grows = bool(born)
        return {pid for pid in found - {int(self.pid)} if not is_relay(pid)}


def is_relay(pid):
    """It passes a generation's standard error on."""
    try:
        return pathlib.Path(f"/proc/{pid}/comm").read_text() == "cpr-relay\n"
    except OSError:
        return False


def parent(pid):
    try:
        return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    except (OSError, IndexError):
        return 0


def ended(*command, **more):
    return subprocess.run([EXEC, "-m", "handover", "--", *command], timeout=PATIENCE, capture_output=True, text=True,
                          **more)


@test
def a_supervisor_ends_as_its_server_does():
    assert ended("true").returncode == 0
    assert ended(PYTHON, "-c", "import sys; sys.exit(3)").returncode == 3
    assert ended("sh", "-c", "kill -TERM $$").returncode == -signal.SIGTERM
    expect(run(EXEC, "-m", "handover", "/nonexistent/server"), 127, "/nonexistent/server")


@test
def a_restart_takes_either_pid_and_says_the_gate():
    with Supervised() as server:
        first = server.status()["server"]
        said = json.loads(server.restart("--json").out)
        assert said["generation"] == 2 and said["descriptors"] == 1 and said["gate_us"] > 0, said
        assert said["pid"] == int(server.pid), said
        second = server.status()["server"]
        assert second != first and said["server"] == second
        expect(run(CTL, "restart", str(second)), 0, rf"^restarted {server.pid}: generation 3, 1 descriptor, ",
               where="out")
        assert server.serves()
        human = run(CTL, "status", server.pid)
        expect(human, 0, r"(?m)^role: +supervisor$", r"(?m)^mode: +handover$", where="out")


@test
def list_shows_what_a_supervisor_holds():
    with Supervised() as server:
        expect(run(CTL, "list", server.pid), 0, rf"(?m)^tcp:127.0.0.1:{server.port} ", where="out")


@test
def a_killed_supervisor_leaves_its_server_serving():
    """One whose standard error went through it, too."""
    code = SERVER.replace('connection.sendall(b"hello',
                          'print("one", file=sys.stderr, flush=True)\n    connection.sendall(b"hello')
    with Supervised(code=code) as server:
        assert server.restart().status == 0
        child, family = server.status()["server"], server.family()
        server.process.kill()
        server.process.wait()
        try:
            for _ in range(3):
                assert server.serves()
            expect(run(CTL, "rollback", str(child)), 3, f"PID {child} has no supervisor")
        finally:
            for pid in family:
                if os.path.exists(f"/proc/{pid}"):
                    os.kill(pid, signal.SIGKILL)


# Its clients end their connections.
HOLDING = SERVER.replace("    connection.sendall",
                         "    threading.Thread(target=hold, args=(connection,), daemon=True).start()\n"
                         "    continue\n"
                         "    connection.sendall") \
    .replace("import os, socket, sys, time", '''import os, socket, sys, threading, time
def hold(connection):
    connection.sendall(b"hello\\n")
    while connection.recv(100):
        pass
    connection.close()
''')


@test
def a_killed_supervisor_leaves_only_the_generation_that_serves():
    """One that drains ends with its last connection, and one behind its gate at once."""
    with Supervised(code=HOLDING) as server:
        first = server.status()["server"]
        with socket.create_connection(("127.0.0.1", server.port)) as long:
            assert long.recv(16) == b"hello\n"
            assert server.restart().status == 0
            second = server.status()["server"]
            server.touch("dawdle")
            asking = subprocess.Popen([CTL, "restart", server.pid], stderr=subprocess.DEVNULL)
            until("the third one", lambda: len(server.family()) == 3)
            third, = server.family() - {first, second}
            server.process.kill()
            server.process.wait()
            asking.wait(PATIENCE)
            try:
                until("the one behind its gate to end", lambda: not alive(third))
                assert alive(first) and server.serves()
                long.close()
                until("the old one to end with its last connection", lambda: not alive(first))
                assert server.serves()
            finally:
                for pid in (first, second, third):
                    if alive(pid):
                        os.kill(pid, signal.SIGKILL)


@test
def a_generation_behind_its_gate_whose_supervisor_died_at_its_birth_ends():
    """It has never seen that one."""
    with scratch() as directory, subprocess.Popen(["true"]) as supervisor:
        supervisor.wait()
        variables = f"LD_PRELOAD={LIBRARY} CPR_SUPERVISOR={supervisor.pid}:1 CPR_GATE=closed CPR_PID=$$"
        start = f'export {variables}; exec {PYTHON} -c "$0" {free_port()}'
        with subprocess.Popen(["/bin/sh", "-c", start, SERVER], cwd=directory, stderr=subprocess.PIPE) as server:
            try:
                said = server.communicate(timeout=PATIENCE)[1]
            finally:
                server.kill()
            assert server.returncode == -signal.SIGTERM, (server.returncode, said)
            assert f"the supervisor, PID {supervisor.pid}, is gone".encode() in said, said


def census(pid):
    """Descriptors, KB that are no file's, children with the relays."""
    born = [child for child in os.listdir("/proc") if child.isdigit() and parent(child) == int(pid)]
    return len(os.listdir(f"/proc/{pid}/fd")), memory.sizes(pid)["Anonymous"], len(born)


@test
def nothing_grows_in_a_supervisor():
    with Supervised() as server:
        def settled():
            until("old generations to end", lambda: len(server.family()) == 1)
            return census(server.pid)

        for _ in range(5):
            assert server.restart().status == 0
        first = settled()
        for _ in range(60):
            assert server.restart().status == 0
        until("what it held to be closed", lambda: settled()[0] <= first[0] and settled()[2] <= first[2])
        last = census(server.pid)
        assert last[1] <= first[1] + 64, f"it grew from {first} to {last}"
        assert server.serves() and server.status()["generation"] == 66


@test
def ps_shows_generations_below_their_supervisor():
    with Supervised() as server:
        child = server.status()["server"]
        lines = run(CTL, "ps").out.splitlines()
        at = next(i for i, line in enumerate(lines) if line.split()[0] == server.pid)
        assert lines[at + 1].split()[0] == str(child) and " \\_ [serving] " in lines[at + 1], lines
        listed = {row["pid"]: row for row in json.loads(run(CTL, "ps", "--json").out)}
        assert listed[int(server.pid)]["role"] == "supervisor", listed
        assert listed[child]["supervisor"] == int(server.pid) and listed[child]["phase"] == "serving", listed


@test
def a_next_generation_that_dies_changes_nothing():
    with Supervised() as server:
        first = server.status()["server"]
        server.touch("die")
        expect(server.restart(), 1, "failed: the next generation ended with status 3 before it was ready")
        assert server.status()["server"] == first and server.serves()
        os.remove(os.path.join(server.directory, "die"))
        assert server.restart().status == 0


@test
def the_last_words_of_a_failed_generation_are_shown():
    code = SERVER.replace("sys.exit(3)", 'sys.exit("a bad\\nend")')
    with Supervised(code=code) as server:
        server.touch("die")
        expect(server.restart(), 1, r"(?m)^cprctl: \| a bad$", r"(?m)^cprctl: \| end$",
               "failed: the next generation ended with status 1")


@test
def a_next_generation_that_hangs_is_ended_in_time():
    with Supervised("--ready-timeout", "1") as server:
        server.touch("dawdle")
        expect(server.restart(), 1, "failed: the next generation was not ready within 1 s")
        until("it to be ended", lambda: len(server.family()) == 1)
        assert server.serves()


@test
def an_old_generation_that_does_not_answer_is_replaced():
    with Supervised() as server:
        first = server.status()["server"]
        os.kill(first, signal.SIGSTOP)
        said = server.restart()
        expect(said, 0, "did not give its descriptors .*: nothing of it is carried")
        assert server.serves() and server.status()["server"] != first
        until("the old one to be killed", lambda: not os.path.exists(f"/proc/{first}"))


@test
def sigterm_ends_everything_at_any_time():
    with Supervised() as server:
        server.touch("dawdle")
        asking = subprocess.Popen([CTL, "restart", server.pid], stderr=subprocess.PIPE, text=True)
        until("the next generation", lambda: len(server.family()) == 2)
        family = server.family()
        server.process.terminate()
        assert server.process.wait(PATIENCE) == -signal.SIGTERM
        assert not [pid for pid in family if os.path.exists(f"/proc/{pid}")]
        assert "the supervisor was told to end" in asking.communicate(timeout=PATIENCE)[1] and asking.returncode == 1


@test
def two_restarts_at_once_are_one():
    with Supervised() as server:
        server.touch("dawdle")
        asking = subprocess.Popen([CTL, "restart", server.pid], stderr=subprocess.DEVNULL)
        until("the next generation", lambda: len(server.family()) == 2)
        expect(server.restart(), 1, "a restart is under way already")
        server.process.terminate()
        asking.wait(PATIENCE)


@test
def a_supervisor_forwards_signals_and_restarts_at_its_own():
    code = SERVER.replace("import os, socket", "import os, signal, socket").replace(
        "listener = socket", 'signal.signal(signal.SIGUSR1, lambda *_: open("usr1", "w").close())\nlistener = socket')
    with Supervised("--restart-signal", "USR2", code=code) as server:
        server.process.send_signal(signal.SIGUSR1)
        until_handled("the signal to arrive", server.port, lambda: server.has("usr1"))
        server.process.send_signal(signal.SIGUSR2)
        until("the restart", lambda: server.status()["generation"] == 2)
        assert server.serves()


@test
def the_signal_at_which_a_server_would_replace_itself_is_not_ignored_in_what_it_starts():
    """A signal that is ignored stays so over exec."""
    look = 'os.system("grep SigIgn /proc/self/status >ignored; kill -USR2 $PPID")\n'
    code = SERVER.replace('open("ready"', look + 'open("ready"', 1)
    with scratch() as directory:
        script = executable(directory, "gunicorn", code.encode())
        with Supervised(command=[PYTHON, script]) as server:
            ignored = int(pathlib.Path(server.directory, "ignored").read_text().split()[1], 16)
            assert not ignored >> signal.SIGUSR2 - 1 & 1, f"{ignored:x}"
            assert server.serves() and server.restart().status == 0


# As lighttpd's master, it ends its workers by a signal to its process group.
GROUP = SERVER.replace("import os, socket, sys, time", """import os, signal, socket, sys, time
def leave(*_):
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(0, signal.SIGTERM)
signal.signal(signal.SIGTERM, leave)""")


@test
def a_server_that_signals_its_process_group_reaches_nothing_but_its_generation():
    with Supervised(code=GROUP, preexec=os.setsid) as server:
        assert os.getpgid(server.status()["server"]) == server.status()["server"], "it is no leader, as cpr-exec was"
        for number in range(2, 4):
            old = server.status()["server"]
            assert server.restart().status == 0
            until("the old one to end", lambda: not alive(old))
            assert server.status()["generation"] == number and server.serves()


@test
def a_server_on_a_terminal_may_read_it_and_gets_its_signals_once():
    leave = """import signal
def interrupted(*_):
    with open("interrupted", "a") as file:
        file.write("x")
signal.signal(signal.SIGINT, interrupted)
open("read", "w").write(sys.stdin.readline())
"""
    with scratch() as directory:
        port = free_port()
        child, terminal = pty.fork()
        if not child:
            os.chdir(directory)
            code = SERVER.replace("listener =", leave + "listener =", 1).replace("sys.stdin", 'open("/dev/tty")')
            command = [EXEC, "-m", "handover", "--", PYTHON, "-c", code, str(port)]
            os.execv("/bin/sh", ["sh", "-c", 'exec "$@" </dev/null', "sh", *command])
        try:
            os.write(terminal, b"word\n")
            until("the server", lambda: os.path.exists(f"{directory}/ready"))
            assert pathlib.Path(directory, "read").read_text() == "word\n"
            os.write(terminal, b"\x03")
            until_handled("its signal", port, lambda: os.path.exists(f"{directory}/interrupted"))
            run(CTL, "status", str(child))  # whatever had come before that has been forwarded by now
            assert pathlib.Path(directory, "interrupted").read_text() == "x"
        finally:
            os.kill(child, signal.SIGTERM)
            os.waitpid(child, 0)
            os.close(terminal)


@test
def a_server_leads_no_process_group_where_its_starter_led_none():
    """It may call setsid(), as it may without cpr."""
    with Supervised(code=SERVER.replace('open("ready"', 'os.setsid()\nopen("ready"', 1)) as server:
        assert server.restart().status == 0 and server.serves()
    with Supervised() as server:
        child = server.status()["server"]
        assert os.getpgid(child) not in (child, os.getpgid(int(server.pid)))


@test
def a_supervisors_pid_file_is_locked_and_goes_with_it():
    with scratch() as directory:
        path = os.path.join(directory, "pid")
        with Supervised("-p", path) as server:
            assert pathlib.Path(path).read_text().strip() == server.pid
            expect(run(EXEC, "-m", "handover", "-p", path, "true"), 1, f"already running as PID {server.pid}")
            assert server.restart().status == 0
            assert pathlib.Path(path).read_text().strip() == server.pid
            server.process.terminate()
            server.process.wait(PATIENCE)
            assert not os.path.exists(path)


@test
def a_daemon_is_followed():
    code = SERVER.replace('if os.path.exists("die")',
                          'if os.fork():\n    os._exit(0)\nos.setsid()\nif os.path.exists("die")')
    with Supervised(code=code) as server:
        first = server.status()["server"]
        assert server.restart().status == 0
        second = server.status()["server"]
        assert second not in (0, first) and server.serves()
        until("the old one to go", lambda: server.family() == {second})
        os.kill(second, signal.SIGKILL)
        until("it to be started again",
              lambda: server.status().get("server", 0) not in (0, second) and server.status()["descriptors"] > 0)
        assert server.serves()


@test
def a_daemon_is_followed_over_a_step_that_lingers():
    """Its starter does not wait for the child between, which has been looked at when it leaves."""
    steps = """if os.fork():
    os._exit(0)
os.setsid()
while os.getppid() != int(os.environ["SUPERVISOR"]):
    time.sleep(0.01)
time.sleep(0.3)
if os.fork():
    os._exit(0)
if os.path.exists("die")"""
    code = SERVER.replace('if os.path.exists("die")', steps)
    words = ["sh", "-c", 'SUPERVISOR=$PPID exec "$@"', "sh", PYTHON, "-c", code]
    with Supervised(command=words) as server:
        first = server.status()["server"]
        assert server.restart().status == 0 and server.serves()
        assert server.status()["server"] not in (0, first)


NOTIFY = """
def notify(text):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.sendto(text, os.environ["NOTIFY_SOCKET"].replace("@", "\\0", 1))
while not os.path.exists("go"):
    time.sleep(0.01)
notify(b"READY=1\\nSTATUS=up\\nMAINPID=1")
open("ready", "w").close()
"""


@test
def a_program_that_says_ready_is_waited_for_and_its_words_passed_on():
    code = SERVER.replace('open("ready", "w").close()\n', NOTIFY)
    with scratch() as directory, socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(os.path.join(directory, "notify"))
        manager.settimeout(PATIENCE)
        os.environ["NOTIFY_SOCKET"] = manager.getsockname()
        try:
            server = Supervised(code=code)
        finally:
            del os.environ["NOTIFY_SOCKET"]
        server.touch("go")
        with server:
            said = set()
            while not {b"READY=1", b"STATUS=up"} <= said:   # the supervisor has a status of its own to tell
                said.update(manager.recv(1000).split(b"\n"))
            os.remove(os.path.join(server.directory, "go"))
            asking = subprocess.Popen([CTL, "restart", server.pid], stdout=subprocess.PIPE, text=True)
            until("the next generation", lambda: len(server.family()) == 2)
            time.sleep(1)  # the library alone would find it ready after half of that
            assert asking.poll() is None and server.status()["generation"] == 1
            server.touch("go")
            assert asking.wait(PATIENCE) == 0 and server.serves()
            asking.stdout.close()


@test
def a_changed_file_restarts():
    """Written anew, and through the swap of a link, as mounted configurations change."""
    with scratch() as directory:
        path = pathlib.Path(directory, "conf")
        for name in "one", "two":
            os.mkdir(os.path.join(directory, name))
            pathlib.Path(directory, name, "conf").write_text(name)
        os.symlink("one", os.path.join(directory, "data"))
        os.symlink("data/conf", path)
        with Supervised("--watch", str(path)) as server:
            os.symlink("two", os.path.join(directory, "next"))
            os.rename(os.path.join(directory, "next"), os.path.join(directory, "data"))
            until("the first restart", lambda: server.status()["generation"] == 2)
            pathlib.Path(directory, "two", "conf").write_text("something else")
            until("the second restart", lambda: server.status()["generation"] == 3)
            assert server.serves()
    expect(run(EXEC, "-m", "handover", "--watch", "/nonexistent/file", "true"), 1,
           "--watch /nonexistent/file: No such file")


@test
def rollback_needs_a_generation_that_is_kept():
    with Supervised() as server:
        expect(run(CTL, "rollback", server.pid), 1,
               "no old generation is kept: start the supervisor with --rollback SEC")
    with Server() as server:
        expect(run(CTL, "rollback", server.pid), 3, f"PID {server.pid} has no supervisor: it is not in handover mode")


@test
def a_supervisor_can_be_pid_1():
    if os.geteuid():
        return
    with scratch() as directory:
        orphan = ("import os, time\n"
                  "if os.fork() == 0:\n    if os.fork() == 0:\n        time.sleep(0.2)\n    os._exit(0)\n")
        look = ('import time\n'
                'time.sleep(0.6)\n'
                'open("ps", "w").write("".join(open(f"/proc/{p}/stat").read()'
                ' for p in __import__("os").listdir("/proc") if p.isdigit()))\n')
        done = run("unshare", "--pid", "--fork", "--mount-proc", EXEC, "-m", "handover", "--crash-limit", "0/60", "--",
                   PYTHON, "-c", orphan + look + "raise SystemExit(7)", cwd=directory)
        assert done.status == 7, done
        left = pathlib.Path(directory, "ps").read_text().splitlines()
        assert not [line for line in left if ") Z " in line and " 1 " in line.split(")")[1][:6]], left
