"""Whether a run and its oracle-free twin asked the same sequences up to the run's first success.

    python -m benchmarks.pairs [FOLDER]      (default: the committed board)

Until its first success every answer that an agent gets is "failed", and that is what its twin is told for everything. So
both must ask the same. Here every verified run that met a success, and whose twin is in the folder, is compared with it:
the sequences up to the first success, those of the whole question that held it, and those of the whole run. Beside them
stand how many decades the run's final success rate is above its twin's, rates below 10^-12 counting as that: the median and its
95% bootstrap interval, or "-" where rates are known as intervals only. That is what the answers were worth. The exit status is 1
if a pair differs before its first success.
"""

from __future__ import annotations

import argparse
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from banel_envs.meter.ledger import Ledger
from banel_envs.problem import Tokens
from banel_leaderboard.ranking.across import FLOOR
from banel_leaderboard.records.find_runs import finished_runs
from banel_leaderboard.records.record import RunRecord
from banel_leaderboard.records.verify import verify
from banel_leaderboard.statistics.medians import median, median_interval

COMMITTED = Path(__file__).parents[1] / "leaderboard" / "submissions" / "addition"


@dataclass(frozen=True)
class Pair:
    """A run and its twin: up to where the two asked the same."""

    task: str
    agent: str
    feedback: str
    seed: int
    to_first: bool  # up to the first success
    to_question: bool  # up to the end of the question that held it: its sequences were chosen before any answer
    to_end: bool
    gain: (
        float | None
    )  # decades of the final success rate above the twin's; None where one of them is known as an interval only


def pairs(folder: Path) -> Iterator[Pair]:
    """Every pair in a folder, after its records were compared with their ledgers."""
    runs: dict[Any, list[tuple[RunRecord, Ledger]]] = defaultdict(list)
    with finished_runs(folder) as found:
        for place in found.runs:
            record = RunRecord.load(place.folder / "record.json", below=place.below)
            ledger = Ledger.read(place.folder / "ledger.jsonl", below=place.below)
            verify(record, ledger)
            key = (record.task, record.digest, record.agent, repr(record.config), record.budget, record.seed)
            runs[key].append((record, ledger))
    for _, alike in sorted(runs.items()):
        for twin, theirs in (run for run in alike if run[0].twin):
            yield from (compare(record, ledger, twin, theirs) for record, ledger in alike if record.first_success)


def compare(record: RunRecord, ledger: Ledger, twin: RunRecord, twins: Ledger) -> Pair:
    """A run that met a success, beside its twin."""
    first = record.first_success or 0
    ends = np.cumsum([ask.n for ask in ledger.asks])
    question = int(ends[np.searchsorted(ends, first)])
    mine, theirs = tokens(ledger), tokens(twins)
    first_same, question_same, all_same = (
        np.array_equal(mine[:nre], theirs[:nre]) for nre in (first, question, len(mine))
    )
    known = all(run.final() == run.final(end="high") for run in (record, twin))
    gain = max(record.final(), FLOOR) - max(twin.final(), FLOOR) if known else None
    return Pair(record.task, record.agent, record.feedback, record.seed, first_same, question_same, all_same, gain)


def tokens(ledger: Ledger) -> Tokens:
    """All sequences of a ledger, in order."""
    return np.concatenate([ledger.tokens(ask) for ask in ledger.asks])


def main() -> int:
    """Print a line for each feedback, task and agent, and the totals."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.pairs", description=__doc__)
    parser.add_argument("folder", nargs="?", type=Path, default=COMMITTED, help="a folder of runs, packed or not")
    groups: dict[tuple[str, str, str], list[Pair]] = defaultdict(list)
    for pair in pairs(parser.parse_args().folder):
        groups[pair.feedback, pair.task, pair.agent].append(pair)
    places = "same up to: first success / its question / the end; final over twin"
    print(f"{'feedback':<10}{'task':<32}{'agent':<20}{'pairs':>6}  {places}")
    for (feedback, task, agent), found in sorted(groups.items()):
        print(f"{feedback:<10}{task:<32}{agent:<20}{len(found):>6}  {counts(found)}  {gains(found)}")
    every = [pair for found in groups.values() for pair in found]
    for feedback in sorted({pair.feedback for pair in every}):
        found = [pair for pair in every if pair.feedback == feedback]
        same = sum(pair.to_first for pair in found)
        print(f"{feedback}: {same} of {len(found)} pairs of agent and twin asked the same up to the first success")
    return int(not all(pair.to_first for pair in every))


def counts(found: list[Pair]) -> str:
    """How many pairs asked the same up to each of the three places."""
    parts = (sum(p.to_first for p in found), sum(p.to_question for p in found), sum(p.to_end for p in found))
    return " / ".join(map(str, parts))


def gains(found: list[Pair]) -> str:
    """The median of the decades above the twin, and its interval; "-" where some rate is no number."""
    known = [pair.gain for pair in found if pair.gain is not None]
    if len(known) < len(found):
        return "-"
    values = np.array(known)
    low, high = median_interval(values, seed=0)
    return f"{float(median(values)):+.2f} [{low:+.2f}, {high:+.2f}]"


if __name__ == "__main__":
    sys.exit(main())
