# SPDX-License-Identifier: MIT
"""Every option that --help tells of stands in the manual page and in the completions of three shells; no other does."""
import re

from common import CTL, EXEC, ROOT, run, test

COMMANDS = ("ps", "list", "status", "dump", "restart", "rollback", "reexec", "top", "metrics", "enable", "disable")


def told(*command):
    """By its usage and by the lines that tell what each does; the rest of the text may name another program's."""
    lines = [line for line in run(*command, "--help").out.splitlines()
             if re.match(r"Usage: | +cpr-exec --| +(-\w, )?--", line)]
    return set(re.findall(r"(?<![\w-])--([a-z][a-z-]+)", "\n".join(lines)))


def in_manual(name):
    """Of the program's own: a word of another program's command line is quoted (Ql)."""
    text = (ROOT / f"tools/man/{name}.1").read_text()
    lines = [line for line in text.splitlines() if not line.startswith((".Ql", ".Dl", ".Xr"))]
    return set(re.findall(r"\bFl -([a-z][a-z-]+)", "\n".join(lines)))


def completed(name):
    folder = ROOT / "tools/completions"
    code = {shell: re.sub(r"(?m)^#.*", "", (folder / file).read_text())
            for shell, file in (("bash", f"{name}.bash"), ("zsh", f"_{name}"), ("fish", f"{name}.fish"))}
    code["zsh"] = re.sub(r"\[[^]]*\]|systemctl .*", "", code["zsh"])   # what an option is for
    code["bash"] = re.sub(r"(systemctl|grep) .*", "", code["bash"])
    return {"bash": set(re.findall(r"(?<![\w-])--([a-z][a-z-]+)", code["bash"])),
            "zsh": set(re.findall(r"(?<![\w-])--([a-z][a-z-]+)", code["zsh"])),
            "fish": set(re.findall(r"(?m)^complete .*? -l ([a-z][a-z-]+)", code["fish"]))}


def compare(name, options):
    manual = in_manual(name)
    assert options - manual == set(), f"{name}(1) does not tell of {options - manual}"
    assert manual - options == set(), f"{name}(1) tells of {manual - options}, --help does not"
    for shell, words in completed(name).items():
        assert words == options, f"{shell} completes for {name} {words - options}, and lacks {options - words}"


@test
def options_of_cpr_exec_are_in_its_manual_and_completions():
    compare("cpr-exec", told(EXEC))


@test
def options_of_cprctl_are_in_its_manual_and_completions():
    compare("cprctl", set().union({"help", "version"}, *(told(CTL, command) for command in COMMANDS)))


@test
def commands_of_cprctl_are_in_its_manual_and_completions():
    folder = ROOT / "tools/completions"
    manual = (ROOT / "tools/man/cprctl.1").read_text()
    listed = re.findall(r"^  ([a-z]+) ", run(CTL, "--help").out, re.M)
    assert set(listed) == set(COMMANDS), listed
    for command in COMMANDS:
        assert f".It Cm {command}" in manual, command
        for file in ("cprctl.bash", "_cprctl", "cprctl.fish"):
            assert re.search(rf"\b{command}\b", (folder / file).read_text()), (command, file)


@test
def manuals_name_manuals_that_exist():
    """Of ours; what begins with cpr and is no page yet is found."""
    folder = ROOT / "tools/man"
    for page in folder.iterdir():
        for name, section in re.findall(r"\.Xr (cpr[a-z-]*|libcpr) (\d)", page.read_text()):
            assert (folder / f"{name}.{section}").exists(), f"{page.name} names {name}({section})"


@test
def calls_of_the_library_have_a_manual_each():
    header = (ROOT / "shim/cpr.h").read_text()
    calls = dict(re.findall(r"(?m)^\w[\w *]*?(cpr_\w+)\((.*)\);$", header))
    folder = ROOT / "tools/man"
    assert len(calls) > 10 and {page.stem for page in folder.glob("cpr_*.3")} == set(calls), calls
    overview = (folder / "libcpr.3").read_text()
    for name, arguments in calls.items():
        page = (folder / f"{name}.3").read_text()
        told = ", ".join(re.findall(r'(?m)^\.Fa "?(.*?)"?$', page.split(".Fc")[0]))
        assert told == arguments, f"{name}({arguments}) is told of as ({told})"
        safe = re.search(rf"(?s)/\*((?:(?!\*/).)*?)\*/\n[^/]*\b{name}\(", header)[1]
        assert ("A signal handler may call it" in page) == ("Async-signal-safe" in safe), name
        assert f".It Xr {name} 3" in overview, name


@test
def rules_that_are_understood_are_in_their_manual():
    words = set(re.findall(r'\{"([a-z-]+)", (?:true|false)\}', (ROOT / "shim/model/rules.c").read_text()))
    told = set(re.findall(r"(?m)^\.It Cm ([a-z-]+)(?: Ar glob)?$", (ROOT / "tools/man/cpr-rules.5").read_text()))
    assert words == {"keep", "drop", "carry", "no-carry"} and words <= told, (words, told)
