"""Run a submission's agent again on fresh seeds, and compare: a result that no machine replays to the bit can be confirmed so.

The agent's code is imported in the agent's own process alone, behind the wall of `--isolate`: it holds no reward, and cannot
open ledgers or the package's weights and tables. This process knows of the agent what the submission's records say. The
fresh seeds are drawn when the rerun starts, so that nobody knew them at submission.

A run's score is the mean of three ranks among the runs of its task and regime: how soon the first success, how many distinct
successes, how high the final rate. The scores are compared by one permutation test (statistics/permutation.py).
"""

from __future__ import annotations

import contextlib
import dataclasses
import io
import math
import secrets
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray

from banel_agents.base import Agent
from banel_envs.assets import FOLDER
from banel_envs.errors import BadValue, BanelError
from banel_envs.meter.oracle import Feedback
from banel_leaderboard.proving.load import Run, load_runs
from banel_leaderboard.ranking.boards import RATE, serve
from banel_leaderboard.records.record import RunRecord
from banel_leaderboard.records.served import serves_all
from banel_leaderboard.records.spec import Spec, load_task
from banel_leaderboard.running import isolation_wall
from banel_leaderboard.running.harness import finish
from banel_leaderboard.running.machine import processor, versions
from banel_leaderboard.running.resolve import ResolvedRun, run_folder
from banel_leaderboard.statistics.permutation import Comparison, stratified_permutation
from banel_leaderboard.submission.attestation import Rerun, Stratum, digest_of_submission, verdict_of

FLOOR = -12.0  # log10: lower final rates count as equal, as across tasks (ranking/across.py)
Key: TypeAlias = tuple[str, Feedback]
FEEDBACKS: tuple[Feedback, ...] = ("full", "failures", "typed")


@dataclass(frozen=True)
class Again:
    """Which agent is run again, and where its code is."""

    agent: str  # "module:Class", or the name of a shipped agent
    code: Path | None  # the folder that the module is in
    name: str | None = None  # its name in the submission; None where the submission has one agent
    tasks: tuple[str, ...] = ()  # only these tasks; all without any
    runs: int | None = None  # fresh seeds a task; as many as were submitted without it


def rerun(submission: Path, again: Again, out: Path) -> Rerun:
    """Run the agent again, one fresh run for each submitted seed, and compare; runs that are finished in `out` are kept.

    Raises:
        BadValue: the submission has no such agent or task, or the system cannot isolate the agent.
        BanelError: the submission has no valid run, or a run fails.
    """
    walled()
    with contextlib.redirect_stderr(io.StringIO()):
        loaded = load_runs(submission)
    submitted = chosen(loaded.runs, again)
    import_from(again)
    seeds = fresh_seeds(submitted, again, out)
    for records in by_task(submitted).values():
        for seed in seeds:
            rerun_lane(records, again.agent, seed, out)
    with contextlib.redirect_stderr(io.StringIO()):
        fresh = [run for run in load_runs(out).runs if run.record.seed in set(seeds)]
    return _verdict(submission, submitted, fresh, seeds)


def walled() -> None:
    """BadValue unless this system can keep files from an agent's process."""
    if not isolation_wall.version():
        raise BadValue(
            "rerun executes a stranger's code, and this system has no Landlock to keep files from it (see trust.md)"
        )


def import_from(again: Again) -> None:
    """Let the agent's process import from the folder of its code; this process imports nothing from there."""
    if again.code is not None and str(again.code.resolve()) not in sys.path:
        # At the end, so that nothing here can be replaced by it. The agent's process takes this list over.
        sys.path.append(str(again.code.resolve()))


def chosen(runs: Iterable[Run], again: Again) -> list[Run]:
    """The submitted runs of the agent, without twins."""
    agents = sorted({run.record.agent for run in runs})
    if again.name is None and len(agents) != 1:
        raise BadValue(f"the submission has the agents {', '.join(agents) or 'none'}; say which one with --as NAME")
    name = agents[0] if again.name is None else again.name
    if name not in agents:
        raise BadValue(f"--as is {name!r}; the submission has {', '.join(agents)}")
    mine = [run for run in runs if run.record.agent == name and not run.record.twin]
    tasks = {run.record.task for run in mine}
    if missing := [task for task in again.tasks if task not in tasks]:
        raise BadValue(f"--task is {missing[0]!r}; the submission has {', '.join(sorted(tasks))}")
    return [run for run in mine if not again.tasks or run.record.task in again.tasks]


def by_task(runs: Iterable[Run]) -> dict[str, list[RunRecord]]:
    """The records of each task."""
    found: dict[str, list[RunRecord]] = {}
    for run in runs:
        found.setdefault(run.record.task, []).append(run.record)
    return found


def fresh_seeds(submitted: Sequence[Run], again: Again, out: Path) -> list[int]:
    """Seeds that nobody could know; those of an interrupted rerun are taken up again from `out`."""
    wanted = again.runs or max(len({r.seed for r in records}) for records in by_task(submitted).values())
    noted = out / "seeds.txt"
    if noted.is_file():
        seeds = [int(line) for line in noted.read_text().split()]
        if len(seeds) == wanted:
            return seeds
        raise BadValue(f"{out} holds a rerun of {len(seeds)} seeds, not of {wanted}; name another --out")
    taken = {run.record.seed for run in submitted}
    seeds = []
    while len(seeds) < wanted:
        seed = secrets.randbelow(2**53)
        if seed not in taken:
            seeds.append(seed)
    out.mkdir(parents=True, exist_ok=True)
    noted.write_text("\n".join(map(str, seeds)) + "\n")
    return seeds


def rerun_lane(records: Sequence[RunRecord], agent: str, seed: int, out: Path, closed: tuple[Path, ...] = ()) -> None:
    """The isolated runs of one task and fresh seed: full feedback first; a run that would be the same serves the other."""
    told = {record.feedback for record in records}
    served = False
    for feedback in [f for f in FEEDBACKS if f in told]:
        if served and feedback != "typed":
            continue
        record = next(r for r in records if r.feedback == feedback)
        spec = Spec(task=record.task, agent=agent, seed=seed, feedback=feedback, settings=dict(record.config))
        task = load_task(record.task).of_seed(seed)
        stand_in = _stand_in(record)
        run = ResolvedRun(spec, task, stand_in, run_folder(spec, out, task, stand_in), (*_closed(), *closed))
        served = serves_all(finish(run, isolate=True)) or served


def _closed() -> tuple[Path, ...]:
    """The package's weights and tables, which the agent has no need to open: its base policy comes over the pipe."""
    return tuple(sorted(path for path in FOLDER.iterdir() if path.suffix in (".npz", ".safetensors")))


def _stand_in(record: RunRecord) -> Agent:
    """An agent that has the name and the settings of the record and learns nothing: its code is not imported here."""
    fields = [(name, Any, dataclasses.field(default=value)) for name, value in record.config.items()]
    if any(isinstance(value, list | dict) for value in record.config.values()):
        fields = [
            (name, Any, dataclasses.field(default_factory=lambda value=value: value))  # type: ignore[misc]
            for name, value in record.config.items()
        ]
    config = dataclasses.make_dataclass("Config", fields, frozen=True)
    body = {"name": record.agent, "Config": config, "__init__": lambda self: setattr(self, "config", config())}
    return cast(Agent, type("StandIn", (), body)())


# The comparison


def _verdict(submission: Path, submitted: Sequence[Run], fresh: Sequence[Run], seeds: Sequence[int]) -> Rerun:
    before, after = strata(submitted), strata(fresh)
    keys = comparable(before, after)
    if not keys:
        raise BanelError("no task has both submitted and fresh runs under one regime; nothing can be compared")
    comparison = compare(before, after, keys)
    return Rerun(
        submission=submission.resolve().name,
        sha256=digest_of_submission(submission),
        agent=submitted[0].record.agent,
        seeds=tuple(seeds),
        strata=tuple(_stratum(k, before[k], after[k]) for k in keys),
        statistic=comparison.statistic,
        p=comparison.p,
        least=comparison.least,
        verdict=verdict_of(comparison.p, comparison.least),
        package=versions().get("banel-envs", "unknown"),
        processor=processor()[:200],
    )


def strata(runs: Sequence[Run], agent: str | None = None) -> dict[Key, list[Run]]:
    """The runs of each task and regime, those included that were served by a run of another regime; see boards.serve.

    Of several agents that ran side by side, `agent` says whose runs are given.
    """
    found: dict[Key, list[Run]] = {}
    for regime in FEEDBACKS:
        for served, _ in serve(runs, regime):
            if agent is None or served[0].record.agent == agent:
                found[served[0].record.task, regime] = served
    return found


def comparable(before: Mapping[Key, Sequence[Run]], after: Mapping[Key, Sequence[Run]]) -> list[Key]:
    """The strata of both samples; of each task only the regimes under which all of its seeds have a run."""
    both = sorted(before.keys() & after.keys())
    most = {task: max(len(before[k]) + len(after[k]) for k in both if k[0] == task) for task, _ in both}
    return [k for k in both if len(before[k]) + len(after[k]) == most[k[0]]]


def compare(before: Mapping[Key, Sequence[Run]], after: Mapping[Key, Sequence[Run]], keys: Sequence[Key]) -> Comparison:
    """The permutation test, stratified over tasks.

    The runs of one seed under two regimes are the same up to the first success. So what is permuted within a task are
    seeds, and the score of a seed is the mean over the regimes.
    """
    first, second = [], []
    for task in sorted({task for task, _ in keys}):
        scores: dict[tuple[bool, int], list[float]] = {}
        for key in (key for key in keys if key[0] == task):
            runs = [*((True, run) for run in before[key]), *((False, run) for run in after[key])]
            found = _scores([_answers(run, RATE[key[1]]) for _, run in runs])
            for (old, run), score in zip(runs, found, strict=True):
                scores.setdefault((old, run.record.seed), []).append(float(score))
        first.append(np.array([np.mean(value) for (old, _), value in scores.items() if old]))
        second.append(np.array([np.mean(value) for (old, _), value in scores.items() if not old]))
    return stratified_permutation(first, second, np.random.default_rng(0))


def _answers(run: Run, rate: str) -> tuple[float, float, float]:
    """What a run says to the three questions, the larger the better."""
    record = run.record
    first = -math.inf if record.first_success is None else -float(record.first_success)
    return first, float(len(run.asked.found)), max(FLOOR, record.final(cast(Any, rate)))


def _scores(answers: Sequence[tuple[float, float, float]]) -> NDArray[np.float64]:
    """The mean over the questions of the runs' ranks: [n]."""
    values = np.array(answers)  # [n, 3]
    below = (values[:, None] > values[None, :]).sum(axis=1)
    equal = (values[:, None] == values[None, :]).sum(axis=1)
    found: NDArray[np.float64] = (below + equal / 2).mean(axis=1)
    return found


def _stratum(key: Key, before: Sequence[Run], after: Sequence[Run]) -> Stratum:
    met = [sum(run.record.first_success is not None for run in runs) for runs in (before, after)]
    return Stratum(
        task=key[0], regime=key[1], submitted=len(before), fresh=len(after), met_submitted=met[0], met_fresh=met[1]
    )


def lines(found: Rerun) -> list[str]:
    """The verdict for a terminal."""
    said: Mapping[str, str] = {
        "confirmed": "fresh seeds do not contradict the submitted runs",
        "contradicted": "the submitted runs are better than fresh seeds, by more than chance",
        "undecided": "there are too few runs: no outcome could have contradicted the submission",
    }
    return [
        *(
            f"{s.task} {s.regime}: {s.met_submitted} of {s.submitted} submitted runs met a success, "
            f"{s.met_fresh} of {s.fresh} fresh ones"
            for s in found.strata
        ),
        f"mean difference of ranks {found.statistic:+.3f}, p = {found.p:.4g} (at least {found.least:.2g})",
        f"{found.verdict}: {said[found.verdict]}",
    ]
