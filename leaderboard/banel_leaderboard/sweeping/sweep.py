"""A sweep: many runs, each in a process of its own.

A sweep can be stopped and started again. A run that fails is reported, and the others go on. The runs of one agent, task
and seed form a lane: first with full feedback, then with the feedback "failures", then the oracle-free twin. A run that met
no success, or whose agent reads no answer, is the same under all three. It serves the rest of its lane: the other runs are
not made. A run with the feedback "typed" serves none and is served by none, because its failures tell more.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Generator, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from queue import SimpleQueue
from typing import Any, TypeAlias

from tqdm import tqdm

from banel_envs.errors import BanelError
from banel_envs.files.visible import terminal
from banel_envs.meter.oracle import Feedback
from banel_leaderboard.records.find_runs import many
from banel_leaderboard.records.record import RunRecord
from banel_leaderboard.records.run_folder import check_out
from banel_leaderboard.records.served import serves_all
from banel_leaderboard.records.spec import Spec, load_agent
from banel_leaderboard.running.resolve import finished_record, resolve
from banel_leaderboard.sweeping.suites import Suite
from banel_leaderboard.sweeping.workers import Outcome, Workers

SAID_EVERY = 10.0  # seconds between two lines about how far a sweep is, where no bar can be drawn
Lane = tuple[Spec, ...]


def lanes_of(suite: Suite, agent: str | None = None, settings: Mapping[str, Any] | None = None) -> list[Lane]:
    """The lanes of a suite. Those of the first seed come first, so that every agent soon has a result to look at.

    Args:
        suite: the tasks, agents, seeds and feedbacks.
        agent: a shipped agent by name, or your own as "module:Class", that runs instead of the suite's own agents.
        settings: values for some of its settings.

    Raises:
        BanelError: there is no such agent, or it has no such settings.
    """
    lanes = [
        lane
        for part in (suite.parts if agent is None else parts_for(suite, agent))
        for seed, task, name in product(part.seeds, part.tasks, part.agents)
        if (lane := _lane(task, name, dict(settings or {}), seed, part))
    ]
    return sorted(lanes, key=lambda lane: lane[0].seed)  # the sort is stable, so the order is else the suite's


def parts_for(suite: Suite, agent: str) -> tuple[Suite, ...]:
    """The parts of a suite that an agent runs, as the only one of them.

    An agent of the suite runs the parts that name it. Any other agent, named as on the command line, runs the suite without
    its further runs; its oracle-free twin too where the suite has twins, unless the agent learns from successes alone.
    """
    own = tuple(part for part in suite.parts if agent in part.agents)
    if own:
        return tuple(replace(part, agents=(agent,)) for part in own)
    twin = any(part.twins for part in suite.parts) and not learns_from_successes(agent)
    return (replace(suite, also=(), agents=(agent,), twins=(agent,) if twin else ()),)


def _lane(task: str, agent: str, settings: Mapping[str, Any], seed: int, part: Suite) -> Lane:
    alone = learns_from_successes(agent)
    regimes: list[tuple[Feedback, bool]] = [
        (feedback, False)
        for feedback in part.feedbacks
        # Nothing can be learnt where successes are withheld: one seed shows it.
        if not (feedback != "full" and alone and seed != part.seeds[0])
    ]
    if agent in part.twins:
        regimes.append(("failures", True))
    return tuple(
        Spec(task=task, agent=agent, seed=seed, feedback=feedback, twin=twin, settings=settings)
        for feedback, twin in regimes
    )


def learns_from_successes(agent: str) -> bool:
    """Whether an agent, named as on the command line, says that it learns from successes alone; imports its module."""
    return getattr(load_agent(agent), "learns_from", "") == "successes"


def check(lanes: Iterable[Lane], out: Path) -> None:
    """Raise BanelError, before anything runs, if a task, agent or setting is wrong or a folder holds another run."""
    # One spec of each task and agent finds wrong names and settings, and there are far fewer of them than runs.
    for spec in {(s.task, s.agent): s for lane in lanes for s in lane}.values():
        resolve(spec, out).oracle().close()
    check_out(out)
    with many():
        for lane in lanes:
            for spec in lane:
                finished_record(spec, out)


def sweep(
    lanes: Sequence[Lane],
    out: Path,
    *,
    jobs: int = 1,
    timeout: float | None = None,
    isolate: bool = False,
    engine: Engine | None = None,
) -> list[Outcome]:
    """Run every lane that is not finished.

    Args:
        lanes: see lanes_of.
        out: the folder that holds all runs.
        jobs: how many processes run at once on this machine; each computes with one thread.
        timeout: seconds after which a run is stopped and counted as failed; it goes on when it is run again.
        isolate: keep the reward out of the agents' processes.
        engine: runs the lanes somewhere else than in `jobs` processes here; see ray_engine.

    Returns:
        One Outcome for each run, in the order in which the runs ended.
    """
    outcomes: list[Outcome] = []
    failed = 0
    run = engine or partial(local, jobs=jobs)
    with (
        closing(Workers(out, timeout, isolate)) as workers,
        tqdm(total=sum(map(len, lanes)), unit="run", smoothing=0.1, disable=None, mininterval=0.5) as bar,
        closing(run(lanes, workers)) as ended,
    ):
        said_at = time.monotonic()
        for outcome in ended:
            outcomes.append(outcome)
            bar.update()
            if bar.disable and time.monotonic() - said_at >= SAID_EVERY:  # into a file: lines in place of a bar
                said_at = time.monotonic()
                print(f"{len(outcomes):,} of {bar.total:,} runs have ended", file=sys.stderr, flush=True)
            failed += outcome.status == "failed"
            bar.set_postfix(failed=failed, refresh=False)
            if outcome.message and outcome.status in ("failed", "waiting"):
                said = terminal(f"{outcome.status}: {describe(outcome.spec)}: {outcome.message}")
                bar.write(said, file=sys.stderr)
    return outcomes


def local(lanes: Sequence[Lane], workers: Workers, *, jobs: int) -> Generator[Outcome, None, None]:
    """The engine of this machine, which runs `jobs` lanes at once."""
    ended: SimpleQueue[Outcome | BaseException] = SimpleQueue()

    def run(lane: Lane) -> None:
        try:
            for outcome in run_lane(lane, workers):
                ended.put(outcome)
        except BaseException as error:
            # An error in a thread would be lost. The main thread waits for an outcome, so it gets the error instead.
            ended.put(error)

    with ThreadPoolExecutor(jobs) as threads:
        for lane in lanes:
            threads.submit(run, lane)
        try:
            for _ in range(sum(map(len, lanes))):
                outcome = ended.get()
                if isinstance(outcome, BaseException):
                    raise outcome
                yield outcome
        except BaseException:
            threads.shutdown(wait=False, cancel_futures=True)
            workers.stop()
            raise


def describe(spec: Spec) -> str:
    """A run in a few words."""
    return f"{spec.agent} on {spec.task}, {'twin' if spec.twin else spec.feedback}, seed {spec.seed}"


def run_lane(lane: Lane, workers: Workers) -> Iterator[Outcome]:
    """Make the runs of a lane in order, each in a process of its own, and give one Outcome for each of them."""
    served = False
    for spec in lane:
        if served and spec.feedback != "typed":
            yield Outcome(spec, "served", "it would repeat the run before it: one run serves them all")
            continue
        try:
            record = workers.finished(spec)
            outcome = Outcome(spec, "kept") if record is not None else workers.run(spec)
            if outcome.status == "done":
                record = workers.finished(spec)
        except (BanelError, OSError) as error:
            outcome, record = Outcome(spec, "failed", str(error)), None
        yield outcome
        served |= record is not None and serves_all(record)


Engine: TypeAlias = Callable[[Sequence[Lane], Workers], Generator[Outcome, None, None]]
"""Runs the lanes and yields the Outcome of each run when it ends. Closing the generator stops all runs."""


def records_of(lanes: Iterable[Lane], out: Path) -> list[RunRecord]:
    """The finished runs among the lanes."""
    with many():
        found = [finished_record(spec, out) for lane in lanes for spec in lane]
    return [record for record in found if record is not None]
