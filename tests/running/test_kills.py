"""Runs killed with SIGKILL and resumed are the runs that were never killed."""

from __future__ import annotations

import pytest

from benchmarks.kills.plan import WRONG, kills, report


def check(tally, runs):
    assert tally["runs"] == runs and tally["kills"] + tally["ended before their kill"] >= runs, report(tally)
    assert not any(tally[name] for name in WRONG), report(tally)
    assert tally["rows asked"] <= tally["rows evaluated"] <= tally["rows asked"] + tally["rows in flight"]


@pytest.mark.parametrize("warm", [True, False])
def test_killed_runs_are_the_uninterrupted_ones(warm):
    runs = 3 if warm else 1
    check(kills(runs, most=1, row_time=0.002, warm=warm), runs)


def check_lost(tally, runs, rows_at_once):
    check(tally, runs)
    assert tally["rows evaluated"] <= tally["rows asked"] + rows_at_once * tally["kills"], report(tally)


def test_a_kill_loses_no_more_than_the_rows_at_once_also_with_the_agent_in_a_process_of_its_own():
    how = {"seed": 2, "most": 1, "row_time": 0.005}
    check_lost(kills(2, ["banel"], **how, isolate=True, rows_at_once=3), 2, 3)


@pytest.mark.slow
@pytest.mark.parametrize("isolate", [False, True])
@pytest.mark.parametrize("rows_at_once", [1, 5])
def test_twelve_kills_lose_no_more_than_the_rows_at_once(rows_at_once, isolate):
    check_lost(kills(12, seed=rows_at_once, isolate=isolate, rows_at_once=rows_at_once), 12, rows_at_once)


@pytest.mark.slow
def test_twenty_killed_runs_are_the_uninterrupted_ones():
    tally = kills(20, seed=1)
    check(tally, 20)
    assert tally["kills"] > 20 and tally["kills that left an open question"] and tally["torn lines"]
