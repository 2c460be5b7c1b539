"""harness: one agent, one task, one seed, under the meter, to a folder that can be checked (see run_folder.py).

A killed run goes on by running the same command again: the agent is run from the start, the ledger answers what it
already holds, and the oracle is called only beyond its end.
"""

from __future__ import annotations

import time
import traceback
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from banel_agents.base import Agent
from banel_agents.shared.silence import asking
from banel_envs import BudgetExhausted, Oracle, kernel
from banel_envs.errors import AnswersPending, BadPolicy, BanelError
from banel_envs.files import safe_files
from banel_envs.meter.ledger import Ledger
from banel_envs.meter.oracle import Feedback, check_meter
from banel_envs.policies import COST, Policy
from banel_envs.visible import visible
from banel_leaderboard.records.field_limits import MOST_TEXT, Reported
from banel_leaderboard.records.record import SCHEMA, Execution, LedgerMark, RunRecord, Work
from banel_leaderboard.records.run_folder import (
    FINAL,
    LOG,
    RECORD,
    begin,
    begun_with,
    check_out,
    write_status,
)
from banel_leaderboard.records.spec import Spec
from banel_leaderboard.running.evaluator import Evaluator, Questions, Yielded, as_json, file_sha256, grid
from banel_leaderboard.running.isolation_server import isolated_policies
from banel_leaderboard.running.machine import Clock, processor, threads, versions
from banel_leaderboard.running.resolve import ResolvedRun, resolve
from banel_leaderboard.running.sinks import Watcher, watching


class RunFailed(BanelError):
    """An agent or a reward raised; the ledger keeps every answer, and running again goes on from it."""


def run(
    task: str,
    agent: str,
    seed: int = 0,
    *,
    feedback: Feedback = "failures",
    out: str | Path = "out",
    twin: bool = False,
    budget: int | None = None,
    settings: Mapping[str, Any] | None = None,
    device: str = "cpu",
    oracle: str | None = None,
    inherit: str | Path | None = None,
    wait: float = 0.0,
    isolate: bool = False,
) -> RunRecord:
    """Run one agent on one task with one seed, or finish what was begun, or return what was finished.

    Args:
        task: an id, or "module:function" that returns a Task of your own.
        agent: a name, or "module:Class" of your own.
        seed: of the agent; evaluation has a stream of its own.
        feedback: "failures" withholds successes, "full" tells every reward.
        out: the folder that holds all runs.
        twin: tell the agent "failure" for everything and charge nothing (what it would learn without the oracle).
        budget: NRE; other than the task's own keeps the run off the board.
        settings: overrides of the agent's config; these keep the run off the `fixed` board.
        device: where the base policy's weights live, "cpu" or "cuda".
        oracle: "file:DIR" asks by files in DIR (FileReward) instead of the task's own reward.
        inherit: an old run of the same task, whose answers are taken over; keeps the run off the board.
        wait: seconds to wait for an answer in DIR; math.inf waits for ever.
        isolate: run the agent in a process of its own, which holds neither task nor reward and, on Linux with Landlock,
            cannot open the files that hold answers; elsewhere a RuntimeWarning says that it could.

    Raises:
        BanelError: bad input, or a folder that holds another run: nothing is written over.
        AnswersPending: the files hold no answer yet; run again when they do.
        RunFailed: the agent or the reward raised.
    """
    spec = Spec(
        task=task,
        agent=agent,
        seed=seed,
        feedback=feedback,
        twin=twin,
        budget=budget,
        settings=dict(settings or {}),
        device=device,
        oracle=oracle,
        inherit=None if inherit is None else str(inherit),
        wait=wait,
    )
    return execute(spec, Path(out), isolate=isolate)


def execute(spec: Spec, out: Path, *, isolate: bool = False) -> RunRecord:
    """See `run`."""
    run = resolve(spec, out)
    check_out(out)
    kernel.kind()  # BadValue for a bad word in the environment, before anything is written
    begun, oracle = run.begun, run.oracle()
    try:
        if (done := run.record(oracle)) is not None:
            return done
        _ = oracle.ledger  # locked and found to be this run's, before anything else is written
        with kernel.using(begun_with(run.folder)):
            resumed = begin(run.folder, spec, begun)
            record = _measured(run, oracle, resumed, isolate)
    finally:
        oracle.close()
    record.write(run.folder / RECORD)
    write_status(run.folder, spec, "finished", resumed)
    return record


def _measured(run: ResolvedRun, oracle: Oracle, resumed: int, isolate: bool) -> RunRecord:
    """`measure`, with what stops it noted in the run's folder."""
    spec, agent, folder = run.spec, run.agent, run.folder
    try:
        with watching(run.name, {"agent": agent.name, **as_json(agent.config)}) as watchers:
            return measure(run, oracle, resumed, isolate=isolate, watchers=watchers)
    except AnswersPending as error:
        write_status(folder, spec, "waiting", resumed, str(error))
        raise
    except Exception as error:
        write_status(folder, spec, "failed", resumed, f"{type(error).__name__}: {error}")
        safe_files.append(folder / LOG, traceback.format_exc())
        if isinstance(error, BanelError):
            raise
        where = f"{agent.name} on {run.task.problem.id}, seed {spec.seed}"
        raise RunFailed(f"{where}: {type(error).__name__}: {error}; see {folder / LOG}") from error


def measure(
    run: ResolvedRun, oracle: Oracle, resumed: int, *, isolate: bool = False, watchers: Sequence[Watcher] = ()
) -> RunRecord:
    """Drive the agent to the end of its budget, evaluate it on the grid, and say what came out."""
    spec, task, agent, folder = run.spec, run.task, run.agent, run.folder
    check_meter(oracle)
    torch.set_num_threads(1)  # one run, one thread: sums in another order would ask other questions
    streams = np.random.SeedSequence(spec.seed).spawn(3)
    agent_rng, evaluation_rng, checks_rng = map(np.random.default_rng, streams)
    (folder / "grid").mkdir(exist_ok=True)
    evaluator = Evaluator(task, evaluation_rng, folder / "grid", checks_rng, last=oracle.budget, watchers=watchers)
    clock = Clock()
    reported = Reported()
    places = grid(oracle.budget)
    current: Yielded | None = None
    learn = partial(isolated_policies, spec, folder) if isolate else _policies
    for policy in asking(learn(agent, oracle, agent_rng, clock), oracle, agent.name):
        # The policies before this one stand at every place that the run has passed since they were yielded.
        while current is not None and places and places[0] < oracle.count:
            _place(evaluator, places.pop(0), current, oracle.ledger, folder)
        current = Yielded.now(policy, agent.name, oracle.count)
        reported.note(agent.name, oracle.count, getattr(agent, "reported", {}))
    if current is None:
        raise RunFailed(f"{agent.name} yielded no policy; yield the base policy before the first question")
    for place in places:
        _place(evaluator, place, current, oracle.ledger, folder)
    _keep_final(folder, places, oracle.budget)
    return _record(run, oracle, evaluator, clock, reported, resumed)


def _policies(agent: Agent, oracle: Oracle, rng: np.random.Generator, clock: Clock) -> Iterator[Policy]:
    """The agent's policies, with its own clock running only while it works."""
    policies = iter(agent.learn(oracle.problem, oracle, rng))
    while True:
        with clock:
            try:
                policy = next(policies)
            except (StopIteration, BudgetExhausted):
                return
            except BadPolicy as error:
                raise error.of(f"{agent.name} at NRE {oracle.count}: a policy of its cannot be used") from error
        yield policy


def _place(evaluator: Evaluator, nre: int, current: Yielded, ledger: Ledger, folder: Path) -> None:
    begin = time.perf_counter()
    evaluator.measure(nre, current, ledger)
    rate = evaluator.points[-1][1]
    said = f"NRE {nre}: log10 success {rate.log10} (evaluated in {time.perf_counter() - begin:.2f} s)\n"
    safe_files.append(folder / LOG, said)


def _keep_final(folder: Path, places: list[int], budget: int) -> None:
    last = folder / "grid" / f"{budget:07d}.safetensors"
    if last.exists():
        (folder / FINAL).unlink(missing_ok=True)
        (folder / FINAL).hardlink_to(last)


def _record(
    run: ResolvedRun, oracle: Oracle, evaluator: Evaluator, clock: Clock, reported: Reported, resumed: int
) -> RunRecord:
    spec, task, agent, ledger = run.spec, run.task, run.agent, oracle.ledger
    questions = Questions.of(task.problem, ledger)
    return RunRecord(
        schema_number=SCHEMA,
        task=task.problem.id,
        digest=task.digest,
        agent=agent.name,
        config=as_json(agent.config),
        tuned=agent.config != type(agent)().config,
        seed=spec.seed,
        feedback=spec.feedback,
        twin=spec.twin,
        budget=oracle.budget,
        off_board=oracle.budget != task.problem.budget or ledger.header.get("inherits") is not None,
        inherits=ledger.header.get("inherits"),
        points=evaluator.finish(questions),
        first_success=questions.first_success(),
        successes_asked=int((questions.rewards == 1).sum()),
        errors=sum(len(ask.errors) for ask in ledger.asks),
        ledger=LedgerMark(head=ledger.head, lines=ledger.lines, count=ledger.count),
        policy_sha256=file_sha256(run.folder / FINAL),
        reported=reported.series,
        work=Work(
            sampled=COST.sampled - clock.sampled,
            scored=COST.scored - clock.scored,
            trained=COST.trained - clock.trained,
        ),
        execution=Execution(
            wall_s=round(clock.wall, 3),
            cpu_s=round(clock.cpu, 3),
            evaluation_s=round(time.perf_counter() - clock.begin - clock.wall, 3),
            peak_memory_mb=round(clock.peak(), 1),
            resumed=resumed,
            threads=threads(),
            processor=visible(processor(), MOST_TEXT - 1),
            versions={name: visible(version, MOST_TEXT - 1) for name, version in versions().items()},
        ),
    )
