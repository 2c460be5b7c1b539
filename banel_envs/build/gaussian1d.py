"""Rebuild Gaussian1D's base policy: a small transformer fitted to a discretised Gaussian about 0.

Maximum likelihood weighted by the exact probability of each of the 1,000 cells, all of them in every step: no sampling
noise. The standard deviation is the difficulty dial: with 0.65 the two rewards hold 1.04e-3 of the Gaussian's mass.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from banel_envs.policies.gradient_step import descend
from banel_envs.policies.networks.transformer import Transformer, TransformerConfig
from banel_envs.policies.storage.store import save_policy
from banel_envs.policies.torch_policy import TorchPolicy
from banel_envs.tasks.gaussian1d import BASE, CELLS, HORIZON, VOCABULARY, centres, encode, successes

TAKES = "about 40 seconds on one core, no raw data"

STD = 0.65
SEED = 20251010
STEPS, RATE = 1_500, 3e-3


def gaussian(std: float = STD) -> NDArray[np.float64]:
    """The probability of each cell: the density at its centre, normalised: [1000]."""
    density = np.exp(-0.5 * (centres(encode(np.arange(CELLS))) / std) ** 2)
    probabilities: NDArray[np.float64] = density / density.sum()
    return probabilities


def build(out: Path, data: Path | None = None, instance: int = 0) -> None:
    """Write the base policy into `out`."""
    cells, probabilities = encode(np.arange(CELLS)), gaussian()
    net = Transformer(TransformerConfig(len(VOCABULARY), HORIZON))
    net.initialise(np.random.default_rng([SEED, instance]))
    policy = TorchPolicy(net, end=None)
    optimiser = torch.optim.Adam(net.parameters(), lr=RATE)
    for step in tqdm(range(STEPS), desc="base", mininterval=10):
        for group in optimiser.param_groups:
            group["lr"] = RATE * (1 - step / STEPS)
        descend(optimiser, policy.loss(cells, probabilities * CELLS))
    net.eval()
    log_probs = policy.log_prob(cells)
    success, wanted = np.exp(policy.log_prob(successes())).sum(), probabilities[_numbers()].sum()
    divergence = (probabilities * (np.log(probabilities) - log_probs)).sum()
    print(f"base success {success:.4e}, the Gaussian's own {wanted:.4e}, divergence {divergence:.1e} nats")
    save_policy(out / BASE, policy)


def _numbers() -> NDArray[np.int64]:
    """The cell numbers of the successes."""
    numbers: NDArray[np.int64] = successes() @ 10 ** np.arange(HORIZON - 1, -1, -1)
    return numbers
