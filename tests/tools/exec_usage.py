# SPDX-License-Identifier: MIT
"""cpr-exec: usage, environment, rules, pid file."""
import contextlib
import fcntl
import os
import pathlib
import select
import shutil
import signal
import socket
import subprocess

from common import CTL, EXEC, LIBRARY, PYTHON, Server, executable, expect, real_true, run, scratch, test, until


@test
def help_and_version_go_to_stdout():
    for tool, name in (EXEC, "cpr-exec"), (CTL, "cprctl"):
        for option in "-h", "--help":
            assert expect(run(tool, option), 0, "Usage: " + name, where="out").err == ""
        for option in "-V", "--version":
            expect(run(tool, option), 0, rf"^{name} \d+\.\d+\.\d+\n$", where="out")
    for command in "ps", "list", "status", "restart", "dump":
        expect(run(CTL, command, "--help"), 0, f"Usage: cprctl {command}", where="out")


@test
def exec_usage_errors_exit_with_2():
    for words, pattern in (
            ([], "which command is to be started.*\n.*--help"),
            (["--check"], "which command is to be checked"),
            (["--frob", "true"], "unrecognized option '--frob'"),
            (["-k"], "requires an argument"),
            (["--generations", "2", "true"], "--generations is for handover mode: add --mode=handover"),
            (["-m", "handover", "--generations", "0", "true"], '--generations "0" is too small: .* from 1 to 100'),
            (["-m", "handover", "--generations", "many", "true"], '--generations "many" is invalid'),
            (["-m", "handover", "--ready-http", "health", "true"],
             '--ready-http "health": give a path that begins with /'),
            (["-m", "handover", "--ready-http", "/x=99", "true"], '--ready-http "/x=99": .* from 100 to 599'),
            (["-m", "handover", "--ready-http", "/x=ok", "true"], "--ready-http .*=STATUS"),
            (["-m", "handover", "--ready-command", "", "true"], "--ready-command is given an empty command"),
            (["-m", "handover", "--graceful-signal", "BYE", "true"], '--graceful-signal "BYE" is not a signal'),
            (["-m", "handover", "--crash-limit", "5", "true"], '--crash-limit "5": give N/SEC'),
            (["-m", "handover", "--crash-limit", "x/60", "true"], "--crash-limit .* give N/SEC"),
            (["-m", "fork", "true"], "there are exec and handover"),
            (["-d", "x", "true"], '--drain "x" is invalid: give seconds, from 0 to 86400'),
            (["-d", "-1", "true"], '--drain "-1" is too small'),
            (["-g", "86401", "true"], '--grace "86401" is too large'),
            (["--ready-timeout", "0", "true"], "from 1 to 86400"),
            (["--retire-signal", "FROB", "true"], "not a signal"),
            (["--retire-signal", "RTMIN+99", "true"], "not a signal"),
            (["--retire-signal", "65", "true"], "not a signal"),
            (["--restart-signal", "KILL", "true"], "can catch"),
            (["--restart-signal", "RTMAX-5", "true"], "cprctl rings with"),
            (["-l", "loud", "true"], "error, warn, info, debug"),
            (["-l", "warn:", "true"], "not a file name"),
            (["-k", "", "true"], "not a glob"),
            (["-k", "a b", "true"], "not a glob"),
            (["-x", "a\nkeep *", "true"], "not a glob"),
            (["-p", "", "true"], "not a file name"),
            (["-u", "a\nb", "true"], "not a file name"),
            (["-t", "", "true"], "empty command"),
            (["-f", "/nonexistent", "true"], "--rules /nonexistent: No such file"),
            (["-f", "/", "true"], "--rules /: Is a directory")):
        result = expect(run(EXEC, *words), 2, "^cpr-exec: ", pattern)
        assert result.err.count("\n") <= 2, result


@test
def options_end_at_the_command():
    expect(run(EXEC, "echo", "-h", "--check"), 0, "^-h --check\n$", where="out")
    expect(run(EXEC, "--", "echo", "--", "x"), 0, "^-- x\n$", where="out")




def environment(*options, env=None, **more):
    """What a program finds when it is started with these options."""
    result = run(EXEC, *options, "env", "-0", env={"PATH": os.environ["PATH"], **(env or {})}, **more)
    assert result.status == 0, result
    return dict(pair.split("=", 1) for pair in result.out.split("\0") if "=" in pair)


@test
def start_errors_exit_like_env():
    expect(run(EXEC, "cpr-no-such-command"), 127, "not found in PATH")
    expect(run(EXEC, "./cpr-no-such-command"), 127, "No such file")
    with scratch() as d:
        open(f"{d}/file", "w").close()
        expect(run(EXEC, f"{d}/file"), 126, "not executable: Permission denied")
        expect(run(EXEC, executable(d, "text", b"echo\n")), 126, "neither an ELF")
        setuid = executable(d, "setuid", real_true())
        os.chmod(setuid, 0o4755)
        expect(run(EXEC, setuid), 126, "setuid")


@test
def start_becomes_the_program():
    result = run(EXEC, "sh", "-c", "echo $0 $$; exit 7")
    assert result.status == 7 and result.out.split()[0] == "sh", result
    with scratch() as d:
        process = subprocess.Popen([EXEC, "-p", "pid", "cat"], cwd=d, stdin=subprocess.PIPE)
        until("the pid file", lambda: os.path.exists(f"{d}/pid") and open(f"{d}/pid").read().strip())
        assert int(open(f"{d}/pid").read()) == process.pid
        process.communicate()


@test
def preload_is_in_front_and_once():
    assert environment()["LD_PRELOAD"] == LIBRARY
    other = shutil.which("true")  # no library: the loader says so, and goes on
    assert environment(env={"LD_PRELOAD": other})["LD_PRELOAD"] == f"{LIBRARY}:{other}"
    assert environment(env={"LD_PRELOAD": f"{other} {LIBRARY}:/old/libcpr.so"})["LD_PRELOAD"] == f"{LIBRARY}:{other}"


@test
def address_sanitizers_runtime_comes_first():
    assert environment(env={"LD_PRELOAD": "/none/libasan.so.8"})["LD_PRELOAD"] == f"/none/libasan.so.8:{LIBRARY}"
    with scratch() as d:
        program = f"{d}/sanitized"
        source = f"{d}/source.c"
        with open(source, "w") as file:
            file.write("#include <stdio.h>\nint main(void) { puts(\"served\"); return 0; }\n")
        compiled = run("cc", "-fsanitize=address", "-o", program, source)
        if compiled.status:
            print("no AddressSanitizer here: not tested")
            return
        expect(run(EXEC, "--check", program), 0, "can be served", where="out")
        expect(run(EXEC, program), 0, "^served$", where="out")
        expect(run(EXEC, program, env={"ASAN_OPTIONS": "detect_leaks=0"}), 0, "^served$", where="out")


@test
def options_become_settings():
    with scratch() as d:
        got = environment("-d", "3", "-g", "4", "--ready-timeout", "7", "-t", "exit 0", "-p", "a.pid", "-u", "b.sock",
                          "-u", "/x/c", "--retire-signal", "sigquit", "--restart-signal", "RTMIN+2", "-l", "info:log",
                          "-m", "exec", cwd=d)
        assert got.pop("CPR_PID").isdigit()
        assert {name: value for name, value in got.items() if name.startswith("CPR_")} == {
            "CPR_DRAIN": "3", "CPR_GRACE": "4", "CPR_READY_TIMEOUT": "7", "CPR_TEST": "exit 0",
            "CPR_PIDFILE": f"{d}/a.pid", "CPR_UNLINK": f"{d}/b.sock\n/x/c",
            "CPR_RETIRE_SIGNAL": str(int(signal.SIGQUIT)), "CPR_RESTART_SIGNAL": str(signal.SIGRTMIN + 2),
            "CPR_LOG": f"info:{d}/log"}, got
    assert environment("-l", "debug:/dev/null")["CPR_LOG"] == "debug:/dev/null"
    assert environment("--retire-signal", "9")["CPR_RETIRE_SIGNAL"] == "9"


@test
def settings_of_the_environment_stay():
    got = environment("-d", "3", env={"CPR_SIGNAL": "50", "CPR_DRAIN": "9", "CPR_STATE_FD": "77", "CPR_UNLINK": "/a"})
    assert got["CPR_SIGNAL"] == "50" and got["CPR_DRAIN"] == "3" and got["CPR_UNLINK"] == "/a", got
    assert "CPR_STATE_FD" not in got, got
    assert environment("-u", "/b", env={"CPR_UNLINK": "/a"})["CPR_UNLINK"] == "/b"


@test
def rules_keep_the_order_of_the_options():
    with scratch() as d:
        with open(f"{d}/rules", "w") as file:
            file.write("# all of it\nkeep\ttcp:*  # these\n\ndrop \\\n  udp:*\nkeep file:/a\\#b\n  no-carry\n")
        got = environment("-x", "dev:*", "-f", f"{d}/rules", "-k", "fifo:[ab]?", "-c", "tcp:*", "--no-carry")
        got = got["CPR_RULES"]
        assert [line.split() for line in got.splitlines()] == [
            ["drop", "dev:*"], ["keep", "tcp:*"], ["drop", "udp:*"], ["keep", "file:/a#b"], ["no-carry"],
            ["keep", "fifo:[ab]?"], ["carry", "tcp:*"], ["no-carry"]], got


@test
def rules_errors_name_file_and_line():
    with scratch() as d:
        path = f"{d}/rules"
        for content, line in (("kepe tcp:*\n", 1), ("# x\n\nkeep\n", 3), ("keep a\nkeep a \\\n b\n", 3),
                              ("no-carry x", 1), ("keep a\0b\n", 1)):
            with open(path, "w") as file:
                file.write(content)
            expect(run(EXEC, "-f", path, "true"), 2,
                   rf"^cpr-exec: {path}:{line}: .*is not a rule; .*keep GLOB, drop GLOB, carry GLOB, no-carry")
        with open(path, "w") as file:
            file.write("keep a\nkeep tcp:[::1\n")
        expect(run(EXEC, "-f", path, "true"), 2, rf"^cpr-exec: {path}:2: .*bracket that is not closed")
        for option in ("--keep", "--drop", "--carry"):
            expect(run(EXEC, option, "tcp:[::1", "true"), 2, f"^cpr-exec: {option} .*not a glob; .*nor an open bracket")
        with open(path, "w") as file:
            file.write("keep a\n" * 257)
        expect(run(EXEC, "-f", path, "true"), 2, f"{path}:257: there may be 256 rules")
        with open(path, "w") as file:
            file.write(("keep " + "a" * 1000 + "\n") * 200)
        expect(run(EXEC, "-f", path, "true"), 2, "there may be 256 rules, of")


@test
def pidfile_of_a_live_process_refuses():
    with Server("-p", "pid") as server:
        pid = f"{server.directory}/pid"
        expect(run(EXEC, "-p", pid, "true"), 1, f"^cpr-exec: already running as PID {server.pid}, says {pid}\n$")
        assert open(pid).read().strip() == server.pid
        os.utime(pid, (1, 1))  # older than the process: its pid was used again
        expect(run(EXEC, "-p", pid, "true"), 0)
    with scratch() as d, open(f"{d}/pid", "w") as file:
        file.write("1\n")
        file.flush()
        expect(run(EXEC, "-p", f"{d}/pid", "true"), 0)  # that one is not under cpr
        fcntl.flock(file, fcntl.LOCK_EX)
        expect(run(EXEC, "-p", f"{d}/pid", "true"), 1, "already running as PID")
        expect(run(EXEC, "-p", f"{d}/none/pid", "true"), 1, "--pidfile .*No such file")


# Becomes the owner of a listener when its parent ends. With an argument it cannot write a byte to a file by then.
DAEMON = """
import os, resource, socket, sys
listener = socket.create_server(("127.0.0.1", 0))
told, tell = os.pipe()
child = os.fork()
if child:
    os.read(told, 1)
    print(child, flush=True)
    os._exit(0)
if sys.argv[1:]:
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))
os.close(1)
os.write(tell, b".")
listener.settimeout(0.02)
while True:
    try:
        listener.accept()
    except TimeoutError:
        pass
"""


@contextlib.contextmanager
def daemon(directory, *arguments):
    """The pid of a daemon whose parent has ended, and what the two say."""
    with subprocess.Popen([EXEC, "-p", f"{directory}/pid", "--", PYTHON, "-c", DAEMON, *arguments], text=True,
                          stdout=subprocess.PIPE, stderr=subprocess.PIPE) as parent:
        child = parent.stdout.readline().strip()
        try:
            yield child, parent.stderr
        finally:
            os.kill(int(child), signal.SIGKILL)


@test
def pidfile_names_the_daemon():
    with scratch() as d, daemon(d) as (pid, _):
        until("the daemon to write its pid", lambda: open(f"{d}/pid").read() == f"{pid}\n")


@test
def pidfile_is_never_empty():
    """Its owner writes it anew, and can be ended, or find no room, in the middle of that."""
    with scratch() as d, daemon(d, "full") as (_, said):
        assert select.select([said], [], [], 10)[0] and "pid could not be written" in said.readline()
        assert open(f"{d}/pid").read().strip().isdigit()


# A server that starts another program, as it would a CGI script, and says how that ended.
STARTS_ANOTHER = """
import os, socket, subprocess, sys, threading
def tell(process):
    with open("ended.new", "w") as file:
        file.write(str(process.wait()))
    os.rename("ended.new", "ended")
if not os.path.exists("other"):
    other = subprocess.Popen([sys.executable, "-c", sys.argv[2]])
    threading.Thread(target=tell, args=(other,), daemon=True).start()
listener = socket.create_server(("127.0.0.1", int(sys.argv[1])))
open("ready", "w").close()
while True:
    listener.accept()[0].sendall(b"hello\\n")
"""

# It waits for connections, too.
ANOTHER = """
import os, socket
listener = socket.create_server(("127.0.0.1", 0))
with open("other.new", "w") as file:
    file.write(f"{os.getpid()} {listener.getsockname()[1]}")
os.rename("other.new", "other")
while True:
    listener.accept()[0].sendall(b"hello\\n")
"""


@test
def pidfile_and_restart_signal_are_not_taken_by_what_a_server_starts():
    def read(name):
        return pathlib.Path(server.directory, name).read_text()
    with Server("-p", "pid", "--restart-signal", "USR2", code=STARTS_ANOTHER, arguments=[ANOTHER]) as server:
        until("the other program", lambda: server.has("other"))
        pid, port = map(int, read("other").split())
        for _ in range(2):      # the second is accepted after all that the first has brought about
            with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
                assert connection.recv(16) == b"hello\n"
        assert server.serves()
        assert read("pid").strip() == server.pid, "the pid file is the other program's"
        os.kill(pid, signal.SIGUSR2)
        until("the end of the other program", lambda: server.has("ended"))
        assert read("ended") == str(-signal.SIGUSR2)
        os.remove(f"{server.directory}/ready")
        os.kill(int(server.pid), signal.SIGUSR2)
        until("the next generation", lambda: server.has("ready"))
        assert server.serves() and read("pid").strip() == server.pid


@test
def library_is_found_or_missed_clearly():
    with scratch() as d:
        os.mkdir(f"{d}/bin")
        os.mkdir(f"{d}/lib")
        tool = shutil.copy(EXEC, f"{d}/bin/cpr-exec")
        result = run(tool, "true")
        if result.status:  # else one is installed
            assert result.status == 1 and "libcpr.so is neither beside" in result.err, result
        shutil.copy(LIBRARY, f"{d}/lib/libcpr.so")
        expect(run(tool, "printenv", "LD_PRELOAD"), 0, f"^{d}/lib/libcpr.so\n$", where="out")
        os.mkdir(f"{d}/a b")
        tool = shutil.copy(EXEC, f"{d}/a b/cpr-exec")
        shutil.copy(LIBRARY, f"{d}/a b/libcpr.so")
        expect(run(tool, "true"), 1, "parts LD_PRELOAD at blanks")
