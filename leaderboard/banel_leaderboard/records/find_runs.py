"""Where the finished runs of a folder are: a search that follows no link, and says on stderr what it passed over."""

from __future__ import annotations

import sys
from pathlib import Path

from banel_envs.errors import BanelError
from banel_envs.files import safe_files
from banel_envs.files.safe_files import Found
from banel_envs.visible import terminal, visible
from banel_leaderboard.records.run_folder import RECORD


def find(folder: Path) -> Found:
    """Every record.json below a folder, in order; FileRefused if there are too many files.

    A folder that could not be searched, or whose name cannot be shown, is among `refused`; links to folders are counted,
    and not followed.
    """
    found = safe_files.find(folder, RECORD)
    if found.links:
        many = "a link to a folder was" if found.links == 1 else f"{found.links} links to folders were"
        print(terminal(f"{many} not followed in {folder}; put the folders themselves there"), file=sys.stderr)
    odd = [path for path in found.paths if not _can_be_shown(path.relative_to(folder))]
    found.refused += [(path.parent, "its name has characters that cannot be seen; give it another") for path in odd]
    found.paths = [path for path in found.paths if path not in set(odd)]
    return found


def _can_be_shown(path: Path) -> bool:
    return visible(str(path), None) == str(path)


def finished_runs(folder: Path) -> list[Path]:
    """The folders of all finished runs, `folder` itself included; what is passed over is said on stderr.

    Raises:
        BanelError: there is none.
    """
    if not folder.is_dir():
        raise BanelError(
            f"{folder} is not a folder, so it holds no finished run; name the one that was handed to --out"
        )
    found = find(folder)
    for path, reason in found.refused:
        print(terminal(f"refused {path}: {reason}"), file=sys.stderr)
    if not found.paths:
        raise BanelError(f"{folder} holds no finished run; a run is finished once its {RECORD} is there")
    return [path.parent for path in found.paths]
