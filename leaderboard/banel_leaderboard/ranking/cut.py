"""Runs cut off at a step of their budget: what each had asked and measured by then.

A cut run is what the run was at that NRE, not what the agent would do with a smaller budget: an agent knows its budget, and
some spread what they do over it.
"""

from __future__ import annotations

import dataclasses

from banel_leaderboard.proving.asked import Asked
from banel_leaderboard.proving.load import Run
from banel_leaderboard.running.evaluator import STEPS


def nre_at(budget: int, step: int) -> int:
    """The NRE at which step k of the STEPS equal steps of a budget ends, which is the grid's."""
    return round(step * budget / STEPS)


def cut(run: Run, step: int) -> Run:
    """A run as it stood at a step of its budget, 1 to STEPS; the run itself at the last one."""
    record = run.record
    budget = nre_at(record.budget, step)
    if step >= STEPS:
        return run
    first = record.first_success
    changed = {
        "budget": budget,
        "points": [p for p in record.points if p.nre <= budget] or record.points[:1],
        "first_success": first if first is not None and first <= budget else None,
        "ledger": record.ledger.model_copy(update={"count": min(record.ledger.count, budget)}),
    }
    asked = Asked(run.asked.digest, run.asked.found[run.asked.found <= budget])
    return dataclasses.replace(run, record=record.model_copy(update=changed), asked=asked)
