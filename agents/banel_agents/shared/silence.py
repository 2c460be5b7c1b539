"""Stop an agent that goes on without asking. Its budget would never be spent, so its run would never end.

What is counted are the policies that it yields without a question between them. What happens between two yields is not
counted here: an agent that loops there and asks empty batches is stopped by the oracle (`NothingAsked`), one that does not ask
at all only by `--timeout`. The agents of this package do not loop
there: each of their rounds asks at least one sequence (`base.ask_samples`), and PPO writes every sequence to its end.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable

from banel_envs import Oracle
from banel_envs.errors import BanelError
from banel_envs.policies import Policy

MOST_SILENT = 10_000
"""How many policies may come in a row without a question. With a small budget PPO's rollouts are shorter than a sequence:
at T = 784 it yields 392 policies before a question."""


class AgentSilent(BanelError):
    """An agent yielded very many policies and asked nothing."""


def asking(policies: Iterable[Policy], oracle: Oracle, name: str) -> Generator[Policy, None, None]:
    """The policies of an agent, as long as it goes on asking.

    Raises:
        AgentSilent: more than MOST_SILENT policies came since the last question. The budget may be spent at that time.
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
