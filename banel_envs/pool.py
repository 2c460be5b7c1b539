"""Pool: what a task ships where its successes are too rare to be met and too many to be enumerated.

A pool may have no proposals. It then says how many samples are drawn from a policy that is measured, such as a language model,
whose samples take long; the successes that a run asked still raise the lower end of its rate.

It is data only. How a success rate is estimated with it, and when such an estimate is believed, is said in
banel_envs/measure/importance.py.
"""

from __future__ import annotations

from dataclasses import dataclass

from banel_envs.policies.autoregressive import Ints
from banel_envs.policies.protocol import Policy


@dataclass(frozen=True)
class Proposal:
    """A policy that succeeds often, and the successes that were drawn from it once."""

    policy: Policy
    drawn: int  # N_q: how many sequences were drawn from it
    successes: Ints  # the successes among them [S, T], repeats kept


@dataclass(frozen=True)
class Pool:
    """What a task ships so that rare success rates can be estimated."""

    proposals: tuple[Proposal, ...]
    samples: int = 5_000  # n: the size of the counting sample, which is drawn from a policy that is measured
    final: int = 50_000  # the same for the last policy of a run, whose rate ranks the run
