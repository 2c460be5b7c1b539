"""PPO."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from banel_envs import BudgetExhausted, Oracle, Problem
from banel_envs.policies import COST, Policy
from banel_envs.policies.network import TorchPolicy
from banel_envs.policies.transformer import Transformer
from banel_envs.vector import GenerationVectorEnv, as_sb3_vec_env
from gymnasium import spaces
from stable_baselines3 import PPO as SB3PPO
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor

from banel_agents.base import base_network


@dataclass(frozen=True)
class Config:
    """Stable-Baselines3's PPO; its own defaults where nothing else is said."""

    lr: float = 1e-3  # Adam
    epochs: int = 4  # passes over a rollout
    clip: float = 0.2  # clip range of the probability ratio
    gae_lambda: float = 0.95  # lambda of generalised advantage estimation; gamma is 1, as an episode has one reward
    entropy: float = 0.0  # reward units a nat of next-token entropy
    value: float = 0.5  # weight of the value loss


class Features(BaseFeaturesExtractor):  # type: ignore[misc]
    """The base policy's transformer up to its head, at the position to be written: [n, width]."""

    def __init__(self, observation_space: spaces.Dict, network: Transformer) -> None:
        super().__init__(observation_space, network.config.width)
        self.network = network

    def forward(self, observation: dict[str, Tensor]) -> Tensor:
        """Tokens [n, T], blank (V) from `position` [n] on; causality hides the blanks."""
        network, horizon = self.network, self.network.config.horizon
        # Only a sequence that is over stands at T: it has no next token, and its value is never used.
        position = observation["position"].flatten().long().clamp(max=horizon - 1)  # [n]
        width = int(position.max()) + 1
        tokens = observation["tokens"][:, : width - 1].long()
        begin = torch.full_like(position[:, None], network.config.vocabulary)
        x = network.token(torch.cat((begin, tokens), dim=1)) + network.position.weight[:width]  # [n, t, d]
        for block in network.blocks:
            x = block(x)
        features: Tensor = network.norm(x[torch.arange(len(x)), position])
        return features


class ActorCritic(ActorCriticPolicy):  # type: ignore[misc]
    """Actor: the base policy's softmax, its own head included. Critic: a linear layer on the same features."""

    def __init__(self, observation_space: spaces.Dict, *args: Any, base: TorchPolicy, **kwargs: Any) -> None:
        # SB3 one-hot encodes discrete spaces; the same integers declared as numbers arrive as they are.
        plain = spaces.Dict({k: spaces.Box(0, np.inf, s.shape, np.float32) for k, s in observation_space.items()})
        self._base = [base]  # in a list: not yet a module may be set
        super().__init__(
            plain,
            *args,
            net_arch=[],
            ortho_init=False,
            features_extractor_class=Features,
            features_extractor_kwargs={"network": base.network},
            **kwargs,
        )

    def _build(self, lr_schedule: Any) -> None:
        super()._build(lr_schedule)
        self.action_net = self.features_extractor.network.head
        torch.nn.init.zeros_(self.value_net.weight)
        torch.nn.init.zeros_(self.value_net.bias)
        self.optimizer = self.optimizer_class(self.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)


class PPO:
    """See the module."""

    name = "ppo"
    Config = Config
    learns_from = "successes"

    def __init__(self, config: Config | None = None) -> None:
        self.config = config or Config()

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        """Yield the base policy, then a snapshot after each update."""
        policy = base_network(problem)
        yield policy.clone()
        model = build(problem, oracle, policy, self.config, int(rng.integers(2**31)))
        steps = model.n_envs * model.n_steps
        while oracle.left:
            try:
                model.learn(steps, reset_num_timesteps=False)
            except BudgetExhausted:
                return
            COST.sampled += steps
            COST.trained += steps * self.config.epochs
            yield policy.clone()


def build(problem: Problem, oracle: Oracle, policy: TorchPolicy, config: Config, seed: int) -> SB3PPO:
    """SB3's PPO that trains the policy's network in place; seeds the process's global generators."""
    steps = max(2, oracle.budget // 20)
    copies = max(1, steps // problem.T)
    return SB3PPO(
        ActorCritic,
        as_sb3_vec_env(GenerationVectorEnv(problem, oracle, copies)),
        learning_rate=config.lr,
        n_steps=steps // copies,
        batch_size=copies * (steps // copies),
        n_epochs=config.epochs,
        gamma=1.0,
        gae_lambda=config.gae_lambda,
        clip_range=config.clip,
        ent_coef=config.entropy,
        vf_coef=config.value,
        policy_kwargs={"base": policy},
        seed=seed,
        device=policy.device,
    )
