"""Tempered SFT without repeats: `tempered_sft`, which asks no sequence twice while its policy writes new ones.

1. Ask samples of the base policy at `temperature` that were not asked before.
2. Whenever a success is told, fit the policy a little further to all distinct successes so far, by maximum likelihood.
3. Ask new samples of the fitted policy at the same temperature; where it writes hardly any, ask its samples again.

Its settings are those of `tempered_sft`, so what it meets beyond that agent is what repeated questions cost. Against
`expert_iteration`: it goes on from its own weights, and does not know the grammar. Under `failures` it is `tempered` without
repeats. Sources: those of `tempered_sft`.

What it does here: it meets 2,076 to 2,519 distinct successes on AdditionAttackHard, where `tempered_sft` meets 1,698 to 2,077
and `expert_iteration` 2,033 to 2,411. On Countdown it meets 6, 35 and 62, against 0, 3 and 11, and 78 to 592 of
`expert_iteration`, which knows the grammar (`python -m benchmarks.agents --agents tempered_sft_new tempered_sft
expert_iteration`, seeds 100 to 102).
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from banel_agents.base import Answers
from banel_agents.controls.tempered_sft import TemperedSFT
from banel_agents.shared.asked import Asked, ask_new
from banel_envs import Oracle
from banel_envs.policies import Policy


class TemperedSFTNew(TemperedSFT):
    """See the module."""

    name = "tempered_sft_new"

    def asker(self, oracle: Oracle, rng: np.random.Generator) -> Callable[[Policy], Answers]:
        """What asks new samples of a policy in one run."""
        asked = Asked()
        return lambda policy: ask_new(asked, policy, self.config.batch, oracle, rng)[1]
