"""PPO of Stable-Baselines3, which acts token by token in the vector environment. Source: Schulman et al. 2017.

The actor is the base policy: its network, its head, its softmax at temperature 1. The critic is a linear layer on the same
features. It starts at zero. So the first policy is exactly the base policy. gamma is 1, because a sequence has only one
reward, at its end. A rollout has at most a twentieth of the budget in steps, however long its sequences are. The policy
is yielded after each update. When the budget ends, the last rollout is incomplete: its sequences were charged, but the
agent does not learn from them.

What it does here: once successes are told, it climbs on both addition attacks and ends with few different successes (its
fresh success is small); on Countdown it ends at 10^-5.56, below the base policy (the board of all agents). It explores by the
entropy bonus. Adam scales every gradient to the same size, however small the bonus is. So without successes the policy
becomes nearly uniform within a third of the budget. On AdditionAttackHard the uniform policy succeeds far more often than the
base policy, and this brings the first successes. From failures alone nothing else happens, and nearly every string is
malformed.

How it was set: with three times the entropy, half of the runs were lost to the uniform policy. Without entropy the
policy stays exactly at the base policy until the first success. SB3 divides the advantages by their spread. In a rollout
without a success this makes a full step of the critic's noise, and without entropy one run was lost in that way.
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
from banel_envs.environments.as_sb3 import as_sb3_vec_env
from banel_envs.environments.vector import GenerationVectorEnv
from banel_envs.policies import COST, Policy
from banel_envs.policies.steps.features import PrefixFeatures
from banel_envs.policies.torch_policy import Network, TorchPolicy
from banel_envs.problem import check_one_hot


@dataclass(frozen=True)
class PPOConfig:
    """The settings of Stable-Baselines3's PPO. "SB3" marks the values that it has by default."""

    lr: LearningRate = 1e-3  # learning rate of Adam; as in the other agents here (SB3: 3e-4)
    epochs: Steps = 4  # passes over a rollout, each of them one gradient step (SB3: 10 passes of minibatches of 64)
    clip: Annotated[float, Range(0, 1, above=True)] = 0.2  # how far the probability ratio may be from 1 (SB3: the same)
    gae_lambda: Annotated[float, Range(0, 1)] = 0.95  # lambda of generalised advantage estimation (SB3: the same)
    entropy: Weight = 0.01  # reward units for a nat of next-token entropy (SB3: 0); as in Mnih et al. 2016
    value: Weight = 0.5  # weight of the critic's loss (SB3: the same)
    normalise: bool = False  # divide a rollout's advantages by their spread (SB3: yes; the module says why not here)

    def __post_init__(self) -> None:
        check_settings(self)


class Features(BaseFeaturesExtractor):
    """The features [n, width] of the base policy's network, without its head, at the position that is written next."""

    def __init__(self, observation_space: spaces.Dict, network: Network) -> None:
        super().__init__(observation_space, network.head.in_features)
        self.network = network
        self._features = PrefixFeatures(network)

    def forward(self, observation: dict[str, Tensor]) -> Tensor:
        """The features of observations whose tokens [n, T] are blank from `position` ([n] or [n, 1]) on.

        No feature depends on the blanks, because each position depends only on the tokens before it.
        """
        # A whole sequence has no next position. SB3 asks for its value if the budget was spent before it was evaluated; the
        # last position is used then.
        position = observation["position"].flatten().long().clamp(max=self.network.config.horizon - 1)  # [n]
        return self._features(observation["tokens"], position)


class ActorCritic(ActorCriticPolicy):
    """An actor, which is the network's own head, and a critic, which is a linear layer that starts at zero."""

    def __init__(
        self,
        observation_space: spaces.Dict,
        action_space: spaces.Space[Any],
        lr_schedule: Any,
        use_sde: bool,
        network: Network,
    ) -> None:
        self._head = [network.head]  # in a list, because PyTorch accepts modules only after super().__init__
        super().__init__(
            numbers_of(observation_space), action_space, lr_schedule, use_sde=use_sde, **structure(network)
        )

    def _build(self, lr_schedule: Any) -> None:
        super()._build(lr_schedule)
        start_from(self, self._head[0], lr_schedule(1))


def numbers_of(observation_space: spaces.Dict) -> spaces.Dict:
    """The same observations, declared as numbers: SB3 turns discrete spaces into one-hot vectors, and integers shall stay so."""
    return spaces.Dict({name: spaces.Box(0, np.inf, s.shape, np.float32) for name, s in observation_space.items()})


def structure(network: Network) -> dict[str, Any]:
    """What SB3's actor-critic policies are told to build: nothing between the network's features and its head."""
    return {
        "net_arch": [],
        "ortho_init": False,
        "features_extractor_class": Features,
        "features_extractor_kwargs": {"network": network},
    }


def start_from(policy: Any, head: nn.Module, lr: float) -> None:
    """Give SB3's policy, in place, the network's head for its actor, a critic of zeros and an optimiser of them all."""
    policy.action_net = head
    nn.init.zeros_(policy.value_net.weight)
    nn.init.zeros_(policy.value_net.bias)
    # The optimiser is made again, because now the head is among the parameters, in place of SB3's own.
    policy.optimizer = torch.optim.Adam(policy.parameters(), lr=lr, fused=True, **policy.optimizer_kwargs)


class PPO:
    """See the module."""

    name = "ppo"
    Config = PPOConfig
    learns_from = "successes"

    def __init__(self, config: PPOConfig | None = None) -> None:
        self.config = config or PPOConfig()

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        """Yield the base policy, then a snapshot after each update."""
        return updates(problem, oracle, rng, self.config, SB3PPO, ActorCritic)


def updates(
    problem: Problem,
    oracle: Oracle,
    rng: np.random.Generator,
    config: PPOConfig,
    algorithm: type[Any],
    actor_critic: type[Any],
) -> Iterator[TorchPolicy]:
    """Yield the base policy, then a snapshot of its network after each update of SB3's algorithm, until the budget is spent.

    Raises:
        BadValue: the vocabulary has more than 4,096 tokens.
    """
    check_one_hot(problem, "PPO", "use an agent that asks whole sequences, such as reinforce, grpo or rloo")
    yield base_network(problem)
    model, policy = build(problem, oracle, config, int(rng.integers(2**31)), algorithm, actor_critic)
    steps = model.n_envs * model.n_steps
    while oracle.left:
        before = model.num_timesteps
        try:
            model.learn(steps, reset_num_timesteps=False)  # one rollout and its update
        except BudgetExhausted:
            return
        finally:
            COST.sampled += model.num_timesteps - before
        COST.trained += steps * config.epochs
        yield policy.clone()


def build(
    problem: Problem,
    oracle: Oracle,
    config: PPOConfig,
    seed: int,
    algorithm: type[Any] = SB3PPO,
    actor_critic: type[Any] = ActorCritic,
) -> tuple[Any, TorchPolicy]:
    """SB3's algorithm, and the policy whose network it trains in place. SB3 seeds the process's global generators."""
    policy = at_temperature_one(base_network(problem))
    steps = max(2, oracle.budget // 20)  # SB3 needs at least two
    copies = max(1, steps // problem.T)  # so many that each copy can write a whole sequence in a rollout
    model = algorithm(
        actor_critic,
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
    model.set_logger(Logger(None, []))  # otherwise SB3 would make a folder for every rollout
    return model, policy


def at_temperature_one(policy: TorchPolicy) -> TorchPolicy:
    """Divide the head's weights by the temperature, in place, and set the temperature to 1. The distribution is the same."""
    with torch.no_grad():
        for weight in policy.network.head.parameters():
            weight.div_(policy.temperature)
    policy.temperature = 1.0
    return policy
