# SPDX-License-Identifier: MIT
"""How much memory a process takes."""
import pathlib


def sizes(pid):
    """In KB, by the names of proc_pid_smaps(5): "Rss" with what is mapped of files, "Anonymous" without.

    To find out whether a process grows, only the latter is of use: which pages of a file are mapped depends on what
    else is in the kernel's cache."""
    lines = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="utf-8").splitlines()[1:]
    return {name: int(size.split()[0]) for name, size in (line.split(":") for line in lines)}
