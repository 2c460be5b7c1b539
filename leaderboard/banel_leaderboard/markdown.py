"""The board as Markdown tables."""

from __future__ import annotations

from banel_leaderboard.columns import NONE, Cell, columns
from banel_leaderboard.control import control_note
from banel_leaderboard.load import Loaded
from banel_leaderboard.rows import Board, make_boards, marks
from banel_leaderboard.words import GLOSSARY, board_note, board_title


def markdown(loaded: Loaded) -> str:
    """All tables, what the words mean, and what was refused."""
    parts = ["# Board", *map(_board, make_boards(loaded.runs))]
    parts.append("## Words\n\n" + "\n".join(f"- **{word}**: {meaning}" for word, meaning in GLOSSARY.items()))
    if loaded.refused:
        lines = "\n".join(f"- `{_plain(r.path)}`: {_plain(r.reason)}" for r in loaded.refused)
        parts.append(f"## Refused\n\nThese runs do not count:\n\n{lines}")
    return "\n\n".join(parts) + "\n"


def _board(board: Board) -> str:
    shown = columns(board)
    heads = ["task", "rank", "agent", *(c.heading for c in shown)]
    lines = [_line(heads), _line(["---", "---:", "---", *("---:" for _ in shown)])]
    notes = []
    for table in board.tables:
        for row in table.rows:
            name = f"`{row.first.agent}`"
            if found := marks(row, table.rows):
                notes.append(f"{name} on {table.task}: {'; '.join(found)}")
                name += f" ({len(notes)})"
            rank = NONE if row.rank is None else str(row.rank)
            lines.append(_line([table.task, rank, name, *(_cell(c.cell(row)) for c in shown)]))
    said = [board_note(board), *(f"{t.task}: {note}" for t in board.tables if (note := control_note(t)))]
    text = f"## {board_title(board)}\n\n" + "\n\n".join(said) + "\n\n" + "\n".join(lines)
    return text + "".join(f"\n\n({i}) {_plain(note)}" for i, note in enumerate(notes, 1))


def _cell(cell: Cell) -> str:
    return f"{cell.text} {cell.detail}".strip()


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(_plain(c) for c in cells) + " |"


def _plain(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ").replace("<", "&lt;")
