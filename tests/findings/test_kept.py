"""Runs that are kept as they end: a run that fails loses no other, and nobody waits for what it does not keep."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest

from banel_envs import TASKS
from banel_envs.errors import BadValue
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


def test_runs_on_another_version_of_a_task_are_not_mixed(tmp_path, monkeypatch):
    out = tmp_path / "runs.jsonl"
    key = {"agent": "a", "task": "banel/Gaussian1D-v0", "seed": 0}
    list(each([key], squared, Kept(out)))
    line = json.loads(out.read_text())
    assert line["digest"] == TASKS["banel/Gaussian1D-v0"].digest
    out.write_text(json.dumps(line | {"digest": "f" * 64}) + "\n")
    kept = Kept(out)
    assert list(each([key], squared, kept)) == [key]  # what is there is read all the same
    with pytest.raises(BadValue, match="digest ffffffff; here it has"):
        list(each([key | {"seed": 2}], squared, kept))


def test_bad_places_lines_and_jobs_are_named_before_anything_runs(tmp_path):
    with pytest.raises(BadValue, match="cannot be a file"):
        Kept(tmp_path / "none" / "runs.jsonl")
    with pytest.raises(BadValue, match="jobs is 0"):
        list(each(keys(1), squared, Kept(), 0))
    (tmp_path / "runs.jsonl").write_text('{"key": {}, "found": {}}\nnothing\n')
    with pytest.raises(BadValue, match="line 2 is no run"):
        Kept(tmp_path / "runs.jsonl")
