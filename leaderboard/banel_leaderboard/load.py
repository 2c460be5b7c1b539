"""Read run folders and believe none of them: a record counts only if its own ledger says the same.

Verified here, without the task: every line of the ledger follows from the line before; the record's head, line count
and number of sequences are the ledger's; the ledger's first line binds the same run; successes asked and the NRE of the
first one follow from the answers. What fails is refused by name. The success rates themselves are not recomputed:
that takes the task and the stored policies.
"""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from banel_envs.errors import BadValue, BanelError
from banel_envs.ledger import Ledger
from banel_leaderboard.record import Rate, RunRecord

Identity: TypeAlias = tuple[str, str, str, str, int, str]
"""Task, digest, agent, config, budget, version."""

SLACK = 1e-6  # float32 models sum to 1 within about this
BOUND = ("task", "digest", "budget", "feedback", "agent", "config", "seed", "twin")
"""Fields that record and ledger header hold alike."""


class RunRefused(BanelError):
    """A record and its ledger do not tell the same story."""


@dataclass(frozen=True)
class Run:
    """A verified run."""

    path: str  # of its folder, below the folder that was read
    record: RunRecord
    version: str  # of the package that made it, as its ledger binds it

    @cached_property
    def identity(self) -> Identity:
        """What runs of one row share: all but seed, feedback and twin."""
        r = self.record
        return r.task, r.digest, r.agent, json.dumps(r.config, sort_keys=True), r.budget, self.version


@dataclass(frozen=True)
class Refused:
    """A run that does not count, and why."""

    path: str
    reason: str


@dataclass(frozen=True)
class Loaded:
    """What a folder holds."""

    runs: tuple[Run, ...]
    refused: tuple[Refused, ...]


def load_runs(folder: Path) -> Loaded:
    """Every run below a folder, verified; what is refused is named on stderr too.

    Raises:
        BadValue: not a folder, or no record.json in it.
    """
    if not folder.is_dir():
        raise BadValue(f"{folder} is not a folder; give the one that was handed to --out")
    paths = sorted(folder.rglob("record.json"))
    if not paths:
        raise BadValue(f"{folder} holds no record.json; run `banel run` or `banel bench` with --out {folder} first")
    runs: dict[Any, Run] = {}
    refused: list[Refused] = []
    for path in paths:
        name = path.parent.relative_to(folder).as_posix()
        try:
            run = _read(path, name)
            key = (*run.identity, run.record.feedback, run.record.twin, run.record.seed)
            if key in runs:
                raise RunRefused(f"the same run stands in {runs[key].path}, which is counted")
            runs[key] = run
        except (BanelError, UnicodeDecodeError) as error:
            refused.append(Refused(name, str(error).replace(f"{folder}/", "")))
            print(f"refused {name}: {refused[-1].reason}", file=sys.stderr)
    return Loaded(tuple(runs.values()), tuple(refused))


def answers(ledger: Ledger) -> tuple[int, int | None]:
    """Successes asked, repeats included, and the NRE of the first one, counted from 1 (None where there is none)."""
    rewards = np.concatenate([np.empty(0, np.int8), *(ask.rewards for ask in ledger.asks)])
    hits = np.flatnonzero(rewards == 1)
    return len(hits), int(hits[0]) + 1 if len(hits) else None


def verify(record: RunRecord, ledger: Ledger) -> None:
    """Hold a record against its ledger.

    Raises:
        RunRefused: names the first field that differs, its value in the record and in the ledger.
    """
    header = ledger.header
    for name in BOUND:
        if name not in header:
            raise RunRefused(f"the ledger's first line does not bind {name}; records need a ledger of the harness")
        _same(name, getattr(record, name), header[name])
    _same("ledger.lines", record.ledger.lines, ledger.lines)
    _same("ledger.count", record.ledger.count, ledger.count)
    _same("ledger.head", record.ledger.head, ledger.head)
    if any(ask.open for ask in ledger.asks):
        raise RunRefused("the ledger's last question is unanswered: run the same command again to finish the run")
    if ledger.count > record.budget:
        raise RunRefused(f"{ledger.count} sequences were asked on a budget of {record.budget}")
    successes, first = answers(ledger)
    _same("successes_asked", record.successes_asked, successes)
    _same("first_success", record.first_success, first)
    _same("errors", record.errors, sum(len(ask.errors) for ask in ledger.asks))
    if record.twin and successes:
        raise RunRefused(f"an oracle-free twin was told {successes} successes; it must be told none")
    _check_curve(record)


def _read(path: Path, name: str) -> Run:
    record = RunRecord.load(path)
    ledger = Ledger.read(path.with_name("ledger.jsonl"))
    verify(record, ledger)
    return Run(name, record, str(ledger.header.get("version", "unknown")))


def _same(name: str, recorded: Any, bound: Any) -> None:
    if json.dumps(recorded, sort_keys=True) != json.dumps(bound, sort_keys=True):
        raise RunRefused(f"{name} is {recorded!r} in the record and {bound!r} in its ledger")


def _check_curve(record: RunRecord) -> None:
    """What a curve cannot be, whatever the policy was."""
    grid = [p.nre for p in record.points]
    if not grid or grid[0] != 0 or grid[-1] > record.budget or any(a > b for a, b in itertools.pairwise(grid)):
        raise RunRefused(f"the curve's NREs are {grid}; they must rise from 0 and stay within {record.budget}")
    _check_rates(rate for p in record.points for rate in (p.success, p.fresh))


def _check_rates(rates: Iterable[Rate]) -> None:
    for rate in rates:
        if rate.zero != (rate.log10 is None):
            raise RunRefused(f"a rate says zero={rate.zero} and log10={rate.log10}; zero is null and nothing else is")
        if rate.log10 is not None and rate.log10 > SLACK:
            raise RunRefused(f"a success rate is 10^{rate.log10}; it is a probability, at most 1")
        known = [value for value in (rate.low, rate.log10, rate.high) if value is not None]
        if any(a > b + SLACK for a, b in itertools.pairwise(known)):
            raise RunRefused(f"a success rate is 10^{rate.log10}, outside its interval {rate.low} to {rate.high}")
