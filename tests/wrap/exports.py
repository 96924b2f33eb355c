# SPDX-License-Identifier: MIT
"""libcpr.so stands in front of all that it must: its rows, its exports, and what real servers call."""

import fnmatch
import glob
import os
import pathlib
import re
import shutil
import subprocess

from conversation import Wrong

HERE = pathlib.Path(__file__).resolve().parent
SHIM = HERE.parent.parent / "shim"
SYSTEM_PATH = os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin:/sbin"
PROGRAMS = ("nginx", "redis-server", "memcached", "haproxy", "lighttpd", "apache2", "node", "/usr/bin/python3")
PLUGINS = ("/usr/lib/apache2/modules/mod_mpm_*.so", "/usr/lib/lighttpd/*.so", "/usr/lib/python3*/lib-dynload/*.so",
           "/usr/lib/jvm/*/lib/lib[nj]*.so")
LIBC = re.compile(r"(libc|libm|libdl|libpthread|librt|libresolv|ld-linux[^/]*|linux-vdso)\.so")

# Libc's cancellation points that raw.h stands for, and others that no code within has any business to call.
CANCELLATION_POINTS = re.compile(
    r"(?<![\w.>])(?:next_)?(accept4?|close|connect|creat|fd?sync|fdatasync|getrandom|msync|(?:clock_)?nanosleep|u?sleep"
    r"|open(?:at)?(?:64)?|pause|p?poll|p?select|epoll_p?wait2?|p?(?:read|write)v?|(?:recv|send)(?:from|to|m?msg)?"
    r"|sem_\w*wait|sig(?:timed)?wait(?:info)?|sigsuspend|wait(?:pid|id|3|4)?)\(")
PROGRAMS_OWN = re.compile(r"wrap/.+|drain/drain_wait|base/next")     # files in which the program's calls go on to libc

# What a libc function that concerns us is likely to be called by.
LOOKS_LIKE = re.compile(
    r"open(?!log$)|close|dup[23]?$|socket|accept|pipe|eventfd|timerfd|memfd|pidfd|notify|mks?temp|tmpfile|fcntl|ioctl"
    r"|bind$|listen|connect"
    r"|exec|fork|spawn|clone|_?daemon|system$|(send|recv)m?msg|^_*sig(?!n|abbrev|desc|add|del|empty|fill|is|and|or)"
    r"|_?poll$|select|epoll|sleep|pause|^(sem|msg|mq)_?(op|timedop|snd|rcv|timedwait|clockwait)"
    r"|unlink|remove|rename|^_*wait(id|pid|3|4)?$")


# Of the compiler's making: they come and go with its version and flags.
OF_TOOLCHAIN = {
    "_ITM_deregisterTMCloneTable", "_ITM_registerTMCloneTable", "__cxa_finalize", "__gmon_start__", "__environ",
    "__assert_fail", "__register_atfork", "__stack_chk_fail", "memrchr", "stat", "fstat", "in6addr_any",
    "in6addr_loopback"
}


def imports():
    """What imports.txt allows."""
    found = set()
    for line in (HERE / "imports.txt").read_text().splitlines():
        if line and not line.startswith("#"):
            names, colon, reason = line.partition(":")
            if not colon or not reason.strip():
                raise Wrong(f"imports.txt: no reason in {line!r}")
            found |= set(names.split())
    return found | OF_TOOLCHAIN


def _output(*command):
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def rows():
    return set(re.findall(r"^ROW\([^,]+,\s*(\w+),", (SHIM / "base/next.def").read_text(), re.MULTILINE))


def concerns():
    lines = (HERE / "concerns.txt").read_text().splitlines()
    return {name for line in lines if not line.startswith("#") for name in line.split()}


def exceptions():
    """{symbol: reason}"""
    found = {}
    for line in (HERE / "exceptions.txt").read_text().splitlines():
        if not line or line.startswith("#"):
            continue
        names, colon, reason = line.partition(":")
        if not colon or not reason.strip():
            raise Wrong(f"exceptions.txt: no reason in {line!r}")
        for name in names.split():
            if name in found:
                raise Wrong(f"exceptions.txt: {name} stands there twice")
            found[name] = reason.strip()
    return found


def _dynamic(path, which):
    """{symbol} of the dynamic table, without versions; not libc's private ones."""
    symbols = (line.split()[-1] for line in _output("nm", "-D", which, path).splitlines() if line.split())
    return {symbol.partition("@")[0] for symbol in symbols if not symbol.endswith("GLIBC_PRIVATE")}


def _libc():
    for line in _output("ldd", "/bin/sh").splitlines():
        if "libc.so.6 =>" in line:
            return line.split()[2]
    raise Wrong("no libc.so.6 is found")


def _libraries(path):
    """What the dynamic linker loads for it, without libc's own."""
    done = subprocess.run(["ldd", path], capture_output=True, text=True, check=False)
    found = re.findall(r"=> (/\S+)", done.stdout)
    return {library for library in found if not LIBC.match(os.path.basename(library))}


def _loaded():
    """{file: the server that loads it}"""
    files = {}
    for name in PROGRAMS:
        path = shutil.which(name, path=SYSTEM_PATH)
        for file in {os.path.realpath(path)} | _libraries(path) if path else ():
            files.setdefault(file, os.path.basename(name))
    for pattern in PLUGINS:
        for path in glob.glob(pattern):
            files.setdefault(os.path.realpath(path), pattern)
    return files


def _called(files):
    """{file: the symbols that it wants from others}"""
    called, file = {}, None
    for line in _output("nm", "-D", "--undefined-only", *files).splitlines():
        if line.endswith(":"):
            file = line[:-1]
        elif line.split():
            called.setdefault(file, set()).add(line.split()[-1].partition("@")[0])
    return called


def _excepted(symbols):
    """Those that exceptions.txt gives a reason for; a name there may be a pattern."""
    patterns = exceptions()
    globs = [pattern for pattern in patterns if "*" in pattern]
    return {symbol for symbol in symbols
            if symbol in patterns or any(fnmatch.fnmatchcase(symbol, pattern) for pattern in globs)}


def _must_be_empty(what, symbols):
    if symbols:
        raise Wrong(f"{what}: {' '.join(sorted(symbols))}")


def rows_are_exports(build):
    exported = {name for name in _dynamic(build / "libcpr.so", "--defined-only") if not name.startswith("cpr_")}
    _must_be_empty("exported without a row in next.def", exported - rows())
    _must_be_empty("a row in next.def, and not exported", rows() - exported)


def the_api_is_exported_and_nothing_within(build):
    exported = {name for name in _dynamic(build / "libcpr.so", "--defined-only") if name.startswith("cpr_")}
    header = set(re.findall(r"\b(cpr_\w+)\(", re.sub(r"/\*.*?\*/", "", (SHIM / "cpr.h").read_text(), flags=re.DOTALL)))
    _must_be_empty("in cpr.h and not exported", header - exported)
    _must_be_empty("exported and not in cpr.h", exported - header)


def only_what_has_a_reason_is_called(build):
    """A function that the program defines itself, as bash does getenv, would be called in the place of libc's."""
    wanted = _dynamic(build / "libcpr.so", "--undefined-only")
    if os.environ.get("BUILD") == "build-debug":
        wanted -= {"abort"}     # where the table is touched without the guard
    _must_be_empty("called without a reason in imports.txt", wanted - imports())


def a_program_gains_no_library(build):
    needed = re.findall(r"\(NEEDED\).*\[(.*)\]", _output("readelf", "-dW", build / "libcpr.so"))
    _must_be_empty("libcpr.so needs", set(needed) - {"libc.so.6"})


def every_concern_has_a_row_or_a_reason(_build):
    _must_be_empty("neither a row nor a reason", concerns() - rows() - _excepted(concerns()))
    _must_be_empty("a row and a reason why there is none", _excepted(rows()))
    _must_be_empty("a row for what concerns.txt does not know", rows() - concerns())


def every_libc_function_that_looks_like_it_is_judged(_build):
    there = {name for name in _dynamic(_libc(), "--defined-only") if LOOKS_LIKE.search(name)}
    _must_be_empty("neither in concerns.txt nor in exceptions.txt", there - concerns() - _excepted(there))


def servers_call_nothing_unjudged(_build):
    files = _loaded()
    if not files:
        raise Wrong("no server is installed")
    of_libc = _dynamic(_libc(), "--defined-only")
    for file, called in _called(files).items():
        likely = {name for name in (called & of_libc) - rows() if name in concerns() or LOOKS_LIKE.search(name)}
        _must_be_empty(f"{file} ({files[file]}) calls", likely - _excepted(likely))


def only_the_programs_own_calls_are_cancellation_points(_build):
    files = sorted(SHIM.glob("*/*.c"))
    if not files:
        raise Wrong(f"no source in {SHIM}")
    for file in files:
        name = str(file.relative_to(SHIM).with_suffix(""))
        code = re.sub(r'/\*.*?\*/|"(?:[^"\\]|\\.)*"', "", file.read_text(), flags=re.DOTALL)
        _must_be_empty(f"{name} calls",
                       set() if PROGRAMS_OWN.fullmatch(name) else set(CANCELLATION_POINTS.findall(code)))


CHECKS = {
    check.__name__: check for check in (
        rows_are_exports, the_api_is_exported_and_nothing_within, only_what_has_a_reason_is_called,
        a_program_gains_no_library, every_concern_has_a_row_or_a_reason,
        every_libc_function_that_looks_like_it_is_judged, servers_call_nothing_unjudged,
        only_the_programs_own_calls_are_cancellation_points)
}
