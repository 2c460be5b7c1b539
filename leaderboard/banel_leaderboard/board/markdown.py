"""The board as Markdown tables: the agents across all tasks, then for each question the agents on each task."""

from __future__ import annotations

from banel_leaderboard.board import overall as across
from banel_leaderboard.board.cells import NONE, Cell
from banel_leaderboard.board.columns import columns
from banel_leaderboard.board.escape import code
from banel_leaderboard.board.escape import markdown as escaped
from banel_leaderboard.board.glossary import ABOUT, GLOSSARY, board_note, board_title, question_title
from banel_leaderboard.proving.load import Loaded
from banel_leaderboard.ranking.across import overall
from banel_leaderboard.ranking.boards import charted, make_boards
from banel_leaderboard.ranking.marks import marks
from banel_leaderboard.ranking.negative_control import negative_control_note
from banel_leaderboard.ranking.rows import Board, Question, Row

MOST_NOTE = 2_000  # characters of a note above a table; it names many agents, and so it can be long


def markdown(loaded: Loaded) -> str:
    """All tables, then the glossary, then the runs that were refused."""
    parts = ["# Board", *map(_board, make_boards(loaded.runs))]
    parts.append("## Words\n\n" + "\n".join(f"- **{word}**: {meaning}" for word, meaning in GLOSSARY.items()))
    if loaded.refused:
        lines = "\n".join(f"- {code(r.path)}: {escaped(r.reason)}" for r in loaded.refused)
        parts.append(f"## Refused\n\nThese runs do not count:\n\n{lines}")
    return "\n\n".join(parts) + "\n"


def _board(board: Board) -> str:
    said = [
        board_note(board),
        *(escaped(f"{t.task}: {note}", MOST_NOTE) for t in board.tables if (note := negative_control_note(t))),
    ]
    notes: list[str] = []
    parts = [f"## {board_title(board)}", *said]
    parts += _across(board) if charted(board) else []
    for question in board.questions:
        parts += [f"### {question_title(question)}", ABOUT[question], _question(board, question, notes)]
    return "\n\n".join(parts + [f"({i}) {note}" for i, note in enumerate(notes, 1)])


def _across(board: Board) -> list[str]:
    """The table over all tasks; nothing where no agent has a rank on all of them."""
    table = overall(board)
    if table is None:
        return []
    heads = ["agent", *(head.heading for head in across.heads(table))]
    lines = [_line(heads), _line(["---", *("---:" for _ in heads[1:])])]
    lines += [_line([code(line.agent), *map(_cell, across.cells(table, line))]) for line in table.lines]
    return ["### Across tasks", escaped(across.note(table), MOST_NOTE), "\n".join(lines)]


def _question(board: Board, question: Question, notes: list[str]) -> str:
    """The table of a question, over all tasks; what must be said of its rows is added to the notes."""
    shown = columns(board, question)
    lines = [_line(["task", "rank", "agent", *(c.heading for c in shown)])]
    lines.append(_line(["---", "---:", "---", *("---:" for _ in shown)]))
    for table in board.tables:
        for row in table.by(question):
            rank = row.ranks.get(question)
            name = code(row.first.agent) + _marked(row, table.rows, table.task, notes)
            lines.append(
                _line(
                    [
                        escaped(table.task),
                        NONE if rank is None else str(rank),
                        name,
                        *(_cell(c.cell(row)) for c in shown),
                    ]
                )
            )
    return "\n".join(lines)


def _marked(row: Row, among: tuple[Row, ...], task: str, notes: list[str]) -> str:
    """The number of the note about a row, such as " (2)"; nothing if there is none."""
    found = marks(row, among)
    if not found:
        return ""
    note = f"{code(row.first.agent)} on {escaped(task)}: {'; '.join(map(escaped, found))}"
    if note not in notes:
        notes.append(note)
    return f" ({notes.index(note) + 1})"


def _cell(cell: Cell) -> str:
    return f"{cell.text} {cell.detail}".strip()


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
