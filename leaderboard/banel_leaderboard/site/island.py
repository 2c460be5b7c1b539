"""The data of the page as one text: submissions, entries, tasks, and the boards with their rows and sets of tasks.

It is JSON, deflated and written in base64, which every browser of today undoes without a library (DecompressionStream).
"""

from __future__ import annotations

import base64
import json
import math
import zlib
from collections.abc import Sequence
from typing import Any

from banel_envs.files.visible import visible
from banel_envs.version import __version__
from banel_leaderboard.board.glossary import board_note, board_title
from banel_leaderboard.proving.load import Run
from banel_leaderboard.proving.standing import Standing
from banel_leaderboard.ranking.answers import Bases
from banel_leaderboard.ranking.boards import make_boards
from banel_leaderboard.ranking.negative_control import negative_control_note
from banel_leaderboard.ranking.rows import Board, TaskTable
from banel_leaderboard.running.evaluator import STEPS
from banel_leaderboard.site.entries import Index, family
from banel_leaderboard.site.gather import Gathered, Handed
from banel_leaderboard.site.rows import COST, LEAST_COST, packed
from banel_leaderboard.site.sets import shown_sets

FORM = 1  # the number of this form of the data


def island(gathered: Gathered) -> str:
    """The data as base64, which has no sign that could end the element that it stands in."""
    text = json.dumps(data(gathered), ensure_ascii=False, separators=(",", ":"))
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def data(gathered: Gathered) -> dict[str, Any]:
    """The data; the same submissions give the same."""
    runs = [run for handed in gathered.handed for run in handed.runs]
    boards = [board for board in make_boards(runs) if board.name != "off"]
    index = Index.of([run for run in runs if not run.record.off_board])
    numbers = {handed.id: i for i, handed in enumerate(gathered.handed)}
    # The boards come first: they number the tasks and the notes.
    shown = [_board(board, index) for board in boards]
    of_run = {run.submission: i for i, handed in enumerate(gathered.handed) for run in handed.runs}
    return {
        "form": FORM,
        "version": __version__,
        "steps": STEPS,
        "cost": [COST, LEAST_COST],
        "standings": [standing.word for standing in Standing],
        "submissions": [_submission(handed) for handed in gathered.handed],
        "unread": [[visible(name), visible(why)] for name, why in gathered.unread],
        "entries": [entry.shown(of_run.get(entry.submission, len(numbers))) for entry in index.entries],
        "tasks": _tasks(index, boards, runs),
        "boards": shown,
        "notes": index.notes,
    }


def _submission(handed: Handed) -> dict[str, Any]:
    """What a submission says of itself (all of it reported), and how many of its runs count."""
    made: dict[str, Any] = {
        "id": visible(handed.id),
        "page": f"submissions/{handed.page}.html",
        "runs": len(handed.runs),
        "refused": len(handed.loaded.refused),
    }
    if handed.rerun is not None:
        made["rerun"] = [visible(handed.rerun.agent), handed.rerun.verdict]
    said = handed.said
    if said is None:
        return made | {"name": "", "date": "", "suite": ""}
    return made | {"name": visible(said.name), "date": visible(said.date), "suite": visible(said.suite)}


def _board(board: Board, index: Index) -> dict[str, Any]:
    notes = {index.task(t.task): note for t in board.tables if (note := negative_control_note(t))}
    return {
        "name": board.name,
        "regime": board.regime,
        "question": board.question,
        "questions": list(board.questions),
        "rate": board.rate,
        "title": board_title(board),
        "note": board_note(board),
        "rows": packed(board, index),
        "sets": [] if board.regime == "blind" else shown_sets(board, index),
        "controls": notes,
    }


def _tasks(index: Index, boards: Sequence[Board], runs: Sequence[Run]) -> list[dict[str, Any]]:
    tables: dict[str, TaskTable] = {table.task: table for board in reversed(boards) for table in board.tables}
    bases = Bases(runs)
    made = []
    for title in index.tasks:
        record = tables[title].rows[0].first
        span = bases.of(record)
        base = None if span is None or math.isinf(span[0]) else round(span[0], 2)
        made.append({"id": visible(title), "family": family(record.task), "budget": tables[title].budget, "base": base})
    return made
