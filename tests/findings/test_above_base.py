"""`python -m benchmarks.language.above_base`: an interval counts as above only where it lies above the base policy's."""

from __future__ import annotations

import pytest

from benchmarks.language import above_base

ROWS = {
    ("t", "banel"): {0: (-2.0, -1.0), 1: (-3.5, -2.9), 2: (-9.0, -4.5), 3: (-3.0, -2.0)},
    ("t", "banel's twin"): {0: (-4.0, -3.0), 1: (-3.5, -2.9), 2: (-3.9, -3.0)},
}


def test_runs_and_pairs_are_counted(monkeypatch, tmp_path):
    monkeypatch.setattr(above_base, "collected", lambda _: ROWS)
    monkeypatch.setattr(above_base, "base_of", lambda _: (-4.0, -3.0))
    first, mine, twin, *sums = (line.split() for line in above_base.lines(tmp_path))
    assert first[-6:] == ["runs", "above", "below", "pairs", "apart", "higher"]
    # -3.0 touches the base policy's end and is not above it; seed 1 is one run, which served as its own twin.
    assert mine[-6:] == ["4", "1", "1", "2", "2", "1"]
    assert twin[-3:] == ["3", "0", "0"]
    assert [row[0] for row in sums] == ["all", "all"]


def test_a_task_whose_base_policy_was_not_measured_is_named(monkeypatch):
    monkeypatch.setattr(above_base, "measured", lambda _: None)
    with pytest.raises(SystemExit, match="was not measured"):
        above_base.base_of("banel/Reasoning-v0")
