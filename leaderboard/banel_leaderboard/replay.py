"""replay: prove a finished run by running its agent again over its own ledger.

The agent must ask exactly the recorded questions; the ledger answers, the reward is never called, and the record that
comes out must equal the one that was submitted but for times. Exact for the same package, processor kind and threads; the
record says whether the compiled kernel has to compute.
"""

from __future__ import annotations

import dataclasses
import shutil
import tempfile
from pathlib import Path
from typing import Any, NoReturn

from banel_envs import kernel
from banel_envs.errors import BanelError, LedgerMismatch, ReplayDiverged
from banel_envs.ledger import Ledger
from banel_envs.problem import Tokens
from banel_leaderboard.folder import LEDGER, RECORD, spec_of
from banel_leaderboard.harness import make_oracle, measure
from banel_leaderboard.record import RunRecord
from banel_leaderboard.spec import Spec, load_agent, task_of


class NotProved(BanelError):
    """A replayed run gave another record, or its ledger is not the record's."""


def finished_runs(folder: Path) -> list[Path]:
    """The finished runs in a folder, itself included; BanelError if there is none."""
    found = sorted(path.parent for path in folder.rglob(RECORD))
    if not found:
        raise BanelError(f"{folder} holds no finished run; a run is finished once its {RECORD} is there")
    return found


def prove(folder: Path) -> RunRecord:
    """Replay one run.

    Returns:
        The record as recomputed, its times those of the replay.

    Raises:
        LedgerCorrupt: a line of the ledger is not what was written.
        ReplayDiverged: the agent asked something else than the ledger holds.
        NotProved: the ledger is not the record's, or the record came out different; names the first difference.
    """
    record = RunRecord.load(folder / RECORD)
    ledger = Ledger.read(folder / LEDGER)
    if (ledger.head, ledger.lines, ledger.count) != (record.ledger.head, record.ledger.lines, record.ledger.count):
        raise NotProved(
            f"{folder}: the ledger ends in line {ledger.lines} ({ledger.head[:12]}) after {ledger.count} evaluations, "
            f"the record says line {record.ledger.lines} ({record.ledger.head[:12]}) after {record.ledger.count}"
        )
    spec = spec_of(folder, record)
    with tempfile.TemporaryDirectory() as scratch:
        copy = Path(scratch)
        shutil.copy(folder / LEDGER, copy / LEDGER)
        try:
            with kernel.using(kernel.nearest(record.execution.kernel)):
                again = _measure_again(spec, copy, record)
        except LedgerMismatch as error:
            raise NotProved(f"{folder}: {str(error).replace(str(copy), str(folder))}") from error
        except ReplayDiverged as error:
            found = error.found.replace(str(copy), str(folder))
            raise ReplayDiverged(f"{found}{_without_kernel(record)}") from error
    if again.canonical() != record.canonical():
        raise NotProved(f"{folder}: {_first_difference(record, again)}{_without_kernel(record)}")
    return again


def _measure_again(spec: Spec, folder: Path, record: RunRecord) -> RunRecord:
    def sealed(tokens: Tokens) -> NoReturn:
        raise ReplayDiverged(f"the agent asked {len(tokens)} sequences beyond the end of the ledger")

    task = task_of(spec)
    agent = load_agent(spec.agent, spec.settings)
    oracle = make_oracle(spec, dataclasses.replace(task, reward=sealed), agent, folder / LEDGER, replayed=record)
    try:
        return measure(spec, task, agent, oracle, folder, resumed=0)
    finally:
        oracle.close()


def _without_kernel(record: RunRecord) -> str:
    """What may be the reason where another kernel than the run's had to do."""
    made_with = record.execution.kernel
    if made_with == kernel.nearest(made_with):
        return ""
    return f"; the run was computed with the compiled kernel, {kernel.MISSING}"


def _first_difference(record: RunRecord, again: RunRecord) -> str:
    dumped = [r.model_dump(mode="json", exclude={"execution"}) for r in (record, again)]
    where, old, new = _differing(dumped[0], dumped[1])
    return f"the record's {where} is {str(old)[:120]}, recomputed {str(new)[:120]}"


def _differing(old: Any, new: Any, where: str = "") -> tuple[str, Any, Any]:
    """The first leaf at which two values of JSON differ: its path and what stands there in each."""
    if isinstance(old, dict) and isinstance(new, dict) and old.keys() == new.keys():
        for name in old:
            if old[name] != new[name]:
                return _differing(old[name], new[name], f"{where}.{name}" if where else name)
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for i, (a, b) in enumerate(zip(old, new, strict=True)):
            if a != b:
                return _differing(a, b, f"{where}[{i}]")
    return where, old, new
