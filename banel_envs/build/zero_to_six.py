"""Rebuild ZeroToSix's base policy: a GRU fitted by maximum likelihood to the zeros among scikit-learn's digits.

What it prints tells how good it is: nats a zero, and the share of its samples that a nearest-neighbour classifier over
all ten digits calls a zero.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from sklearn.neighbors import KNeighborsClassifier
from tqdm import trange

from banel_envs.policies.gradient_step import descend
from banel_envs.policies.networks.gru import GRU, GRUConfig
from banel_envs.policies.storage.store import save_policy
from banel_envs.policies.torch_policy import TorchPolicy
from banel_envs.problem import Tokens
from banel_envs.tasks.shared import patches
from banel_envs.tasks.zero_to_six import BASE, HORIZON, variants, zeros

TAKES = "half a minute on one core, no raw data (extra: digits)"

SEED = 20251010
WIDTH, EPOCHS = 96, 25
BATCH, RATE = 256, 3e-3
JUDGED = 2_000  # samples that the classifier judges


def build(out: Path, data: Path | None = None, instance: int = 0) -> None:
    """Write the base policy into `out`."""
    rng = np.random.default_rng([SEED, instance])
    tokens = patches.to_tokens(zeros())
    policy = fit_gru(tokens, GRUConfig(len(patches.VOCABULARY), HORIZON, WIDTH), EPOCHS, rng)
    save_policy(out / BASE, policy)
    judge = KNeighborsClassifier(5)
    images = [variants(digit).reshape(-1, HORIZON * 4) for digit in range(10)]
    judge.fit(np.concatenate(images), np.repeat(range(10), [len(x) for x in images]))
    called = judge.predict(patches.to_images(policy.sample(JUDGED, rng)).reshape(JUDGED, -1))
    print(f"{-policy.log_prob(tokens).mean():.2f} nats a zero; {(called == 0).mean():.1%} of samples are called zeros")


def fit_gru(tokens: Tokens, config: GRUConfig, epochs: int, rng: np.random.Generator) -> TorchPolicy:
    """Maximum likelihood on sequences [n, T], the learning rate falling linearly to zero."""
    net = GRU(config)
    net.initialise(rng)
    policy = TorchPolicy(net, end=None)
    optimiser = torch.optim.AdamW(net.parameters(), lr=RATE, weight_decay=0.01)
    batches = -(-len(tokens) // BATCH)
    for epoch in trange(epochs, desc="base", mininterval=10):
        for k, rows in enumerate(np.array_split(rng.permutation(len(tokens)), batches)):
            for group in optimiser.param_groups:
                group["lr"] = RATE * (1 - (epoch + k / batches) / epochs)
            descend(optimiser, policy.loss(tokens[rows]))
    net.eval()
    return policy
