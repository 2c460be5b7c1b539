"""(h) Near-copies: whose ledgers ask what a ledger of another submission asks, in the same order for long stretches.

Every window of WINDOW consecutive sequences of a ledger is hashed. Two independent agents share a window by chance only
where their policies write next to nothing else, and such ledgers have few different windows: below LEAST they are not
compared. Two ledgers are near-copies if at least SHARE of the windows that one of them has behind its first success stand in the
other, wherever they stand there. So rows that were added, left out or moved in blocks do not hide a copy. Up to its first
success many an honest agent asks what the base policy would ask with the same seed, so nothing follows from that part. A run of
the same agent with the same settings is the same experiment and is not named; neither are twins and runs without a success,
which learnt nothing to copy, nor shipped controls that read no answer, which an agent that learns nothing equals.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from banel_agents import AGENTS
from banel_envs.errors import BanelError
from banel_envs.meter.ledger import Ledger
from banel_leaderboard.records.find_runs import opened
from banel_leaderboard.records.record import RunRecord
from banel_leaderboard.records.run_folder import LEDGER, RECORD
from banel_leaderboard.submission.steps.completeness import place_of, shown_place
from banel_leaderboard.submission.steps.findings import Finding

WINDOW = 8  # sequences
LEAST = 100  # different windows
SHARE = 0.5
KEPT = 4  # one of so many windows is compared, chosen by its hash
Hashes = NDArray[np.uint64]


@dataclass(frozen=True)
class Sketch:
    """What is kept of a ledger."""

    record: RunRecord
    where: str
    windows: Hashes  # different, sorted
    learnt: (
        Hashes  # those behind the question that held the first success: no answer before it differs from another run's
    )


def windows_of(tokens: NDArray[np.int64]) -> Hashes:
    """The different hashes [m] of WINDOW consecutive rows of tokens [n, T], sorted; of one in KEPT of them."""
    if len(tokens) < WINDOW:
        return np.empty(0, np.uint64)
    rng = np.random.default_rng(0)
    odd = rng.integers(1 << 63, size=tokens.shape[1] + WINDOW, dtype=np.uint64) | np.uint64(1)
    rows = _mixed(tokens.astype(np.uint64) @ odd[: tokens.shape[1]])
    places = np.lib.stride_tricks.sliding_window_view(rows, WINDOW)
    found = _mixed(places @ odd[tokens.shape[1] :])
    return np.unique(found[found % np.uint64(KEPT) == 0])


def _mixed(values: Hashes) -> Hashes:
    """Spread the bits (the finaliser of SplitMix64)."""
    values = (values ^ (values >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    values = (values ^ (values >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return values ^ (values >> np.uint64(31))


def sketches(folder: Path, tasks: set[str] | None = None) -> Iterator[Sketch]:
    """The ledgers of a submission that can be copies; those of these tasks only, if they are given."""
    with opened(folder) as found:
        for place in found.runs:
            try:
                record = RunRecord.load(place.folder / RECORD, below=place.below)
                if not _can_be_copied(record) or (tasks is not None and record.task not in tasks):
                    continue
                ledger = Ledger.read(place.folder / LEDGER, below=place.below)
                tokens = np.concatenate([ledger.tokens(ask) for ask in ledger.asks])
                held = [bool((ask.rewards == 1).any()) for ask in ledger.asks].index(True)  # the first success
                told = sum(ask.n for ask in ledger.asks[: held + 1])
            except (BanelError, ValueError):
                continue  # it is named where runs are checked
            where = f"{folder.name}/{shown_place(place_of(record))}"
            yield Sketch(record, where, windows_of(tokens), windows_of(tokens[told:]))


def _can_be_copied(record: RunRecord) -> bool:
    shipped = AGENTS.get(record.agent)
    control = shipped is not None and not shipped.reads_answers
    return not (record.twin or record.successes_asked == 0 or control)


def check_copies(folder: Path, others: list[Path]) -> list[Finding]:
    """A flag for each run that is a near-copy of one in another submission: the nearest one is named."""
    if not others:
        return []
    mine = list(sketches(folder))
    best: dict[int, tuple[float, str]] = {}
    tasks = {sketch.record.task for sketch in mine}
    for other in others:
        for theirs in sketches(other, tasks):
            for k, own in enumerate(mine):
                share = shared_by(own, theirs)
                if share >= SHARE and share > best.get(k, (0.0, ""))[0]:
                    best[k] = share, theirs.where
    return [
        Finding(
            "h",
            shown_place(place_of(mine[k].record)),
            "ledger",
            f"{share:.0%} of its stretches of {WINDOW} questions stand in {where}, which has another agent or other settings",
        )
        for k, (share, where) in sorted(best.items())
    ]


def shared_by(a: Sketch, b: Sketch) -> float:
    """The share of what one of two ledgers learnt that the other has too, the larger one; 0 where it says nothing."""
    if a.record.task != b.record.task or _experiment(a.record) == _experiment(b.record):
        return 0.0
    return max(_held(a.learnt, b.windows), _held(b.learnt, a.windows))


def _held(part: Hashes, whole: Hashes) -> float:
    """The share of some windows that stand in others; 0 where they are too few."""
    return 0.0 if len(part) * KEPT < LEAST else len(np.intersect1d(part, whole, assume_unique=True)) / len(part)


def _experiment(record: RunRecord) -> str:
    return json.dumps([record.agent, record.config, record.seed], sort_keys=True)
