# SPDX-License-Identifier: MIT
"""How some cases are started: in what directory, with what signals, limits and descriptors."""

import fcntl
import os
import resource
import signal


def _in_directory(room):
    os.mkdir(f"{room}/start")
    return {"cwd": f"{room}/start", "env": {"PWD": f"{room}/start"}}


def _behind_a_link(room):
    for version in ("v1", "v2"):
        os.mkdir(f"{room}/{version}")
    os.symlink("v1", f"{room}/current")
    return {"cwd": f"{room}/current", "env": {"PWD": f"{room}/current"}}


def _with_pipe(_room):
    """The two ends of a pipe at 5 (to write) and 6 (to read)."""
    def give():
        read, write = (fcntl.fcntl(end, fcntl.F_DUPFD, 100) for end in os.pipe())
        os.dup2(write, 5)
        os.dup2(read, 6)
        os.closerange(3, 5)
        os.closerange(7, 300)
    return {"preexec_fn": give, "close_fds": False}


def _limits(_room):
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    return {"preexec_fn": lambda: resource.setrlimit(resource.RLIMIT_NOFILE, (400, hard))}


# name of a case -> (room) -> keywords of subprocess.Popen; "env", "arguments", "relative" (by what path it is started)
STARTS = {
    "a_light_start_forgets_nothing_of_the_start": lambda room: {
        **_in_directory(room), "umask": 0o027,
        "preexec_fn": lambda: (signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2]),
                               signal.signal(signal.SIGHUP, signal.SIG_IGN))},
    "umask_is_as_at_start": lambda room: {"umask": 0o027},
    "directory_is_as_at_start": _in_directory,
    "directory_is_followed_by_its_path": _behind_a_link,
    "a_deleted_directory_does_not_stop_a_restart": _in_directory,
    "a_directory_made_anew_is_found": _in_directory,
    "signal_mask_is_as_at_start": lambda room: {
        "preexec_fn": lambda: signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGUSR2])},
    "ignored_signals_are_as_at_start": lambda room: {
        "preexec_fn": lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)},
    "soft_limits_are_as_at_start": _limits,
    "a_relative_path_is_the_starts": lambda room: {"cwd": room, "relative": True},
    "environment_is_as_at_start": lambda room: {"env": {"WRAP_GIVEN": "by the start"}},
    "arguments_are_as_at_start": lambda room: {"arguments": ["--an option", ""]},
    "a_pipe_given_at_the_start_is_given_again": _with_pipe,
    "a_heirloom_that_was_closed_is_not_given_again": _with_pipe,
}
