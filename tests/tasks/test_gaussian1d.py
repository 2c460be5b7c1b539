"""Gaussian1D: golden figures, the rule against exact arithmetic, the base policy against the Gaussian, the figure's parts."""

from __future__ import annotations

from fractions import Fraction

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from banel_agents.failure_model.banel import BaNELConfig
from banel_envs import TASKS, success_rate
from banel_envs.build.gaussian1d import gaussian
from banel_envs.errors import BadTokens
from banel_envs.tasks import gaussian1d as line
from benchmarks.tasks import gaussian1d as figure

torch.set_num_threads(1)

ID = "banel/Gaussian1D-v0"
BASE_SUCCESS, EFFECTIVE, SUCCESSES = 1.04273e-3, 23.7749, 24
REFRESH = "the asset is not the one these figures were read from; see tests/tasks/test_addition_attack.py"
CELLS = line.encode(np.arange(line.CELLS))


def near(text):
    """The rule in exact arithmetic, from the digits as text."""
    centre = Fraction(-4) + (int(text) + Fraction(1, 2)) * Fraction(8, 1000)
    return min(abs(centre - 2), abs(centre + 2)) <= Fraction(5, 100)


def test_golden():
    rate = success_rate(TASKS[ID], TASKS[ID].problem.base_policy())
    assert rate.method == "exact"
    assert 10**rate.log10 == pytest.approx(BASE_SUCCESS, rel=1e-5), REFRESH
    assert rate.effective == pytest.approx(EFFECTIVE, rel=1e-5), REFRESH
    assert 3e-4 < BASE_SUCCESS < 3e-3


def test_the_reward_is_the_rule_on_every_cell():
    texts = ["".join(map(str, row)) for row in CELLS]
    assert sorted(texts) == [f"{n:03d}" for n in range(1_000)]
    expected = [near(text) for text in texts]
    assert sum(expected) == SUCCESSES
    assert line.reward(CELLS).tolist() == expected
    assert np.array_equal(line.successes(), CELLS[expected])


def test_the_rewards_mirror_each_other():
    assert np.array_equal(line.reward(CELLS), line.reward(CELLS)[::-1])
    assert np.allclose(line.centres(CELLS), -line.centres(CELLS)[::-1])


def test_the_base_policy_is_the_gaussian():
    log_probs, wanted = TASKS[ID].problem.base_policy().log_prob(CELLS), gaussian()
    assert np.exp(log_probs).sum() == pytest.approx(1, abs=1e-6)
    assert (wanted * (np.log(wanted) - log_probs)).sum() < 1e-4  # nats
    x = line.centres(CELLS)
    assert np.sqrt((wanted * x**2).sum()) == pytest.approx(0.65, abs=1e-3)


def test_what_is_no_sequence_is_refused():
    problem = TASKS[ID].problem
    for tokens in ([[7, 5]], [[7, 5, 10]], [[-1, 0, 0]], [[7.0, 5.0, 0.0]]):
        with pytest.raises(BadTokens):
            problem.check_tokens(tokens)


@given(st.lists(st.integers(0, 9), max_size=3))
def test_a_picture_narrows_with_each_digit(digits):
    tokens = np.array(digits + [10] * (3 - len(digits)))
    pixels = line.picture(tokens)
    assert pixels.shape == (*line.PIXELS, 3) and pixels.dtype == np.uint8
    shade = line.MARK if len(digits) == 3 else line.OPEN
    columns = np.flatnonzero((pixels[15] == shade).all(axis=1))
    first = int("".join(map(str, digits)).ljust(3, "0"))
    assert columns[0] == first // 4
    assert len(columns) in ((250,), (25,), (2, 3), (1,))[len(digits)]
    others = np.delete(pixels[15], columns, axis=0)
    assert (others == line.PAPER).all()


def test_it_renders():
    env = gym.make(ID, render_mode="rgb_array")
    env.reset(seed=0)
    assert env.render().shape == (*line.PIXELS, 3)
    for token in (7, 5, 0):
        *_, terminated, _, _ = env.step(token)
    assert terminated and (env.render()[15] == line.MARK).all(axis=1).any()
    assert TASKS[ID].problem.render(np.array([7, 5, 0])) == "750: x = +2.004"


def test_the_figure_shows_what_banel_did(tmp_path):
    """Two short rounds: the rates are the policies' own, and each round's filter is the one that was used."""
    policies, rates, rounds = figure.learn(0, budget=200, config=BaNELConfig(batch=100, pool=500))
    assert len(policies) == 3 and len(rounds) == 2
    assert rates[0] == pytest.approx(np.log10(BASE_SUCCESS), abs=1e-5)
    for found in rounds:
        ratio = found.theta.log_prob(CELLS) - found.phi.log_prob(CELLS)
        kept = np.exp(found.theta.log_prob(CELLS))[ratio >= found.log_tau].sum()
        assert 0.15 < kept < 0.5  # one candidate in three, from 500
    figure.draw(policies, rates, rounds, tmp_path / "figure.png")
    assert (tmp_path / "figure.png").read_bytes().startswith(b"\x89PNG")


def test_rounds_are_spread_to_the_last():
    assert figure.spread(10, 5) == [2, 4, 6, 8, 10]
    assert figure.spread(2, 5) == [1, 2]
    assert figure.spread(15, 5) == [3, 6, 9, 12, 15]
