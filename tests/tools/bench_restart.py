# SPDX-License-Identifier: MIT
"""cpr-bench restart: a short run of real servers, its JSON and its plots."""
import json
import os
import shutil

from common import BUILD, expect, run, scratch, test

BENCH = str(BUILD / "cpr-bench")
SERVERS = {"nginx": "nginx", "redis": "redis-server", "node": "node"}
LINES = {
    "requests failed", "keep-alive connections ended", "answered at the first attempt", "latency, median",
    "latency, 99 %", "latency, 99.9 % of all", "latency, longest", "longest time without an answer",
    "from request to ready"
}


def built():
    """It takes GLib's headers, which nothing else here does."""
    if not os.path.exists(BENCH):
        print("cpr-bench is not built (make build/cpr-bench): not tested")
        return False
    return True


def installed(program):
    return shutil.which(program, path=os.environ.get("PATH", os.defpath) + ":/usr/local/sbin:/usr/sbin:/sbin")


@test
def bench_usage_errors_exit_with_2():
    if not built():
        return
    for words, pattern in (
            (["restarts"], '"restarts" is not a benchmark'),
            (["--frob", "restart"], "unrecognized option"),
            (["--out"], "requires an argument"),
            (["--json=x", "restart"], "doesn't allow an argument")):
        expect(run(BENCH, *words), 2, pattern)


@test
def bench_restart_compares_what_clients_see():
    if not built():
        return
    with scratch() as directory:
        result = run(BENCH, "--quick", "--json", "--out", directory, "restart", timeout=300)
        missing = [name for name, program in SERVERS.items() if not installed(program)]
        assert result.status in ((1,) if missing else (0, 3)), result
        report = json.loads(result.out)
        assert report["quick"] is True and report["machine"]["cores"] >= 1, report["machine"]
        sections = {section["name"]: section for section in report["benchmarks"]}
        notes = sections["restart"]["notes"]
        for name in SERVERS:
            if name in missing:
                continue
            compared = {}
            for line in sections[f"restart, {name}"]["lines"]:
                compared.setdefault(line["theirs_name"], {})[line["what"]] = line
            lines = compared["stop and start"]
            assert LINES <= set(lines), lines.keys()
            assert lines["requests failed"]["theirs"]["median"] > lines["requests failed"]["ours"]["median"], lines
            assert lines["requests failed"]["wanted"] == "at most" and lines["requests failed"]["limit"] == 0
            assert lines["from request to ready"]["ratio"]["median"] > 0
            if installed("gnuplot"):
                with open(os.path.join(directory, f"restart-{name}.svg"), encoding="utf-8") as plot:
                    assert plot.read().rstrip().endswith("</svg>"), name
        assert not missing or any("is not installed" in note for note in notes), notes
