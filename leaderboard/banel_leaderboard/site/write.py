"""Write the site of some submissions into a folder. Built again from the same files, it has the same bytes."""

from __future__ import annotations

from pathlib import Path

from banel_envs.errors import BadValue
from banel_leaderboard.board.write import write_whole
from banel_leaderboard.site.gather import Gathered
from banel_leaderboard.site.pages import FOLDER, INDEX, pages


def write_site(gathered: Gathered, out: Path) -> list[Path]:
    """Write index.html and submissions/*.html below `out`; pages of submissions that are gone are removed.

    Returns:
        The files, in order.

    Raises:
        BadValue: the folder holds files that no site has, or a file cannot be written.
    """
    _check(out)
    made = pages(gathered)
    for name, content in made.items():
        write_whole(out / name, content)
    for old in (out / FOLDER).glob("*.html"):
        if f"{FOLDER}/{old.name}" not in made:
            old.unlink()
    return sorted(out / name for name in made)


def _check(out: Path) -> None:
    """A site replaces its own pages, so it must not be written where somebody else's files are."""
    if out.exists() and not out.is_dir():
        raise BadValue(f"--out is {out}, which is a file; name a folder")
    foreign = [p for p in (out / FOLDER).glob("*") if p.suffix != ".html"] if (out / FOLDER).is_dir() else []
    if foreign or ((out / FOLDER).exists() and not (out / INDEX).exists()):
        what = foreign[0].name if foreign else FOLDER
        raise BadValue(
            f"--out is {out}, which holds {FOLDER}/ with files of something else ({what}); name another folder"
        )
