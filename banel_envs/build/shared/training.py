"""What several builds share: maximum likelihood of drawn batches."""

from __future__ import annotations

from collections.abc import Callable

import torch
from tqdm import tqdm

from banel_envs.policies.gradient_step import descend
from banel_envs.policies.torch_policy import TorchPolicy
from banel_envs.problem import Tokens


def maximum_likelihood(
    policy: TorchPolicy, draw: Callable[[], Tokens], steps: int, rate: Callable[[int], float]
) -> TorchPolicy:
    """Train a policy in place: `steps` steps of AdamW, each on the batch that `draw` gives, at the rate of its number."""
    optimiser = torch.optim.AdamW(policy.network.parameters(), betas=(0.9, 0.98), weight_decay=0.01)
    for step in tqdm(range(steps), desc="base", mininterval=10):
        for group in optimiser.param_groups:
            group["lr"] = rate(step)
        descend(optimiser, policy.loss(draw()))
    policy.network.eval()
    return policy


def warm_then_linear(rate: float, steps: int) -> Callable[[int], float]:
    """A learning rate that rises over 100 steps and falls linearly to 0."""
    return lambda step: rate * min(1, (step + 1) / 100) * (1 - step / steps)
