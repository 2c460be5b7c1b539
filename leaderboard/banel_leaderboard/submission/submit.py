"""Write a submission: runs packed, described, checked as a maintainer would, and set beside the others. It never overwrites."""

from __future__ import annotations

import contextlib
import io
import math
import re
import shlex
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import get_args

from pydantic import ValidationError

from banel_envs.errors import BadValue, BanelError
from banel_envs.files.visible import shown, visible
from banel_envs.meter.oracle import Feedback
from banel_leaderboard.board.cells import value_text
from banel_leaderboard.proving.load import Run, load_runs
from banel_leaderboard.ranking.boards import make_boards
from banel_leaderboard.ranking.rows import Board, Question, Row
from banel_leaderboard.records.find_runs import valid_records
from banel_leaderboard.records.pack import pack
from banel_leaderboard.submission.check import check_submission, refuse, submissions_in
from banel_leaderboard.submission.metadata import Submission, Tuning
from banel_leaderboard.submission.steps.completeness import suite_of
from banel_leaderboard.submission.steps.findings import Report
from banel_leaderboard.sweeping.suites import SUITES

MOST_SLUG = 40  # characters of a name in a folder's name
OPTIONS = {
    "authors": "author",
    "configurations": "tuning-configurations",
    "nre": "tuning-nre",
}  # where an option's name is not that of the field
WORDS: dict[Question, str] = {"first": "first success", "distinct": "distinct", "worth": "final rate"}


@dataclass(frozen=True)
class Given:
    """What the submitter says; the rest of a Submission follows from the runs."""

    name: str
    authors: tuple[str, ...]
    date: str
    link: str = ""
    licence: str = ""
    commit: str = ""
    suite: str | None = None
    configurations: int = 0
    nre: int = 0
    attempts: int = 1
    note: str = ""


@dataclass(frozen=True)
class Submitted:
    """A submission that was written."""

    folder: Path
    report: Report
    runs: tuple[Run, ...]
    others: tuple[Run, ...]  # the runs of the other submissions, for comparison


def submit(runs: Path, submissions: Path, given: Given, policies: bool = True) -> Submitted:
    """Write the finished runs of a folder as a submission.

    Args:
        runs: the folder that was handed to --out.
        submissions: the new one is written into it, as `<date>-<name>`.
        given: what the submitter says.
        policies: whether final policies are taken along.

    Raises:
        BadValue: a text is not one that can be shown, there is no run, or the submission is there already.
        BanelError: a check refuses it; nothing was written.
    """
    said = describe(runs, given)
    target = submissions / f"{said.date}-{slug(said.name)}"
    if target.exists() or target.is_symlink():
        raise BadValue(f"{target} is there already, and is not overwritten; give another --name, or remove it yourself")
    try:
        submissions.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise BadValue(f"{submissions} is no folder, and cannot be made one: {error.strerror}; name another") from error
    # A draft beside the others, because a rename works within one disk only. A name with a dot is no submission.
    with tempfile.TemporaryDirectory(prefix=".draft-", dir=submissions) as scratch:
        draft = Path(scratch) / target.name
        pack(runs, draft, policies)
        said.write(draft)
        report, loaded = check_submission(draft, submissions_in(submissions))
        refuse(report)
        draft.rename(target)
    return Submitted(target, report, loaded.runs, _others(submissions, target, loaded.runs))


def describe(runs: Path, given: Given) -> Submission:
    """The submission.json of these runs; BadValue naming the field that is not what it must be."""
    if not runs.is_dir():
        raise BadValue(f"{runs} is not a folder; name the one that was handed to --out of `banel bench`")
    records = list(valid_records(runs))
    if not records:
        raise BadValue(f"{runs} holds no finished run; `banel bench --suite NAME --out {runs}` makes them")
    told = {record.feedback for record in records if not record.twin}
    feedbacks = tuple(feedback for feedback in get_args(Feedback) if feedback in told)
    suite = given.suite or suite_of(records, feedbacks)
    if given.suite is not None and given.suite not in SUITES:
        raise BadValue(f"--suite is {shown(given.suite)}; they are {', '.join(SUITES)}")
    try:
        return Submission(
            name=given.name,
            authors=given.authors,
            link=given.link,
            licence=given.licence,
            commit=given.commit,
            date=given.date,
            suite=suite,
            feedbacks=feedbacks,
            tuning=Tuning(configurations=given.configurations, nre=given.nre),
            attempts=given.attempts,
            kind="tuned" if any(record.tuned for record in records) else "fixed",
            note=given.note,
        )
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        said = visible(first["msg"]).removeprefix("Value error, ")
        option = OPTIONS.get(str(first["loc"][0]), "-".join(map(str, first["loc"])))
        raise BadValue(f"--{option}: {said}, not {shown(first['input'])}; give another --{option}") from error


def slug(name: str) -> str:
    """A name as part of a folder's name: letters and digits of ASCII, and '-'."""
    return re.sub(r"[^a-z0-9]+", "-", name.lower()).strip("-")[:MOST_SLUG].strip("-") or "submission"


def git_lines(folder: Path, name: str) -> list[str]:
    """The three commands that open the pull request."""
    branch = f"submission/{folder.name}"
    message = shlex.quote(f"Submission: {name}")
    return [
        f"git checkout -b {branch}",
        f"git add {shlex.quote(str(folder))} && git commit -m {message}",
        f"git push -u origin {branch}   # and open the pull request that the answer links to",
    ]


def _others(submissions: Path, target: Path, mine: tuple[Run, ...]) -> tuple[Run, ...]:
    """The runs of the other submissions on the same tasks, of agents that this one does not have."""
    tasks, agents = {run.record.task for run in mine}, {run.record.agent for run in mine}
    found: list[Run] = []
    for other in submissions_in(submissions):
        if other.resolve() == target.resolve():
            continue
        with contextlib.suppress(BanelError), contextlib.redirect_stderr(io.StringIO()):
            found += load_runs(other).runs
    return tuple(run for run in found if run.record.task in tasks and run.record.agent not in agents)


def row_lines(mine: tuple[Run, ...], others: tuple[Run, ...]) -> list[str]:
    """What the rows of a submission would look like beside the others, a line for each task, agent and regime."""
    paths = {id(run.record) for run in mine}
    lines = [
        _row_line(board, table.task, row, len(table.rows))
        for board in make_boards((*mine, *others))
        for table in board.tables
        for row in table.rows
        if id(row.runs[0].record) in paths
    ]
    return ["", "its rows, beside those of the other submissions:", *lines]


def _row_line(board: Board, task: str, row: Row, rows: int) -> str:
    ranks = [
        f"{WORDS[question]} {row.ranks.get(question) or 'no rank'} of {rows} ({row.standing(question).word})"
        for question in board.questions
    ]
    return (
        f"    {task} {row.first.agent} {board.regime}, {board.name}: {row.met} of {len(row.runs)} runs met a success; "
        f"log10 final {row.rate} {value_text(row.final, _log10)}; ranks: {', '.join(ranks)}"
    )


def _log10(value: float) -> str:
    return "zero" if math.isinf(value) else f"{value:.3f}"
