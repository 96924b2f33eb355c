# SPDX-License-Identifier: MIT
"""cpr-exec --check: what can be served, and what cannot."""
import os
import struct
import subprocess

from common import EXEC, PYTHON, executable, expect, real_true, run, scratch, test


def checked(command, *patterns, **more):
    return expect(run(EXEC, "--check", command, **more), 1, "^cpr-exec: ", *patterns)


@test
def check_serves_programs_and_scripts():
    with scratch() as d:
        programs = ["true", "/bin/true", PYTHON, "sh",
                    executable(d, "plain", b"#!/bin/sh\n"),
                    executable(d, "blanks", b"#! \t/bin/sh -eu  \nexit 0\n"),
                    executable(d, "env", b"#!/usr/bin/env sh\n"),
                    executable(d, "env-S", b"#!/usr/bin/env -S A=b sh -eu\n"),
                    executable(d, "nested", f"#!{d}/plain\n".encode()),
                    executable(d, "with blank", real_true())]
        for program in programs:
            assert expect(run(EXEC, "--check", program), 0, "can be served\n$", where="out").err == ""
        expect(run(EXEC, "--check", "./plain", cwd=d), 0, f"(?m)^{d}/plain can", where="out")
        expect(run(EXEC, "--check", "plain", env={"PATH": f"/nonexistent:{d}"}), 0, f"(?m)^{d}/plain can", where="out")
        expect(run(EXEC, "--check", "plain", cwd=d, env={"PATH": "/nonexistent:"}), 0, f"(?m)^{d}/plain can",
               where="out")


@test
def check_says_that_a_shell_would_be_restarted():
    with scratch() as d:
        stays = executable(d, "stays", b"#!/bin/sh\n# no executive\nsleep 1\n")
        execs = executable(d, "execs", b"#!/bin/sh -e\ncd / && exec sleep 1\n")
        env = executable(d, "env", b"#!/usr/bin/env -S LANG=C bash\nsleep 1\n")
        other = executable(d, "other", b"#!/usr/bin/python3\n# sh\n")
        for command in (["sh", "-c", "sleep 1"], ["sh", "-e", stays], ["bash", stays], [stays], [env]):
            expect(run(EXEC, "--check", "--", *command), 0,
                   "of the shell, and not of what it starts.*\n.*can be served\n$", where="out")
        for command in (["sh", "-c", "exec sleep 1"], ["sh", execs], [execs], ["sh"], ["sleep", "-c", "x"], [other],
                        ["sh", f"{d}/none"]):
            said = expect(run(EXEC, "--check", "--", *command), 0, "can be served\n$", where="out").out
            assert said.count("\n") == 1, said


@test
def check_refuses_what_is_not_there():
    with scratch() as d:
        open(os.path.join(d, "file"), "w").close()
        checked("cpr-no-such-command", "not found in PATH")
        checked("./cpr-no-such-command", "No such file")
        checked("", "empty")
        checked("/", "is a directory")
        checked(f"{d}/file", "not executable: Permission denied")
        checked("file", "found in PATH, but", env={"PATH": d})
        checked(f"{d}/file/x", "Not a directory")


@test
def check_refuses_static_programs():
    with scratch() as d:
        source = os.path.join(d, "static.c")
        with open(source, "w") as file:
            file.write("int main(void) { return 0; }\n")
        subprocess.run(["cc", "-static", "-o", f"{d}/static", source], check=True)
        as_it_is = "served in handover mode: nothing refused, nothing cut, idle connections are not carried"
        checked(f"{d}/static", f"static is statically linked.*; it can be {as_it_is} ")
        expect(run(EXEC, "-m", "handover", "--check", f"{d}/static"), 0, f"^{d}/static: {as_it_is}\n$", where="out")
        for option in ("--ready-http=/", "--rollback=3"):
            expect(run(EXEC, "-m", "handover", option, "--check", f"{d}/static"), 2, option.split("=", maxsplit=1)[0])
        script = executable(d, "script", f"#!{d}/static\n".encode())
        checked(script, f"{d}/script: its interpreter cannot be served: {d}/static is statically linked")
        by_env = executable(d, "by-env", b"#!/usr/bin/env static\n")
        checked(by_env, "by-env: its interpreter .*statically linked", env={"PATH": f"{d}:/usr/bin:/bin"})


@test
def check_refuses_secure_programs():
    with scratch() as d:
        for name, mode, pattern in ("u", 0o4755, "is setuid"), ("g", 0o2755, "is setgid"):
            path = executable(d, name, real_true())
            os.chmod(path, mode)
            checked(path, pattern, "LD_PRELOAD")
        path = executable(d, "capable", real_true())
        try:  # cap_net_bind_service=ep
            os.setxattr(path, "security.capability", struct.pack("<IIIII", 0x02000001, 1 << 10, 0, 0, 0))
        except OSError:
            return
        checked(path, "file capabilities")


@test
def check_refuses_go_programs():
    with scratch() as d:
        for section in ".note.go.buildid", ".go.buildinfo":
            path = executable(d, "go", real_true())
            note = executable(d, "note", b"\4\0\0\0\4\0\0\0\4\0\0\0Go\0\0abcd")
            subprocess.run(["objcopy", "--add-section", f"{section}={note}", path], check=True)
            checked(path, "is a Go program")


@test
def check_refuses_other_machines_and_other_libcs():
    with scratch() as d:
        elf = bytearray(real_true())
        other = 183 if elf[18] != 183 else 62
        elf[18:20] = struct.pack("<H", other)
        checked(executable(d, "machine", elf), "built for another architecture .(aarch64|x86_64), 64 bits")
        elf = bytearray(real_true())
        elf[4] = 3 - elf[4]
        checked(executable(d, "class", elf), "another architecture")
        start = bytes(real_true()).index(b"/lib")
        elf = bytearray(real_true())
        loader = bytes(elf[start:elf.index(0, start)])
        for name, pattern in ((b"/lib/ld-musl.so.1", "another C library, musl"),
                              (b"/x/" + os.path.basename(loader), "which is not there")):
            elf[start:start + len(loader)] = name.ljust(len(loader), b"\0")
            checked(executable(d, "libc", elf), pattern)


@test
def check_refuses_what_the_kernel_would():
    with scratch() as d:
        checked(executable(d, "empty", b""), "neither an ELF program nor a script")
        checked(executable(d, "text", b"echo hello\n"), "neither an ELF program nor a script")
        checked(executable(d, "bare", b"#!\n"), "names no interpreter")
        checked(executable(d, "gone", b"#!/nonexistent/sh\n"), "No such file")
        checked(executable(d, "env-gone", b"#!/usr/bin/env cpr-no-such-command\n"), "not found in PATH")
        checked(executable(d, "env-bare", b"#!/usr/bin/env -i\n"), "env is given no command")
        checked(executable(d, "loop", f"#!{d}/loop\n".encode()), "interpreters")


@test
def check_survives_damaged_programs():
    elf = real_true()
    with scratch() as d:
        for size in [*range(0, 200, 7), 400, 1000, 5000, len(elf) - 1]:
            assert run(EXEC, "--check", executable(d, "cut", elf[:size])).status in (0, 1)
        for at in range(16, 64):  # every byte of its head
            bad = bytearray(elf)
            bad[at] ^= 0xff
            assert run(EXEC, "--check", executable(d, "bad", bad)).status in (0, 1), at
