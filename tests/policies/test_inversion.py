"""Tokens drawn block by block are those of the whole cumulative distribution."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from banel_envs.errors import BadPolicy
from banel_envs.policies.autoregressive import invert
from banel_envs.policies.language.inversion import BLOCK, drawn


def given(V, m=5, seed=0):
    rng = np.random.default_rng(seed)
    probabilities = rng.dirichlet(np.full(V, 0.1), m).astype(np.float32)
    probabilities[:, ::3] = 0  # impossible tokens, the first one and often the last one among them
    return probabilities, rng


@pytest.mark.parametrize("V", [2, BLOCK - 1, BLOCK, BLOCK + 1, 1_000, 5 * BLOCK])
def test_the_same_tokens_as_by_the_whole_cumulative_distribution(V):
    probabilities, rng = given(V)
    node, uniform = rng.integers(0, 5, 4_000), rng.random(4_000)
    found = drawn(*map(torch.from_numpy, (probabilities, node, uniform))).numpy()
    with np.errstate(divide="ignore"):
        expected = invert(np.log(probabilities.astype(np.float64)), node, uniform)
    assert (found != expected).mean() < 1e-3  # where a number is as near to a step as the sums are rounded
    assert (probabilities[node, found] > 0).all()


@pytest.mark.parametrize("number", [0.0, np.nextafter(1, 0), 0.5])
def test_at_the_ends_a_possible_token_is_drawn(number):
    for seed in range(20):
        probabilities, _ = given(3 * BLOCK + 7, seed=seed)
        node = np.arange(5)
        found = drawn(*map(torch.from_numpy, (probabilities, node, np.full(5, number)))).numpy()
        assert (probabilities[node, found] > 0).all()
        if number == 0:
            assert found.tolist() == [np.flatnonzero(row)[0] for row in probabilities]


def test_a_sure_token_is_drawn():
    probabilities = torch.zeros(1, 200)
    probabilities[0, 130] = 1
    uniform = torch.from_numpy(np.random.default_rng(0).random(50))
    assert set(drawn(probabilities, torch.zeros(50, dtype=torch.long), uniform).tolist()) == {130}


@pytest.mark.parametrize("wrong", [np.nan, np.inf, 0.0])
def test_what_is_no_distribution_is_refused(wrong):
    with pytest.raises(BadPolicy, match="NaN, infinite or all 0"):
        drawn(torch.full((1, 100), wrong), torch.zeros(1, dtype=torch.long), torch.zeros(1, dtype=torch.float64))
