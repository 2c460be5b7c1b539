"""Runs killed with SIGKILL and resumed are the runs that were never killed."""

from __future__ import annotations

import pytest

from benchmarks.kills import WRONG, kills, report


def check(tally, runs):
    assert tally["runs"] == runs and tally["kills"] + tally["ended before their kill"] >= runs, report(tally)
    assert not any(tally[name] for name in WRONG), report(tally)
    assert tally["rows asked"] <= tally["rows evaluated"] <= tally["rows asked"] + tally["rows in flight"]


def test_three_killed_runs_are_the_uninterrupted_ones():
    check(kills(3, most=1, row_time=0.002), 3)


@pytest.mark.slow
def test_twenty_killed_runs_are_the_uninterrupted_ones():
    tally = kills(20, seed=1)
    check(tally, 20)
    assert tally["kills"] > 20 and tally["kills that left an open question"] and tally["torn lines"]
