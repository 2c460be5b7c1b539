"""What the tests of boards share: boards of a folder of runs, the rows of a board, and a ledger that lost its end."""

from __future__ import annotations

from pathlib import Path

from banel_leaderboard.proving.load import load_runs
from banel_leaderboard.ranking.boards import make_boards
from banel_leaderboard.ranking.rows import Board, Row


def boards(out: Path) -> dict[tuple[str, str], Board]:
    loaded = load_runs(out)
    assert not loaded.refused
    return {(b.name, b.regime): b for b in make_boards(loaded.runs)}


def rows(board: Board) -> dict[str, Row]:
    (table,) = board.tables
    return {row.first.agent: row for row in table.rows}


def cut(path: Path) -> None:
    path.write_bytes(b"".join(path.read_bytes().splitlines(True)[:-1]))
