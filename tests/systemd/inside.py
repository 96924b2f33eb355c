# SPDX-License-Identifier: MIT
"""Runs in the booted machine: inside.py UNIT... prints a line of JSON for each unit. tests/systemd/run checks them."""
import glob
import http.client
import json
import os
import socket
import subprocess
import sys
import threading
import time

from clients import TIMEOUT, Http, Memcached, Redis, http_at

CTL = "/opt/cpr/cprctl"
CLIENTS, PAUSE = 8, 0.3
STEPS = (("systemctl", "reload"),) * 3 + (("systemctl", "restart"),) * 3 + (("deb-systemd-invoke", "restart"),) * 3


def call(*command):
    """(success, output)"""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode == 0, (done.stdout + done.stderr).strip()


CLIENTS_OF = {"redis-server": Redis, "memcached": Memcached, "web": http_at(8088), "sandbox": http_at(8101),
              "low-port": http_at(81), "own-signal@8104": http_at(8104)}
if os.path.exists("/opt/cpr/stock.py"):   # only in a survey
    from stock import CLIENTS as CLIENTS_OF


class Load:
    """Clients in a loop. Half of them keep their connections."""

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
                client = client if client and keeps and getattr(self.client, "again", True) else self.client()
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
    except (ConnectionRefusedError, FileNotFoundError):
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
    """Starts the distribution's own unit, after `disable`: does it answer, and does it run without cpr?"""
    call("systemctl", "start", unit)
    await_answer(client)
    pid = show(unit, "MainPID")
    with open(f"/proc/{pid}/maps", encoding="utf-8") as maps:
        under = "with" if "libcpr" in maps.read() else "without"
    state = f"{state_of_port(client)} {under} cpr"
    call("systemctl", "stop", unit)
    return state


def steps(unit, load):
    """((success, text), the number of failed requests after each step)"""
    packages = glob.glob(f"/opt/cpr/{unit}_*.deb")   # if a package is there, the last step installs it again
    lost = []
    for step in (*((*step, f"{unit}.service") for step in STEPS), *(("dpkg", "-i", package) for package in packages)):
        call("systemctl", "reset-failed", unit)   # our restarts count against the manager's start limit
        good, said = call(*step)
        if not good:
            return (good, f"{' '.join(step)}: {said}"), lost
        time.sleep(PAUSE)   # so that this generation, too, has load
        lost.append(len(load.failed))
    return (True, f"{len(STEPS)} and {len(packages)} packages"), lost


def show(unit, key):
    return call("systemctl", "show", "-P", key, unit)[1]


def kill_all(unit, client):
    """Kills every process of the unit at once. Restart= starts it with its listeners; no connection is refused."""
    if show(unit, "Restart") == "no":
        return "came back"   # the unit asks for no restart
    before, until = show(unit, "MainPID"), time.monotonic() + TIMEOUT
    call("systemctl", "kill", "--signal=KILL", "--kill-who=all", unit)
    while time.monotonic() < until:
        try:
            if not client().ask() and show(unit, "MainPID") not in ("0", before):
                return "came back"
        except ConnectionRefusedError:
            return "refused"
        except (OSError, http.client.HTTPException):
            pass   # a killed process had accepted the connection
    return "did not come back"


def say_journal(unit):
    print(call("journalctl", "-u", unit, "--no-pager", "-o", "cat")[1][-3000:], file=sys.stderr)


def await_answer(client):
    until = time.monotonic() + TIMEOUT
    while (state := state_of_port(client)) != "answered" and time.monotonic() < until:
        time.sleep(0.05)
    return state == "answered", state


def try_unit(unit):
    client = CLIENTS_OF.get(unit, Http)
    call("systemctl", "start", unit)
    result = {"unit": unit, "began": await_answer(client), "enable": call(CTL, "enable", "--now", unit)}
    if not result["began"][0] or not result["enable"][0]:
        call("systemctl", "stop", unit)
        say_journal(unit)
        return result | {"left": left_over(unit)}
    result["twice"] = call(CTL, "enable", unit)
    idle = client()
    idle.ask()
    before, load = idle.socket(), Load(client)
    result["steps"], result["lost_by"] = steps(unit, load)
    load.end()
    result |= {"answered": load.answered, "failed": load.failed}
    if before and getattr(client, "keeps", True):
        result["idle"] = idle_state(idle, before)
    say_journal(unit)
    result["lost"] = client.lost() if hasattr(client, "lost") else 0
    result["killed"] = kill_all(unit, client)
    call("systemctl", "stop", unit)
    result["stopped"] = state_of_port(client)
    result["disable"] = call(CTL, "disable", unit)
    result["left"] = left_over(unit)
    result["stock"] = stock_state(unit, client)
    return result


def was_logged(unit):
    """Has the journal an entry for the restart to generation 2, with its fields?"""
    said = call("journalctl", "-u", unit, "-o", "json", "CPR_GENERATION=2", "PRIORITY=6")[1]
    fields = json.loads(said.splitlines()[0]) if said.startswith("{") else {}
    return int(fields.get("CPR_DURATION_USEC", 0)) > 0 and fields["MESSAGE"].startswith("restarted: generation 2,")


def try_sockets(unit):
    """Tries a unit with a socket unit: the first client starts it. It runs under cpr from the start."""
    client, result = CLIENTS_OF[unit], {"unit": unit}
    if not show(unit, "FileDescriptorStoreMax").strip("0"):
        result["enable"] = call(CTL, "enable", unit)
    result["began"] = call("systemctl", "start", f"{unit}.socket")
    result["started"] = show(unit, "ActiveState")
    idle = client()
    idle.ask()
    before, load = idle.socket(), Load(client)
    result["steps"], result["lost_by"] = steps(unit, load)
    load.end()
    say_journal(unit)
    result |= {"answered": load.answered, "failed": load.failed, "logged": was_logged(unit)}
    if before:
        result["idle"] = idle_state(idle, before)
        before.close()
    call("systemctl", "stop", f"{unit}.socket", unit)
    return result | {"stopped": state_of_port(client)}


def main():
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    for unit in sys.argv[1:]:
        try:
            tried = try_sockets if os.path.exists(f"/etc/systemd/system/{unit}.socket") else try_unit
            print(json.dumps(tried(unit)), flush=True)
        except Exception as error:  # goes on with the next unit
            say_journal(unit)
            print(json.dumps({"unit": unit, "error": repr(error)}), flush=True)


if __name__ == "__main__":
    main()
