"""Read run folders. Nothing that a folder says is believed before it is checked, and each run says how far it was proved.

A run is refused, and the reason is named, in three cases: its files contradict each other (see verify.py), the package
contradicts them, or an answer or a rate is not what is recomputed here (see recompute.py). What can be neither proved nor
disproved on this machine is counted, with the standing *reported*.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

from banel_envs.errors import BadValue, BanelError
from banel_envs.files.visible import shown, visible
from banel_envs.meter.ledger import Ledger
from banel_leaderboard.proving.asked import Asked
from banel_leaderboard.proving.recompute import (
    check_answers,
    check_methods,
    check_package_facts,
    check_policy_file,
    check_rates,
    recorded_task,
)
from banel_leaderboard.proving.shares import check_shares
from banel_leaderboard.proving.standing import Attestation, Standing, digest_of
from banel_leaderboard.records.field_limits import VERSION
from banel_leaderboard.records.find_runs import Opened, many, opened
from banel_leaderboard.records.record import RunRecord
from banel_leaderboard.records.verify import RunRefused, verify
from banel_leaderboard.running.lookup import CannotTell, Known

Identity: TypeAlias = tuple[str, str, str, str, str, int, str]
"""Submission, task, digest, agent, config, budget, version."""


@dataclass(frozen=True)
class Proved:
    """How far a run is proved, and why it is proved no further."""

    answers: Standing
    rates: Standing  # the standing of the final success rate and the final fresh success rate
    reasons: tuple[str, ...] = ()


@dataclass(frozen=True)
class Run:
    """A verified run."""

    path: str  # the run's folder, relative to the folder that was read
    record: RunRecord
    version: str  # the version of the package that made the run, as the ledger's first line says
    asked: Asked  # what its ledger says about its questions
    proved: Proved
    submission: str = ""  # the submission that it is of, where several are read; runs of two submissions share no row

    @cached_property
    def identity(self) -> Identity:
        """What the runs of one row have in common. Runs of one identity may differ in seed, feedback and twin."""
        r = self.record
        config = json.dumps(r.config, sort_keys=True)
        return self.submission, r.task, r.digest, r.agent, config, r.budget, self.version


@dataclass(frozen=True)
class Refused:
    """A run that does not count, and the reason."""

    path: str
    reason: str
    kind: str = ""  # the class of the error


@dataclass(frozen=True)
class Loaded:
    """The runs of a folder: those that count and those that were refused."""

    runs: tuple[Run, ...]
    refused: tuple[Refused, ...]


def load_runs(folder: Path, known: Known | None = None, attestations: Iterable[Attestation] = ()) -> Loaded:
    """Verify every run below a folder. A run that is refused is also named on stderr.

    Args:
        folder: the folder that holds the runs; some of them may be packed.
        known: tasks and agents of your own, see lookup.own_code.
        attestations: which runs were replayed, see standing.py.

    Raises:
        BadValue: it is not a folder, or it holds no run.
    """
    known, replayed = known or Known(), {a.record: a for a in attestations}
    with opened(folder) as found, many():
        if not found.runs and not found.refused:
            raise BadValue(f"{folder} holds no record.json; run `banel run` or `banel bench` with --out {folder} first")
        return _load(folder, found, known, replayed)


def _load(folder: Path, found: Opened, known: Known, replayed: Mapping[str, Attestation]) -> Loaded:
    runs: dict[Any, Run] = {}
    refused = [_refuse(_name(path, folder), reason, folder, "FileRefused") for path, reason in found.refused]
    for place in found.runs:
        name = _name(place.shown, folder)
        try:
            run = _read(place.folder, name, place.below, known, replayed)
            key = (*run.identity, run.record.feedback, run.record.twin, run.record.seed)
            if key in runs:  # the better proved of two equal runs counts, so that a copy cannot replace the original
                run, other = sorted((runs[key], run), key=lambda r: -r.proved.rates)
                refused.append(_refuse(other.path, f"the same run stands in {run.path}, which is counted", folder))
            runs[key] = run
        except BanelError as error:
            refused.append(_refuse(name, found.told(error), folder, type(error).__name__))
        except Exception as error:  # one file that no check foresaw must not keep the other runs off the board
            refused.append(_refuse(name, f"checking it raised {type(error).__name__}: {found.told(error)}", folder))
    return Loaded(tuple(runs.values()), tuple(refused))


def _name(path: Path, folder: Path) -> str:
    return (path.relative_to(folder) if path.is_relative_to(folder) else path).as_posix()


def _read(folder: Path, name: str, below: Path, known: Known, replayed: Mapping[str, Attestation]) -> Run:
    record = RunRecord.load(folder / "record.json", below=below)
    ledger = Ledger.read(folder / "ledger.jsonl", below=below)
    verify(record, ledger)
    version = ledger.header.get("version", "unknown")
    # The version is part of a row's identity and is shown on the page, so it must not be any text.
    if not isinstance(version, str) or not re.fullmatch(VERSION, version):
        raise RunRefused(f"the ledger was written by version {shown(version)}, which no package has")
    proved = how_far(record, ledger, folder, known, replayed.get(digest_of(record)) if replayed else None)
    return Run(name, record, version, Asked.of(ledger), proved)


def how_far(
    record: RunRecord, ledger: Ledger, folder: Path, known: Known, attestation: Attestation | None = None
) -> Proved:
    """Recompute what can be recomputed here, and say how far the run is proved.

    Raises:
        Disproved: something that was recomputed differs from what the run says.
    """
    reasons: list[str] = []

    def holds(check: Callable[[], object]) -> bool:
        try:
            check()
        except CannotTell as error:
            reasons.append(str(error))
            return False
        return True

    # These are checked even if the answers cannot be, because they need neither the reward nor the judges.
    holds(lambda: check_package_facts(record, known))
    try:
        task = recorded_task(record, ledger, known)
    except CannotTell as error:
        return Proved(Standing.REPORTED, Standing.REPORTED, tuple(dict.fromkeys([*reasons, str(error)])))
    judged = holds(lambda: check_answers(record, ledger, task))
    holds(lambda: check_methods(record, task))
    check_shares(record, ledger, task)
    check_policy_file(record, folder)
    if not judged:
        return Proved(Standing.REPORTED, Standing.REPORTED, tuple(dict.fromkeys(reasons)))
    # Whoever replayed the run has computed its rates too, so they are not computed once more.
    if attestation is not None and attestation.head == record.ledger.head:
        return Proved(Standing.REPLAYED, Standing.REPLAYED, tuple(reasons))
    again = holds(lambda: check_rates(record, ledger, task, folder))
    return Proved(Standing.RECOMPUTED, Standing.RECOMPUTED if again else Standing.REPORTED, tuple(reasons))


def _refuse(name: str, reason: str, folder: Path, kind: str = "") -> Refused:
    """A refused run, which is also printed on stderr. Its text is made visible and cut to a few lines."""
    refused = Refused(visible(name), visible(reason.replace(f"{folder}/", "")), kind)
    print(f"refused {refused.path}: {refused.reason}", file=sys.stderr)
    return refused
