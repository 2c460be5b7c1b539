"""Tokens drawn by inverting next-token distributions over a large vocabulary, in PyTorch, on the device that computed them.

The whole cumulative distribution is never made. A row is cut into blocks; the sums of the blocks say in which of them the token
lies, and only that block is added up. Sums are in float64.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn import functional as F

from banel_envs.errors import BadPolicy

BLOCK = 64  # tokens
BELOW_ONE = 1 - 2.0**-40  # keeps what is looked up below the whole mass, and below a block's, however they are rounded


def drawn(probabilities: Tensor, node: Tensor, uniform: Tensor) -> Tensor:
    """The first token of a row whose cumulative probability is above a number: [k].

    Args:
        probabilities: float32 [m, V]; a row need not sum to 1.
        node: the rows [k], repeats allowed.
        uniform: numbers [k] in [0, 1), float64.

    Raises:
        BadPolicy: a row is no distribution.
    """
    m, V = probabilities.shape
    blocks = F.pad(probabilities, (0, -V % BLOCK)).view(m, -1, BLOCK)
    cumulative = blocks.sum(dim=2, dtype=torch.float64).cumsum(dim=1)  # [m, W]
    mass = cumulative[:, -1]
    if not bool(((mass > 0) & (mass < torch.inf)).all()):
        raise BadPolicy("its next-token probabilities are NaN, infinite or all 0")
    wanted = (uniform * BELOW_ONE * mass[node])[:, None]
    block = torch.searchsorted(cumulative[node], wanted, right=True)[:, 0]
    before = torch.where(block > 0, cumulative[node, (block - 1).clamp(min=0)], 0.0)
    inside = blocks[node, block].double().cumsum(dim=1)  # [k, BLOCK]
    rest = torch.minimum(wanted - before[:, None], inside[:, -1:] * BELOW_ONE)
    return block * BLOCK + torch.searchsorted(inside, rest, right=True)[:, 0]
