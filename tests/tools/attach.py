# SPDX-License-Identifier: MIT
"""cpr-exec --attach: what is taken over, and what is said of what cannot be."""
import json
import os
import subprocess

from common import CTL, EXEC, PATIENCE, Server, alive, expect, free_port, run, scratch, test, until
from unpreloaded import SOURCE, answers


class Running:
    """tests/programs/listeners.c without cpr, and what attaches to it."""

    def __init__(self, directory, *flags):
        self.word = f"tcp:{free_port()}"
        self.program = f"{directory}/listeners"
        subprocess.run(["cc", *flags, "-o", self.program, str(SOURCE)], check=True)
        self.process = subprocess.Popen([self.program, self.word], cwd=directory)
        self.pid = str(self.process.pid)
        self.attached = None
        until("it to listen", self.listens)

    def listens(self):
        try:
            return answers(self.word) == self.process.pid
        except OSError:
            return False

    def attach(self, *command):
        options = ["--attach", self.pid, "--drain", "60"]
        self.attached = subprocess.Popen([EXEC, *options, *(["--", *command] if command else [])],
                                         stderr=subprocess.PIPE, text=True)
        return str(self.attached.pid)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in filter(None, (self.attached, self.process)):
            if process.poll() is None:
                process.terminate()
            process.wait(PATIENCE)
            if process.stderr:
                process.stderr.close()


def is_taken_over(*flags):
    with scratch() as d, Running(d, *flags) as server:
        expect(run(EXEC, "--attach", server.pid, "--dry-run"), 0, f"(?m)^command: +{server.program} {server.word}$",
               f"(?m)^directory: +{d}$", "(?m)^environment: +its own$",
               f"(?m)^listener: +tcp:127.0.0.1:{server.word[4:]}$", where="out")
        assert server.listens()
        supervisor = server.attach()
        server.process.wait(PATIENCE)
        child = answers(server.word)
        assert child not in (server.process.pid, server.attached.pid), child
        assert os.readlink(f"/proc/{child}/cwd") == d
        assert json.loads(expect(run(CTL, "restart", supervisor, "--json"), 0).out)["generation"] == 3
        until("the old generation to end", lambda: not alive(child))    # both accept until it does
        assert answers(server.word) != child


@test
def attach_follows_a_server():
    is_taken_over()


@test
def attach_follows_a_static_server():
    is_taken_over("-static")


@test
def attach_that_fails_is_not_noticed():
    with scratch() as d, Running(d) as server:
        server.attach("false")
        assert server.attached.wait(PATIENCE) == 1
        assert "ended with status 1 before it was ready" in server.attached.stderr.read()
        assert server.listens()


@test
def attach_says_what_it_cannot_follow():
    expect(run(EXEC, "--attach", "2x"), 2, "--attach \"2x\" is invalid: give the PID of a server")
    expect(run(EXEC, "--dry-run", "true"), 2, "--dry-run is for --attach")
    expect(run(EXEC, "--attach", "4194304"), 1, "PID 4194304: no such process\n$")
    expect(run(EXEC, "--attach", str(os.getpid())), 1, "is this command itself, or what has started it\n$")
    with Server() as server:
        expect(run(EXEC, "--attach", server.pid), 1, f"is under cpr already: cprctl restart {server.pid}\n$")
