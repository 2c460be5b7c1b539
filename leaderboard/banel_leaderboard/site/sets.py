"""The sets of tasks that the overview can be about, and every agent's scores over each: all tasks, a suite's, a family's.

A single task needs no set: its table is the overview then.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from banel_envs.files.visible import visible
from banel_leaderboard.ranking.across import Line, Overall, Score, overall
from banel_leaderboard.ranking.negative_control import controlled_for
from banel_leaderboard.ranking.rows import Board, Question, TaskTable
from banel_leaderboard.running.evaluator import STEPS
from banel_leaderboard.site import packing
from banel_leaderboard.site.entries import OTHER, Index, family
from banel_leaderboard.site.packing import Number
from banel_leaderboard.sweeping.suites import SUITES

WHOLE = "all"
LEAST_PART = 0.5  # a suite of which fewer tasks are here is not offered
HUNDREDTHS, THOUSANDTHS = 100, 1_000


@dataclass(frozen=True)
class TaskSet:
    """Some tasks of a board under a name."""

    key: str  # in the address of a view
    label: str
    tables: tuple[TaskTable, ...]


def task_sets(board: Board) -> list[TaskSet]:
    """All tasks first, then suites and families; each set of tasks once. Negative controls are in none: ranks there are luck."""
    tables = tuple(table for table in board.tables if controlled_for(table) is None)
    made = [TaskSet(WHOLE, f"all {len(tables)} tasks", tables)] if tables else []
    for name, suite in SUITES.items():
        for i, part in enumerate(suite.parts):  # some agents run on a part of the suite's tasks only
            own = tuple(table for table in tables if table.task in part.tasks)
            if len(own) >= LEAST_PART * len(part.tasks):
                key, said = (f"suite:{name}:{i}", f"{name}: {part.about}") if i else (f"suite:{name}", name)
                _add(made, TaskSet(key, f"suite {said} ({_of(len(own), len(part.tasks))})", own))
    families = sorted({_family(table) for table in tables} - {OTHER})
    for name in families:
        own = tuple(table for table in tables if _family(table) == name)
        if len(own) > 1:
            _add(made, TaskSet(f"family:{name}", f"family {name} ({len(own)} tasks)", own))
    return made


def shown_sets(board: Board, index: Index) -> list[dict[str, Any]]:
    """The sets of a board with the scores of every agent in them, at every step of the budget."""
    return [_shown(board, chosen, index) for chosen in task_sets(board)]


def _add(made: list[TaskSet], new: TaskSet) -> None:
    if new.tables and all(new.tables != other.tables for other in made):
        made.append(new)


def _of(part: int, whole: int) -> str:
    return f"{whole} tasks" if part == whole else f"{part} of its {whole} tasks"


def _family(table: TaskTable) -> str:
    return family(table.rows[0].first.task)


def _shown(board: Board, chosen: TaskSet, index: Index) -> dict[str, Any]:
    part = dataclasses.replace(board, tables=chosen.tables)
    whole = overall(part)
    made: dict[str, Any] = {
        "key": chosen.key,
        "label": chosen.label,
        "tasks": [index.task(table.task) for table in chosen.tables],
    }
    if whole is None:
        return made
    # A run that was cut off has no interval: those of the whole budget are what a reader compares by.
    steps = [overall(part, step, resamples=0) for step in range(1, STEPS)]
    left = [[visible(agent), visible(why)] for agent, why in whole.left_out.items()]
    return made | {"left": left, "lines": _lines(whole, [table for table in steps if table is not None], index)}


def _lines(whole: Overall, steps: Sequence[Overall], index: Index) -> dict[str, Any]:
    numbers = [index.entry(line.rows[0]) for line in whole.lines]
    at_step = [{index.entry(line.rows[0]): line for line in table.lines} for table in steps]
    made: dict[str, Any] = {"entry": packing.column(numbers)}
    for question in [q for q in whole.board.questions if q in whole.lines[0].scores]:
        # The mean share of the budget at the first success is a plain mean, which the page takes of what the seeds reached.
        series = [
            [
                lines[n].scores[question].value if n in lines and question in lines[n].scores else None
                for lines in at_step
            ]
            if question != "first"
            else []
            for n in numbers
        ]
        made[question] = _question(whole.lines, question, series)
    return made


def _question(lines: Sequence[Line], question: Question, series: Sequence[Sequence[Number]]) -> dict[str, Any]:
    """A question's columns: the score at every step, and at the last one its interval, rank and tier."""
    scale = THOUSANDTHS if question == "first" else HUNDREDTHS
    scores = [line.scores[question] for line in lines]

    def column(read: Callable[[Score], Number], of: int = 1) -> dict[str, Any]:
        return packing.column(map(read, scores), of)

    return {
        "value": packing.lists(([*row, s.value] for row, s in zip(series, scores, strict=True)), scale),
        "low": column(lambda s: s.low, scale),
        "high": column(lambda s: s.high, scale),
        "rank": column(lambda s: s.rank),
        "rank_low": column(lambda s: None if s.ranks is None else s.ranks[0]),
        "rank_high": column(lambda s: None if s.ranks is None else s.ranks[1]),
        "tier": column(lambda s: s.group),
    }
