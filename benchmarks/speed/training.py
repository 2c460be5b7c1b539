"""Speed of a training step: the compiled kernel against the same step in PyTorch, and against `torch.compile`.

A step is the gradient of the likelihood of a batch, its norm clipped to 1, and Adam. The batches are samples of the network
that is trained, so the networks of the tasks share more prefixes than those with drawn weights do.
"""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np
import torch

from banel_envs import TASKS, kernel
from banel_envs.policies.networks.transformer import Transformer, TransformerConfig
from banel_envs.policies.torch_policy import TorchPolicy
from banel_envs.policies.training import Trainer
from benchmarks.speed.measure import Bar, Work, compare, interleaved
from benchmarks.speed.rivals import compiled_step

SIZES = (128, 512)
PLAIN, COMPILED = "PyTorch", "torch.compile"
SHIPPED = {  # a task whose own network is trained -> what the step must reach, times PyTorch, by the size of the batch
    "banel/AdditionAttack-v0": {128: 5.0, 512: 4.0},
    "banel/Countdown-v0": {128: 5.0, 512: 4.0},
    "banel/Ehrlich-v0": {128: 5.0, 512: 4.0},
    "banel/Proof-v0": {128: 1.0, 512: 1.0},
    "banel/ZeroToSix-v0": {128: 1.0, 512: 1.0},
    "banel/MoleculeRediscovery-v0": {128: 1.0, 512: 1.0},
}
DRAWN = {10: 2.5, 40: 1.3}  # tokens -> the same for a network of d64 L2 h4 with drawn weights


def steps(repeats: int) -> None:
    """Sequences a second that are trained on."""
    for task, bars in SHIPPED.items():
        base = TASKS[task].problem.base_policy()
        if not isinstance(base, TorchPolicy):
            raise SystemExit(f"{task} has no network")
        for n, bar in bars.items():
            compared(f"training step, {task.removeprefix('banel/')}, {n}", base, n, bar, repeats)
    for horizon, bar in DRAWN.items():
        for n in SIZES:
            network = Transformer(TransformerConfig(12, horizon, 64, 2, 4))
            network.initialise(np.random.default_rng(0))
            policy = TorchPolicy(network.eval(), None)
            rival = horizon == 10  # torch.compile takes most of a minute for each size
            compared(f"training step, drawn d64 T{horizon}, {n}", policy, n, bar, repeats, rival)


def compared(what: str, policy: TorchPolicy, n: int, bar: float, repeats: int, rival: bool = False) -> None:
    """One row for each rival: three networks that begin alike, each trained on the same batch."""
    tokens = policy.sample(n, np.random.default_rng(1))
    with kernel.using(kernel.TORCH):
        plain = Trainer(policy.clone(), 1e-3)
    works: dict[str, Work] = {
        "here": partial(Trainer(policy.clone(), 1e-3).step, tokens),
        PLAIN: partial(in_torch, plain, tokens),
    }
    if rival:
        network: Any = policy.clone().network
        optimiser = torch.optim.Adam(network.parameters(), lr=1e-3, fused=True)
        works[COMPILED] = partial(compiled_step(network, optimiser), torch.from_numpy(tokens))
    compare(what, interleaved(works, repeats * 2), "here", n, "seq", {PLAIN: Bar(bar)})


def in_torch(trainer: Trainer, tokens: np.ndarray) -> None:
    """A step in PyTorch's operations."""
    with kernel.using(kernel.TORCH):
        trainer.step(tokens)
