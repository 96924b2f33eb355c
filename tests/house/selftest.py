# SPDX-License-Identifier: MIT
"""The test of the test: a small library in which one thing of each kind is wrong. It is compiled and looked at as the
real one is."""

import os
import pathlib
import shutil
import subprocess
import tempfile

import house

ROWS = """
ROW(int, shutdown, (int fd, int how), (fd, how))
ROW(FILE *, fopen, (const char *path, const char *mode), (path, mode))
"""

# A sound library: wrap calls fd and a wrapper of its own, fd calls base.
SOUND = {
    "base/io.h": "",
    "base/io.c": "int io_now(void)\n{\n\treturn 0;\n}\n",
    "base/next.def": ROWS,
    "fd/claim.c": '#include "base/io.h"\nint io_now(void);\nint claim_one(void)\n{\n\treturn io_now();\n}\n',
    "wrap/io.c": "int claim_one(void);\nint shutdown(int fd, int how)\n{\n\treturn fd + how + claim_one();\n}\n",
    "wrap/api.c": "int shutdown(int, int);\nint api_end(void)\n{\n\treturn shutdown(1, 2);\n}\n",
}

# What is added to it or put in the place of it -> what must be said, and nothing else.
DEFECTS = {
    "a call that goes up": (
        {"base/io.c": "int claim_two(void);\nint io_now(void)\n{\n\treturn claim_two();\n}\n",
         "fd/more.c": "int claim_two(void)\n{\n\treturn 2;\n}\n"},
        ["a call goes up: base/io -> fd/more (claim_two)", "a circle between rooms: base fd"]),
    "a circle of files": (
        {"fd/tagging.c": "int claim_back(void);\nint tag(void)\n{\n\treturn claim_back();\n}\n",
         "fd/pending.c": "int tag(void);\nint claim_back(void)\n{\n\treturn tag();\n}\n"},
        ["2 files call in a circle:\n    fd/pending -> fd/tagging (tag)\n    fd/tagging -> fd/pending (claim_back)"]),
    "a wrapper used inside": (
        {"base/io.c": "int shutdown(int, int);\nint io_now(void)\n{\n\treturn shutdown(1, 2);\n}\n"},
        ["a call goes up: base/io -> wrap/io (shutdown)", "a circle between rooms: base fd wrap",
         "3 files call in a circle:\n    base/io -> wrap/io (shutdown)\n    fd/claim -> base/io (io_now)\n"
         "    wrap/io -> fd/claim (claim_one)",
         "base/io calls our own wrapper of shutdown: next_ or raw_ is missing"]),
    "a wrapper that is not written yet, used inside": (
        {"fd/more.c": "void *fopen(const char *, const char *);\nvoid *more(void)\n{\n\treturn fopen(0, 0);\n}\n"},
        ["fd/more calls our own wrapper of fopen: next_ or raw_ is missing"]),
    "an include from above": (
        {"base/io.h": '#include "wrap/init.h"\n', "wrap/init.h": ""},
        ['shim/base/io.h includes from a room above its own: #include "wrap/init.h"']),
    "a new room": (
        {"cellar/wine.c": "int wine;\n"},
        ["shim/cellar is no room: base model process fd drain deliver restart wrap"]),
    "a name of two static functions": (
        {"fd/more.c": "static int find(int a)\n{\n\treturn a;\n}\nint more(void)\n{\n\treturn find(1);\n}\n",
         "fd/other.c": "static int find(int a)\n{\n\treturn a;\n}\nint other(void)\n{\n\treturn find(2);\n}\n"},
        ["find() is static in shim/fd/more.c, shim/fd/other.c: it lacks its file's prefix"]),
    "a long file": (
        {"fd/more.c": "int a;\n" * 501},
        ["shim/fd/more.c has 501 lines, over 500"]),
    "a long function": (
        {"fd/more.c": "__attribute__((noinline)) int more(int a)\n{\n" + "\ta++;\n" * 60 + "\treturn a;\n}\n"},
        ["shim/fd/more.c: more() has 61 lines, over 60"]),
    "a long line": (
        {"fd/more.c": "\tint a; /* " + "x" * 100 + " */\nint b; /* " + "x" * 108 + "*/\n"},
        ["shim/ has 1 lines over 120 columns:\n    shim/fd/more.c: 1"]),
}


def write(root, files):
    for name, content in files.items():
        path = root / "shim" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content, encoding="utf-8")


def compile_all(root, names):
    for name in names:
        target = (root / "build/pic/shim" / name).with_suffix(".o")
        target.parent.mkdir(parents=True, exist_ok=True)
        compiler = [os.environ.get("CC", "cc"), "-w", "-fno-builtin", f"-I{root}/shim"]
        subprocess.run([*compiler, "-c", "-o", target, root / "shim" / name], check=True)


def build(root, files):
    write(root, files)
    compile_all(root, [name for name in files if name.endswith(".c")])


def said_of(root):
    return [complaint.text for complaint in house.House(root, root / "build").complaints()]


def complaints():
    """What the test should have said and did not, or the other way round."""
    with tempfile.TemporaryDirectory(prefix="cpr-house-") as directory:
        sound = pathlib.Path(directory, "sound")
        build(sound, SOUND)
        for title, (change, expected) in {"a sound library": ({}, []), **DEFECTS}.items():
            root = pathlib.Path(directory, title)
            shutil.copytree(sound, root)
            build(root, change)
            said = said_of(root)
            if said != expected:
                yield f"of {title} it says {said}, not {expected}"
