"""A submission's agent on an instance of its tasks that nobody knew at submission, beside controls that run there too.

Fresh seeds do not find an agent that brings the answers of a task along: it does as well on any seed. On another instance of
the task these answers are worth nothing. So a number of 64 bits is drawn, the assets of the tasks are built from it, and a
process whose BANEL_ASSETS names them runs the agent, isolated as by `rerun`, and the controls, which read no answer. An
agent that is far better than them in its submission, and no better here, did not find its successes by asking.

Only families whose instances are built in minutes and whose success set depends on the number are offered.
"""

from __future__ import annotations

import contextlib
import io
import json
import os
import secrets
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, cast

from pydantic import Field

from banel_envs.assets import VARIABLE
from banel_envs.errors import BadValue, BanelError
from banel_envs.files import safe_files
from banel_leaderboard.proving.load import Run, load_runs
from banel_leaderboard.records.field_limits import AgentName, Seed, Sha256, TaskName, Text
from banel_leaderboard.records.record import RunRecord, Strict, validated
from banel_leaderboard.records.spec import Spec
from banel_leaderboard.running.harness import execute
from banel_leaderboard.running.machine import processor, versions
from banel_leaderboard.submission.attestation import MOST_FILE, Probability, digest_of_submission, write_attestation
from banel_leaderboard.submission.metadata import SubmissionError
from banel_leaderboard.submission.rerun import (
    Again,
    by_task,
    chosen,
    comparable,
    compare,
    fresh_seeds,
    import_from,
    rerun_lane,
    strata,
    walled,
)

FAMILIES: Mapping[str, str] = {
    "banel/EhrlichEasy-v0": "ehrlich",
    "banel/Ehrlich-v0": "ehrlich",
    "banel/EhrlichHard-v0": "ehrlich",
    "banel/Countdown-v0": "countdown",
    "banel/ListProgram-v0": "list_program",
}
"""The tasks that have instances, and the family that `python -m banel_envs.build` knows."""
CONTROLS = ("base", "tempered", "without_replacement")
ASSETS, ORDER, FOUND = "assets", "order.json", "instance.json"


class Beside(Strict):
    """The agent beside one control: p is small if the agent is better by more than chance."""

    control: AgentName
    statistic: Annotated[float, Field(ge=-1, le=1)]
    p: Probability
    least: Probability


class OnInstance(Strict):
    """What was found on a fresh instance."""

    instance: Literal[1] = 1
    submission: Text
    sha256: Sha256
    agent: AgentName
    number: Annotated[int, Field(ge=0, le=2**64)]
    tasks: tuple[TaskName, ...]
    seeds: tuple[Seed, ...]
    beside: tuple[Beside, ...]
    package: Text
    processor: Text

    def write(self, folder: Path) -> Path:
        """Write it into the folder of attestations."""
        return write_attestation(self, folder / f"{self.submission}.instance.json")


@dataclass(frozen=True)
class _Order:
    """What the process on the instance is told."""

    submission: str
    agent: str
    code: str | None
    name: str | None
    tasks: tuple[str, ...]
    seeds: tuple[int, ...]
    number: int


def on_instance(submission: Path, again: Again, out: Path) -> OnInstance:
    """Build a fresh instance of the submission's tasks, and run its agent and the controls there.

    Raises:
        BadValue: none of the tasks has instances, or the system cannot isolate the agent.
        BanelError: an instance cannot be built, or a run fails.
    """
    walled()
    with contextlib.redirect_stderr(io.StringIO()):
        submitted = chosen(load_runs(submission).runs, again)
    tasks = tuple(task for task in by_task(submitted) if task in FAMILIES)
    if not tasks:
        raise BadValue(f"none of the tasks has instances; those that have are {', '.join(FAMILIES)}")
    seeds = fresh_seeds(submitted, again, out)
    number = _number(out)
    for family in dict.fromkeys(FAMILIES[task] for task in tasks):
        _build(family, number, out / ASSETS)
    code = None if again.code is None else str(again.code.resolve())
    order = _Order(str(submission.resolve()), again.agent, code, again.name, tasks, tuple(seeds), number)
    (out / ORDER).write_text(json.dumps(vars(order)))
    command = [sys.executable, "-P", "-m", __name__, str(out.resolve())]
    done = subprocess.run(command, env=os.environ | {VARIABLE: str((out / ASSETS).resolve())}, check=False)
    if done.returncode:
        raise BanelError(f"the process on instance {number} ended with status {done.returncode}; run the command again")
    content = safe_files.read(out / FOUND, MOST_FILE)
    return validated(OnInstance, content, out / FOUND, "what was found on an instance", SubmissionError)


def _number(out: Path) -> int:
    """The instance's number; that of an interrupted rerun is taken up again."""
    noted = out / "number.txt"
    if not noted.is_file():
        noted.write_text(str(secrets.randbits(64)))
    return int(noted.read_text())


def _build(family: str, number: int, assets: Path) -> None:
    marker = assets / f".{family}"
    if marker.exists():
        return
    command = [sys.executable, "-P", "-m", "banel_envs.build", family, "--instance", str(number), "--out", str(assets)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise BanelError(f"instance {number} of {family} cannot be built: {done.stderr.strip()[-500:]}")
    marker.touch()


# In the process on the instance


def main(out: Path) -> None:
    """Run the agent and the controls, compare, and write FOUND."""
    read = json.loads((out / ORDER).read_text())
    order = _Order(**(read | {name: tuple(read[name]) for name in ("tasks", "seeds")}))
    submission = Path(order.submission)
    again = Again(order.agent, None if order.code is None else Path(order.code), order.name, order.tasks)
    import_from(again)
    with contextlib.redirect_stderr(io.StringIO()):  # its answers are not recomputed here, where the tasks are others
        submitted = chosen(load_runs(submission).runs, again)
    closed = (Path(os.environ[VARIABLE]),)
    for records in by_task(submitted).values():
        for seed in order.seeds:
            rerun_lane(records, again.agent, seed, out / "runs", closed)
            _controls(records, seed, out / "runs")
    with contextlib.redirect_stderr(io.StringIO()):
        runs = load_runs(out / "runs").runs
    found = OnInstance(
        submission=submission.name,
        sha256=digest_of_submission(submission),
        agent=submitted[0].record.agent,
        number=order.number,
        tasks=order.tasks,
        seeds=order.seeds,
        beside=tuple(_beside(runs, submitted[0].record.agent, control) for control in CONTROLS),
        package=versions().get("banel-envs", "unknown"),
        processor=processor()[:200],
    )
    safe_files.write(out / FOUND, (found.model_dump_json(indent=1) + "\n").encode(), out / f"{FOUND}.tmp")


def _controls(records: Sequence[RunRecord], seed: int, out: Path) -> None:
    """One run of each control, which reads no answer and so serves every regime."""
    feedback = "full" if any(record.feedback == "full" for record in records) else "failures"
    for control in CONTROLS:
        execute(Spec(task=records[0].task, agent=control, seed=seed, feedback=cast(Any, feedback)), out)


def _beside(runs: Sequence[Run], agent: str, control: str) -> Beside:
    """The agent beside a control on the instance."""
    pair = [run for run in runs if run.record.agent in (agent, control)]
    mine, theirs = (strata(pair, name) for name in (agent, control))
    found = compare(mine, theirs, comparable(mine, theirs))
    return Beside(control=control, statistic=found.statistic, p=found.p, least=found.least)


def lines(found: OnInstance) -> list[str]:
    """What was found, for a terminal."""
    return [
        f"instance {found.number} of {', '.join(found.tasks)}, {len(found.seeds)} seeds",
        *(
            f"beside {b.control}: mean difference of ranks {b.statistic:+.3f}, p = {b.p:.4g} (at least {b.least:.2g})"
            for b in found.beside
        ),
        "p is small where the agent is better than the control by more than chance",
    ]


if __name__ == "__main__":
    main(Path(sys.argv[1]))
