"""Where the finished runs of a folder are: a search that follows no link, and says on stderr what it passed over."""

from __future__ import annotations

import sys
from pathlib import Path

from banel_envs import safe_files
from banel_envs.safe_files import Found
from banel_envs.visible import terminal
from banel_leaderboard.folder import RECORD


def find(folder: Path) -> Found:
    """Every record.json below a folder, in order; FileRefused if there are too many files.

    A folder that could not be searched is among `refused`; links to folders are counted, and not followed.
    """
    found = safe_files.find(folder, RECORD)
    if found.links:
        many = "a link to a folder was" if found.links == 1 else f"{found.links} links to folders were"
        print(terminal(f"{many} not followed in {folder}; put the folders themselves there"), file=sys.stderr)
    return found
