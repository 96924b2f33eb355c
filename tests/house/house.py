# SPDX-License-Identifier: MIT
"""A tree of sources and its objects, and every complaint about it."""

import dataclasses
import re

import graph
import text

# Whose lines are measured.
C = ("**/*.[ch]", "**/*.def")
MEASURED = {"shim": C, "tools": C, "tests": (*C, "**/*.py", "*/run")}


@dataclasses.dataclass(frozen=True)
class Complaint:
    """What is wrong, and how much of it. A line of exceptions.txt may allow that: `key` and the largest amount."""
    text: str
    key: str
    amount: int = 1


class House:
    """`root` has shim/ROOM/*.c; `build` their objects, in pic/shim/ROOM/."""

    def __init__(self, root, build):
        self.root = root
        self.sources = self.files("*.c")
        self.headers = self.files("*.h")
        self.objects = graph.read_objects(build, self.sources)
        self.arrows = graph.arrows(self.objects)

    def files(self, pattern):
        found = [path for room in graph.ROOMS for path in (self.root / "shim" / room).glob(pattern)]
        return sorted(path.relative_to(self.root) for path in found)

    def read(self, path):
        return (self.root / path).read_text(encoding="utf-8")

    def rows(self):
        return frozenset(re.findall(r"^ROW\([^,]*,\s*(\w+),", self.read("shim/base/next.def"), re.MULTILINE))

    def complaints(self):
        return [*self.rooms(), *self.calls(), *self.circles(), *self.wrappers(), *self.includes(), *self.statics(),
                *self.lengths(), *self.columns()]

    def rooms(self):
        """A room that is not in the list would be linked, and looked at by none of this."""
        for path in sorted((self.root / "shim").glob("*/")):
            if path.name not in graph.ROOMS:
                yield Complaint(f"shim/{path.name} is no room: {' '.join(graph.ROOMS)}", f"room {path.name}")
        for path in sorted((self.root / "shim").glob("*.c")):
            yield Complaint(f"shim/{path.name} stands in no room", f"room {path.name}")

    def calls(self):
        for arrow in graph.upward(self.arrows):
            yield Complaint(f"a call goes up: {arrow}", f"call {arrow.source.path} {arrow.target.path}")

    def circles(self):
        for rooms in graph.circles(graph.edges(self.arrows, lambda item: item.room)):
            yield Complaint(f"a circle between rooms: {' '.join(rooms)}", f"circle {' '.join(rooms)}")
        circles = graph.circles(graph.edges(self.arrows, lambda item: item.path))
        inside = "".join(f"\n    {arrow}" for arrow in self.arrows for files in circles
                         if {arrow.source.path, arrow.target.path} <= set(files))
        amount = sum(map(len, circles))
        if amount:
            yield Complaint(f"{amount} files call in a circle:{inside}", "files in circles", amount)

    def wrappers(self):
        for item, symbols in graph.rows_used(self.objects, self.rows()):
            yield Complaint(f"{item.path} calls our own wrapper of {', '.join(symbols)}: next_ or raw_ is missing",
                            f"wrapper {item.path}")

    def includes(self):
        for path in self.sources + self.headers:
            for room, line in text.includes(self.read(path)):
                if room in graph.ROOMS and graph.ROOMS.index(room) > graph.ROOMS.index(path.parts[1]):
                    yield Complaint(f"{path} includes from a room above its own: {line}", f"include {path} {room}")

    def statics(self):
        """A name that several files have cannot be searched for."""
        where = {}
        for path in self.sources:
            for name in text.statics(self.read(path)):
                where.setdefault(name, []).append(str(path))
        for name, paths in sorted(where.items()):
            if len(paths) > 1:
                yield Complaint(f"{name}() is static in {', '.join(paths)}: it lacks its file's prefix",
                                f"static {name}", len(paths))

    def measured(self, folder):
        """What people write in it; a table of rows may be as long as it is."""
        return sorted({path for pattern in MEASURED[folder] for path in (self.root / folder).glob(pattern)})

    def lengths(self):
        for path in [path for folder in MEASURED for path in self.measured(folder) if path.suffix != ".def"]:
            path = path.relative_to(self.root)
            lines = len(self.read(path).splitlines())
            if lines > text.FILE_MAX:
                yield Complaint(f"{path} has {lines} lines, over {text.FILE_MAX}", f"file {path}", lines)
        for path in self.sources + self.headers:
            for name, length in text.functions(self.read(path)):
                if length > text.FUNCTION_MAX:
                    yield Complaint(f"{path}: {name}() has {length} lines, over {text.FUNCTION_MAX}",
                                    f"function {path} {name}", length)

    def columns(self):
        """Of a whole folder: a move of files changes nothing in it."""
        for folder in MEASURED:
            long = {path.relative_to(self.root): text.long_lines(self.read(path)) for path in self.measured(folder)}
            amount = sum(map(len, long.values()))
            if amount:
                where = "".join(f"\n    {path}: {', '.join(map(str, lines))}" for path, lines in long.items() if lines)
                yield Complaint(f"{folder}/ has {amount} lines over {text.LINE_MAX} columns:{where}",
                                f"columns {folder}", amount)

    def function_lengths(self):
        return [length for path in self.sources + self.headers for _, length in text.functions(self.read(path))]

    def lines(self):
        return sum(len(self.read(path).splitlines()) for path in self.sources + self.headers)
