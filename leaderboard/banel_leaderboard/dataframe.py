"""Runs as a pandas table, which has one line for each point of each run's curve."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from banel_leaderboard.proving.load import Run, load_runs
from banel_leaderboard.ranking.answers import at_first, mean_distinct
from banel_leaderboard.ranking.boards import regime_of
from banel_leaderboard.records.record import Rate

if TYPE_CHECKING:
    import pandas as pd

COLUMNS: dict[str, str] = {
    "run": "the run's folder, below the folder that was read",
    "task": "id of the task",
    "agent": "name of the agent",
    "config": "its settings, as JSON with sorted keys",
    "tuned": "whether the settings differ from the agent's defaults",
    "feedback": "failures or full",
    "twin": "whether it is an oracle-free twin",
    "regime": "what the agent was told: failures, full, typed, or blind for a twin",
    "seed": "the run's seed",
    "budget": "reward evaluations granted",
    "off_board": "whether the budget is not the task's own, or answers were inherited",
    "nre": "NRE at this point: how many sequences were asked",
    "final": "whether this is the run's last point",
    "log10_success": "log10 of the success rate; -inf for zero, NaN where only an interval is known",
    "success_low": "log10 of the lower end of its 95% interval; -inf for zero",
    "success_high": "log10 of the upper end of its 95% interval",
    "log10_fresh": "log10 of the fresh success rate: of successes that the run has not asked yet",
    "fresh_low": "log10 of the lower end of its 95% interval; -inf for zero",
    "fresh_high": "log10 of the upper end of its 95% interval",
    "method": "how the rates were measured: exact, importance, monte_carlo, ...",
    "effective": "effective successes: how many distinct ones carry the rate; NaN where it is not exact",
    "invalid": "share of malformed sequences among those asked since the last point; NaN if none were asked",
    "repeated": "share of sequences that were asked before in the run, among the same ones",
    "first_success": "NRE of the run's first success; NaN if it met none",
    "success_by_then": "log10 success rate of the last policy measured before the first success; at the budget if it met none",
    "successes_asked": "successes that the run asked, repeats included",
    "distinct": "distinct successes that the run had asked by this point; NaN for a twin",
    "mean_distinct": "that number averaged over the budget; NaN for a twin",
    "next_question": "log10 of final fresh success over the mass not yet asked; -inf for zero or hardly any mass; NaN: not known",
    "wall_s": "seconds that the agent took, without the measurements of the harness",
    "cpu_s": "CPU seconds that the agent took, without the measurements of the harness",
}
"""The columns of `read`, in order, and what each one holds."""


def read(folder: str | Path) -> pd.DataFrame:
    """Every run below a folder as a table with one line for each point; COLUMNS says what the columns hold.

    This gives the final success of every run: `read("out").query("final").set_index(["task", "agent", "seed"]).log10_success`.

    Args:
        folder: the folder that was given to `--out`, or any folder that holds runs. Runs that are refused are left out of
            the table and named on stderr.

    Raises:
        BadValue: it is not a folder, or there is no run in it.
        MissingExtra: pandas is not installed.
    """
    # pandas is imported here, because it is an extra and slow to import, and only this function needs it.
    try:
        import pandas as pd
    except ModuleNotFoundError as error:
        from banel_envs.errors import MissingExtra

        raise MissingExtra("read needs pandas: pip install 'banel-envs[leaderboard]'") from error
    rows = [row for run in load_runs(Path(folder)).runs for row in _rows(run)]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _rows(run: Run) -> list[dict[str, Any]]:
    """One line of the table for each point of a run."""
    record = run.record
    same = {
        "run": run.path,
        "config": json.dumps(record.config, sort_keys=True),
        "regime": regime_of(record),
        "first_success": math.nan if record.first_success is None else float(record.first_success),
        "success_by_then": at_first(record)[0],
        "next_question": _or_nan(record.next_question()),
        "mean_distinct": math.nan if record.twin else mean_distinct(run),
        "wall_s": record.execution.wall_s,
        "cpu_s": record.execution.cpu_s,
    } | {
        name: getattr(record, name)
        for name in ("task", "agent", "tuned", "feedback", "twin", "seed", "budget", "off_board", "successes_asked")
    }
    return [
        same
        | {
            "nre": point.nre,
            "distinct": math.nan if record.twin else float(np.searchsorted(run.asked.found, point.nre, side="right")),
            "final": point is record.points[-1],
            "method": point.success.method,
            "effective": _or_nan(point.success.effective),
            "invalid": _or_nan(point.invalid),
            "repeated": _or_nan(point.repeated),
            **_limits("success", point.success),
            **_limits("fresh", point.fresh),
        }
        for point in record.points
    ]


def _limits(name: str, rate: Rate) -> dict[str, float]:
    """A rate in log10 and the two ends of its interval; -inf is a rate of zero, NaN a number that is not known."""
    unknown = -math.inf if rate.zero and rate.method != "upper_limit" else math.nan
    value = unknown if rate.log10 is None else rate.log10
    return {
        f"log10_{name}": value,
        f"{name}_low": -math.inf if rate.low is None else rate.low,
        f"{name}_high": value if rate.high is None else rate.high,
    }


def _or_nan(value: float | None) -> float:
    return math.nan if value is None else value
