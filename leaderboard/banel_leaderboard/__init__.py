<<<<<<< HEAD
"""banel-leaderboard: run agents under the meter, keep records that can be checked, draw the board.

>>> import banel_leaderboard
>>> banel_leaderboard.run("banel/AdditionAttack-v0", "base", out="runs").final()  # doctest: +SKIP
-2.96
"""
=======
"""banel-leaderboard: run agents under the meter, keep records that can be checked, draw the board."""
>>>>>>> upstream

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
<<<<<<< HEAD
    from banel_leaderboard.folder import load_policy
    from banel_leaderboard.harness import run
=======
    from banel_leaderboard.harness import load_policy, run
>>>>>>> upstream
    from banel_leaderboard.record import RunRecord

__all__ = ["RunRecord", "load_policy", "run"]

<<<<<<< HEAD
_HOMES = {"RunRecord": "record", "load_policy": "folder", "run": "harness"}


def __getattr__(name: str) -> Any:
    """The public names, imported when first asked for: the harness brings torch with it, and importing stays light."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}; it has {', '.join(__all__)}")
    module = importlib.import_module(f"{__name__}.{_HOMES[name]}")
    value = globals()[name] = getattr(module, name)
    return value
=======
_HOME = {"RunRecord": "record", "load_policy": "harness", "run": "harness"}  # loaded when first asked for


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
>>>>>>> upstream
