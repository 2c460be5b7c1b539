"""Gather verified runs into rows, one for each agent and its settings, and rank the rows within each task.

Rows are never compared across boards. There is one board for each name and regime. The names are `fixed` (default
settings and the task's own budget), `tuned` (other settings) and `off` (another budget, or inherited answers). The
regimes are "failures" (successes are withheld), ordered by the final success rate; "full" (every reward is told), ordered
by the number of distinct successes asked, because an agent that repeats its first success for ever has a success rate of
1; "typed" (successes are withheld, and each failure comes with its type), ordered by the final success rate; and "blind" (told
nothing), the oracle-free twins. A run that met no success, or whose agent reads no answer, is the same under all regimes but
"typed", so it counts in each of these. A run under "typed" counts there alone.

Each question has ranks of its own. The first two rank the rows whose answers are proved, the third those whose rates are.
"""

from __future__ import annotations

import dataclasses
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, get_args

from banel_agents import AGENTS
from banel_leaderboard.proving.load import Identity, Run
from banel_leaderboard.proving.standing import Standing
from banel_leaderboard.ranking import answers
from banel_leaderboard.ranking.rows import (
    Board,
    BoardName,
    Estimate,
    Question,
    RateName,
    Regime,
    Row,
    TaskTable,
    in_order,
)
from banel_leaderboard.ranking.seed_sets import incomplete, without_copies
from banel_leaderboard.records.record import RunRecord
from banel_leaderboard.records.served import serves_all

Twins: TypeAlias = dict[tuple[Identity, int], RunRecord]
QUESTION: Mapping[Regime, Question] = {"failures": "worth", "full": "distinct", "typed": "worth", "blind": "worth"}
RATE: Mapping[Regime, RateName] = {"failures": "success", "full": "fresh", "typed": "success", "blind": "success"}
BREAKS_THE_RULE = "it breaks the rule of withheld successes on purpose, to show what they are worth"


def make_boards(runs: Sequence[Run]) -> list[Board]:
    """Every board that has at least one row, for each name and regime."""
    twins = {(r.identity, r.record.seed): r.record for r in runs if r.record.twin}
    bases = answers.Bases(runs)
    boards = []
    for name in get_args(BoardName):
        own = [r for r in runs if board_of(r.record) == name]
        boards += [_board(name, regime, own, twins, bases) for regime in get_args(Regime)]
    return [board for board in boards if board.tables]


def charted(board: Board) -> bool:
    """Whether the board's curves are drawn: only those of the fixed boards of the two feedbacks are."""
    return board.name == "fixed" and board.regime != "blind"


def board_of(record: RunRecord) -> BoardName:
    """The name of the board that a run stands on."""
    if record.off_board:
        return "off"
    return "tuned" if record.tuned else "fixed"


def regime_of(record: RunRecord) -> Regime:
    """What the agent was told: the feedback, or nothing."""
    return "blind" if record.twin else record.feedback


def serve(runs: Sequence[Run], regime: Regime) -> list[tuple[list[Run], tuple[int, ...]]]:
    """The rows of a regime: for each row its runs in the order of their seeds, and the seeds that are missing from it.

    A row first takes the runs of its own regime. Then it takes runs of another regime that would have been the same here
    (`serves_all`); twins are never taken, and "typed" gives and takes none. A seed that met a success under another regime,
    and did not run under this one, is missing. A row with taken runs and a missing seed is a selection of the unlucky seeds,
    and so it is not ranked. An agent that made no run at all under the regime was not asked for there: it has rows only where
    no seed is missing.

    A regime has rows only if at least one run was made under it. A sweep that asks for both feedbacks runs `full` first
    and leaves out every `failures` run that could only repeat the `full` one. So a task without `full` runs of its own
    was not asked for under `full`, and gets no rows there. A task without `failures` runs of its own can still get all
    its rows from `full` runs, provided that some other task was run under `failures`.
    """
    ran = {(r.record.task, r.record.digest) for r in runs if regime_of(r.record) == regime}
    if regime == "full":
        runs = [r for r in runs if (r.record.task, r.record.digest) in ran]
    if not ran:
        return []
    groups: dict[Any, list[Run]] = defaultdict(list)
    for run in runs:
        groups[run.identity].append(run)
    asked_for = {r.record.agent for r in runs if regime_of(r.record) == regime}
    rows = []
    for group in groups.values():
        own = {r.record.seed: r for r in group if regime_of(r.record) == regime}
        untyped = [] if regime == "typed" else [r for r in group if r.record.feedback != "typed"]
        others = [r for r in untyped if not r.record.twin and r.record.seed not in own]
        same = {r.record.seed: r for r in others if serves_all(r.record)}
        if not own and (regime == "blind" or not same):
            continue
        served = same | own  # a run of the own regime comes before one that would have been the same
        missing = {r.record.seed for r in others} - served.keys() if same else set()
        if missing and not own and group[0].record.agent not in asked_for:
            continue
        rows.append(([served[seed] for seed in sorted(served)], tuple(sorted(missing))))
    return rows


def _board(name: BoardName, regime: Regime, runs: list[Run], twins: Twins, bases: answers.Bases) -> Board:
    digests: dict[str, set[str]] = defaultdict(set)
    for run in runs:
        digests[run.record.task].add(run.record.digest)
    by_task: dict[str, list[Row]] = defaultdict(list)
    for served, missing in serve(runs, regime):
        task, digest = served[0].record.task, served[0].record.digest
        # Runs of one task id on other assets are on another task, so they get a table of their own.
        title = task if len(digests[task]) == 1 else f"{task} ({digest[:8]})"
        by_task[title].append(_row(served, regime, missing, twins, bases))
    tasks = sorted(by_task.items())
    tables = tuple(TaskTable(task, rows[0].first.budget, _ranked(rows, fair=name != "off")) for task, rows in tasks)
    return Board(name, regime, QUESTION[regime], RATE[regime], tables)


def _row(runs: list[Run], regime: Regime, missing: tuple[int, ...], twins: Twins, bases: answers.Bases) -> Row:
    # The seed set is checked before copies are left out, since an agent without randomness has copies for all seeds.
    wrong = incomplete(runs[0].record.task, [r.record.seed for r in runs])
    runs, copies = without_copies(runs)
    records = [r.record for r in runs]
    rate, blind = RATE[regime], regime == "blind"
    gains = [] if blind else [g for r in runs if (g := answers.gain_over_twin(r, rate, twins)) is not None]
    return Row(
        runs=tuple(runs),
        question=QUESTION[regime],
        ranks={},
        first_success=None if blind else answers.first_success(records, bases),
        distinct=None if blind else answers.distinct(runs),
        rate=rate,
        final=answers.final(records, rate),
        best=answers.final(records, rate, "best"),
        mixture=answers.final(records, rate, "mixture"),
        other=answers.final(records, "success" if rate == "fresh" else "fresh"),
        # Without this condition only the seeds that met no success, which are their own twins, would count.
        gain=Estimate.of(gains) if len(gains) == len(runs) else None,
        missing=missing,
        incomplete=wrong,
        copies=copies,
    )


def _ranked(rows: list[Row], fair: bool) -> tuple[Row, ...]:
    """The rows with their ranks, in the order of the board's question; equal scores share a rank.

    A row whose rank would mislead is shown without one: a selection, a row with a wrong seed set, an agent that breaks the
    rule, or every row where `fair` is false.
    """
    allowed = [row.first.agent not in AGENTS or AGENTS[row.first.agent].ranked for row in rows]
    whole = [fair and ok and not r.missing and r.incomplete is None for r, ok in zip(rows, allowed, strict=True)]
    ranks: list[dict[Question, int | None]] = [{} for _ in rows]
    why = [None if ok else BREAKS_THE_RULE for ok in allowed]
    for question in get_args(Question):
        for i, (rank, reason) in enumerate(_ranks(rows, whole, question)):
            ranks[i][question] = rank
            why[i] = why[i] or reason
    done = [dataclasses.replace(r, ranks=k, unranked=w) for r, k, w in zip(rows, ranks, why, strict=True)]
    return in_order(done, rows[0].question)


def _ranks(rows: list[Row], whole: list[bool], question: Question) -> list[tuple[int | None, str | None]]:
    """The rank of each row in a question, or why it has none although it is whole.

    A row that is only reported has no rank beside rows that were recomputed or replayed.
    """
    # Where nothing could be recomputed, rows are ranked by what is reported. One recomputed row raises the bar for all.
    best = max((r.standing(question) for r, w in zip(rows, whole, strict=True) if w), default=Standing.REPORTED)
    bar = min(Standing.RECOMPUTED, best)
    scores = [r.score(question) for r, w in zip(rows, whole, strict=True) if w and r.standing(question) >= bar]
    what = "rates" if question == "worth" else "answers"
    found: list[tuple[int | None, str | None]] = []
    for row, w in zip(rows, whole, strict=True):
        if w and row.standing(question) < bar:
            found.append((None, f"its {what} are only reported, and those of other rows are recomputed"))
        else:
            found.append((1 + sum(s > row.score(question) for s in scores) if w else None, None))
    return found
