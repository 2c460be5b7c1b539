"""How much of a policy is not yet asked, against sums over the whole space."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from banel_envs.measure.unasked import LEAST, log10_unasked
from banel_envs.policies import Excluding, Mixture, Repeating, Uniform
from tests.shared.runs import FAILURE, SUCCESSES, T, V, tiny

SPACE = np.indices((V,) * T).reshape(T, -1).T


@settings(max_examples=30)
@given(st.lists(st.integers(0, len(SPACE) - 1), max_size=40))
def test_it_is_one_minus_the_mass_of_the_distinct_sequences_asked(rows: list[int]) -> None:
    policy = Mixture([Uniform(V, T, None)] * 2 + [Repeating(FAILURE, V)])
    rest = np.delete(np.arange(len(SPACE)), rows)
    expected = math.log10(max(LEAST, np.exp(policy.log_prob(SPACE[rest])).sum()))
    assert log10_unasked(policy, SPACE[rows], tiny().problem) == pytest.approx(expected, abs=1e-9)


def test_nothing_asked_and_everything_asked() -> None:
    problem, uniform = tiny().problem, Uniform(V, T, None)
    assert log10_unasked(uniform, SPACE[:0], problem) == 0
    assert log10_unasked(uniform, SPACE, problem) == math.log10(LEAST)
    assert log10_unasked(Repeating(SUCCESSES[0], V), SUCCESSES[:1], problem) == math.log10(LEAST)
    assert log10_unasked(Excluding(uniform, SUCCESSES), SUCCESSES, problem) == 0
