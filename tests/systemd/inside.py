# SPDX-License-Identifier: MIT
"""Runs in the booted machine: inside.py UNIT... prints a line of JSON for each. tests/systemd/run judges."""
import http.client
import json
import os
import subprocess
import sys
import threading
import time

CTL = "/opt/cpr/cprctl"
CLIENTS, STEPS, TIMEOUT, PAUSE = 8, ("reload",) * 3 + ("restart",) * 3, 20, 0.3


def call(*command):
    """(did it succeed, what it said)"""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode == 0, (done.stdout + done.stderr).strip()


def ask(connection):
    connection.request("GET", "/")
    answer = connection.getresponse()
    answer.read()
    return answer.status


def connect():
    return http.client.HTTPConnection("127.0.0.1", 80, timeout=TIMEOUT)


class Load:
    """Half of the clients keep their connections."""

    def __init__(self):
        self.answered, self.failed, self.over, self.lock = 0, [], False, threading.Lock()
        self.clients = [threading.Thread(target=self.work, args=(i % 2,)) for i in range(CLIENTS)]
        for client in self.clients:
            client.start()

    def work(self, keeps):
        connection = None
        while not self.over:
            try:
                connection = connection if connection and keeps else connect()
                status = ask(connection)
                with self.lock:
                    self.answered += status == 200
                    self.failed += [status] if status != 200 else []
            except (OSError, http.client.HTTPException) as error:
                connection = None
                with self.lock:
                    self.failed.append(repr(error))

    def end(self):
        self.over = True
        for client in self.clients:
            client.join()


def state_of_port():
    try:
        return "answered" if ask(connect()) == 200 else "answered with an error"
    except ConnectionRefusedError:
        return "refused"
    except (OSError, http.client.HTTPException) as error:
        return repr(error)


def idle_state(idle, before):
    try:
        return "answered" if ask(idle) == 200 and idle.sock is before else "was closed"
    except (OSError, http.client.HTTPException) as error:
        return repr(error)


def left_over(unit):
    folder = f"/etc/systemd/system/{unit}.service.d"
    return os.listdir(folder) if os.path.isdir(folder) else []


def stock_state(unit):
    """Of the unit as the distribution ships it, after `disable`."""
    call("systemctl", "start", unit)
    until = time.monotonic() + TIMEOUT
    while state_of_port() == "refused" and time.monotonic() < until:
        time.sleep(0.05)
    pid = call("systemctl", "show", "-P", "MainPID", unit)[1]
    with open(f"/proc/{pid}/maps", encoding="utf-8") as maps:
        under = "with" if "libcpr" in maps.read() else "without"
    state = f"{state_of_port()} {under} cpr"
    call("systemctl", "stop", unit)
    return state


def steps(unit):
    for verb in STEPS:
        good, said = call("systemctl", verb, unit)
        if not good:
            return good, f"{verb}: {said}"
        time.sleep(PAUSE)   # of load on this generation
    return True, ""


def try_unit(unit):
    call("systemctl", "start", unit)
    result = {"unit": unit, "enable": call(CTL, "enable", "--now", unit), "twice": call(CTL, "enable", unit)}
    idle = connect()
    ask(idle)
    before, load = idle.sock, Load()
    result["steps"] = steps(unit)
    load.end()
    result |= {"answered": load.answered, "failed": load.failed, "idle": idle_state(idle, before)}
    print(call("journalctl", "-u", unit, "--no-pager", "-o", "cat")[1][-3000:], file=sys.stderr)
    call("systemctl", "stop", unit)
    result["stopped"] = state_of_port()
    result["disable"] = call(CTL, "disable", unit)
    result["left"] = left_over(unit)
    result["stock"] = stock_state(unit)
    return result


def main():
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for unit in sys.argv[1:]:
        print(json.dumps(try_unit(unit)), flush=True)


if __name__ == "__main__":
    main()
