"""Which runs are the same under full, failures and blind, so that one of them serves all. None is shared with `typed`."""

from __future__ import annotations

from banel_agents import AGENTS
from banel_leaderboard.records.record import RunRecord


def serves_all(record: RunRecord) -> bool:
    """Whether this run would have asked the same questions if successes had been told, withheld, or all answers had failed.

    That is so if it met no success, and for a shipped control that reads no answer. An agent from elsewhere that takes the
    name of a control is found out when the run is replayed. A run under "typed" never serves: its failures told more, and its
    ledger holds that.
    """
    shipped = AGENTS.get(record.agent)
    if record.feedback == "typed":
        return False
    return record.successes_asked == 0 or (shipped is not None and not shipped.reads_answers)
