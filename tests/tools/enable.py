# SPDX-License-Identifier: MIT
"""cprctl enable and disable, before a systemctl of our own: what is written for which unit, and what is refused."""
import contextlib
import json
import os
import pathlib
import shutil
import tempfile

from common import BUILD, CTL, LIBRARY, PYTHON, expect, run, test
from supervise import Supervised

# What of systemctl the command uses: units are files in the directory $FAKE, drop-ins are found where they are written.
SYSTEMCTL = r"""#!/usr/bin/python3
import glob, os, sys
words = [w for w in sys.argv[1:] if w != "--"]
with open(os.environ["FAKE"] + "/asked", "a") as log:
    log.write(" ".join(words) + "\n")
if os.path.exists(os.environ["FAKE"] + "/down"):
    sys.exit("System has not been booted with systemd as init system (PID 1). Can't operate.\nmore")
unit = {"alias.service": "plain.service", "plain": "plain.service"}.get(words[-1], words[-1])
fragment = os.environ["FAKE"] + "/" + unit
drop_ins = sorted(glob.glob(f"/etc/systemd/system/{unit}.d/*.conf"))
if words[0] == "show":
    state = "masked" if unit == "masked.service" else "loaded" if os.path.exists(fragment) else "not-found"
    pid = os.environ["FAKE"] + "/pid"
    print(f"Id={unit}\nLoadState={state}\nFragmentPath={fragment}\nDropInPaths={' '.join(drop_ins)}")
    idle = os.path.exists(os.environ["FAKE"] + "/idle")
    print("ActiveState=" + ("inactive" if idle else "active"))
    print(f"MainPID={open(pid).read() if os.path.exists(pid) else 0}")
elif words[0] == "cat":
    for file in [fragment, *drop_ins]:
        print(f"# {file}\n{open(file).read()}\n")
elif words[0] in ("restart", "daemon-reload") and os.path.exists(f"{os.environ['FAKE']}/no-{words[0]}"):
    sys.exit("Job failed.")
"""

PLAIN = """[Unit]
Description=ExecStart=no
[Service]
ExecStart=/usr/bin/python3 -m http.server
[Install]
Alias=alias.service
"""


class Machine:
    """An /etc of its own, in a mount namespace; PATH begins with our systemctl."""

    def __enter__(self):
        self.root = pathlib.Path(tempfile.mkdtemp(prefix="cpr-enable-"))
        self.root.chmod(0o755)
        self.units = self.root / "etc/systemd/system"
        self.units.mkdir(parents=True)
        self.bin, self.fake = self.root / "bin", self.root / "units"
        self.bin.mkdir()
        self.fake.mkdir()
        (self.bin / "systemctl").write_text(SYSTEMCTL)
        (self.bin / "systemctl").chmod(0o755)
        return self

    def __exit__(self, *_):
        shutil.rmtree(self.root)

    def unit(self, text, name="plain.service"):
        (self.fake / name).write_text(text)

    def ctl(self, *words, path=None, powers=False):
        space = ["unshare", "--mount"] + (["--map-root-user"] if os.geteuid() else [])
        mount = f'mount --bind {self.root}/etc /etc && exec "$@"'
        chosen = path or f"{self.bin}:/usr/bin:/bin:/usr/sbin"
        # root without its capabilities: the mode of a file is the law
        powerless = [] if powers else ["setpriv", "--inh-caps=-all", "--bounding-set=-all"]
        return run(*space, "sh", "-c", mount, "sh", *powerless, "env", f"PATH={chosen}", CTL, *words,
                   env=dict(os.environ, FAKE=str(self.fake)))

    @contextlib.contextmanager
    def running(self, *options):
        """A server that is the main process of each unit."""
        with Supervised(*options) as server:
            (self.fake / "pid").write_text(server.pid)
            try:
                yield server.pid
            finally:
                (self.fake / "pid").unlink()

    def drop_in(self, unit="plain.service"):
        return self.units / f"{unit}.d/50-cpr.conf"

    def enabled(self, text):
        """The drop-in for a unit of this text."""
        self.unit(text)
        done = expect(self.ctl("enable", "plain"), 0)
        written = self.drop_in().read_text()
        assert done.out == f"# {self.drop_in().as_posix().removeprefix(str(self.root))}\n{written}", done
        assert oct(self.drop_in().stat().st_mode & 0o777) == "0o644"
        assert os.listdir(self.drop_in().parent) == ["50-cpr.conf"]
        return written.splitlines()

    def asked(self):
        return (self.fake / "asked").read_text().splitlines()

    def refused(self, pattern, *words, **more):
        """Status 1, one line, nothing written."""
        before = sorted(self.units.rglob("*"))
        done = expect(self.ctl("enable", *(words or ["plain"]), **more), 1, pattern)
        assert done.err.count("\n") == 1, done
        assert sorted(self.units.rglob("*")) == before, done


@test
def enable_writes_the_drop_in_of_a_simple_service():
    with Machine() as machine:
        lines = machine.enabled(PLAIN)
        assert lines[1:] == [
            "[Service]", "Type=notify", "NotifyAccess=main", "PIDFile=", "ExecStart=",
            f"ExecStart={BUILD}/cpr-exec --mode=handover --fdstore=4096 -- /usr/bin/python3 -m http.server",
            "ExecReload=", f"ExecReload=+{CTL} restart $MAINPID", "ExecStop=", "KillMode=mixed", "KillSignal=SIGTERM",
            "FileDescriptorStoreMax=4096"], lines
        assert machine.asked()[-1] == "daemon-reload"


@test
def enable_writes_the_same_for_a_service_with_a_socket_unit():
    with Machine() as machine:
        plain = machine.enabled(PLAIN)
        expect(machine.ctl("disable", "plain"), 0)
        assert machine.enabled(PLAIN.replace("[Service]\n", "[Service]\nSockets=plain.socket\n")) == plain


@test
def enable_and_disable_say_in_json_what_they_did():
    def said(status, *words):
        return json.loads(expect(machine.ctl(*words, "--json"), status).out)

    with Machine() as machine:
        machine.unit(PLAIN)
        dry, = said(0, "enable", "--dry-run", "plain")
        assert dry["state"] == "not written" and not machine.drop_in().exists(), dry
        done, gone = said(1, "enable", "plain", "none")
        assert done == {"unit": "plain.service", "state": "enabled", "file": dry["file"], "text": dry["text"]}, done
        assert machine.drop_in().read_text() == done["text"]
        assert gone["unit"] == "none" and gone["state"] == "failed" and "there is no such unit" in gone["reason"], gone
        assert said(0, "enable", "plain")[0]["state"] == "already enabled"
        assert said(0, "disable", "plain")[0]["state"] == "removed" and not machine.drop_in().exists()
        assert said(0, "disable", "plain")[0]["state"] == "not enabled"


@test
def enable_takes_over_what_a_forking_service_says():
    with Machine() as machine:
        lines = machine.enabled(
            "[Service]\nType=forking\nPIDFile=/run/plain.pid\nExecStartPre=/bin/true\n"
            "ExecStart=/bin/false\nExecStart=\n"
            "ExecStart = -!/usr/bin/python3 -m http.server \\\n# a comment\n  $PORT 'a b' %n\nTimeoutStopSec=5\n"
            "RuntimeDirectory=plain\nNoExecPaths=/\nExecReload=/bin/kill -HUP $MAINPID\n")
        command = [line for line in lines if line.startswith("ExecStart=-!")]
        assert command and command[0].split() == [
            f"ExecStart=-!{BUILD}/cpr-exec", "--mode=handover", "--fdstore=4096", "--unlink=/run/plain.pid", "--",
            "/usr/bin/python3", "-m", "http.server", "$PORT", "'a", "b'", "%n"], lines
        for line in ("Type=notify", "PIDFile=", "TimeoutStopSec=30", "RuntimeDirectoryPreserve=restart",
                     f"ExecPaths={BUILD}/cpr-exec {CTL} {LIBRARY}"):
            assert line in lines, (line, lines)


@test
def enable_has_apachectl_start_cpr_exec():
    with Machine() as machine:
        (machine.bin / "apachectl").write_text('#!/bin/sh\nHTTPD=${APACHE_HTTPD:-/usr/bin/python3}\n$HTTPD -k "$1"\n')
        (machine.bin / "apachectl").chmod(0o755)
        lines = machine.enabled(f"[Service]\nType=forking\nExecStart={machine.bin}/apachectl start\nKillMode=mixed\n")
        command = f"exec {BUILD}/cpr-exec --mode=handover --fdstore=4096 -- /usr/bin/python3"
        assert f'Environment="APACHE_HTTPD={command}"' in lines, lines
        assert not [line for line in lines if line.startswith("ExecStart=")], lines


@test
def enable_twice_is_once_and_follows_a_changed_unit():
    with Machine() as machine:
        first = machine.enabled(PLAIN)
        machine.fake.joinpath("asked").unlink()
        expect(machine.ctl("enable", "alias"), 0, "^plain.service: already enabled$", where="out")
        assert "daemon-reload" not in machine.asked()
        second = machine.enabled(PLAIN.replace("http.server", "http.server 81"))
        assert first != second and " 81" in "".join(second)


@test
def enable_dry_run_only_shows_and_now_restarts():
    with Machine() as machine:
        machine.unit(PLAIN)
        done = expect(machine.ctl("enable", "--dry-run", "--now", "plain.service"), 0, "(?m)^Type=notify$", where="out")
        assert not list(machine.units.iterdir()) and {word.split()[0] for word in machine.asked()} == {"show", "cat"}
        with machine.running():
            assert expect(machine.ctl("enable", "--now", "plain", powers=True), 0).out == done.out
        assert [words for words in machine.asked() if not words.startswith("show")][-2:] == [
            "daemon-reload", "restart plain.service"]
        (machine.fake / "no-restart").touch()
        result = machine.ctl("enable", "--now", "plain")
        assert result.status == 1 and "Job failed" in result.err and "journalctl -u plain.service" in result.err, result


@test
def enable_now_leaves_nothing_written_when_the_service_does_not_stand_it():
    with Machine() as machine:
        machine.unit(PLAIN)
        (machine.fake / "no-restart").touch()
        machine.refused("systemctl restart failed: Job failed.*it is not enabled, and cannot be started as it was "
                        "either$", "--now", "plain")
        (machine.fake / "no-restart").unlink()
        with machine.running("--test", "false"):
            machine.refused("cprctl restart: refused: the test `false` failed with exit status 1: it is not enabled, "
                            "and runs as before$", "--now", "plain", powers=True)
        assert machine.asked()[-3:] == ["daemon-reload", "reset-failed plain.service", "restart plain.service"]


@test
def enable_takes_the_signal_and_opens_the_sandbox_as_far_as_cpr_needs():
    with Machine() as machine:
        lines = machine.enabled(PLAIN.replace("[Install]", """KillSignal=SIGQUIT
RestrictAddressFamilies=AF_INET
SystemCallFilter=@system-service
SystemCallFilter=~@resources
[Install]"""))
        assert any("--fdstore=4096 --retire-signal=SIGQUIT -- " in line for line in lines), lines
        assert "RestrictAddressFamilies=AF_UNIX" in lines, lines
        assert any(line.startswith("SystemCallFilter=") and "pidfd_getfd" in line for line in lines), lines


@test
def enable_leaves_a_server_the_time_to_end_that_its_unit_gives_it():
    times = (("90", "90"), ("1min 30s", "90"), ("20 sec", "20"), ("5min", "300"), ("infinity", "86400"), ("0", "86400"),
             ("1week", "86400"), ("5", None), ("900ms", None), ("soon", None))
    with Machine() as machine:
        for said, passed in times:
            lines = machine.enabled(PLAIN.replace("[Install]", f"TimeoutStopSec={said}\n[Install]"))
            command, = [line for line in lines if line.startswith("ExecStart=/")]
            assert (f" --stop-timeout={passed} -- " in command) if passed else "--stop-timeout" not in command, command
            short = said in ("20 sec", "5", "900ms")
            assert ("TimeoutStopSec=30" in lines) == short, (said, lines)
            expect(machine.ctl("disable", "plain"), 0)


@test
def a_unit_can_stand_for_its_main_process():
    with Machine() as machine:
        machine.unit(PLAIN)
        expect(machine.ctl("status", "plain"), 3,
               "^cprctl: plain.service does not run: `systemctl status plain.service`")
        expect(machine.ctl("status", "none"), 2, '^cprctl: "none" is not a process id')
        with machine.running() as pid:
            expect(machine.ctl("restart", "plain", powers=True), 0, f"^restarted {pid}: generation 2", where="out")


@test
def enable_says_what_it_cannot_serve_and_writes_nothing():
    cases = (("Type=oneshot", "Type=oneshot cannot be served"), ("Type=dbus", "Type=dbus"), ("Type=idle", "Type=idle"),
             ("BusName=a.b", "Type=dbus"), ("FileDescriptorStoreMax=8", "descriptors of its own"),
             ("ExecStart=/bin/true", "2 ExecStart= lines"),
             ("ExecStart=", "has no ExecStart="),
             ("KillMode=process", "KillMode=process: sessions outlive"),
             ("RootDirectory=/srv/root", "a root directory of its own, /srv/root"),
             ("ExecStart=\nExecStart=/etc/init.d/plain start", "starts an init script"),
             ("ExecStart=\nExecStart=@/bin/true one", "ExecStart=@"),
             ("ExecStart=\nExecStart=|/bin/true", r"ExecStart=\|"),
             ("ExecStart=\nExecStart=/nonexistent/server -x", "/nonexistent/server"),
             ("ExecStart=\nExecStart=/bin/sh -c '/usr/bin/python3 -m http.server; true'", "a shell that stays"),
             ("ExecStart=\nExecStart={bin}/apachectl start", "a shell that stays"))
    with Machine() as machine:
        (machine.bin / "apachectl").write_text("#!/bin/sh\n/usr/sbin/httpd -k $1\n")
        (machine.bin / "apachectl").chmod(0o755)
        for line, pattern in cases:
            machine.unit(PLAIN.replace("[Install]", line.replace("{bin}", str(machine.bin)) + "\n[Install]"))
            machine.refused(f"^cprctl: plain: .*{pattern}")


@test
def enable_refuses_units_that_cannot_be_started_by_name():
    with Machine() as machine:
        machine.refused("there is no such unit")
        machine.refused("it is masked: `systemctl unmask masked.service`", "masked")
        machine.refused("is a template: name an instance, UNIT@NAME", "app@.service")
        machine.refused("is a template", "app@")
        for suffix in "socket", "path", "mount":
            machine.refused("only services", f"app.{suffix}")
        machine.refused("^cprctl: plain\\*: this is a pattern: name each unit$", "plain*")
        machine.refused("not the name of a unit", "../app")


@test
def enable_leaves_drop_ins_of_the_user_alone():
    with Machine() as machine:
        machine.unit(PLAIN)
        own = machine.drop_in().with_name("90-own.conf")
        own.parent.mkdir()
        own.write_text("[Service]\nExecStart=\nExecStart=/bin/true\n")
        machine.refused("/etc/systemd/system/plain.service.d/90-own.conf sets ExecStart=")
        own.write_text("[Service]\nTimeoutStopSec=7\n")
        assert "TimeoutStopSec=30" in expect(machine.ctl("enable", "plain"), 0).out
        expect(machine.ctl("disable", "plain"), 0)
        assert os.listdir(own.parent) == ["90-own.conf"]
        machine.drop_in().write_text("[Service]\nNice=5\n")
        machine.refused("was not written by cprctl: it is left alone")
        expect(machine.ctl("disable", "plain"), 1, "was not written by cprctl")


@test
def enable_without_systemd_or_rights_is_one_line():
    with Machine() as machine:
        machine.unit(PLAIN)
        (machine.fake / "no-daemon-reload").touch()
        machine.refused("systemctl daemon-reload failed: Job failed")
        machine.units.chmod(0o555)
        machine.refused("50-cpr.conf cannot be written: Permission denied: it takes root")
        (machine.fake / "down").touch()
        machine.refused(r"systemctl show failed: System has not been booted with systemd .*operate\.$")
        expect(machine.ctl("enable", "plain", path="/nonexistent"), 1, "there is no systemctl: this machine is not run")


@test
def enable_goes_on_with_the_next_unit():
    with Machine() as machine:
        machine.unit(PLAIN)
        done = machine.ctl("enable", "nowhere", "plain")
        assert done.status == 1 and "nowhere: there is no such unit" in done.err and machine.drop_in().exists(), done
        expect(machine.ctl("enable"), 2, "UNIT is missing")
        expect(machine.ctl("disable", "--dry-run", "plain"), 2, "dry-run")


@test
def enable_tells_that_a_static_program_s_connections_are_not_carried():
    with Machine() as machine:
        static = next(path for path in ("/sbin/ldconfig.real", "/sbin/ldconfig") if os.path.exists(path))
        machine.unit(PLAIN.replace(PYTHON, static))
        done = expect(machine.ctl("enable", "plain"), 0, "(?m)^Type=notify$", where="out")
        assert "are not, and a request on one may be cut" in done.err, done


@test
def enable_lets_a_server_with_data_run_one_at_a_time():
    for name, pattern in (("redis-server", "saves its data when it ends"), ("memcached", "has lost its data")):
        with Machine() as machine:
            shutil.copy(machine.bin / "systemctl", machine.bin / name)
            machine.unit(f"[Service]\nType=notify\nExecStart={machine.bin}/{name} --port 0\n")
            done = expect(machine.ctl("enable", "plain"), 0, pattern)
            assert f"--fdstore=4096 --one-at-a-time --carry=tcp:* -- {machine.bin}/{name} --port 0\n" in done.out, done


@test
def enable_refuses_a_server_that_is_known_to_lose_requests():
    for name, pattern in (("squid", "cannot run twice"), ("varnishd", "binds them again"), ("pg_ctlcluster", "locks")):
        with Machine() as machine:
            shutil.copy(machine.bin / "systemctl", machine.bin / name)
            machine.unit(f"[Service]\nExecStart={machine.bin}/{name} -F\n")
            machine.refused(f"{name} .*{pattern}")


@test
def enable_says_from_when_on_a_service_is_under_cpr():
    """A reload fails until then. Only who is told of that knows why the certificate was not renewed."""
    without = ("^cprctl: plain.service: it runs without cpr until its next start, and cannot be reloaded until then: "
               "`systemctl restart plain.service`$")
    with Machine() as machine:
        machine.unit(PLAIN)
        assert not expect(machine.ctl("enable", "--dry-run", "plain"), 0).err
        expect(machine.ctl("enable", "plain"), 0, without)
        expect(machine.ctl("enable", "alias"), 0, without)   # enabled already, and not started since
        with machine.running():
            assert not expect(machine.ctl("enable", "plain", powers=True), 0).err
        (machine.fake / "idle").touch()
        expect(machine.ctl("enable", "plain"), 0, "^cprctl: plain.service: it does not run: its next start is under "
               "cpr$")


@test
def enable_writes_for_an_alias_an_instance_and_several_units():
    with Machine() as machine:
        for name in "plain.service", "app@a.service", "app@b.service":
            machine.unit(PLAIN, name)
        expect(machine.ctl("enable", "alias.service", "app@a", "app@b.service"), 0)
        assert sorted(os.listdir(machine.units)) == ["app@a.service.d", "app@b.service.d", "plain.service.d"]
        expect(machine.ctl("disable", "app@a", "alias", "app@b"), 0)
        assert not list(machine.units.iterdir())


@test
def disable_leaves_no_trace():
    with Machine() as machine:
        machine.enabled(PLAIN)
        expect(machine.ctl("disable", "--now", "plain"), 0, "^removed /etc/systemd/system/plain.service.d/50-cpr.conf$",
               where="out")
        assert not list(machine.units.iterdir())
        assert machine.asked()[-2:] == ["daemon-reload", "restart plain.service"]
        expect(machine.ctl("disable", "plain"), 0, "^plain.service: not enabled$", where="out")
