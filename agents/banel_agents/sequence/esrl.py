"""ESRL, efficient sampling-based RL: samples without a gradient, trains in one pass, and samples by how able the policy is.

*Two-stage sampling*: the sequences are sampled first, with a cache and no gradient; then one teacher-forced pass over them has
the gradient. It is the gradient of sampling with the whole graph kept, without the graph (tests/agents). Every agent here trains
in this way. *Dynamic sampling*, before anything is asked:
- `released`: of the samples the 30% with the largest 1 + mean_t exp(p_t) p_t are dropped, p_t being the largest next-token
  probability at step t: the most confident ones. Source: the code released with the paper.
- `none`: all samples are asked.

Then REINFORCE with the round's mean reward as baseline. Source: Wang et al. 2024 (arXiv 2308.02223). The gradient is not
corrected for what was dropped. The form that the paper's text describes is `esrl_paper`. `python -m
benchmarks.speed.two_stage` prints what two stages save.

What it does here: it climbs as fast as the other policy gradients and ends on fewer different successes than any of them. Once
it succeeds, its most confident samples are successes, but which of them are dropped says nothing about which are new.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
from numpy.typing import NDArray

from banel_agents.base import Answers, ask, base_trainable
from banel_agents.limits import OneOf, Range
from banel_agents.shared.gradient import centred
from banel_agents.shared.steps import Floats, StepConfig
from banel_envs import Oracle, Problem
from banel_envs.kernel import portable
from banel_envs.policies import Policy, Trainable
from banel_envs.problem import Tokens


@dataclass(frozen=True)
class ESRLConfig(StepConfig):
    """The settings of ESRL."""

    sampling: Annotated[str, OneOf("released", "none")] = "released"  # the form of dynamic sampling
    drop: Annotated[float, Range(0, 1)] = 0.3  # released: the share of the samples that is not asked; the code's


class ESRL:
    """See the module."""

    name = "esrl"
    Config = ESRLConfig
    learns_from = "successes"

    def __init__(self, config: ESRLConfig | None = None) -> None:
        self.config = config or ESRLConfig()

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        """Yield the base policy, then a snapshot after each step. There is none before the first success is told."""
        c = self.config

        def sample(policy: Trainable, told: Answers) -> Tokens:
            tokens = policy.sample(c.batch, rng)
            return tokens[eliminated(policy, tokens, c.drop)] if c.sampling == "released" else tokens

        return two_stage_rounds(problem, oracle, c.lr, sample)


def two_stage_rounds(
    problem: Problem, oracle: Oracle, lr: float, sample: Callable[[Trainable, Answers], Tokens]
) -> Iterator[Trainable]:
    """Yield the base policy, then a snapshot after each step, until the budget is spent.

    Args:
        problem: its base policy is a network.
        oracle: the meter.
        lr: Adam's learning rate.
        sample: gives a round's questions [n, T], n at least 1, from the policy and what the round before it was told.
    """
    from banel_envs.policies.training import Trainer  # here, because it loads PyTorch

    policy = base_trainable(problem)
    trainer = Trainer(policy, lr)
    yield policy.clone()
    told = Answers(np.empty((0, problem.T), np.int64), np.empty(0, np.float32))
    while oracle.left:
        told = ask(oracle, sample(policy, told))  # stage 1
        advantages = centred(told.rewards.astype(np.float64))
        if advantages.any():
            trainer.step(told.tokens, advantages)  # stage 2
            yield policy.clone()


def eliminated(policy: Trainable, tokens: Tokens, drop: float) -> NDArray[np.int64]:
    """The rows [k] of sequences [n, T] that are left without the share `drop` that is most confident; at least one."""
    left = max(1, len(tokens) - int(drop * len(tokens)))
    order = np.argsort(confidence(policy, tokens, weighted=True), kind="stable")
    rows: NDArray[np.int64] = np.sort(order[:left])
    return rows


def confidence(policy: Trainable, tokens: Tokens, *, weighted: bool) -> Floats:
    """The mean over the tokens of each sequence of p_t, or of exp(p_t) p_t: [n]. p_t is the largest next-token probability."""
    largest = portable.exp(policy.token_log_probs(tokens)[1])  # [n, T], 1 behind the end
    live = np.ones(tokens.shape)
    if policy.end is not None:
        live[:, 1:] = tokens[:, :-1] != policy.end
    each = largest * portable.exp(largest) if weighted else largest
    means: Floats = portable.total(each * live) / live.sum(axis=1)
    return means
