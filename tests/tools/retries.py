# SPDX-License-Identifier: MIT
"""Which trials of tests/servers are made again: those in which something took too long, and nothing was lost."""
import sys
import types

from common import ROOT, test

sys.path.append(str(ROOT / "tests/servers"))
import attempts  # noqa: E402
import details  # noqa: E402
import harness  # noqa: E402
import trial  # noqa: E402

COUNTERS = ("refused", "timed_out", "wrong", "stalled", "resets", "cut", "idle_closed")


def late():
    result = harness.Result("late")
    trial.check_waits([100], [(1, 2)], None, None, result)
    return result


def lossy(counter, result=None):
    result = result or harness.Result("lossy")
    counters = dict.fromkeys((*COUNTERS, "longest_ms", "ok"), 0) | {"samples": [], counter: 1}
    trial.take_counters(counters, types.SimpleNamespace(hangs_up=False, carries=True),
                        types.SimpleNamespace(cprctl="cprctl"), result)
    return result


def tries(*results):
    rest = list(results)
    return [result.tries for result in attempts.attempts(lambda: rest.pop(0))]


@test
def retries_what_only_took_too_long():
    assert tries(late(), harness.Result("sound")) == [1, 2]
    assert tries(late(), late(), late()) == [1, 2, 3]
    assert tries(harness.Result("sound")) == [1]


@test
def takes_one_late_restart_for_noise_and_no_more():
    starts = [60, 70, 65, 120]
    assert not trial.are_long([100] * 19 + [280], starts)
    assert trial.are_long([100] * 19 + [291], starts)       # twice the longest start, and 50 ms
    assert trial.are_long([118] * 20, starts)               # the usual start, and 50 ms
    assert not trial.are_long([117] * 20, starts)


@test
def retries_no_trial_that_lost_anything():
    for counter in COUNTERS:
        assert lossy(counter).reasons, counter
        assert tries(lossy(counter)) == [1], counter
        assert tries(late(), lossy(counter)) == [1, 2], counter


def lossy_itself(own_ends, **counters):
    result = harness.Result("lossy")
    counters = dict.fromkeys((*COUNTERS, "crossed", "longest_ms", "ok"), 0) | {"samples": []} | counters
    trial.take_counters(counters, types.SimpleNamespace(hangs_up=False, carries=True),
                        types.SimpleNamespace(cprctl="cprctl"), result, own_ends)
    return result


@test
def counts_no_more_as_the_server_s_own_than_it_says():
    assert not lossy_itself(3, idle_closed=2, cut=1, crossed=1).reasons
    assert lossy_itself(3, idle_closed=2, cut=2, crossed=2).reasons     # one more than it says
    assert lossy_itself(3, cut=1).reasons                               # cut in an answer: not one that was idle
    assert lossy_itself(3, stalled=1).reasons


@test
def retries_no_loss_that_something_late_stands_beside():
    for counter in COUNTERS:
        assert tries(lossy(counter, late())) == [1], counter


@test
def retries_what_took_too_long_in_a_check_of_several():
    def slow(result, _):
        with details.at_most(result, -1, "it"):
            pass

    def cut(_result, _options):
        raise harness.Failure("a client was cut off")
    assert tries(details.run_checks("slow", [(slow,)], None), harness.Result("sound")) == [1, 2]
    assert tries(details.run_checks("cut", [(slow,), (cut,)], None)) == [1]
