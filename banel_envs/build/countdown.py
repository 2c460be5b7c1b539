"""Rebuild Countdown's assets from nothing: a base policy, and a target that it hits as rarely as we wish.

The base policy (d32, 2 layers) is fitted by maximum likelihood to random legal expressions: how many numbers by
SIZE_SHARES, then uniform among all legal expressions over that many. No expression is kept or dropped for its value, so
one base policy serves every instance. Targets between 100 and 999, the game's own range, are drawn until the base
policy's exact success lies in SUCCESS; the instance number seeds that draw alone.
"""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from banel_envs.build.shared.training import maximum_likelihood, warm_then_linear
from banel_envs.errors import BadValue
from banel_envs.policies.autoregressive import logsumexp
from banel_envs.policies.networks.transformer import Transformer, TransformerConfig
from banel_envs.policies.storage.store import save_policy
from banel_envs.policies.torch_policy import TorchPolicy
from banel_envs.problem import Tokens
from banel_envs.tasks.countdown import BASE, END, HORIZON, PUZZLE, VOCABULARY, Expressions, expressions, padded

TAKES = "about 1 minute on one core, 1 GB of memory, no raw data"

SIZE_SHARES = {3: 0.1, 4: 0.2, 5: 0.3, 6: 0.4}  # expressions by how many numbers they use
STEPS, BATCH, RATE = 2_000, 256, 2e-3
TARGETS = (100, 1_000)
SUCCESS = (5e-4, 1.5e-3)  # exact, of the base policy
FEWEST, MOST = 1_000, 20_000  # successes: too few are one trick, too many make an evaluation slow


def build(out: Path, data: Path | None = None, instance: int = 0) -> None:
    """Write every asset of this family into `out`."""
    found = list(expressions())
    policy = train_base(found, np.random.default_rng(20251020))
    save_policy(out / BASE, policy)
    values = np.concatenate([e.values for e in found])
    np.savez_compressed(out / PUZZLE, target=draw_target(policy, values, np.random.default_rng([1, instance])))


def train_base(found: list[Expressions], rng: np.random.Generator) -> TorchPolicy:
    """Maximum likelihood of random legal expressions, learning rate decaying linearly."""
    by_size = [[e.tokens for e in found if e.tokens.shape[1] == 2 * size - 1] for size in SIZE_SHARES]
    corpora = [padded(np.concatenate(tokens)).astype(np.int8) for tokens in by_size]
    net = Transformer(TransformerConfig(len(VOCABULARY), HORIZON))
    net.initialise(rng)
    policy = TorchPolicy(net, END)

    def draw() -> Tokens:
        counts = rng.multinomial(BATCH, list(SIZE_SHARES.values()))
        batch = [c[rng.integers(len(c), size=count)] for c, count in zip(corpora, counts, strict=True)]
        return np.concatenate(batch).astype(np.int64)

    return maximum_likelihood(policy, draw, STEPS, warm_then_linear(RATE, STEPS))


def draw_target(policy: TorchPolicy, values: NDArray[np.int64], rng: np.random.Generator) -> int:
    """The first of the targets, shuffled, that is hit by FEWEST to MOST expressions and, in SUCCESS, by the policy."""
    low, high = TARGETS
    hits = np.bincount(values[values < high], minlength=high)
    for target in rng.permutation(np.arange(low, high)):
        if not FEWEST <= hits[target] <= MOST:
            continue
        tokens = np.concatenate([padded(e.tokens) for e in expressions(int(target))])
        success = math.exp(logsumexp(policy.log_prob(tokens)))
        print(f"target {target}: {len(tokens):,} expressions, base success {success:.3e}")
        if SUCCESS[0] <= success <= SUCCESS[1]:
            return int(target)
    raise BadValue(f"no target in {TARGETS} has a base success in {SUCCESS}; widen it")
