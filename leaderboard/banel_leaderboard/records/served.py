"""Which runs are the same under every regime, so that one of them serves all."""

from __future__ import annotations

from banel_agents import AGENTS
from banel_leaderboard.records.record import RunRecord


def serves_all(record: RunRecord) -> bool:
    """Whether this run would have asked the same questions if successes had been told, withheld, or all answers had failed.

    That is so if it met no success, and for a shipped control that reads no answer. An agent from elsewhere that takes the
    name of a control is found out when the run is replayed.
    """
    shipped = AGENTS.get(record.agent)
    return record.successes_asked == 0 or (shipped is not None and not shipped.reads_answers)
