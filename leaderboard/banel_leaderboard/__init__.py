"""banel-leaderboard: run agents under the meter, keep records that can be checked, draw the board."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from banel_leaderboard.dataframe import read
    from banel_leaderboard.records.record import RunRecord
    from banel_leaderboard.records.run_folder import load_policy
    from banel_leaderboard.running.harness import run

__all__ = ["RunRecord", "load_policy", "read", "run"]

_HOME = {
    "RunRecord": "records.record",
    "load_policy": "records.run_folder",
    "read": "dataframe",
    "run": "running.harness",
}  # loaded when first asked for


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
