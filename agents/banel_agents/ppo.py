"""PPO: Stable-Baselines3's own, acting token by token in the vector environment. Schulman et al. 2017.

The actor is the base policy: its network, its head, its softmax at temperature 1. The critic is a linear layer on
the same features that starts at zero, so the first policy is exactly the base. gamma is 1: a sequence has one reward,
at its end. A rollout is at most a twentieth of the budget, whatever the lengths of its sequences; the policy is
yielded after each update. The budget's end cuts the last rollout short: what it was told is charged, and not learnt
from.

What it does here: it is the surest learner once successes are told, and ends on few of them (small fresh success).
Its exploration is the entropy bonus: Adam does not see how small that is, so without successes the policy drifts to
the uniform one in a third of the budget. On AdditionAttackHard that succeeds far more often than the base, which
brings the first successes; from failures it is all there is, and nearly every string is malformed. Three times the
entropy lost half the runs to it; without any the policy stays exactly at the base until a success. SB3's division of
advantages by their spread makes full steps of the critic's noise in rollouts without a success, and without entropy
lost a run that way.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Annotated, Any

import numpy as np
import torch
from gymnasium import spaces
from stable_baselines3 import PPO as SB3PPO
from stable_baselines3.common.logger import Logger
from stable_baselines3.common.policies import ActorCriticPolicy
from stable_baselines3.common.torch_layers import BaseFeaturesExtractor
from torch import Tensor, nn

from banel_agents.base import base_network
from banel_agents.limits import LearningRate, Range, Steps, Weight, check_settings
from banel_envs import BudgetExhausted, Oracle, Problem
from banel_envs.environments.vector import GenerationVectorEnv, as_sb3_vec_env
from banel_envs.policies import COST, Policy
from banel_envs.policies.torch_policy import Network, TorchPolicy


@dataclass(frozen=True)
class PPOConfig:
    """Stable-Baselines3's PPO; "SB3" marks its own defaults."""

    lr: LearningRate = 1e-3  # of Adam; as in the other agents here (SB3: 3e-4)
    epochs: Steps = 4  # passes over a rollout, each one gradient step (SB3: 10 passes of minibatches of 64)
    clip: Annotated[float, Range(0, 1, above=True)] = 0.2  # range of the probability ratio; SB3
    gae_lambda: Annotated[float, Range(0, 1)] = 0.95  # lambda of generalised advantage estimation; SB3
    entropy: Weight = 0.01  # reward units a nat of next-token entropy (SB3: 0); as in Mnih et al. 2016
    value: Weight = 0.5  # weight of the critic's loss; SB3
    normalise: bool = False  # divide a rollout's advantages by their spread; SB3 does, the module says why not

    def __post_init__(self) -> None:
        check_settings(self)


class Features(BaseFeaturesExtractor):
    """The base policy's network up to its head, at the position to be written: [n, width]."""

    def __init__(self, observation_space: spaces.Dict, network: Network) -> None:
        super().__init__(observation_space, network.head.in_features)
        self.network = network

    def forward(self, observation: dict[str, Tensor]) -> Tensor:
        """Of tokens [n, T], blank from `position` [n] or [n, 1] on, which no feature before them sees."""
        network = self.network
        # Nothing is written after a whole sequence; SB3 asks its value where the budget left it unjudged.
        position = observation["position"].flatten().long().clamp(max=network.config.horizon - 1)  # [n]
        width = int(position.max()) + 1
        features = network.features(observation["tokens"][:, : width - 1].long())  # [n, t, width]
        return features[torch.arange(len(features), device=features.device), position]


class ActorCritic(ActorCriticPolicy):
    """Actor: the network's own head. Critic: a linear layer from zero. Both on Features."""

    def __init__(
        self,
        observation_space: spaces.Dict,
        action_space: spaces.Space[Any],
        lr_schedule: Any,
        use_sde: bool,
        network: Network,
    ) -> None:
        self._head = [network.head]  # hidden in a list: torch takes modules only after super().__init__
        # SB3 one-hot encodes discrete spaces. Declared as numbers, the same integers arrive as they are.
        numbers: dict[str, spaces.Space[Any]] = {
            name: spaces.Box(0, np.inf, space.shape, np.float32) for name, space in observation_space.items()
        }
        super().__init__(
            spaces.Dict(numbers),
            action_space,
            lr_schedule,
            net_arch=[],
            ortho_init=False,
            use_sde=use_sde,
            features_extractor_class=Features,
            features_extractor_kwargs={"network": network},
        )

    def _build(self, lr_schedule: Any) -> None:
        super()._build(lr_schedule)
        (self.action_net,) = self._head
        nn.init.zeros_(self.value_net.weight)
        nn.init.zeros_(self.value_net.bias)
        # Built again, now that the head stands among the parameters in the place of SB3's.
        self.optimizer = torch.optim.Adam(self.parameters(), lr=lr_schedule(1), fused=True, **self.optimizer_kwargs)


class PPO:
    """See the module."""

    name = "ppo"
    Config = PPOConfig
    learns_from = "successes"

    def __init__(self, config: PPOConfig | None = None) -> None:
        self.config = config or PPOConfig()

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        """Yield the base policy, then a snapshot after each update."""
        yield base_network(problem)
        model, policy = build(problem, oracle, self.config, int(rng.integers(2**31)))
        steps = model.n_envs * model.n_steps
        while oracle.left:
            before = model.num_timesteps
            try:
                model.learn(steps, reset_num_timesteps=False)  # one rollout and its update
            except BudgetExhausted:
                return
            finally:
                COST.sampled += model.num_timesteps - before
            COST.trained += steps * self.config.epochs
            yield policy.clone()


def build(problem: Problem, oracle: Oracle, config: PPOConfig, seed: int) -> tuple[SB3PPO, TorchPolicy]:
    """SB3's PPO and the policy whose network it trains in place. Seeds the process's global generators."""
    policy = at_temperature_one(base_network(problem))
    steps = max(2, oracle.budget // 20)  # SB3 needs two
    copies = max(1, steps // problem.T)  # so that a rollout has room for a whole sequence in each
    model = SB3PPO(
        ActorCritic,
        as_sb3_vec_env(GenerationVectorEnv(problem, oracle, copies)),
        learning_rate=config.lr,
        n_steps=steps // copies,
        batch_size=copies * (steps // copies),
        n_epochs=config.epochs,
        gamma=1.0,
        gae_lambda=config.gae_lambda,
        clip_range=config.clip,
        normalize_advantage=config.normalise,
        ent_coef=config.entropy,
        vf_coef=config.value,
        policy_kwargs={"network": policy.network},
        seed=seed,
        device=policy.device,
    )
    model.set_logger(Logger(None, []))  # SB3 would leave a folder of its own behind for every rollout
    return model, policy


def at_temperature_one(policy: TorchPolicy) -> TorchPolicy:
    """The same distribution with its temperature inside the head's weights, in place."""
    with torch.no_grad():
        for weight in policy.network.head.parameters():
            weight.div_(policy.temperature)
    policy.temperature = 1.0
    return policy
