"""Blind paths and their hazards: each is the probability that it says, and survival by them is what is observed."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from banel_agents import make_agent
from banel_envs import TASKS, Oracle, Task, success_rate
from banel_envs.errors import BadValue
from banel_envs.policies import Tempered
from banel_leaderboard.statistics.survival import by_hazards, kaplan_meier
from benchmarks.findings.hazards import matrices
from benchmarks.findings.kept import key_of
from benchmarks.findings.paths import Rates, hazards_of, measure, walk
from tests.shared.beginnings import EVERY, SUCCESSES, base, task

LINE = "banel/Gaussian1D-v0"
RATE = float(np.exp(base().log_prob(SUCCESSES)).sum())


def short(budget=200, temperature=1.0):
    """The task with a smaller budget: near the end of what a policy writes, sampling without replacement takes long."""
    long = task(temperature=temperature)
    return Task(dataclasses.replace(long.problem, budget=budget), long.reward, long.successes)


def numbers(path):
    """A path as `measure` keeps it."""
    rows, hazards = hazards_of(path, Rates(path.task))
    return {"first": path.first, "nre": path.nre, "fixed": path.fixed, "rows": rows, "hazards": hazards}


def test_one_policy_has_one_hazard_to_the_end_of_the_budget():
    path = walk("base", {"batch": 100}, task(), 0)
    assert path.first and path.fixed and path.nre == 2_000
    assert numbers(path)["rows"] == [2_000]
    assert numbers(path)["hazards"] == pytest.approx([RATE], rel=1e-6)
    found = measure(key_of("tempered", {"temperature": 3.0}, LINE, 0))
    heated = success_rate(TASKS[LINE], Tempered(TASKS[LINE].problem.base_policy(), 3.0)).log10
    assert found["hazards"] == pytest.approx([10**heated], rel=1e-5) and found["fixed"]
    assert found["base"] < found["at_first"] == pytest.approx(heated)


def test_without_replacement_each_row_has_the_share_of_the_successes_in_what_is_left():
    path = walk("without_replacement", {"batch": 50}, short(), 1)
    assert path.first and path.fixed
    rows = np.concatenate([rows for _, rows in path.asked])
    failed = rows[task().reward(rows) == 0]
    hazards = numbers(path)["hazards"]
    assert len(hazards) == len(failed) < len(rows)
    for k in (0, 1, 49, 50, 137):
        left = ~np.isin(list(map(bytes, EVERY)), list(map(bytes, failed[:k])))
        assert hazards[k] == pytest.approx(RATE / np.exp(base().log_prob(EVERY[left])).sum(), rel=1e-4)


def test_a_moving_policy_has_the_hazard_of_each_question_and_leaves_at_its_first_success():
    settings, seed = {"batch": 40}, 0
    path = walk("count", settings, task(), seed)
    assert path.first and not path.fixed
    assert path.asked[-1][0] < path.first <= path.nre  # it ends with the question that held the success
    hits = task().reward(np.concatenate([rows for _, rows in path.asked]))
    assert int(np.flatnonzero(hits)[0]) + 1 == path.first
    # The policies of a run told failures, which is the same up to there.
    oracle, snapshots = Oracle(task(), feedback="failures"), {}
    for policy in make_agent("count", settings).learn(oracle.problem, oracle, np.random.default_rng(seed)):
        snapshots[oracle.count] = policy
    found = numbers(path)
    for (spent, rows), n, hazard in zip(path.asked, found["rows"], found["hazards"], strict=True):
        assert n == len(rows) == 40
        assert hazard == pytest.approx(np.exp(snapshots[spent].log_prob(SUCCESSES)).sum(), rel=1e-5)
    asked = np.concatenate([oracle.ledger.tokens(ask) for ask in oracle.ledger.asks])
    np.testing.assert_array_equal(np.concatenate([rows for _, rows in path.asked]), asked[: path.nre])


def test_who_does_not_say_has_a_first_success_and_no_hazards():
    found = measure(key_of("tempered_sft", {"batch": 100}, LINE, 0))
    assert found["first"] and found["hazards"] is None and not found["fixed"]


def test_a_task_without_exact_rates_is_refused():
    with pytest.raises(BadValue, match="have to be exact"):
        measure(key_of("base", {}, "banel/MoleculeWindow-v0", 0))


@pytest.mark.parametrize(
    ("agent", "settings", "temperature"), [("without_replacement", {"batch": 30}, 1.7), ("count", {"batch": 25}, 1.0)]
)
def test_survival_by_hazards_is_what_is_observed(agent, settings, temperature):
    """Fifty paths: within three standard errors of the observed share, each at most 0.071, at every tenth evaluation."""
    paths = [numbers(walk(agent, settings, short(150, temperature), seed)) for seed in range(50)]
    firsts = np.array([path["first"] or path["nre"] for path in paths], float)
    met = np.array([path["first"] is not None for path in paths])
    at = np.arange(10.0, 150, 10)
    observed, exact = kaplan_meier(firsts, met).met(at), by_hazards(*matrices(paths)).met(at)
    assert observed[-1] > 0.3 and np.abs(observed - exact).max() < 0.21
    assert np.abs(observed - exact).mean() < 0.09
