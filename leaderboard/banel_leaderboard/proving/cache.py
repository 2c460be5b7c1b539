"""cache: what was verified before, so that a board need not verify it again.

An entry says that a check passed on exact bytes: its key is the SHA-256 of the file's bytes together with all else that the
check depends on (the package's own sources included). Failed checks are never kept. The cache is one SQLite file outside every
run folder: `BANEL_CACHE` names its folder, or is `off`; by default it is the user's cache folder.
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
PATIENCE = 5.0  # seconds to wait for another process that writes


def folder() -> Path | None:
    """Where the cache is kept; None where it is switched off."""
    named = os.environ.get(VARIABLE)
    if named == "off":
        return None
    return Path(named) if named else Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "banel-envs"


def key(*parts: Any) -> str:
    """One key for everything that a check depends on; each part is a string, a number or other JSON."""
    return hashlib.sha256(json.dumps([sources(), *parts], sort_keys=True).encode()).hexdigest()


@cache
def sources() -> str:
    """SHA-256 over the sources of the three packages: a changed line of code makes every entry stale."""
    digest = hashlib.sha256()
    for package in (banel_envs, banel_agents, banel_leaderboard):
        root = Path(str(package.__file__)).parent
        for path in sorted(root.rglob("*.py")):
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
    """Keep that this check has passed."""
    with _database() as database:
        if database is not None:
            database.execute("INSERT OR IGNORE INTO passed VALUES (?)", (entry,))


@contextlib.contextmanager
def _database() -> Any:
    """The database, or None where there is none to be had: a cache that fails costs time and nothing else."""
    connection = None
    place = folder()
    if place is not None:
        with contextlib.suppress(OSError, sqlite3.Error):
            place.mkdir(parents=True, exist_ok=True)
            connection = sqlite3.connect(place / "verified.sqlite", timeout=PATIENCE, isolation_level=None)
            connection.execute("CREATE TABLE IF NOT EXISTS passed (key TEXT PRIMARY KEY)")
    try:
        yield connection
    except sqlite3.Error:
        pass
    finally:
        if connection is not None:
            connection.close()
