"""Write the board of a folder of runs as a page, as Markdown or as a figure. Every run is verified first (see load.py)."""

from __future__ import annotations

from pathlib import Path

from banel_envs.errors import BadValue
from banel_envs.files import safe_files
from banel_leaderboard.board.chart import figure_png, panel_of
from banel_leaderboard.board.markdown import markdown
from banel_leaderboard.board.page import page
from banel_leaderboard.proving.load import Loaded, load_runs
from banel_leaderboard.ranking.boards import charted, make_boards


def write_page(folder: Path | Loaded, out: Path) -> Loaded:
    """Write the board as one HTML file, which loads nothing and works from file://. Returns the runs that it shows."""
    loaded = _loaded(folder)
    write_whole(out, page(loaded).encode())
    return loaded


def write_markdown(folder: Path | Loaded, out: Path) -> Loaded:
    """Write the board as Markdown tables. Returns the runs that they show."""
    loaded = _loaded(folder)
    write_whole(out, markdown(loaded).encode())
    return loaded


def write_figure(folder: Path | Loaded, png: Path) -> Loaded:
    """Write the curves of the fixed boards as one PNG.

    Raises:
        BadValue: no run has default settings and its task's own budget.
    """
    loaded = _loaded(folder)
    panels = [panel_of(b, t) for b in make_boards(loaded.runs) if charted(b) for t in b.tables]
    if not panels:
        count = len(loaded.runs)
        raise BadValue(f"none of {count} runs has default settings and its task's own budget; the figure needs one")
    write_whole(png, figure_png(panels))
    return loaded


def _loaded(folder: Path | Loaded) -> Loaded:
    return load_runs(folder) if isinstance(folder, Path) else folder


def write_whole(path: Path, content: bytes) -> None:
    """Write the whole file or nothing; BadValue where it cannot be written."""
    draft = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        safe_files.write(path, content, draft)
    except OSError as error:
        raise BadValue(f"{path} cannot be written ({error.strerror}); choose another --out") from error
