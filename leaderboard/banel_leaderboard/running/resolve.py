"""A run resolved: what the names in a Spec stand for, looked up once where the run comes in and handed on from there."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import re
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from banel_agents.base import Agent
from banel_envs import Ledger, Oracle, Task
from banel_envs.errors import BadValue, LedgerMismatch
from banel_envs.files.visible import shown
from banel_envs.meter.file_reward import answered_by_files
from banel_leaderboard.records.field_limits import check_run
from banel_leaderboard.records.record import RunRecord
from banel_leaderboard.records.run_folder import (
    FINAL,
    LEDGER,
    RECORD,
    check_folder,
    file_sha256,
    load_record,
    made_again,
    stopped_at_the_end,
    write_status,
)
from banel_leaderboard.records.spec import Spec, load_agent, load_task
from banel_leaderboard.records.verify import RunRefused, check_policy, verify
from banel_leaderboard.running.evaluator import as_json
from banel_leaderboard.running.inherit import inheriting, old_ledger


@dataclass(frozen=True)
class ResolvedRun:
    """One run: what was asked for, its task with the seed's success set, its agent with its settings, its folder."""

    spec: Spec
    task: Task
    agent: Agent
    folder: Path
    closed: tuple[
        Path, ...
    ] = ()  # files and folders that an isolated agent cannot open, beside those that hold answers

    @property
    def name(self) -> str:
        """Task, agent, regime and seed, as the folder says them."""
        return "/".join(self.folder.parts[-len(Path(self.task.problem.id).parts) - 3 :])

    @property
    def started(self) -> bool:
        """Whether the folder holds a ledger already; LedgerMismatch if it holds a record without one."""
        if (self.folder / LEDGER).exists():
            return True
        if (self.folder / RECORD).exists():
            raise LedgerMismatch(f"{self.folder} holds a record without its ledger; put it back or name another folder")
        return False

    def binding(self) -> dict[str, Any]:
        """What the first line of the run's ledger binds beside the task."""
        spec = self.spec
        return {"agent": self.agent.name, "config": as_json(self.agent.config), "seed": spec.seed, "twin": spec.twin}

    def oracle(self) -> Oracle:
        """The run's one oracle, its ledger bound to agent, config and seed; a twin's answers "failure" to everything.

        The ledger's file is opened, locked and verified when `oracle.ledger` is first asked for.
        """
        spec, binding = self.spec, self.binding()
        check_run(self.task.problem.id, self.task.digest, self.agent.name, binding["config"], spec.seed)
        answering = on_device(self.task.blind() if spec.twin else self.task, spec.device)
        if spec.inherit is not None:
            old = old_ledger(Path(spec.inherit), self.task)
            answering, binding["inherits"] = inheriting(answering, old), old.head
        path = self.folder / LEDGER
        return Oracle(answering, budget=spec.budget, feedback=spec.feedback, ledger=path, binding=binding)

    def _ledger_of(self, record: RunRecord, oracle: Oracle) -> Ledger:
        """The ledger of a finished run; LedgerMismatch if it is another run's."""
        if record.ledger.count:
            return oracle.ledger
        # To open a ledger without a question could begin it anew (Ledger.open), so this one is only read.
        here = {"task": self.task.problem.id, "digest": self.task.digest, "budget": oracle.budget}
        here |= {"feedback": oracle.feedback, **self.binding()}
        for name, wanted in here.items():
            if json.dumps(getattr(record, name), sort_keys=True) != json.dumps(wanted, sort_keys=True):
                raise LedgerMismatch(
                    f"{self.folder} belongs to another run: its {name} is {shown(getattr(record, name))}, this run's is "
                    f"{shown(wanted)}; choose another folder"
                )
        return Ledger.read(self.folder / LEDGER)

    def record(self, oracle: Oracle) -> RunRecord | None:
        """The record of the run if it is finished; None if it has still to be run or finished.

        Raises:
            LedgerMismatch: the folder holds another run, a record that is not its ledger's, or a policy that is not the record's.
            RecordError: the record is damaged.
        """
        if not (self.folder / RECORD).exists():
            return None
        record = load_record(self.folder)
        ledger = self._ledger_of(record, oracle)
        # The head ties the record to the ledger, which is this run's, and then all that both hold.
        if ledger.head != record.ledger.head:
            what = "the ledger's head is not the record's; one of them was changed"
            raise LedgerMismatch(f"{self.folder}: {what}; {made_again(self.folder)}")
        try:
            verify(record, ledger)
            check_policy(record, file_sha256(self.folder / FINAL))
        except RunRefused as error:
            raise LedgerMismatch(f"{self.folder}: {error}; {made_again(self.folder)}") from error
        if stopped_at_the_end(self.folder):  # killed between the record and the last word on it
            write_status(self.folder, self.spec, "finished", record.execution.resumed)
        return record


def resolve(spec: Spec, out: Path) -> ResolvedRun:
    """Look up what a run needs; nothing is written.

    Raises:
        BadValue: a field of the spec cannot be run, a file stands where the folder should be.
        UnknownName: there is no such task or agent.
    """
    spec.check()
    agent = load_agent(spec.agent, spec.settings)
    task = load_task(spec.task).of_seed(spec.seed)
    if spec.oracle is not None:  # the reward asks by files, and is never evaluated off the meter
        task = answered_by_files(task, spec.oracle.removeprefix("file:"), timeout=spec.wait)
    folder = run_folder(spec, out, task, agent)
    check_folder(folder)
    return ResolvedRun(spec, task, agent, folder)


def run_folder(spec: Spec, out: Path, task: Task, agent: Agent) -> Path:
    """Where a run lives under `out`."""
    # Both names become folders, so they must not lead out of `out`.
    if not re.fullmatch(r"\w[\w.-]*/\w[\w.]*-v\d+", task.problem.id):
        raise BadValue(f"the task's id is {task.problem.id!r}; write namespace/Name-v<k>, such as me/Sum-v0")
    if not re.fullmatch(r"\w[\w.-]*", agent.name, re.ASCII):
        raise BadValue(f"the agent's name is {agent.name!r}; use letters, digits, '_', '.', '-'")
    regime = "twin" if spec.twin else spec.feedback
    return out / task.problem.id / agent.name / regime / f"seed-{spec.seed}"


def finished_record(spec: Spec, out: Path) -> RunRecord | None:
    """The record of this run if it is finished; None if it has still to be run or finished.

    A sweep asks this of each run before it begins, when the run's turn comes, and at its end. The ledger is verified again
    only if a file of the run has changed since, as far as the file system can tell.

    Raises:
        BadValue: the spec cannot be run, or a file stands where the folder should be.
        LedgerMismatch: the folder holds another run, or a record that is not its ledger's.
    """
    spec.check()
    task, agent = load_task(spec.task), load_agent(spec.agent, spec.settings)  # a person may have changed their own
    asked = repr((spec, out.absolute(), task.problem.id, task.digest, agent.name, agent.config))
    known = _VERIFIED.get(asked)
    if known is not None and known[1] == _marks(known[0]):
        return known[2]
    run = resolve(spec, out)
    if not run.started:
        return None
    marks = _marks(run.folder)
    oracle = run.oracle()
    try:
        if (record := run.record(oracle)) is None:
            _ = oracle.ledger  # LedgerMismatch where it is another run's
    finally:
        oracle.close()
    # A run that inherits depends on another's files.
    if record is not None and marks is not None and spec.inherit is None:
        _VERIFIED[asked] = (run.folder, marks, record)
    return record


Marks: TypeAlias = tuple[tuple[int, ...], ...]
_VERIFIED: dict[str, tuple[Path, Marks, RunRecord]] = {}
"""The finished runs that this process has verified, by what was asked for: their folder, and what their files looked like."""
SETTLED = 2.0  # seconds; a file that was changed a moment ago could change again without another time stamp


def _marks(folder: Path) -> Marks | None:
    """What changes whenever the ledger, the record or the policy does.

    None if the ledger or the record is missing, or a file was changed a moment ago.
    """
    try:
        found = [(folder / name).lstat() for name in (LEDGER, RECORD)]
    except FileNotFoundError:
        return None
    with contextlib.suppress(FileNotFoundError):
        found.append((folder / FINAL).lstat())
    if max(stat.st_ctime for stat in found) > time.time() - SETTLED:
        return None
    return tuple((s.st_dev, s.st_ino, s.st_size, s.st_mtime_ns, s.st_ctime_ns) for s in found)


def on_device(task: Task, device: str) -> Task:
    """The task, with its base policy's weights on this device."""
    if device == "cpu":
        return task
    base = task.problem.base
    problem = dataclasses.replace(task.problem, base=lambda: base().to(device))  # type: ignore[attr-defined]
    return dataclasses.replace(task, problem=problem)
