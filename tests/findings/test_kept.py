"""Runs that are kept as they end: a run that fails loses no other, and nobody waits for what it does not keep."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from benchmarks.findings.kept import Kept, RunsFailed, each


def squared(key):
    if key["seed"] == 1:
        raise ValueError("seed 1 has no square")
    return {"took": 1.0, "square": key["seed"] ** 2}


def slow(key):
    Path(key["folder"], str(key["seed"])).touch()
    time.sleep(0.1)
    return {"took": 0.1}


def keys(n):
    return [{"agent": "a", "task": "t", "seed": k} for k in range(n)]


@pytest.mark.parametrize("jobs", [1, 2])
def test_a_run_that_fails_loses_no_other(tmp_path, jobs):
    out = tmp_path / "runs.jsonl"
    given = []
    with pytest.raises(
        RunsFailed, match="1 run failed, all others are kept; the first, a t 1: ValueError: seed 1 has no"
    ):
        given.extend(each(keys(6), squared, Kept(out), jobs))
    assert sorted(key["seed"] for key in given) == [0, 2, 3, 4, 5]
    kept = {line["key"]["seed"]: line["found"]["square"] for line in map(json.loads, out.read_text().splitlines())}
    assert kept == {0: 0, 2: 4, 3: 9, 4: 16, 5: 25}
    assert Kept(out)[keys(6)[3]] == {"took": 1.0, "square": 9}


def test_who_stops_does_not_wait_for_runs_that_have_not_begun(tmp_path):
    made = each([key | {"folder": str(tmp_path)} for key in keys(200)], slow, Kept(), 2)
    next(made)
    made.close()
    assert 1 <= len(list(tmp_path.iterdir())) < 50
