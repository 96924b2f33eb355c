# SPDX-License-Identifier: MIT
"""The trial of families: /proc hides the owner from its workers, or the workers from their owner."""

from details import Bench, at_most, run_checks
from protocols import PATH
from setups import ROOT, nginx_command
from worker_details import seconds_until_gone, workers_of

IDLE, RESTARTS, WORKERS = 10, 3, 2
SOON = 2.0      # seconds


def hiding(how, *command):
    """Runs the command with a /proc that hides other users' processes, as systemd's ProtectProc= does."""
    return ("unshare", "-m", "sh", "-c", f'mount -t proc -o hidepid={how} proc /proc && exec "$@"', "sh", *command)


def idle_survive(result, options, before):
    if not ROOT:
        result.figures.append("not tried: this needs root")
        return
    def prepare(room):
        return nginx_command(room, f"worker_processes {WORKERS};")
    with Bench(result, options, "nginx", prepare, before=before) as bench:
        bench.server.await_ready()
        clients = [bench.client() for _ in range(IDLE)]
        for client in clients:
            client.ask(PATH)
        for _ in range(RESTARTS):
            old = workers_of(bench, WORKERS)
            with at_most(result, SOON, "a restart"):
                said = bench.restart()
            result.expect(said["carried"] == IDLE and said["cut"] == 0, f"{IDLE} idle clients, and cprctl says {said}")
            for client in clients:
                client.ask(PATH)
            result.expect(old and seconds_until_gone(bench, old) < SOON, "the old workers do not end")


def workers_do_not_see_their_owner(result, options):
    idle_survive(result, options, hiding("invisible"))


def an_owner_does_not_see_its_workers(result, options):
    """A root owner without CAP_SYS_PTRACE does not see workers that have changed their user."""
    idle_survive(result, options,
                 hiding("ptraceable", "setpriv", "--bounding-set=-sys_ptrace", "--inh-caps=-sys_ptrace"))


CHECKS = [(workers_do_not_see_their_owner,), (an_owner_does_not_see_its_workers,)]


def run(options):
    return run_checks("family-details", CHECKS, options)


TRIALS = {"family-details": run}
