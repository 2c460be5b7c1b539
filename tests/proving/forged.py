"""What the tests of proving share: two honest runs' tasks and agents, and runs that somebody changed and sealed again."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from banel_envs import Ledger
from banel_leaderboard import RunRecord
from benchmarks.forgeries.forging import Forged

TASK = "banel/Gaussian1D-v0"
NETWORK, SMALL = "tests.shared.small:network", "tests.shared.small:Small"


def parts(folder: Path) -> tuple[RunRecord, Ledger]:
    return RunRecord.load(folder / "record.json"), Ledger.read(folder / "ledger.jsonl")


def forged(folder: Path, copy: Path, change: Callable[[Forged], object]) -> Path:
    """A copy of a run with a change in it, sealed again."""
    shutil.copytree(folder, copy)
    run = Forged.read(folder)
    change(run)
    run.write(copy)
    return copy


def one_answer(f: Forged) -> None:
    f.asks[-1][1][-1] ^= 1
