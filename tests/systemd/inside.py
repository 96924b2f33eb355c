# SPDX-License-Identifier: MIT
"""Runs in the booted machine: inside.py UNIT... prints a line of JSON for each. tests/systemd/run judges."""
import glob
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time

CTL = "/opt/cpr/cprctl"
CLIENTS, TIMEOUT, PAUSE = 8, 20, 0.3
STEPS = (("systemctl", "reload"),) * 3 + (("systemctl", "restart"),) * 3 + (("deb-systemd-invoke", "restart"),) * 3


def call(*command):
    """(did it succeed, what it said)"""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode == 0, (done.stdout + done.stderr).strip()


class Http:
    port = 80

    def __init__(self):
        self.connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=TIMEOUT)

    def ask(self):
        """None, or what was wrong."""
        self.connection.request("GET", "/")
        answer = self.connection.getresponse()
        answer.read()
        return None if answer.status == 200 else f"status {answer.status}"

    def socket(self):
        return self.connection.sock


class Line:
    """One line is asked, one is answered."""

    def __init__(self):
        self.connection = socket.create_connection(("127.0.0.1", self.port), timeout=TIMEOUT)

    def ask(self):
        self.connection.sendall(self.question)
        answer = self.connection.recv(1000)
        if not answer:
            raise ConnectionError("the connection was closed")
        return self.wrong(answer)

    def wrong(self, answer):
        return None if answer.startswith(self.begins) and answer.endswith(b"\r\n") else repr(answer)

    def socket(self):
        return self.connection


class Redis(Line):
    """The number goes up by one with each answer, over all clients: no data are lost, and nothing is done twice."""
    port, question, begins, most, lock = 6379, b"INCR cpr\r\n", b":", 0, threading.Lock()
    seen = 0

    def wrong(self, answer):
        with Redis.lock:
            Redis.seen += 1
            Redis.most = max(Redis.most, int(answer[1:]))
        return super().wrong(answer)

    @classmethod
    def lost(cls):
        return abs(cls.most - cls.seen)


class Memcached(Line):
    port, question, begins = 11211, b"version\r\n", b"VERSION "


CLIENTS_OF = {"redis-server": Redis, "memcached": Memcached}


class Load:
    """Half of the clients keep their connections."""

    def __init__(self, client):
        self.client = client
        self.answered, self.failed, self.over, self.lock = 0, [], False, threading.Lock()
        self.clients = [threading.Thread(target=self.work, args=(i % 2,)) for i in range(CLIENTS)]
        for client in self.clients:
            client.start()

    def work(self, keeps):
        client = None
        while not self.over:
            try:
                client = client if client and keeps else self.client()
                wrong = client.ask()
                with self.lock:
                    self.answered += not wrong
                    self.failed += [wrong] if wrong else []
            except (OSError, http.client.HTTPException) as error:
                client = None
                with self.lock:
                    self.failed.append(repr(error))

    def end(self):
        self.over = True
        for client in self.clients:
            client.join()


def state_of_port(client):
    try:
        return client().ask() or "answered"
    except ConnectionRefusedError:
        return "refused"
    except (OSError, http.client.HTTPException) as error:
        return repr(error)


def idle_state(idle, before):
    try:
        return idle.ask() or ("answered" if idle.socket() is before else "was closed")
    except (OSError, http.client.HTTPException) as error:
        return repr(error)


def left_over(unit):
    folder = f"/etc/systemd/system/{unit}.service.d"
    return os.listdir(folder) if os.path.isdir(folder) else []


def stock_state(unit, client):
    """Of the unit as the distribution ships it, after `disable`."""
    call("systemctl", "start", unit)
    until = time.monotonic() + TIMEOUT
    while state_of_port(client) == "refused" and time.monotonic() < until:
        time.sleep(0.05)
    pid = show(unit, "MainPID")
    with open(f"/proc/{pid}/maps", encoding="utf-8") as maps:
        under = "with" if "libcpr" in maps.read() else "without"
    state = f"{state_of_port(client)} {under} cpr"
    call("systemctl", "stop", unit)
    return state


def steps(unit):
    packages = glob.glob(f"/opt/cpr/{unit}_*.deb")   # last, if it is there: it is installed once more
    for step in (*((*step, f"{unit}.service") for step in STEPS), *(("dpkg", "-i", package) for package in packages)):
        call("systemctl", "reset-failed", unit)   # the manager counts our restarts as well: five in ten seconds
        good, said = call(*step)
        if not good:
            return good, f"{' '.join(step)}: {said}"
        time.sleep(PAUSE)   # of load on this generation
    return True, f"{len(STEPS)} and {len(packages)} packages"


def show(unit, key):
    return call("systemctl", "show", "-P", key, unit)[1]


def kill_all(unit, client):
    """Every process of it at once: Restart= brings it back, with its listeners, and nothing is refused meanwhile."""
    if show(unit, "Restart") == "no":
        return "came back"   # nothing says that it should
    before, until = show(unit, "MainPID"), time.monotonic() + TIMEOUT
    call("systemctl", "kill", "--signal=KILL", "--kill-who=all", unit)
    while time.monotonic() < until:
        try:
            if not client().ask() and show(unit, "MainPID") not in ("0", before):
                return "came back"
        except ConnectionRefusedError:
            return "refused"
        except (OSError, http.client.HTTPException):
            pass   # accepted by one that was killed
    return "did not come back"


def try_unit(unit):
    client = CLIENTS_OF.get(unit, Http)
    call("systemctl", "start", unit)
    result = {"unit": unit, "enable": call(CTL, "enable", "--now", unit), "twice": call(CTL, "enable", unit)}
    idle = client()
    idle.ask()
    before, load = idle.socket(), Load(client)
    result["steps"] = steps(unit)
    load.end()
    result |= {"answered": load.answered, "failed": load.failed, "idle": idle_state(idle, before)}
    print(call("journalctl", "-u", unit, "--no-pager", "-o", "cat")[1][-3000:], file=sys.stderr)
    result["lost"] = client.lost() if hasattr(client, "lost") else 0
    result["killed"] = kill_all(unit, client)
    call("systemctl", "stop", unit)
    result["stopped"] = state_of_port(client)
    result["disable"] = call(CTL, "disable", unit)
    result["left"] = left_over(unit)
    result["stock"] = stock_state(unit, client)
    return result


def main():
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for unit in sys.argv[1:]:
        try:
            print(json.dumps(try_unit(unit)), flush=True)
        except Exception as error:  # the next unit is tried all the same
            print(call("journalctl", "-u", unit, "--no-pager", "-o", "cat")[1][-3000:], file=sys.stderr)
            print(json.dumps({"unit": unit, "error": repr(error)}), flush=True)


if __name__ == "__main__":
    main()
