"""Honest runs, made once for each module that tries to forge them, and a cache of the tests' own."""

from __future__ import annotations

from pathlib import Path

import pytest

from banel_leaderboard import run
from banel_leaderboard.proving import cache
from banel_leaderboard.running.lookup import Known, own_code
from tests.proving.forged import NETWORK, SMALL, TASK
from tests.shared.small import only_run


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a shipped task and agent; nobody writes into it."""
    out = tmp_path_factory.mktemp("shipped")
    run(TASK, "base", 0, out=out, budget=60)
    return only_run(out)


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a task and an agent of one's own; nobody writes into it."""
    out = tmp_path_factory.mktemp("mine")
    run(NETWORK, SMALL, 0, out=out)
    return only_run(out)


@pytest.fixture(scope="module")
def known() -> Known:
    return own_code([NETWORK], [SMALL])
