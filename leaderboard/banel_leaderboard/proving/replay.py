"""Prove a finished run by running its agent again over its own ledger.

First comes what needs no agent: the record must follow from its ledger, and every answer must be the task's own (see
recompute.py). Then the agent runs again. It must ask exactly the questions in the ledger. The ledger answers them, and the
reward is never called. The record that comes out must equal the submitted one, apart from its `execution` block.

The questions and the final policy must be equal to the bit, and every number of the record to within TOLERANCE. A portable
agent's run comes out the same on every processor. For other runs this holds for the same libraries, kernel and kind of
processor. If one of them differs and the run comes out different, it is *not proved here*. That is not the same as *disproved*.
"""

from __future__ import annotations

import dataclasses
import math
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from banel_agents import AGENTS
from banel_envs import Oracle, Task, kernel
from banel_envs.errors import AssetError, BadValue, LedgerMismatch, MissingExtra, ReplayDiverged
from banel_envs.files import safe_files
from banel_envs.meter.file_reward import digest_by_files
from banel_envs.meter.ledger import Ledger
from banel_envs.problem import Tokens
from banel_leaderboard.proving.rates import Disproved
from banel_leaderboard.proving.recompute import (
    check_answers,
    check_package_facts,
    check_policy_file,
    recorded_task,
)
from banel_leaderboard.records.record import RunRecord
from banel_leaderboard.records.run_folder import LEDGER, RECORD, device_of
from banel_leaderboard.records.spec import Spec
from banel_leaderboard.records.verify import verify
from banel_leaderboard.running.harness import measure
from banel_leaderboard.running.lookup import CannotTell, Known
from banel_leaderboard.running.machine import NETWORKS, versions
from banel_leaderboard.running.resolve import ResolvedRun, on_device

DECISIVE = ("kernel", "instructions", "numpy", "torch", "stable-baselines3")
"""What decides the last bits of a run; where one differs, a run that does not come out the same proves nothing."""

PORTABLE = ("kernel", "numpy")
"""The same for a run of a portable agent whose networks the compiled kernel computed: the processor decides nothing.

NumPy's version stands here because its generator draws the permutations.
"""

TOLERANCE = 1e-9
"""How far a number of a record, such as a log10 rate, may be from the recomputed one, relative to the larger of it and 1.

The questions, the ledger and the final policy must be equal to the bit. The rates are sums of NumPy's exp, whose last bit
differs between processors.
"""


@dataclass(frozen=True)
class Proof:
    """A run that was proved."""

    record: RunRecord  # as it was submitted, its `execution` that of the replay
    answers: str | None  # why its answers were not recomputed; None where they were


def prove(folder: Path, known: Known | None = None) -> Proof:
    """Replay one run.

    Args:
        folder: the folder of the run.
        known: tasks and agents of your own, see lookup.own_code. Other names in the folder are looked up in the registries.

    Raises:
        CannotTell: the run can be neither proved nor disproved here. The message says what is missing or differs.
        Disproved: the run is not what its record says. The message names the first difference.
        BanelError: a file of the run is damaged or breaks a rule, which disproves it too.
    """
    known = known or Known()
    record = RunRecord.load(folder / RECORD)
    ledger = Ledger.read(folder / LEDGER)
    verify(record, ledger)
    # The cheap checks come first, so that a record which contradicts its ledger or its task is refused without a run.
    answers = None
    try:
        check_answers(record, ledger, recorded_task(record, ledger, known))
    except CannotTell as error:
        answers = str(error)
    check_package_facts(record, known)
    check_policy_file(record, folder)
    with tempfile.TemporaryDirectory() as scratch:
        # The replay measures into a copy, because an oracle writes to its folder and a submission must stay as it is.
        copy = Path(scratch)
        (copy / LEDGER).write_bytes(safe_files.read(folder / LEDGER, safe_files.LEDGER))
        try:
            with kernel.using(kernel.nearest(record.execution.kernel)):
                again = _measure_again(record, ledger, device_of(folder), copy, known)
        except (AssetError, MissingExtra) as error:
            raise CannotTell(str(error)) from error
        except LedgerMismatch as error:
            raise CannotTell(str(error).replace(str(copy), str(folder))) from error
        except ReplayDiverged as error:
            raise _not_the_same(record, error.found.replace(str(copy), str(folder))) from error
    if (difference := _first_difference(record, again)) is not None:
        raise _not_the_same(record, difference)
    return Proof(record.model_copy(update={"execution": again.execution}), answers)


def _measure_again(record: RunRecord, ledger: Ledger, device: str, folder: Path, known: Known) -> RunRecord:
    """Run the agent over the copied ledger in a folder; the record of that."""
    spec = Spec(
        task=record.task,
        agent=record.agent,
        seed=record.seed,
        feedback=record.feedback,
        twin=record.twin,
        budget=record.budget,
        settings=record.config,
        device=device,
    )
    try:
        spec.check()
    except BadValue as error:  # the run's device does not exist on this machine
        raise CannotTell(str(error)) from error
    task, agent = _task(record, known), known.agent(record.agent, record.config)
    run = ResolvedRun(spec, task, agent, folder)
    oracle = _answering(run, ledger.header)
    try:
        return measure(run, oracle, resumed=0)
    finally:
        oracle.close()


def _task(record: RunRecord, known: Known) -> Task:
    """The task to measure on. If the run's answers came by files, it is a task whose reward is never evaluated off the meter."""
    task = known.task(record.task).of_seed(record.seed)
    if record.digest == task.digest:
        return task
    # A task that is answered by files has a digest of its own, which follows from the task's.
    if record.digest != digest_by_files(task):
        raise CannotTell(
            f"it was run on another version of {record.task} than is here; BANEL_ASSETS names a folder with other assets, and "
            f"of a task of your own, restore the files"
        )
    return Task(task.problem, task.reward, threshold=task.threshold, free_evaluation=False, digest=record.digest)


def _answering(run: ResolvedRun, header: dict[str, Any]) -> Oracle:
    """An oracle that answers from the run's ledger and from nothing else."""

    def sealed(tokens: Tokens) -> NoReturn:
        raise ReplayDiverged(f"the agent asked {len(tokens)} sequences beyond the end of the ledger")

    spec, binding = run.spec, run.binding()
    if "inherits" in header:
        binding["inherits"] = header["inherits"]
    sealed_task = on_device(dataclasses.replace(run.task, reward=sealed), spec.device)
    path = run.folder / LEDGER
    return Oracle(sealed_task, budget=spec.budget, feedback=spec.feedback, ledger=path, binding=binding)


def _not_the_same(record: RunRecord, difference: str) -> CannotTell | Disproved:
    """The error for a run that came out different. With the same versions and kind of processor the run is disproved."""
    here = versions() | {"kernel": kernel.nearest(record.execution.kernel)}
    made_with = record.execution.versions | {"kernel": record.execution.kernel}
    others = [
        f"{name} {made_with.get(name, 'unknown')} (here {here.get(name, 'none')})"
        for name in (PORTABLE if _is_portable(record) else DECISIVE)
        if made_with.get(name) != here.get(name)
    ]
    if not others:
        return Disproved(difference)
    missing = f"; {kernel.MISSING}" if made_with["kernel"] != here["kernel"] else ""
    return CannotTell(f"it came out different, and it was computed with {', '.join(others)}{missing}: {difference}")


def _is_portable(record: RunRecord) -> bool:
    """Whether every processor should ask the same questions as this run did."""
    agent = AGENTS.get(record.agent)
    return agent is not None and agent.portable and record.execution.versions.get(NETWORKS) == kernel.COMPILED


def _first_difference(record: RunRecord, again: RunRecord) -> str | None:
    older = {name: None for name in ("unasked", "asks_from") if getattr(record, name) is None}
    again = again.model_copy(update=older)  # records of older versions do not hold these
    dumped = [r.model_dump(mode="json", exclude={"execution"}) for r in (record, again)]
    found = differing(dumped[0], dumped[1])
    if found is None:
        return None
    where, old, new = found
    return f"the record's {where} is {str(old)[:120]}, recomputed {str(new)[:120]}"


def differing(old: Any, new: Any, where: str = "") -> tuple[str, Any, Any] | None:
    """The first leaf at which two values of JSON differ by more than TOLERANCE: its path and what stands there in each."""
    if isinstance(old, dict) and isinstance(new, dict) and old.keys() == new.keys():
        pairs = [(f"{where}.{name}" if where else name, old[name], new[name]) for name in old]
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = [(f"{where}[{i}]", a, b) for i, (a, b) in enumerate(zip(old, new, strict=True))]
    elif type(old) is type(new) is float and math.isclose(old, new, rel_tol=TOLERANCE, abs_tol=TOLERANCE):
        return None
    else:
        return None if type(old) is type(new) and old == new else (where, old, new)
    return next((found for place, a, b in pairs if (found := differing(a, b, place)) is not None), None)
