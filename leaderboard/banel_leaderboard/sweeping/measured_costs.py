"""The base policy's success rate and a run's minutes on each shipped task, for `banel list` and for plans.

`python -m benchmarks.tasks --write` measured them, and `python -m benchmarks.tasks.controls --write` what needs no oracle.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

from banel_envs import Task

PATH = Path(__file__).parent / "measured.json"


@cache
def _all() -> dict[str, Any]:
    found: dict[str, Any] = json.loads(PATH.read_text())
    return found


def measured(task: Task) -> dict[str, Any] | None:
    """The base policy's success rate and the minutes of a run; None if the task is not the one that was measured."""
    found: dict[str, Any] | None = _all().get(task.problem.id)
    return found if found is not None and found["digest"] == task.digest else None
