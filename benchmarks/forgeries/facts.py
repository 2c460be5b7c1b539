"""Facts that the package decides: budgets, settings, seeds and attestations."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

from benchmarks.forgeries.change import Harm, bind, sealed
from benchmarks.forgeries.forging import Forged
from benchmarks.forgeries.policies import type_rates_without_policy


def other_budget(f: Forged, _: Path) -> None:
    f.bind(budget=75_000)


def off_the_board(f: Forged, _: Path) -> None:
    f.bind(budget=8_000)
    f.record["off_board"] = False


def other_settings(f: Forged, _: Path) -> None:
    f.bind(config=f.record["config"] | {"batch": 250})


def only_seed(new: int) -> Harm:
    """The lucky seed alone: the other one is gone."""

    def apply(folder: Path, place: Path) -> None:
        shutil.rmtree(folder.parent / "seed-1")
        bind(seed=new)(folder, place)

    return apply


def copied_seed(folder: Path, place: Path) -> None:
    """The lucky seed once more, as another."""
    forged = Forged.read(folder.parent / "seed-1")
    forged.bind(seed=0)
    forged.write(folder)


def attested_inside(folder: Path, place: Path) -> None:
    import hashlib

    from banel_leaderboard.records.record import RunRecord

    sealed(type_rates_without_policy)(folder, place)
    record = RunRecord.load(folder / "record.json")
    line = {
        "attestation": 1,
        "record": hashlib.sha256(record.canonical().encode()).hexdigest(),
        "head": record.ledger.head,
        **dict.fromkeys(("run", "package", "kernel", "processor", "instructions"), "x"),
    }
    for where in (folder, folder.parents[4], folder.parents[4] / "attestations"):
        where.mkdir(exist_ok=True)
        (where / "attestations.jsonl").write_text(json.dumps(line) + "\n")
