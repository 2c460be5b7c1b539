"""Coin-flip network: counts with a network that predicts coins which cannot be predicted.

1. Each visit of a state draws d coins c in {-1, +1}^d; state and coins are kept for the whole run.
2. A network f learns to give the coins: it minimises ||f(s) - c||^2 over past visits, drawn evenly from all of them.
3. The best it can do at a state with n visits is the mean of its coins, and E[mean_j f_j(s)^2] = 1 / n.
4. The bonus of a state is (mean_j f_j(s)^2)^(1/2), about n^(-1/2); that of a sequence is the mean over its states.
5. f is a trained network plus a frozen random one, normalised to mean 0 and standard deviation 1 on samples of the base
   policy. So a state that was never met has a bonus of about 1, as after one visit.

Source: Lobel, Bagaria, Konidaris 2023 (arXiv 2306.03186), with d = 20. There visits of seldom met states are replayed more
often; here all are replayed evenly. States are those of `count`: the position and the last `context` tokens.

What it does here: as `count`, whose bonus it estimates, a little later. From failures alone it ends at 10^-1.53 to 10^-1.38 of
success on AdditionAttackHard (base 10^-5.09), and has its best, 10^-0.82 to 10^-0.71, on the way (`python -m
benchmarks.agents --agents coin_flip --feedback failures`, seeds 100 to 102). Its settings are the paper's and `rnd`'s.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from banel_agents.base import base_trainable
from banel_agents.limits import BatchSize, Context, LearningRate, Range, Steps, Units
from banel_agents.novelty.rnd import random_network
from banel_agents.novelty.states import States
from banel_agents.shared.bonus import BonusConfig, novelty_rounds
from banel_agents.shared.gradient import Floats
from banel_envs import Oracle, Problem
from banel_envs.policies import Policy
from banel_envs.policies.gradient_step import Adam, descend
from banel_envs.problem import Tokens

SAMPLES = 500  # of the base policy, to normalise the frozen network on; they are not asked


@dataclass(frozen=True)
class CoinFlipConfig(BonusConfig):
    """The settings of REINFORCE with the bonus of a coin-flip network."""

    context: Context = 3  # tokens in a state, its own included; as in `count`
    coins: Annotated[int, Range(1, 1_000)] = 20  # d; the paper's
    width: Units = 64  # units in each of the two hidden layers; as in `rnd`
    predictor_lr: LearningRate = 3e-3  # Adam's learning rate; as in `rnd`
    predictor_steps: Steps = 20  # gradient steps a round
    minibatch: BatchSize = 512  # visits in a gradient step


class CoinFlips:
    """The network, and every visit with its coins. It stays on the CPU."""

    def __init__(self, problem: Problem, config: CoinFlipConfig, rng: np.random.Generator) -> None:
        self.states, self.config, self.rng = States(problem, config.context), config, rng
        sizes = (self.states.size, config.width, config.width, config.coins)
        self.frozen, self.trained = random_network(sizes, rng), random_network(sizes, rng)
        with torch.no_grad():
            self.trained[-1].weight.zero_()  # type: ignore[operator]
        self.optimiser = Adam(self.trained.parameters(), config.predictor_lr)
        self.visits = np.empty((0, problem.T), np.int64)  # [k, T]
        self.coins = np.empty((0, config.coins), np.float32)  # [k, d]
        self._mean, self._sd = torch.zeros(config.coins), torch.ones(config.coins)

    def normalise(self, tokens: Tokens) -> None:
        """Give the frozen network mean 0 and standard deviation 1, by output, on the states of these sequences."""
        with torch.no_grad():
            found = self.frozen(self.states.one_hot(self.states.windows(tokens)))
        self._mean, self._sd = found.mean(dim=0), found.std(dim=0, correction=0).clamp(min=1e-6)

    def visit(self, tokens: Tokens) -> None:
        """Flip coins for each state of the sequences, and learn from all visits so far."""
        new = self.states.windows(tokens)
        flips = self.rng.integers(2, size=(len(new), self.config.coins), dtype=np.int64) * 2 - 1
        self.visits = np.concatenate((self.visits, new))
        self.coins = np.concatenate((self.coins, flips.astype(np.float32)))
        for _ in range(self.config.predictor_steps):
            rows = self.rng.integers(len(self.visits), size=self.config.minibatch)
            predicted = self._forward(self.visits[rows])
            descend(self.optimiser, (predicted - torch.from_numpy(self.coins[rows])).pow(2).sum(dim=1).mean())

    def bonus(self, tokens: Tokens) -> Floats:
        """The mean over each sequence's states of (mean_j f_j^2)^(1/2): [n]."""
        return self.states.mean(self.of_states(self.states.windows(tokens)), tokens)

    def of_states(self, windows: NDArray[np.int64]) -> Floats:
        """(mean_j f_j^2)^(1/2) of states [k, T]: [k]."""
        with torch.no_grad():
            squares = self._forward(windows).double().pow(2).mean(dim=1)
        found: Floats = np.sqrt(squares.numpy())
        return found

    def _forward(self, windows: NDArray[np.int64]) -> Tensor:
        states = self.states.one_hot(windows)
        with torch.no_grad():
            prior = (self.frozen(states) - self._mean) / self._sd
        made: Tensor = self.trained(states) + prior
        return made


class CoinFlip:
    """See the module."""

    name = "coin_flip"
    Config = CoinFlipConfig
    asks_from = "yielded"

    def __init__(self, config: CoinFlipConfig | None = None) -> None:
        self.config = config or CoinFlipConfig()

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        """Yield the base policy, then a snapshot after each round."""
        flips = CoinFlips(problem, self.config, rng)
        flips.normalise(base_trainable(problem).sample(SAMPLES, rng))

        def bonus(tokens: Tokens) -> Floats:
            flips.visit(tokens)
            return flips.bonus(tokens)

        return novelty_rounds(problem, oracle, rng, self.config, bonus)
