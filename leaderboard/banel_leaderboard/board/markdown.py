"""The board as Markdown tables."""

from __future__ import annotations

from banel_leaderboard.board.columns import NONE, Cell, columns
from banel_leaderboard.board.escape import code
from banel_leaderboard.board.escape import markdown as escaped
from banel_leaderboard.board.glossary import GLOSSARY, board_note, board_title
from banel_leaderboard.board.negative_control import negative_control_note
from banel_leaderboard.board.ranking import Board, make_boards, marks
from banel_leaderboard.proving.load import Loaded

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
    shown = columns(board)
    heads = ["task", "rank", "agent", *(c.heading for c in shown)]
    lines = [_line(heads), _line(["---", "---:", "---", *("---:" for _ in shown)])]
    notes = []
    for table in board.tables:
        task = escaped(table.task)
        for row in table.rows:
            name = code(row.first.agent)
            if found := marks(row, table.rows):
                notes.append(f"{name} on {task}: {'; '.join(map(escaped, found))}")
                name += f" ({len(notes)})"
            rank = NONE if row.rank is None else str(row.rank)
            lines.append(_line([task, rank, name, *(_cell(c.cell(row)) for c in shown)]))
    said = [
        board_note(board),
        *(escaped(f"{t.task}: {note}", MOST_NOTE) for t in board.tables if (note := negative_control_note(t))),
    ]
    text = f"## {board_title(board)}\n\n" + "\n\n".join(said) + "\n\n" + "\n".join(lines)
    return text + "".join(f"\n\n({i}) {note}" for i, note in enumerate(notes, 1))


def _cell(cell: Cell) -> str:
    return f"{cell.text} {cell.detail}".strip()


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cells) + " |"
