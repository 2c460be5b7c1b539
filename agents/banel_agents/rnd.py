"""RND."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from banel_envs import Oracle, Problem
from banel_envs.policies import Policy
from banel_envs.problem import Tokens
from numpy.typing import NDArray
from torch import Tensor, nn

from banel_agents.base import Answers, update
from banel_agents.gradient import Floats, GradientConfig, rounds, written


@dataclass(frozen=True)
class Config(GradientConfig):
    """REINFORCE on reward plus the error of a network that predicts a random one."""

    kl: float = 0.001
    bonus: float = 0.1  # reward units of one running standard deviation of the prediction error
    width: int = 64  # hidden units a layer of both networks
    features: int = 32  # outputs that are predicted
    predictor_lr: float = 1e-3  # Adam
    predictor_steps: int = 4  # gradient steps of the predictor a round, on all of the round's prefixes


class Novelty:
    """The predictor's error on what was told so far, in units of its running standard deviation."""

    def __init__(self, problem: Problem, config: Config, rng: np.random.Generator, device: torch.device | str = "cpu") -> None:
        self.problem, self.config, self.device = problem, config, device
        sizes = (problem.T * (problem.V + 1), config.width, config.width, config.features)
        self.target = network(sizes, rng).to(device)
        self.predictor = network(sizes, rng).to(device)
        self.optimiser = torch.optim.Adam(self.predictor.parameters(), lr=config.predictor_lr)
        self.spread = Spread()

    def bonus(self, tokens: Tokens) -> Floats:
        """Mean prediction error over each sequence's prefixes, in running standard deviations: [n]."""
        error = self.errors(tokens)
        mask = written(self.problem, tokens)
        per = (error * mask).sum(axis=1) / mask.sum(axis=1)
        self.spread.add(per)
        return per / self.spread.std

    @torch.no_grad()
    def errors(self, tokens: Tokens) -> Floats:
        states = self.states(tokens)
        return (self.predictor(states) - self.target(states)).pow(2).mean(dim=2).double().cpu().numpy()

    def learn(self, tokens: Tokens) -> None:
        states = self.states(tokens)[torch.from_numpy(written(self.problem, tokens)).to(self.device)]
        with torch.no_grad():
            goal = self.target(states)
        for _ in range(self.config.predictor_steps):
            update(self.optimiser, (self.predictor(states) - goal).pow(2).mean(), math.inf)

    def states(self, tokens: Tokens) -> Tensor:
        """Each prefix as a one-hot table with blanks after it: [n, T, T * (V + 1)]."""
        n, T = tokens.shape
        blank = self.problem.V
        seen = np.tril(np.ones((T, T), bool))
        prefix = np.where(seen, tokens[:, None, :], blank)
        return torch.nn.functional.one_hot(torch.from_numpy(prefix).to(self.device), blank + 1).float().view(n, T, -1)


class Spread:
    """Standard deviation of every number added so far."""

    def __init__(self) -> None:
        self.n, self.total, self.squares = 0, 0.0, 0.0

    def add(self, values: Floats) -> None:
        self.n += len(values)
        self.total += float(values.sum())
        self.squares += float((values**2).sum())

    @property
    def std(self) -> float:
        variance = self.squares / self.n - (self.total / self.n) ** 2
        return math.sqrt(variance) if variance > 0 else 1.0


def network(sizes: tuple[int, ...], rng: np.random.Generator) -> nn.Sequential:
    layers: list[nn.Module] = []
    for i, (fan_in, fan_out) in enumerate(zip(sizes, sizes[1:])):
        layer = nn.Linear(fan_in, fan_out)
        with torch.no_grad():
            layer.weight.copy_(torch.from_numpy(rng.normal(0, math.sqrt(2 / fan_in), (fan_out, fan_in))))
            layer.bias.zero_()
        layers += [layer, nn.ReLU()]
    return nn.Sequential(*layers[:-1])


class RND:
    """See the module."""

    name = "rnd"
    Config = Config

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or Config()

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        novelty = Novelty(problem, self.config, rng)

        def score(told: Answers) -> Floats:
            if len(told.tokens) == 0:
                return np.zeros(0)
            bonus = novelty.bonus(told.tokens)
            novelty.learn(told.tokens)
            return told.rewards + self.config.bonus * bonus

        return rounds(problem, oracle, rng, self.config, score)
