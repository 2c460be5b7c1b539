"""The pages that are made from the package itself, so that they cannot go stale; none of them is committed."""

from __future__ import annotations

import shutil
from pathlib import Path

from generate import agents, api, commands, notebooks, rooms, tasks


def version() -> str:
    """The version of the package that the pages are about."""
    from banel_envs.version import __version__

    return __version__


def write(folder: Path) -> None:
    """Write every generated page anew.

    Args:
        folder: it is emptied first, so that no page of a task or an agent that is gone remains.
    """
    shutil.rmtree(folder, ignore_errors=True)
    for part in (tasks, agents, commands, api, rooms, notebooks):
        part.write(folder)
