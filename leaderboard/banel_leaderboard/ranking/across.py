"""All agents across the tasks of a board, one line each: a score for every question, its interval, its rank and its group.

1. *first*: the share of the budget that was spent when the first success was asked, 1 where none was; the mean. Less is better.
2. *distinct*: log10 of (1 + distinct successes) / (1 + distinct successes of `without_replacement`, its median on the
   task); the interquartile mean.
3. *worth*: decades of the final rate above the base policy's success rate, both floored at FLOOR; the interquartile mean.
   A task where one of these rates is not known as a number, but as an interval or not at all, is left out of this question,
   for all agents: the difference of the ends of two intervals is no gain. Only agents that have a rank in it decide that.

Every task has the same weight. Intervals are from a bootstrap that draws the runs of each task from that task.
"""

from __future__ import annotations

import json
import math
import zlib
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np

from banel_leaderboard.proving.load import Run
from banel_leaderboard.ranking.answers import Bases
from banel_leaderboard.ranking.boards import BREAKS_THE_RULE
from banel_leaderboard.ranking.cut import cut
from banel_leaderboard.ranking.negative_control import BAR, controlled_for
from banel_leaderboard.ranking.rows import LEAST_SEEDS, SEED, Board, Question, RateName, Row, TaskTable
from banel_leaderboard.records.record import RunRecord
from banel_leaderboard.running.evaluator import STEPS
from banel_leaderboard.statistics import across
from banel_leaderboard.statistics.medians import RESAMPLES, Floats, median, percentile_interval
from banel_leaderboard.statistics.survival import Survival, kaplan_meier

FLOOR = -12.0  # log10: a rate below 10^-12, zero included, counts as 10^-12
Scores: TypeAlias = dict[Question, tuple[Floats, Floats]]
"""The score of a line in a question: itself [], and in each resample [R]; the larger the better."""
Place: TypeAlias = tuple[int, tuple[int, int] | None, int | None]
"""The rank of a line, the interval of its rank, and its group."""


@dataclass(frozen=True)
class Score:
    """One line's answer to one question, over all tasks."""

    value: float
    low: float | None  # the 95% interval; None where a task has fewer than LEAST_SEEDS runs of it
    high: float | None
    rank: int | None  # None for an agent without ranks
    ranks: tuple[int, int] | None  # the 95% interval of its rank
    group: int | None  # agents of one group cannot be told apart from the best one in it


@dataclass(frozen=True)
class Line:
    """One agent over all tasks."""

    rows: tuple[Row, ...]  # one for each task
    scores: Mapping[Question, Score]
    curve: Survival  # over shares of the budget: which share of runs met no success so far

    @property
    def agent(self) -> str:
        """The agent's name."""
        return self.rows[0].first.agent


@dataclass(frozen=True)
class Overall:
    """A board as one table."""

    board: Board
    tasks: tuple[str, ...]
    lines: tuple[Line, ...]  # best first, in the question that orders the board
    left_out: Mapping[str, str]  # agents that are not in the table, and why
    unscored: tuple[str, ...] = ()  # tasks that the third question leaves out, because a rate is no number there


def overall(board: Board, step: int = STEPS, resamples: int = RESAMPLES) -> Overall | None:
    """The agents of a board over all its tasks; None if no agent has a rank on all of them.

    Negative controls are left out: on them every rank is luck.

    Args:
        board: the board.
        step: of the STEPS equal steps of the budget, the one at which every run is cut off, see cut.py; by default none is.
        resamples: of the bootstrap; with 0 there are scores and ranks without intervals and groups.
    """
    tables = [table for table in board.tables if controlled_for(table) is None]
    if not tables or board.regime == "blind":
        return None
    groups, left_out = _whole(tables)
    if not groups:
        return None
    bases = Bases([run for table in tables for row in table.rows for run in row.runs])
    bars = [_bar(table, step) for table in tables]
    runs = {key: [[cut(run, step) for run in row.runs] for row in rows] for key, rows in groups.items()}
    titles = [table.task for table in tables]
    gains = {key: [[gain_over_base(r.record, board.rate, bases) for r in of] for of in runs[key]] for key in groups}
    known = _known(gains, [key for key, rows in groups.items() if _ranked(rows, "worth")])
    for key in [key for key, of in gains.items() if any(ok and None in on for ok, on in zip(known, of, strict=True))]:
        left_out[_name(groups.pop(key)[0])] = "a final rate without a rank is no number, where all that have one are"
    drawn = {key: _scores(runs[key], gains[key], known, bars, resamples) for key in groups}
    # A question that cannot be answered for every line, for want of a base policy or a bar, is left out of the table.
    asked = [q for q in board.questions if all(q in scores for scores in drawn.values())]
    placed = {q: _places({key: scores[q] for key, scores in drawn.items() if _ranked(groups[key], q)}) for q in asked}
    lines = [
        Line(rows, {q: _score(rows, drawn[key][q], placed[q].get(key), q) for q in asked}, _curve(runs[key]))
        for key, rows in groups.items()
    ]
    lines.sort(key=lambda line: _order(line, board.question))
    unscored = tuple(title for title, ok in zip(titles, known, strict=True) if not ok)
    return Overall(board, tuple(titles), tuple(lines), left_out, unscored)


def _known(gains: Mapping[str, Sequence[Sequence[float | None]]], ranked: Sequence[str]) -> list[bool]:
    """For each task whether every gain is a number, of the ranked lines if there are any.

    A line without a rank is not asked: nobody has checked its rates, and it must not take a task from the others.
    """
    asked = [gains[key] for key in ranked or gains]
    return [all(None not in on for on in of) for of in zip(*asked, strict=True)]


def _order(line: Line, question: Question) -> tuple[Any, ...]:
    score = line.scores.get(question)
    rank = math.inf if score is None or score.rank is None else score.rank
    return rank, line.agent


def _whole(tables: Sequence[TaskTable]) -> tuple[dict[str, tuple[Row, ...]], dict[str, str]]:
    """The rows of each agent that can be compared on every task, and why others cannot."""
    found: dict[str, list[Row]] = defaultdict(list)
    for table in tables:
        for row in table.rows:
            run = row.runs[0]
            key = json.dumps([run.submission, run.record.agent, run.record.config, run.version], sort_keys=True)
            found[key].append(row)
    groups, left_out = {}, {}
    for key, rows in found.items():
        agent = _name(rows[0])
        unranked = sum(all(rank is None for rank in row.ranks.values()) for row in rows)
        if len(rows) < len(tables):
            left_out[agent] = f"on {len(rows)} of {len(tables)} tasks"
        elif unranked and rows[0].unranked != BREAKS_THE_RULE:
            left_out[agent] = f"no rank on {unranked} of {len(tables)} tasks"
        else:
            groups[key] = tuple(rows)
    return groups, {agent: why for agent, why in left_out.items() if all(agent != _name(g[0]) for g in groups.values())}


def _name(row: Row) -> str:
    """The agent, and the submission where several are read."""
    submission = row.runs[0].submission
    return f"{row.first.agent} of {submission}" if submission else row.first.agent


def _ranked(rows: Sequence[Row], question: Question) -> bool:
    return all(row.ranks.get(question) is not None for row in rows)


def _bar(table: TaskTable, step: int) -> float | None:
    """The median number of distinct successes that `without_replacement` asked on a task; None if it did not run."""
    row = next((row for row in table.rows if row.first.agent == BAR and row.distinct is not None), None)
    return None if row is None else float(median(np.array([len(cut(run, step).asked.found) for run in row.runs])))


def _scores(
    tasks: Sequence[Sequence[Run]],
    gains: Sequence[Sequence[float | None]],
    known: Sequence[bool],
    bars: Sequence[float | None],
    resamples: int,
) -> Scores:
    """The scores of a line in the data and in each resample.

    Args:
        tasks: its runs, task by task.
        gains: for each run its gain over the base policy.
        known: for each task whether all runs of all lines have one.
        bars: for each task the distinct successes of `without_replacement`.
        resamples: of the bootstrap.
    """
    sizes = [len(runs) for runs in tasks]
    first = tasks[0][0]
    name = json.dumps([first.record.agent, first.record.config, *filter(None, [first.submission])], sort_keys=True)
    # By its name, so that another agent on the board changes no interval, and no two agents share their draws.
    rng = np.random.default_rng([SEED, zlib.crc32(name.encode())])
    weights = np.vstack([across.even_weights(sizes)[None], across.stratified(sizes, rng, resamples)])
    shares = np.array([_share(run.record)[0] for runs in tasks for run in runs])
    found: Scores = {"first": _split(-across.mean(shares, weights))}
    if None not in bars:
        ratios = [
            math.log10((1 + len(run.asked.found)) / (1 + bar))
            for runs, bar in zip(tasks, bars, strict=True)
            if bar is not None
            for run in runs
        ]
        found["distinct"] = _split(across.interquartile_mean(np.array(ratios), weights))
    if any(known):
        inside = np.repeat(known, sizes)
        scored = np.array([gain for ok, of in zip(known, gains, strict=True) if ok for gain in of], np.float64)
        found["worth"] = _split(across.interquartile_mean(scored, weights[:, inside]))
    return found


def _split(scores: Floats) -> tuple[Floats, Floats]:
    rounded = np.round(scores, 9)  # equal runs in another order have equal sums but for the last bits
    return rounded[0], rounded[1:]


def _share(record: RunRecord) -> tuple[float, bool]:
    """The share of the budget at the first success, or 1; and whether there was one."""
    if record.first_success is None:
        return 1.0, False
    return record.first_success / record.budget, True


def gain_over_base(record: RunRecord, rate: RateName, bases: Bases) -> float | None:
    """How many decades the final rate is above the base policy's success, both floored at FLOOR.

    None without a base policy, or where one of the two rates is known as an interval only.
    """
    base = bases.of(record)
    if base is None or base[0] != base[1] or record.final(rate) != record.final(rate, "high"):
        return None
    return max(record.final(rate), FLOOR) - max(base[0], FLOOR)


def _places(scores: Mapping[str, tuple[Floats, Floats]]) -> dict[str, Place]:
    """Rank, interval of the rank, and group of each ranked line; the rank alone where nothing was drawn."""
    if not scores:
        return {}
    values = np.array([value for value, _ in scores.values()])
    drawn = np.array([samples for _, samples in scores.values()])
    ranks = across.ranks(values[:, None])[:, 0].tolist()
    if not drawn.size:
        return {key: (rank, None, None) for key, rank in zip(scores, ranks, strict=True)}
    places = zip(
        ranks,
        across.rank_intervals(drawn),
        across.tie_groups(values, drawn),
        strict=True,
    )
    return dict(zip(scores, places, strict=True))


def _score(
    rows: Sequence[Row],
    score: tuple[Floats, Floats],
    place: Place | None,
    question: Question,
) -> Score:
    # Seeds that asked the same questions are one run without any spread, which is what there is to know of them.
    enough = min(len(row.runs) + len(row.copies) for row in rows) >= LEAST_SEEDS and score[1].size > 0
    ends = percentile_interval(score[1]) if enough else (None, None)
    value, low, high = float(score[0]), ends[0], ends[1]
    if question == "first":  # shown as the share itself, of which less is better
        value, low, high = -value, None if high is None else -high, None if low is None else -low
    if place is None or not enough:
        return Score(value, low, high, None if place is None else place[0], None, None)
    return Score(value, low, high, *place)


def _curve(tasks: Sequence[Sequence[Run]]) -> Survival:
    shares = [_share(run.record) for runs in tasks for run in runs]
    times, met = np.array([s for s, _ in shares]), np.array([m for _, m in shares])
    return kaplan_meier(times, met, across.even_weights([len(runs) for runs in tasks]))
