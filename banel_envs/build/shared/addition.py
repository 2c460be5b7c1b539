"""What the builds of addition transformers share: training on the answer alone, and reading off the greedy answer."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional as F
from tqdm import tqdm

from banel_envs.policies.gradient_step import descend
from banel_envs.policies.networks.transformer import Transformer
from banel_envs.policies.torch_policy import TorchPolicy
from banel_envs.problem import Tokens


def answers_alone(net: Transformer, draw: Callable[[], tuple[Tensor, Tensor]], steps: int, rate: float) -> Transformer:
    """Train a network in place by maximum likelihood of the answer alone, with AdamW.

    Args:
        net: the target.
        draw: gives query and answer in one row [n, t], and the positions [n, k] of the answer.
        steps: how many batches are drawn.
        rate: the learning rate at its highest. It decays linearly from 40% of the run.
    """
    optimiser = torch.optim.AdamW(net.parameters(), lr=rate, betas=(0.9, 0.98), weight_decay=0.01)
    for step in tqdm(range(steps), desc="target", mininterval=10):
        # The rate rises over 200 steps, since Adam's first averages are poor, and falls after 40% of the run.
        done = step / steps
        for group in optimiser.param_groups:
            group["lr"] = rate * min(1, (step + 1) / 200) * min(1.0, max(0.01, (1 - done) / 0.6))
        row, where = draw()
        at = torch.arange(len(row))[:, None]
        logits = net(row)[at, where]  # [n, k, V]
        descend(optimiser, F.cross_entropy(logits.flatten(0, 1), row[at, where].flatten()))
    return net.eval()


def greedy_digits(target: TorchPolicy, queries: Tokens, length: int) -> NDArray[np.int64]:
    """The digits [n, length] that a target writes after distinct queries [n, q] of one length in ascending order.

    Only tokens 0 to 9 are digits. Beginnings that queries share are read once.
    """
    last, state = np.array([target.vocabulary]), target.start()
    node = np.zeros(len(queries), np.int64)  # the distinct beginning that each query stands at
    for position, column in enumerate(queries.T):
        _, state = target.step(last, position, state)
        first = np.ones(len(queries), bool)
        first[1:] = (node[1:] != node[:-1]) | (column[1:] != column[:-1])
        state = target.select(state, node[first])
        last, node = column[first], np.cumsum(first) - 1
    written = np.empty((len(queries), length), np.int64)
    for j in range(length):
        log_probs, state = target.step(last, queries.shape[1] + j, state)
        last = written[:, j] = log_probs[:, :10].argmax(axis=1)
    return written
