"""Runs to be packed, and the packed submission of them, made once for each module."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from banel_leaderboard.command.cli import main
from banel_leaderboard.records.pack import pack
from tests.records.packed import NETWORK, SMALL
from tests.shared.runs import make_run


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of a network with their policies, and six of a tiny task; only what is packed."""
    out = tmp_path_factory.mktemp("runs")
    for seeds in ("0", "1"):
        assert (
            main(["run", "--task", NETWORK, "--agent", SMALL, "--seeds", seeds, "--out", str(out), "--jobs", "1"]) == 0
        )
    for path in [*out.rglob("log.txt"), *out.rglob("grid")]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for agent in ("base", "count", "rnd"):
        for seed in (0, 1):
            make_run(out, agent, seed)
    return out


@pytest.fixture(scope="module")
def whole(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packed") / "whole"
    pack(runs, out)
    return out


@pytest.fixture
def forged(whole: Path, tmp_path: Path) -> Path:
    """A copy to be harmed."""
    return Path(shutil.copytree(whole, tmp_path / "forged"))
