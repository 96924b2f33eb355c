# SPDX-License-Identifier: MIT
"""The objects of the library, what each takes from the others, and what goes against the order of the rooms."""

import dataclasses
import pathlib
import subprocess

# Their order is the Makefile's, from the ground up: a room uses those before it, never one after it.
ROOMS = ("base", "model", "process", "fd", "drain", "deliver", "restart", "wrap")
# Where the wrappers are, and what finds the libc behind them.
MAY_USE_ROWS = ("wrap", "base/next")


@dataclasses.dataclass(frozen=True)
class Object:
    """An object file: its room, its name there, and the symbols that it defines and takes from elsewhere."""
    room: str
    name: str
    defined: frozenset
    undefined: frozenset

    @property
    def path(self):
        return f"{self.room}/{self.name}"


@dataclasses.dataclass(frozen=True)
class Arrow:
    """An object takes symbols from another."""
    source: Object
    target: Object
    symbols: tuple

    def __str__(self):
        return f"{self.source.path} -> {self.target.path} ({', '.join(self.symbols)})"


def read_objects(build, sources):
    """An Object for each source shim/ROOM/NAME.c, from its object under `build`."""
    unbuilt = [source for source in sources if not (build / "pic" / source.with_suffix(".o")).exists()]
    if unbuilt:
        raise SystemExit(f"{unbuilt[0]} is not built: run make first")
    files = {str(build / "pic" / source.with_suffix(".o")): source for source in sources}
    listed = subprocess.run(["nm", "-A", "-P", *files], check=True, capture_output=True, text=True).stdout
    symbols = {file: (set(), set()) for file in files}
    for line in listed.splitlines():
        file, name, kind = line.rsplit(":", 1)[0], *line.rsplit(":", 1)[1].split()[:2]
        if kind in "Uwv":
            symbols[file][1].add(name)
        elif kind.isupper():
            symbols[file][0].add(name)
    return [Object(source.parts[1], source.stem, *map(frozenset, symbols[file])) for file, source in files.items()]


def arrows(objects):
    home = {symbol: item for item in objects for symbol in item.defined}
    found = []
    for source in objects:
        targets = {}
        for symbol in sorted(source.undefined):
            if symbol in home and home[symbol] is not source:
                targets.setdefault(home[symbol], []).append(symbol)
        found += [Arrow(source, target, tuple(symbols)) for target, symbols in targets.items()]
    return found


def upward(found):
    return [arrow for arrow in found if ROOMS.index(arrow.target.room) > ROOMS.index(arrow.source.room)]


def edges(found, name):
    """The arrows as {node: nodes}, where name(object) is the node that an object belongs to."""
    result = {}
    for arrow in found:
        source, target = name(arrow.source), name(arrow.target)
        result.setdefault(source, set()).update({target} - {source})
        result.setdefault(target, set())
    return result


def reachable(graph, start):
    seen, rest = set(), [start]
    while rest:
        for node in graph[rest.pop()]:
            if node not in seen:
                seen.add(node)
                rest.append(node)
    return seen


def circles(graph):
    """Groups of nodes of which each reaches every other, sorted."""
    reached = {node: reachable(graph, node) for node in graph}
    groups = {tuple(sorted(other for other in reached[node] if node in reached[other])) for node in graph
              if node in reached[node]}
    return sorted(groups)


def rows_used(objects, rows):
    """(object, symbols) for each that calls a wrapper of ours instead of the libc behind it."""
    return [(item, sorted(item.undefined & rows)) for item in objects
            if item.undefined & rows and item.room not in MAY_USE_ROWS and item.path not in MAY_USE_ROWS]
