# SPDX-License-Identifier: MIT
"""Runs in the copy of the machine: what the packages bring, what an upgrade does to servers that run, what is left."""
import os
import pathlib
import socket
import subprocess
import sys
import time

ROOM = "/opt/cpr-packages"
PORTS = {"handover": 8001, "exec": 8002}
PATIENCE = 20
NOT_OURS = ("/proc", "/sys", "/dev", "/run", "/tmp", "/var/lib/dpkg", "/var/log", "/var/cache", "/etc/ld.so.cache",
            ROOM)
ENABLED = pathlib.Path("/etc/systemd/system/cpr-trial.service.d/50-cpr.conf")


def do(*command):
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"{command}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr


def files():
    found = set()
    for path, folders, names in os.walk("/"):
        folders[:] = [name for name in folders if os.path.join(path, name) not in NOT_OURS]
        found.update(os.path.join(path, name) for name in folders + names)
    return found - set(NOT_OURS)


def until(what, condition):
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"waited {PATIENCE} s for {what}"
        time.sleep(0.02)


def answers(port):
    try:
        with socket.create_connection(("127.0.0.1", port), timeout=PATIENCE) as client:
            client.sendall(b"GET / HTTP/1.0\r\n\r\n")
            return client.recv(100).startswith(b"HTTP/1.0 200")
    except ConnectionRefusedError:
        return False


def library_of(pid):
    """The file name of the library in it."""
    for line in pathlib.Path(f"/proc/{pid}/maps").read_text().splitlines():
        if "/libcpr.so" in line:
            return line.split("/")[-1]
    return None


def listed(pid):
    return subprocess.run(["cprctl", "list", str(pid)], capture_output=True, text=True, check=False).stdout


def server_of(pid, mode):
    if mode == "exec":
        return pid
    text = do("cprctl", "status", str(pid))
    return int(next(line for line in text.splitlines() if line.startswith("server:")).split()[1])


def start(mode):
    return subprocess.Popen(["cpr-exec", "-m", mode, "--", "/usr/bin/python3", "-m", "http.server", str(PORTS[mode])],
                            cwd=ROOM, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).pid


def install(when):
    return do("dpkg", "-i", *(f"{ROOM}/{when}/{name}.deb" for name in ("libcpr0", "libcpr-dev", "cpr-tools")))


def main():
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    before = files()
    install("first")
    new = files() - before
    print(f"ok installed: {len(new)} files")
    program = f"{ROOM}/uses.c"
    pathlib.Path(program).write_text('#include <cpr.h>\n#include <stdio.h>\nint main(void) { puts(cpr_version()); }\n')
    do("sh", "-c", f"cc -o {program}.out {program} $(pkg-config --cflags --libs cpr)")
    assert "0.1.0" in do(f"{program}.out")
    print("ok a program is built with libcpr-dev and finds the library by its soname")
    if pathlib.Path("/usr/sbin/nginx").exists():
        print(f"ok the autopkgtest of nginx:\n{do(f'{ROOM}/nginx')}", end="")
    else:
        print("not tried: nginx is not installed")
    pids = {mode: start(mode) for mode in PORTS}
    for mode, pid in pids.items():
        until(f"{mode} to serve", lambda m=mode: answers(PORTS[m]))
        until(f"{mode} to be known", lambda p=pid: listed(p).count("tcp:") == 1)
    servers = {mode: server_of(pid, mode) for mode, pid in pids.items()}
    assert {library_of(pid) for pid in servers.values()} == {"libcpr.so.0.1.0"}
    ENABLED.parent.mkdir()
    ENABLED.write_text("# Written by `cprctl enable cpr-trial.service`\n[Service]\n")
    said = install("next")
    assert "stays as it is" not in said, said
    assert os.readlink(f"/proc/{pids['handover']}/exe") == "/usr/bin/cpr-exec", "the supervisor was not replaced"
    for mode, pid in pids.items():
        assert server_of(pid, mode) == servers[mode] and library_of(servers[mode]).startswith("libcpr.so.0.1.0"), mode
        do("cprctl", "restart", str(pid))
        assert library_of(server_of(pid, mode)) == "libcpr.so.0.1.1" and answers(PORTS[mode]), mode
    print("ok an upgrade replaces the supervisor; servers go on with the old library until their restart")
    for pid in pids.values():
        os.kill(pid, 15)
    do("dpkg", "-r", "cpr-tools")
    assert not ENABLED.parent.exists(), "the drop-in stays, and names a program that is gone"
    do("dpkg", "-P", "cpr-tools", "libcpr-dev", "libcpr0")
    left, gone = files() - before, before - files()
    assert not left and not gone, f"left: {sorted(left)[:10]}, gone: {sorted(gone)[:10]}"
    print("ok removed without a trace")
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except AssertionError as error:
        print(f"FAIL {error}")
        sys.exit(1)
