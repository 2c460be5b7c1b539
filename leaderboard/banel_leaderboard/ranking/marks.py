"""What a reader must know about a row beside its numbers."""

from __future__ import annotations

import json
from collections.abc import Sequence

from banel_leaderboard.ranking.rows import Row
from banel_leaderboard.ranking.seed_sets import seeds_text
from banel_leaderboard.records.record import RunRecord


def marks(row: Row, among: Sequence[Row] = ()) -> list[str]:
    """What a reader must know about a row beside its numbers."""
    record = row.first
    found = _differences(row, [r for r in among if r is not row and r.first.agent == record.agent])
    if record.off_board:
        found.append(f"budget {record.budget:,}")
    if errors := sum(run.record.errors for run in row.runs):
        found.append(f"{errors:,} failures are errors of the reward")
    if row.methods != ("exact",):
        found.append("rates by " + ", ".join(m.replace("_", " ") for m in row.methods))
    return found + _of_its_seeds(row, among)


def _of_its_seeds(row: Row, among: Sequence[Row]) -> list[str]:
    """How the row's seeds differ from those of other rows, which of them are copies, and why the row has no rank."""
    found = []
    most = max((len(r.runs) for r in among), default=0)
    if len(row.runs) < most:
        found.append(f"{len(row.runs)} seed{'s' * (len(row.runs) > 1)}, where others here have {most}")
    if row.missing:
        seeds = f"seed{'s' * (len(row.missing) > 1)} " + ", ".join(map(str, row.missing))
        found.append(f"not ranked, a selection: {seeds} met a success elsewhere and did not run here")
    elif row.incomplete and not row.first.off_board:
        found.append(f"not ranked: {row.incomplete}")
    elif row.unranked:
        found.append(f"not ranked: {row.unranked}")
    for earlier in sorted(set(row.copies.values())):
        again = [seed for seed, first in row.copies.items() if first == earlier]
        found.append(f"seeds {seeds_text(again)} asked the same questions as seed {earlier}: counted as one run")
    return found


def _differences(row: Row, alike: Sequence[Row]) -> list[str]:
    """How a row differs from other rows of the same agent, and a tuned row from the agent's default settings."""
    record = row.first
    found = []
    if record.tuned or any(r.first.config != record.config for r in alike):
        found.append(("tuned: " if record.tuned else "") + settings(record))
    if any(r.runs[0].version != row.runs[0].version for r in alike):
        found.append(f"version {row.runs[0].version}")
    return found


def settings(record: RunRecord) -> str:
    """The agent's settings in one line."""
    return ", ".join(f"{k}={json.dumps(v)}" for k, v in record.config.items()) or "no settings"
