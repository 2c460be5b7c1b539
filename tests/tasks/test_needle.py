"""Needle: the generator against its published outputs, a set a seed, nothing to learn, and the test of that claim."""

from __future__ import annotations

import itertools
import re

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from banel_agents.base import fit
from banel_agents.controls.sampling import WithoutReplacement
from banel_envs import TASKS, Oracle, success_rate
from banel_envs.policies import Excluding
from banel_envs.tasks import needle
from banel_envs.testing import check_task
from banel_leaderboard.ranking import negative_control
from banel_leaderboard.records.spec import load_task
from benchmarks.tasks import needle as benchmark

torch.set_num_threads(1)

ID = "banel/Needle-v0"
SIZES = [985, 995, 1024, 1064, 1021]  # of the sets of seeds 0 to 4
MASK = 2**64 - 1
REFRESH = "the rule or the asset is not the one these figures were read from; see tests/tasks/test_addition_attack.py"


def reference(state):
    """SplitMix64 as published, one number after the other, in Python's own integers."""
    while True:
        state = (state + 0x9E3779B97F4A7C15) & MASK
        z = state
        z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & MASK
        z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & MASK
        yield z ^ (z >> 31)


def test_the_generator_gives_the_published_outputs():
    known = [6457827717110365317, 3203168211198807973, 9817491932198370423, 4593380528125082431, 16408922859458223821]
    assert needle.split_mix(1234567, np.arange(5)).tolist() == known


@settings(deadline=None)
@given(st.integers(0, MASK), st.integers(0, 200))
def test_the_generator_is_the_reference(state, n):
    expected = next(itertools.islice(reference(state), n, None))
    assert needle.split_mix(state, np.array([n])).tolist() == [expected]


def test_the_task_of_another_seed_keeps_the_contract():
    check_task(TASKS[ID].of_seed(7), samples=500)


def test_golden():
    task = TASKS[ID]
    rate = success_rate(task, task.problem.base_policy())
    assert [len(task.of_seed(seed).successes()) for seed in range(5)] == SIZES, REFRESH
    assert rate.method == "exact"
    assert 10**rate.log10 == pytest.approx(SIZES[0] / 1e6, rel=1e-5), REFRESH
    assert rate.effective == pytest.approx(SIZES[0], rel=1e-5)


def test_the_reward_is_the_rule_on_the_whole_space():
    numbers = np.arange(needle.SEQUENCES)
    tokens = needle.encode(numbers)
    hits = numbers[TASKS[ID].of_seed(3).reward(tokens) == 1]
    state, below = needle.key_of(3), 2**64 // 1000
    assert hits.tolist() == [n for n, z in zip(range(needle.SEQUENCES), reference(state), strict=False) if z < below]
    assert np.array_equal(needle.encode(hits), TASKS[ID].of_seed(3).successes())


def test_every_run_has_a_set_of_its_own_and_the_same_problem():
    sets = [set(map(bytes, TASKS[ID].of_seed(seed).successes())) for seed in range(20)]
    shared = [len(a & b) for a, b in itertools.combinations(sets, 2)]
    assert max(shared) < 12  # Poisson with mean 1
    assert 0.7 < np.mean(shared) < 1.3
    tasks = [load_task(ID).of_seed(seed) for seed in (0, 1)]
    assert tasks[0].problem is tasks[1].problem and tasks[0].digest == tasks[1].digest
    assert not np.array_equal(tasks[0].successes()[:900], tasks[1].successes()[:900])
    assert tasks[1].blind().reward(tasks[1].successes()).sum() == 0


def test_successes_are_spread_over_every_digit_and_pair_of_digits():
    """No structure: over 40 seeds each cell of each table of digits holds its share."""
    hits = np.concatenate([needle.successes(seed) for seed in range(40)])
    for i, j in itertools.combinations(range(needle.HORIZON), 2):
        table = np.bincount(hits[:, i] * 10 + hits[:, j], minlength=100)
        expected = len(hits) / 100
        chi = ((table - expected) ** 2 / expected).sum()
        assert 50 < chi < 170  # 99 degrees of freedom, 1e-5 on either side


def test_the_base_policy_is_uniform_and_can_be_trained():
    policy = TASKS[ID].problem.base_policy()
    tokens = policy.sample(500, np.random.default_rng(0))
    assert np.allclose(policy.log_prob(tokens), -needle.HORIZON * np.log(10), rtol=0, atol=1e-12)
    fit(policy, tokens[:5], np.random.default_rng(1), epochs=60, lr=3e-3)
    assert policy.log_prob(tokens[:5]).mean() > -needle.HORIZON * np.log(10) + 3


def test_sampling_without_replacement_has_all_there_is():
    """Its fresh success is what remains over what it can write: 1e-3 but for chance, and 3 in 10^6 below the limit."""
    task = TASKS[ID].of_seed(11)
    oracle = Oracle(task, feedback="full")
    *_, policy = WithoutReplacement().learn(task.problem, oracle, np.random.default_rng(0))
    asked = np.concatenate([oracle.ledger.tokens(ask) for ask in oracle.ledger.asks])
    hits = asked[task.reward(asked) == 1]
    assert len(np.unique(asked, axis=0)) == 3_000 and isinstance(policy, Excluding)
    fresh = 10 ** success_rate(task, policy, exclude=hits).log10
    left = len(task.successes()) - len(hits)
    assert fresh == pytest.approx(left / (1e6 - 3_000 + len(hits)), rel=1e-6)
    assert fresh == pytest.approx(left / (1e6 - 3_000), rel=1e-5)


def test_holm_by_hand():
    assert negative_control.holm(np.array([0.03, 0.001, 0.02, 0.5])) == pytest.approx([0.06, 0.004, 0.06, 0.5])
    assert negative_control.holm(np.array([0.4, 0.6])).tolist() == [0.8, 0.8]


def test_flipped_signs_by_hand():
    """Three alike differences: 1 of 8 patterns reaches their sum; of (2, -1) half the patterns reach 1."""
    for differences, expected in (([1.0, 1.0, 1.0], 1 / 8), ([0.0, 0.0], 1), ([2.0, -1.0], 1 / 2)):
        p = negative_control.sign_flip(np.array(differences), np.random.default_rng(0), 20_000)
        assert p == pytest.approx(expected, abs=0.015)


@pytest.mark.parametrize("spread", [1, 10, 1_000, 100_000])
def test_chance_alone_is_seldom_called_skill(spread):
    """A policy that writes `spread` unseen sequences: false alarms at 1% over 1,000 experiments of 30 seeds."""
    rng = np.random.default_rng(spread)
    fresh = rng.binomial(spread, 1e-3, (1_000, 30)) / spread
    bar = rng.binomial(1_000_000 - spread, 1e-3, (1_000, 30)) / (1e6 - spread)
    p = np.array([negative_control.sign_flip(row, rng, 999) for row in fresh - bar])
    assert (p < 0.01).mean() <= 0.01 + 3 * np.sqrt(0.01 * 0.99 / 1_000)


def test_an_agent_that_knows_more_is_found():
    """One tenth above chance, over 30 seeds, among nine agents; the honest ones stay below."""
    rng = np.random.default_rng(5)
    bar = rng.binomial(1_000_000, 1e-3, 30) / 1e6
    differences = {f"honest {k}": rng.normal(0, 3e-5, 30) for k in range(8)}
    differences["peeks"] = 0.1 * bar + rng.normal(0, 1e-4, 30)
    verdicts = negative_control.judge(list(differences.values()))
    assert [name for name, v in zip(differences, verdicts, strict=True) if v.above] == ["peeks"]


def test_the_benchmark_runs_judges_and_goes_on(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(negative_control, "LEVEL", 0.25)  # 3 seeds are then enough to judge
    monkeypatch.setattr("sys.argv", ["needle", "--seeds", "3", "--agents", "base", "--out", str(tmp_path)])
    swept = []
    monkeypatch.setattr(benchmark, "sweep", lambda lanes, out, jobs: swept.extend(_in_process(lanes, out)) or [])
    assert benchmark.main() == 0
    assert "0 of 1 agents stand above" in capsys.readouterr().out
    assert len(swept) == 6 and len(list(tmp_path.rglob("record.json"))) == 6


def test_too_few_seeds_are_refused(monkeypatch, capsys):
    monkeypatch.setattr("sys.argv", ["needle", "--seeds", "5"])
    with pytest.raises(SystemExit, match="2"):
        benchmark.main()
    assert re.search(r"5 seeds cannot tell \d+ agents from chance; give at least 1\d\n", capsys.readouterr().err)


def _in_process(lanes, out):
    from banel_leaderboard.running.harness import execute

    return [execute(spec, out) for (spec,) in lanes]
