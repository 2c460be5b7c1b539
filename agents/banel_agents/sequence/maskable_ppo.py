"""MaskablePPO of sb3-contrib: PPO that never writes a token which the public grammar forbids.

It is `ppo` with the same actor, critic, rollouts and settings. At each token the logits of the tokens that the task's action
mask forbids are taken away, in sampling and in the update, and the entropy bonus counts the legal tokens only. So the policy
asked, and yielded, is the network within the grammar: each token's probability is divided by what is left of the mass.
Sources: Huang and Ontanon 2022 (arXiv 2006.14171); Schulman et al. 2017.

Where a task has no grammar it is `ppo`. The grammar must have few states (`Problem.automaton`), or no policy could be stored.

What it does here: on AdditionAttack it meets its first success after 50 to 265 questions and 223, 496 and 3,252 distinct ones,
where `ppo` meets its first after 389 to 1,763 and 128 to 314; both end at a success rate near 1, on 50 to 3,208 effective
successes against 8 to 21 (`python -m benchmarks.agents --agents maskable_ppo ppo --tasks banel/AdditionAttack-v0`, seeds 100 to
102). The settings are those of `ppo` and were not tried out again.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from gymnasium import spaces
from sb3_contrib import MaskablePPO as ContribPPO
from sb3_contrib.common.maskable.policies import MaskableActorCriticPolicy

from banel_agents.sequence.ppo import PPOConfig, numbers_of, start_from, structure, updates
from banel_agents.shared.grammar import within_grammar
from banel_envs import Oracle, Problem
from banel_envs.policies import Policy
from banel_envs.policies.torch_policy import Network


class MaskableActorCritic(MaskableActorCriticPolicy):
    """PPO's actor and critic, with masks."""

    def __init__(
        self, observation_space: spaces.Dict, action_space: spaces.Space[Any], lr_schedule: Any, network: Network
    ) -> None:
        self._head = [network.head]  # in a list, because PyTorch accepts modules only after super().__init__
        super().__init__(numbers_of(observation_space), action_space, lr_schedule, **structure(network))

    def _build(self, lr_schedule: Any) -> None:
        super()._build(lr_schedule)
        start_from(self, self._head[0], lr_schedule(1))


class MaskablePPO:
    """See the module."""

    name = "maskable_ppo"
    Config = PPOConfig
    learns_from = "successes"

    def __init__(self, config: PPOConfig | None = None) -> None:
        self.config = config or PPOConfig()

    def learn(self, problem: Problem, oracle: Oracle, rng: np.random.Generator) -> Iterator[Policy]:
        """Yield the base policy within the grammar, then a snapshot of it after each update.

        Raises:
            BadValue: the grammar has no automaton.
        """
        if problem.allowed is not None:
            problem.automaton()  # raises before anything is asked
        for policy in updates(problem, oracle, rng, self.config, ContribPPO, MaskableActorCritic):
            yield within_grammar(problem, policy)
