"""The table of what types of failure are worth: its lines, and a line by hand."""

from __future__ import annotations

import numpy as np

from banel_envs import TASKS
from benchmarks.findings import typed


def test_only_proofs_have_types_that_do_not_see_what_holds():
    lines = typed.lines_of(typed.TYPED, list(typed.REGIMES))
    assert len(lines) == len(set(lines)) == 4 * 5 + 2
    assert {task for task, told in lines if told == "unsound"} == {"banel/Proof-v0", "banel/ProofHard-v0"}


def test_what_each_line_is_told():
    task = TASKS["banel/Proof-v0"]
    assert typed.telling(task, "typed") is task and typed.telling(task, "blind").failure_type is None
    weaker = typed.telling(task, "unsound").failure_type
    row = np.concatenate([task.problem.base_policy().sample(300, np.random.default_rng(0))])
    sound, unsound = task.failure_type(row), weaker(row)
    assert (unsound >= sound).all() and (unsound > sound).any()


def test_a_line_by_hand():
    """Five runs, one of them without a success; the twins met none."""
    runs = [
        {"first": first, "before": before, "final": -1.0, "distinct": 3, "nre": 7_500}
        for first, before in ((100, -3.0), (200, -3.0), (300, -2.5), (400, -2.0), (None, -2.0))
    ]
    twins = [{"first": None, "before": -4.0, "final": -4.0, "distinct": 0, "nre": 7_500}] * 5
    said = typed.line("banel/Proof-v0", "typed", runs, twins)
    assert said.startswith("banel/Proof-v0")
    assert "4 of 5 " in said and "     300 [100, " in said
    assert said.split("]", 1)[1].split() == [
        "-2.50",
        "[-3.00,",
        "-2.00]",
        "1.50",
        "[1.00,",
        "2.00]",
        "-1.00",
        "[-1.00,",
        "-1.00]",
        "3.00",
        "[3.00,",
        "3.00]",
        "3.0",
    ]
    none = typed.line("banel/Proof-v0", "blind", twins, twins)
    assert "0 of 5" in none and "> budget [> budget, > budget]" in none
