"""The board as one HTML file: tables, curves and the glossary. The file loads nothing and uses no framework."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup

from banel_envs.version import __version__
from banel_leaderboard.board import escape, found
from banel_leaderboard.board import overall as across
from banel_leaderboard.board.cells import Cell, gain_text, interval_text, number_text, value_text
from banel_leaderboard.board.chart import Style, panel_of, panel_svg, styles_of
from banel_leaderboard.board.columns import Column, columns
from banel_leaderboard.board.glossary import ABOUT, GLOSSARY, board_note, board_title, question_title
from banel_leaderboard.board.swatches import swatch
from banel_leaderboard.proving.load import Loaded
from banel_leaderboard.ranking.across import Line, overall
from banel_leaderboard.ranking.boards import charted, make_boards
from banel_leaderboard.ranking.marks import marks
from banel_leaderboard.ranking.negative_control import controlled_for, negative_control_note
from banel_leaderboard.ranking.rows import Board, Question, Row, TaskTable

# Two drawings, of which the page shows one: a wide one made small could not be read on a telephone.
SIZES = {"w": (1150, 420), "n": (350, 330)}


@dataclass(frozen=True)
class QuestionView:
    """The table of one question in the form that the template reads."""

    id: str
    question: Question
    title: str
    note: str
    columns: list[Column]
    rows: list[tuple[Row, list[Cell], list[str]]]
    wide: Markup | None  # a drawing of its own, for a wide screen
    narrow: Markup | None  # the same for a narrow one


@dataclass(frozen=True)
class TableView:
    """A task in the form that the template reads."""

    id: str
    task: str
    budget: int
    note: str | None  # for a negative control: whether any agent is above chance
    agents: list[tuple[str, str]]  # those of the legend, and what is said of each
    questions: list[QuestionView]
    wide: Markup | None  # the chart for a wide screen
    narrow: Markup | None  # the same chart for a narrow screen


@dataclass(frozen=True)
class AcrossView:
    """The table over all tasks in the form that the template reads."""

    note: str
    heads: list[across.Head]
    lines: list[tuple[Line, list[Cell]]]
    wide: Markup
    narrow: Markup


@dataclass(frozen=True)
class BoardView:
    """A board in the form that the template reads."""

    id: str
    title: str
    note: str
    across: AcrossView | None
    tables: list[TableView]


def page(loaded: Loaded) -> str:
    """The whole page."""
    from jinja2 import Environment, FileSystemLoader, StrictUndefined

    boards = make_boards(loaded.runs)
    styles = styles_of(run.record.agent for run in loaded.runs)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        finalize=escape.page,  # every text is made safe here, so the template cannot forget one
        trim_blocks=True,
        lstrip_blocks=True,
        undefined=StrictUndefined,
    )
    return environment.get_template("page.html.jinja").render(
        boards=[_board(i, board, styles) for i, board in enumerate(boards)],
        facts=_facts(loaded),
        leaders=[line for b in boards if charted(b) for t in b.tables if (line := _leader(b, t))],
        machines=_machines(loaded),
        glossary=GLOSSARY,
        refused=loaded.refused,
        styles=styles,
        swatches={agent: swatch(style) for agent, style in styles.items()},
        version=__version__,
        versions=sorted({run.version for run in loaded.runs}),
    )


def _board(number: int, board: Board, styles: Mapping[str, Style]) -> BoardView:
    tables = [_table(f"b{number}t{i}", board, table, styles) for i, table in enumerate(board.tables)]
    return BoardView(f"b{number}", board_title(board), board_note(board), _across(f"b{number}x", board, styles), tables)


def _across(name: str, board: Board, styles: Mapping[str, Style]) -> AcrossView | None:
    table = overall(board) if charted(board) else None
    if table is None:
        return None
    wide, narrow = (Markup(across.svg(table, styles, f"{name}{k}", *size)) for k, size in SIZES.items())
    lines = [(line, across.cells(table, line)) for line in table.lines]
    return AcrossView(across.note(table), across.heads(table), lines, wide, narrow)


def _table(name: str, board: Board, table: TaskTable, styles: Mapping[str, Style]) -> TableView:
    wide = narrow = None
    if charted(board):
        panel = panel_of(board, table)
        wide, narrow = (Markup(panel_svg(panel, styles, f"{name}{k}", *size)) for k, size in SIZES.items())
    agents = {row.first.agent: " (selection)" * bool(row.missing) for row in reversed(table.rows)}
    return TableView(
        name,
        table.task,
        table.budget,
        negative_control_note(table),
        list(reversed(agents.items())),
        [_question(f"{name}{question}", board, table, question, styles) for question in board.questions],
        wide,
        narrow,
    )


def _question(
    name: str, board: Board, table: TaskTable, question: Question, styles: Mapping[str, Style]
) -> QuestionView:
    shown = columns(board, question)
    rows = [(row, [c.cell(row) for c in shown], marks(row, table.rows)) for row in table.by(question)]
    wide = narrow = None
    if question == "distinct" and charted(board):
        wide, narrow = (Markup(found.svg(table, styles, f"{name}{k}", w, h // 4 * 3)) for k, (w, h) in SIZES.items())
    return QuestionView(name, question, question_title(question), ABOUT[question], shown, rows, wide, narrow)


def _facts(loaded: Loaded) -> list[tuple[str, str]]:
    records = [run.record for run in loaded.runs]
    counts = {
        "runs": len(records),
        "tasks": len({r.task for r in records}),
        "agents": len({r.agent for r in records}),
        "seeds": len({r.seed for r in records}),
        "evaluations": sum(r.ledger.count for r in records if not r.twin),
        "refused": len(loaded.refused),
    }
    return [(f"{n:,}", name) for name, n in counts.items()]


def _leader(board: Board, table: TaskTable) -> dict[str, Any] | None:
    """Which agents are first on a task in the question that orders the board, and by how much over the base policy.

    None if no row is ranked, and None for a negative control, where the first place is luck.
    """
    ranked = [row for row in table.rows if row.rank == 1]
    if not ranked or controlled_for(table) is not None:
        return None
    base = next((row for row in table.rows if row.first.agent == "base" and row.rank), None)
    first = ranked[0]
    line = {
        "task": table.task,
        "feedback": board.regime,
        "agents": [row.first.agent for row in ranked],
        "of": sum(row.rank is not None for row in table.rows),
    }
    if board.question == "distinct" and first.distinct is not None:
        total = first.distinct.total
        gain = None if base is None or base.distinct is None else f"{value_text(base.distinct.total, number_text)} by"
        said = {"value": value_text(total, number_text), "interval": interval_text(total, number_text), "gain": gain}
        return line | said | {"what": "distinct successes"}
    decades = None
    if base is not None and base.final.known and first.final.known:
        decades = first.final.value - base.final.value
    gain = None if decades is None or not math.isfinite(decades) else f"{gain_text(decades)} decades on"
    said = {"value": value_text(first.final), "interval": interval_text(first.final), "gain": gain}
    return line | said | {"what": f"log₁₀ {board.rate}"}


def _machines(loaded: Loaded) -> list[str]:
    """The machines on which the seconds were measured."""
    made = {(e.processor, e.threads, e.kernel) for e in (r.record.execution for r in loaded.runs)}
    return [
        f"{processor}, {threads} thread{'s' * (threads != 1)}, kernel {used}"
        for processor, threads, used in sorted(made)
    ]
