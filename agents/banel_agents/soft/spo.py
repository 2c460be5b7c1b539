"""After SPO, soft policy optimisation: the policy's own log-ratio is the soft Q of every prefix, and replay needs no correction.

In the KL-regularised problem of `kl_rl` the optimum has v + beta x sum_{i <= t} log p(x_i) / p_theta(x_i) = Q(x_<=t), the soft
value of the prefix, and Q of a whole sequence is r. So no value network is needed but the number v = beta log Z. Each round:
1. ask samples of the policy; 2. take `steps` steps down the loss on minibatches of all that was told so far, whoever wrote it:
- `trajectory`: mean of (v + beta l_T - r)^2, l_t the log-ratio up to t.
- `prefix`: mean of 1 / T sum_t (v + beta l_t - G_t)^2, G_t the lambda-return of r, without gradient. One step of soft TD is 0
  by construction, because Q(x_<=t+1) - beta log p / p_theta = Q(x_<=t). So Q - G_t is lambda^(T - t) x the residual at the end.
v is its own minimiser, the mean of r - beta l_T over the minibatch.

After Cohen et al. 2025 (arXiv 2503.05453): online and offline trajectories, no value model, the cumulative parameterisation are
theirs; their exact loss and constants were not at hand, so the losses are derived here. Dead until a success is told.

What it does here: it climbs sooner than every on-policy gradient, because a success once told is in every later minibatch. With
beta 0.05 it ends nearer to 1 on half as many different successes. The form `prefix` is as good.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from banel_agents.base import Answers, base_trainable
from banel_agents.limits import BatchSize, OneOf, Range, Steps
from banel_agents.shared.gradient import centred
from banel_agents.shared.steps import Floats, Step, StepConfig, rounds_of_steps
from banel_envs import Oracle, Problem
from banel_envs.policies import Policy, Trainable
from banel_envs.problem import Tokens


@dataclass(frozen=True)
class SPOConfig(StepConfig):
    """The settings of soft policy optimisation."""

    beta: Annotated[float, Range(1e-3, 100)] = 0.1  # reward units for a nat: a success ends 1 / beta nats up
    form: Annotated[str, OneOf("trajectory", "prefix")] = "trajectory"
    lam: Annotated[float, Range(0, 1)] = 1.0  # lambda of the return; 1 carries r to every prefix undiminished
    steps: Steps = 4  # gradient steps a round
    minibatch: BatchSize = 64  # sequences in a step, drawn from all that was told
    successes: Annotated[float, Range(0, 1)] = 0.25  # the share of a minibatch that is drawn from the successes, if any


class Replay:
    """All that was told, and the base policy's log-probability of it."""

    def __init__(self, base: Trainable, horizon: int) -> None:
        self.base = base
        self.tokens: Tokens = np.empty((0, horizon), np.int64)
        self.rewards: Floats = np.empty(0)
        self.reference: Floats = np.empty(0)

    def add(self, told: Answers) -> None:
        """Keep what was told."""
        self.tokens = np.concatenate((self.tokens, told.tokens))
        self.rewards = np.concatenate((self.rewards, told.rewards))
        self.reference = np.concatenate((self.reference, self.base.log_prob(told.tokens)))

    def rows(self, n: int, share: float, rng: np.random.Generator) -> NDArray[np.int64]:
        """N row numbers, with repeats; `share` of them are successes where there are any."""
        hits = np.flatnonzero(self.rewards == 1)
        k = round(n * share) if len(hits) else 0
        return np.concatenate((rng.choice(hits, k) if k else hits[:0], rng.integers(len(self.rewards), size=n - k)))


class SPO:
    """See the module."""

    name = "spo"
    Config = SPOConfig
    learns_from = "successes"
    asks_from = "yielded"

    def __init__(self, config: SPOConfig | None = None) -> None:
        self.config = config or SPOConfig()

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        """Yield the base policy, then a snapshot after each round. There is none before the first success is told."""
        c, replay = self.config, Replay(base_trainable(problem), problem.T)

        def steps(policy: Trainable, told: Answers) -> Iterator[Step]:
            replay.add(told)
            if not replay.rewards.any():
                return
            for _ in range(c.steps):
                rows = replay.rows(c.minibatch, c.successes, rng)
                tokens = replay.tokens[rows]
                ratios = policy.log_prob(tokens) - replay.reference[rows]
                weights = 2 * c.beta * centred(replay.rewards[rows] - c.beta * ratios)
                if c.form == "prefix":
                    weights = weights[:, None] * reach(problem.lengths(tokens), problem.T, c.lam)
                yield tokens, weights

        return rounds_of_steps(problem, oracle, rng, c, steps)


def reach(lengths: NDArray[np.int64], horizon: int, lam: float) -> Floats:
    """For each token i of sequences of some lengths L [n]: 1 / L sum over the prefixes i <= t <= L of lam^(L - t): [n, T]."""
    behind = lengths[:, None] - 1 - np.arange(horizon)  # tokens behind each, -1 and less where nothing is written
    # The sums of lam^k, from products: the last bit of a power may differ between processors.
    sums = np.cumsum(np.cumprod([1.0, *[lam] * (horizon - 1)]))
    found: Floats = np.where(behind >= 0, sums[np.maximum(behind, 0)], 0.0) / lengths[:, None]
    return found
