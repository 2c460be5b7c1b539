"""An agent that goes on without asking never comes to the end of its budget: it ends with a typed error.

Counted are policies yielded without a question between them. What an agent does between two yields nobody counts: one that
loops there without asking is stopped by `--timeout` alone. The agents here cannot: each of their rounds asks
(`base.ask_samples`, settings from 1 on), and PPO writes sequences to their end.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable

from banel_envs import Oracle
from banel_envs.errors import BanelError
from banel_envs.policies import Policy

MOST_SILENT = 10_000
"""Policies in a row without a question. PPO's rollouts are short on a small budget: on T = 784 it yields 392."""


class AgentSilent(BanelError):
    """An agent yielded policy after policy and asked nothing."""


def asking(policies: Iterable[Policy], oracle: Oracle, name: str) -> Generator[Policy, None, None]:
    """The policies as they come, as long as the agent goes on asking.

    Raises:
        AgentSilent: more than MOST_SILENT policies came since the last question, which may also be after the budget's end.
    """
    count, silent = oracle.count, 0
    for policy in policies:
        silent = silent + 1 if oracle.count == count else 1
        count = oracle.count
        if silent > MOST_SILENT:
            raise AgentSilent(
                f"{name} yielded {silent:,} policies without a question, at NRE {count:,} of {oracle.budget:,}; "
                f"ask between yields, and return from learn when there is nothing to ask (at most {MOST_SILENT:,} in a row)"
            )
        yield policy
