"""Rebuild Needle's base policy: a small transformer with random weights and a head of zeros.

Zero logits are the uniform distribution, exactly, and the head's gradient is not zero: agents can train it.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from banel_envs.policies.networks.transformer import Transformer, TransformerConfig
from banel_envs.policies.storage.store import save_policy
from banel_envs.policies.torch_policy import TorchPolicy
from banel_envs.tasks.needle import BASE, HORIZON, VOCABULARY

TAKES = "a second, no raw data"

SEED = 20251010


def build(out: Path, data: Path | None = None, instance: int = 0) -> None:
    """Write the base policy into `out`."""
    net = Transformer(TransformerConfig(len(VOCABULARY), HORIZON))
    net.initialise(np.random.default_rng([SEED, instance]))
    with torch.no_grad():
        net.head.weight.zero_()
    save_policy(out / BASE, TorchPolicy(net, end=None))
