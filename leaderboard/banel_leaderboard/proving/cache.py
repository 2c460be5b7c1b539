"""Remember which checks have passed, so that a board need not make them again.

An entry says that one check passed on exactly these bytes. Its key is a SHA-256 over the digest of the checked file and over
everything else that the check depends on, the package's own sources included. So any change makes the check run again.
Failed checks are never kept. The cache is one SQLite file outside every run folder. `BANEL_CACHE` names its folder, or is
`off`; by default it is the user's cache folder.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sqlite3
from functools import cache
from pathlib import Path
from typing import Any

import banel_agents
import banel_envs
import banel_leaderboard

VARIABLE = "BANEL_CACHE"
PATIENCE = 5.0  # seconds to wait for another process that is writing to the cache


def folder() -> Path | None:
    """The folder of the cache; None if the cache is switched off."""
    named = os.environ.get(VARIABLE)
    if named == "off":
        return None
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "banel-envs"


def key(*parts: Any) -> str:
    """The key of a check. The parts are everything that it depends on: strings, numbers or other JSON."""
    return hashlib.sha256(json.dumps([sources(), *parts], sort_keys=True).encode()).hexdigest()


@cache
def sources() -> str:
    """SHA-256 over the sources of the three packages. If a line of code changes, no old entry is found any more."""
    digest = hashlib.sha256()
    for package in (banel_envs, banel_agents, banel_leaderboard):
        root = Path(str(package.__file__)).parent
        for path in sorted(root.rglob("*.py")):
            # The name is hashed with the content: the same code in another module can do something else.
            digest.update(str(path.relative_to(root)).encode() + b"\0" + path.read_bytes())
    return digest.hexdigest()


def passed(entry: str) -> bool:
    """Whether this check is known to have passed."""
    with _database() as database:
        if database is None:
            return False
        return database.execute("SELECT 1 FROM passed WHERE key = ?", (entry,)).fetchone() is not None
    return False


def note(entry: str) -> None:
    """Remember that this check has passed."""
    with _database() as database:
        if database is not None:
            database.execute("INSERT OR IGNORE INTO passed VALUES (?)", (entry,))


@contextlib.contextmanager
def _database() -> Any:
    """The database, or None if it cannot be opened. Without a cache every check is made again, which costs only time."""
    connection = None
    place = folder()
    if place is not None:
        with contextlib.suppress(OSError, sqlite3.Error):
            place.mkdir(parents=True, exist_ok=True)
            # Without transactions each entry is kept at once, so a check that passed is not lost if the process is killed.
            connection = sqlite3.connect(place / "verified.sqlite", timeout=PATIENCE, isolation_level=None)
            connection.execute("CREATE TABLE IF NOT EXISTS passed (key TEXT PRIMARY KEY)")
    try:
        yield connection
    except sqlite3.Error:
        pass
    finally:
        if connection is not None:
            connection.close()
