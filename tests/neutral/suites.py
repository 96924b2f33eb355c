# SPDX-License-Identifier: MIT
"""The test suites that tests/neutral/run compares: how each is run, with a prefix or without, and what it said."""

import dataclasses
import os
import re
import signal
import subprocess
import xml.etree.ElementTree as xml

OK, SKIPPED, FAILED = "ok", "skipped", "failed"
WHOLE = "(the run)"  # the test that stands for a unit which crashed, hung, or left no results


@dataclasses.dataclass(frozen=True)
class Unit:
    """A part of a suite that runs on its own; its tests run one after the other."""
    name: str
    arguments: tuple = ()
    environment: tuple = ()


@dataclasses.dataclass(frozen=True)
class Place:
    """Where a unit runs: `prefix` is what stands before the command, `cwd` a fresh directory, `log` an open file."""
    prefix: tuple
    cwd: str
    log: object


def launch(command, place, environment, seconds, out=None):
    """The exit status, or None when it had to be ended. Nothing of its session outlives it."""
    process = subprocess.Popen([*place.prefix, *command], cwd=place.cwd, env={**os.environ, **environment},
                               stdin=subprocess.DEVNULL, stdout=out or place.log,
                               stderr=place.log if out else subprocess.STDOUT, start_new_session=True)
    try:
        return process.wait(seconds)
    except subprocess.TimeoutExpired:
        return None
    finally:
        try:
            os.killpg(process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass
        process.wait()


def ended(status):
    if status is None:
        return "timed out"
    return f"exit status {status}" if status >= 0 else f"killed by {signal.Signals(-status).name}"


class CPython:
    """CPython's own tests of the interpreter in /usr/bin, by CPython's own runner (without -u: no network)."""
    name = "cpython"
    program = os.path.realpath("/usr/bin/python3")
    quick = ("test_signal", "test_subprocess", "test_socket", "test_os", "test_posix", "test_select", "test_epoll")
    more = ("test_selectors", "test_poll", "test_asyncio.test_subprocess", "test_asyncio.test_events", "test_eintr",
            "test_fork1", "test_wait3", "test_wait4", "test_threadsignals", "test_asyncio.test_sock_lowlevel",
            "test_asyncio.test_unix_events", "test_asyncio.test_streams", "test_asyncio.test_sendfile",
            "test_asyncio.test_server", "test_asyncio.test_base_events", "test_httpservers", "test_smtplib",
            "test_telnetlib", "test_tempfile", "test_fileio", "test_file", "test_fcntl", "test_pty", "test_openpty",
            "test_popen", "test_resource")
    # Under some hypervisors a connection to the own vsock address is never answered.
    ignore = ("*VSOCK*",)
    seconds = 150

    def __init__(self, top):
        self.environment = {"PYTHONPATH": os.path.join(top, "cpython", "lib")}
        self.library = os.path.join(top, "cpython", "lib", "test")

    def units(self, quick):
        names = self.quick if quick else self.quick + self.more
        return [Unit(name) for name in names
                if os.path.exists(os.path.join(self.library, *name.split(".")) + ".py")]

    def run(self, unit, place, only=()):
        report = os.path.join(place.cwd, "report.xml")
        command = [self.program, "-m", "test", "--tempdir", place.cwd, "--junit-xml", report]
        for pattern in self.ignore:
            command += ["-i", pattern]
        for test in only:
            command += ["-m", test]
        status = launch([*command, unit.name], place, self.environment, self.seconds)
        try:
            cases = list(xml.parse(report).iter("testcase"))
        except (OSError, xml.ParseError):
            return {WHOLE: ended(status)}
        results = {}
        for case in cases:
            # A fixture has no name that could be run again, and "setUpClass (test.x.Y)" only when it failed.
            name = WHOLE if " " in case.get("name") else case.get("name")
            results[name] = max(results.get(name, OK), self.outcome(case), key=(OK, SKIPPED, FAILED).index)
        return results

    @staticmethod
    def outcome(case):
        tags = {child.tag for child in case}
        return FAILED if tags & {"failure", "error"} else SKIPPED if "skipped" in tags else OK


class Libuv:
    """libuv's own tests, each started by its name. They share fixed ports, so all of them are one unit."""
    name = "libuv"
    # They send to addresses beyond this machine.
    away = {"getaddrinfo_fail", "getaddrinfo_fail_sync", "tcp_close_while_connecting", "tcp_connect_timeout",
            "udp_multicast_interface", "udp_multicast_ttl", "udp_send_hang_loop"}
    seconds = 30
    skip_status = 7

    def __init__(self, top):
        self.program = os.path.join(top, "libuv1", "build", "uv_run_tests_a")
        self.fixtures = os.path.join(top, "libuv1", "src", "test")
        self.environment = {"UV_RUN_AS_ROOT": "1"} if os.geteuid() == 0 else {}

    def units(self, quick):
        return [] if quick else [Unit("all")]

    def tests(self):
        listing = subprocess.run([self.program, "--list"], env={**os.environ, **self.environment}, check=True,
                                 capture_output=True, text=True).stdout
        # An indented line names a helper, or goes on about one.
        return [line.split()[0] for line in listing.splitlines() if line and not line[0].isspace()]

    def run(self, unit, place, only=()):
        os.symlink(self.fixtures, os.path.join(place.cwd, "test"))
        results = {}
        for test in only or self.tests():
            if test not in self.away:
                place.log.write(f"== {test}\n".encode())
                results[test] = self.outcome(launch([self.program, test], place, self.environment, self.seconds))
        return results

    def outcome(self, status):
        return {0: OK, self.skip_status: SKIPPED}.get(status, ended(status))


class Libevent:
    """libevent's regression tests, each in a process that the test program forks; once per way to wait for events."""
    name = "libevent"
    core = ("main/..", "signal/..", "bufferevent/..", "listener/..", "dns/..", "et/..")
    rest = ("util/..", "evbuffer/..", "rpc/..", "thread/..", "finalize/..", "evtag/..", "heap/..")
    # The first asks this machine's name server, the second connects to a multicast address.
    away = (":dns/bufferevent_connect_hostname", ":http/connection_fail")
    seconds = 180

    def __init__(self, top):
        self.program = os.path.join(top, "libevent", "build", "bin", "regress")

    def units(self, quick):
        if quick:
            return []
        no_epoll, no_poll = ("EVENT_NOEPOLL", "1"), ("EVENT_NOPOLL", "1")
        return [Unit("http", ("http/..",)),
                Unit("epoll", self.core + self.rest),
                Unit("epoll-changelist", self.core, (("EVENT_EPOLL_USE_CHANGELIST", "yes"),)),
                Unit("poll", self.core, (no_epoll,)),
                Unit("select", self.core, (no_epoll, no_poll))]

    def run(self, unit, place, only=()):
        path = os.path.join(place.cwd, "out")
        with open(path, "wb+") as out:
            status = launch([self.program, *(only or unit.arguments + self.away)], place, dict(unit.environment),
                            self.seconds, out)
            out.seek(0)
            text = out.read()
        place.log.write(text)
        results = self.parse(text.decode(errors="replace"))
        if status is None or status < 0 or not results:
            results[WHOLE] = ended(status)
        return results

    @staticmethod
    def parse(text):
        """Each test is announced at the start of a line; what it says itself may stand between that and its result."""
        pieces = re.split(r"^(\w+/\w+): ", text, flags=re.MULTILINE)
        results = {}
        for name, said in zip(pieces[1::2], pieces[2::2]):
            if "DISABLED" in said:
                continue
            if "FAIL" in said:
                results[name] = FAILED
            elif "SKIPPED" in said:
                results[name] = SKIPPED
            else:
                results[name] = OK if re.search(r"\bOK$", said, re.MULTILINE) else "no result"
        return results


SUITES = {suite.name: suite for suite in (CPython, Libuv, Libevent)}
