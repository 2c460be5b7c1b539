"""Random network distillation: REINFORCE on the reward plus the error of predicting a fixed random network.

A state is a position and the last `context` tokens, each token as a one-hot vector at its place. There are two networks. The
target is random and fixed. The predictor learns, over the whole run, to give the target's features on every state that was
told. On states that it was seldom trained on, its squared error stays high. The bonus of a sequence is beta x the mean
error of its states / the running standard deviation of such means. Source: Burda et al. 2018 (sections 2.2 and 2.4).

What it does here: the same as `count`, but later and less, because the predictor also learns something about states that it
was never shown. The bonus fades: the errors fall, while the running deviation still holds the first rounds.

How it was set: only sequences within the grammar get the bonus (`banel_agents.shared.bonus`), and there is no penalty for
leaving the base policy. From failures alone it ends, in log10 of success, at -2.24 to -1.37 on AdditionAttack-v0 and -1.87 to
-1.42 on Hard; with `gated=false kl=0.03`, which it was before, at -2.56 to -2.08 and -4.36 to -2.68 (`python -m
benchmarks.agents --agents rnd --feedback failures`, seeds 100 to 102). A deviation over the last rounds only does not fade;
without the gate the policy then wrote malformed strings or learnt nothing. Whole prefixes as states gained nothing on
AdditionAttack-v0, and a predictor with a learning rate of 1e-3 learns too slowly. With a beta as large as the reward the
policy keeps hundreds of different successes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
import torch
from torch import nn

from banel_agents.limits import Context, LearningRate, Steps, Units
from banel_agents.novelty.states import States
from banel_agents.shared.bonus import BonusConfig, novelty_rounds
from banel_agents.shared.gradient import Floats
from banel_envs import Oracle, Problem
from banel_envs.policies import Policy
from banel_envs.policies.gradient_step import Adam, descend
from banel_envs.problem import Tokens


@dataclass(frozen=True)
class RNDConfig(BonusConfig):
    """The settings of REINFORCE with the predictor's error as a bonus."""

    context: Context = 3  # tokens in a state, its own included; as in `count`
    width: Units = 64  # units in each of the two hidden layers of both networks
    features: Units = 32  # outputs of the target, which the predictor learns
    predictor_lr: LearningRate = 3e-3  # Adam's learning rate; Burda et al. use 1e-4 in runs of millions of steps
    predictor_steps: Steps = 4  # gradient steps on the states of each round; Burda et al. make 4 passes over a rollout


class Novelty:
    """A target, its predictor, and the predictor's error as a bonus. Both networks stay on the CPU."""

    def __init__(self, problem: Problem, config: RNDConfig, rng: np.random.Generator) -> None:
        self.states, self.config = States(problem, config.context), config
        sizes = (self.states.size, config.width, config.width, config.features)
        self.target = random_network(sizes, rng)
        self.predictor = random_network(sizes, rng)
        self.optimiser = Adam(self.predictor.parameters(), config.predictor_lr)
        self.spread = Spread()

    def bonus(self, tokens: Tokens) -> Floats:
        """The mean error over the states of each sequence, divided by the standard deviation of all such means: [n]."""
        errors = self.mean_errors(tokens)
        self.spread.add(errors)
        return errors / self.spread.std

    def mean_errors(self, tokens: Tokens) -> Floats:
        """The mean squared error over the states of each sequence: [n]."""
        with torch.no_grad():
            states = self.states.one_hot(self.states.windows(tokens))  # [k, T * (V + 1)], k states in all
            errors = (self.predictor(states) - self.target(states)).pow(2).mean(dim=1)
        return self.states.mean(errors.numpy(), tokens)

    def learn(self, tokens: Tokens) -> None:
        """Train the predictor on the states of the sequences [n, T]."""
        states = self.states.one_hot(self.states.windows(tokens))
        with torch.no_grad():
            goal = self.target(states)
        for _ in range(self.config.predictor_steps):
            descend(self.optimiser, (self.predictor(states) - goal).pow(2).mean())


class Spread:
    """The standard deviation of all numbers that were added so far, accurate however far they are from zero.

    The squared deviations from the mean are merged batch by batch (Chan, Golub, LeVeque 1979). The simple formula, the mean
    of the squares minus the square of the mean, would lose all digits. The first number is subtracted from every number.
    So equal numbers have a deviation of exactly zero, which they would not have from their mean: a computed mean may differ
    from them in the last bit.
    """

    def __init__(self) -> None:
        self.n, self.first, self.mean, self.squares = 0, 0.0, 0.0, 0.0

    def add(self, values: Floats) -> None:
        """Take the numbers [n] in."""
        if len(values) == 0:
            return
        if self.n == 0:
            self.first = float(values[0])
        shifted = values - self.first
        n, mean = self.n + len(values), float(shifted.mean())
        step = mean - self.mean
        self.squares += float(((shifted - mean) ** 2).sum()) + step**2 * self.n * len(values) / n
        self.mean += step * len(values) / n
        self.n = n

    @property
    def std(self) -> float:
        """The standard deviation; 1 as long as it is zero, so that it can always divide."""
        return math.sqrt(self.squares / self.n) if self.squares > 0 else 1.0


def random_network(sizes: tuple[int, ...], rng: np.random.Generator) -> nn.Sequential:
    """Linear layers with ReLU between them. Weights are drawn from N(0, 2/fan_in) by rng, and biases are 0."""
    layers: list[nn.Module] = []
    for fan_in, fan_out in pairwise(sizes):
        # The device "meta" draws no weights: PyTorch would take them from the process's generator.
        layer = nn.Linear(fan_in, fan_out, device="meta").to_empty(device="cpu")
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(rng.normal(0.0, math.sqrt(2 / fan_in), (fan_out, fan_in))))
            layer.bias.zero_()
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class RND:
    """See the module."""

    name = "rnd"
    Config = RNDConfig
    asks_from = "yielded"

    def __init__(self, config: RNDConfig | None = None) -> None:
        self.config = config or RNDConfig()

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        """Yield the base policy, then a snapshot after each round."""
        novelty = Novelty(problem, self.config, rng)

        def bonus(tokens: Tokens) -> Floats:
            found = novelty.bonus(tokens)
            novelty.learn(tokens)
            return found

        return novelty_rounds(problem, oracle, rng, self.config, bonus)
