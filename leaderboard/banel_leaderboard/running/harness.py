"""Make one run: one agent on one task with one seed, under the meter, into a folder that can be checked (see run_folder.py).

A run that was killed is resumed by the same command. The agent runs from the start, and the ledger answers the questions
that it already holds. The reward is called only for questions beyond the ledger's end.
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

from banel_agents.base import Agent, asks_from
from banel_agents.shared.silence import asking
from banel_envs import BudgetExhausted, Oracle, kernel
from banel_envs.errors import AnswersPending, BadPolicy, BanelError
from banel_envs.files import safe_files
from banel_envs.files.visible import visible
from banel_envs.meter.ledger import Ledger
from banel_envs.meter.oracle import Feedback, check_meter
from banel_envs.policies import COST, Policy
from banel_leaderboard.records.field_limits import MOST_TEXT, Reported
from banel_leaderboard.records.record import SCHEMA, Execution, LedgerMark, RunRecord, Work
from banel_leaderboard.records.run_folder import (
    FINAL,
    LOG,
    RECORD,
    check_out,
    file_sha256,
    note_start,
    started_with,
    write_status,
)
from banel_leaderboard.records.spec import Spec
from banel_leaderboard.running.evaluator import Evaluator, Questions, Yielded, as_json, grid
from banel_leaderboard.running.isolation_server import isolated_policies
from banel_leaderboard.running.machine import NETWORKS, Clock, processor, threads, versions
from banel_leaderboard.running.resolve import ResolvedRun, resolve
from banel_leaderboard.running.sinks import Watcher, watching


class RunFailed(BanelError):
    """An agent or a reward raised an error. The ledger keeps every answer, and the same command resumes the run from it."""


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
    """Run one agent on one task with one seed.

    A run that was killed is resumed. If the run is finished, its record is returned and nothing is run.

    Args:
        task: an id, or "module:function" that returns a Task of your own.
        agent: a name, or "module:Class" of your own.
        seed: the agent's random numbers come from it. The evaluation has a random stream of its own.
        feedback: "failures" withholds successes, "full" tells every reward, "typed" withholds successes and
            tells of each failure why it failed.
        out: the folder that holds all runs.
        twin: tell the agent "failure" for everything and charge nothing, which shows what it learns without the oracle.
        budget: the NRE that is granted. A run with another budget than the task's own is off the board.
        settings: values for some of the agent's settings. Other settings than the default ones put the run on the `tuned` board.
        device: where the base policy's weights are, "cpu" or "cuda".
        oracle: "file:DIR" asks by files in DIR (FileReward) instead of the task's own reward.
        inherit: an old run of the same task, whose answers the new run takes over. The new run is off the board.
        wait: seconds to wait for an answer in DIR; math.inf waits for ever.
        isolate: run the agent in a process of its own, which holds neither the task nor the reward. On Linux with Landlock
            that process cannot open the files that hold answers. On other systems it could, and a RuntimeWarning says so.

    Raises:
        BanelError: the input is bad, or the folder holds another run. Nothing is overwritten.
        AnswersPending: the files hold no answer yet. Run again when they do.
        RunFailed: the agent or the reward raised an error.
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
    """Make the run that a Spec asks for; see `run`."""
    run = resolve(spec, out)
    check_out(out)
    return finish(run, isolate=isolate)


def finish(run: ResolvedRun, *, isolate: bool = False) -> RunRecord:
    """Make a resolved run, or go on with it, and write its record; see `run`."""
    spec = run.spec
    kernel.kind()  # BadValue if the environment asks for an unknown kernel, before anything is written
    # `started` is asked before the ledger is opened, because opening creates the file that it looks for.
    started, oracle = run.started, run.oracle()
    try:
        if (done := run.record(oracle)) is not None:
            return done
        # This opens, locks and verifies the ledger. A second process on this run stops here, before it writes anything.
        _ = oracle.ledger
        with kernel.using(started_with(run.folder)):
            resumed = note_start(run.folder, spec, started)
            record = _measured(run, oracle, resumed, isolate)
            oracle.ledger.sync()  # the record, which names the ledger's head, must not outlast the ledger in a power cut
    finally:
        oracle.close()
    # The record is written last, so a folder with a record holds everything that belongs to a finished run.
    record.write(run.folder / RECORD)
    write_status(run.folder, spec, "finished", resumed)
    return record


def _measured(run: ResolvedRun, oracle: Oracle, resumed: int, isolate: bool) -> RunRecord:
    """Call `measure`. If it raises, the reason is noted in the run's folder."""
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
        # An error of this package already says what is wrong. Others come from the agent or the reward.
        if isinstance(error, BanelError):
            raise
        where = f"{agent.name} on {run.task.problem.id}, seed {spec.seed}"
        raise RunFailed(f"{where}: {type(error).__name__}: {error}; see {folder / LOG}") from error


def measure(
    run: ResolvedRun, oracle: Oracle, resumed: int, *, isolate: bool = False, watchers: Sequence[Watcher] = ()
) -> RunRecord:
    """Run the agent to the end of its budget, measure its policies on the grid, and return the record."""
    spec, task, agent, folder = run.spec, run.task, run.agent, run.folder
    check_meter(oracle)
    # More threads add numbers in another order. The last bits then differ, and the agent could ask other questions.
    torch.set_num_threads(1)
    # Three streams, so that neither measuring nor checking a policy changes what the agent does.
    streams = np.random.SeedSequence(spec.seed).spawn(3)
    agent_rng, evaluation_rng, checks_rng = map(np.random.default_rng, streams)
    (folder / "grid").mkdir(exist_ok=True)
    evaluator = Evaluator(task, evaluation_rng, folder / "grid", checks_rng, last=oracle.budget, watchers=watchers)
    clock = Clock()
    reported = Reported()
    places = grid(oracle.budget)
    current: Yielded | None = None
    learn = partial(isolated_policies, spec, folder, run.closed) if isolate else _policies
    for policy in asking(learn(agent, oracle, agent_rng, clock), oracle, agent.name):
        # The policies before this one stand at every place that the run has passed since they were yielded.
        while current is not None and places and places[0] < oracle.count:
            _place(evaluator, places.pop(0), current, oracle.ledger, folder)
        if current is None and oracle.count:
            raise RunFailed(
                f"{agent.name} asked {oracle.count} sequences before its first yield, so no policy stands at NRE 0; yield the "
                f"base policy before the first question"
            )
        current = Yielded.now(policy, agent.name, oracle.count)
        reported.note(agent.name, oracle.count, getattr(agent, "reported", {}))
    if current is None:
        raise RunFailed(f"{agent.name} yielded no policy; yield the base policy before the first question")
    # An agent may stop before its budget is spent. Its last policy then stands at all places that are left.
    for place in places:
        _place(evaluator, place, current, oracle.ledger, folder)
    _keep_final(folder, oracle.budget)
    return _record(run, oracle, evaluator, clock, reported, resumed)


def _policies(agent: Agent, oracle: Oracle, rng: np.random.Generator, clock: Clock) -> Iterator[Policy]:
    """Yield the agent's policies. The clock runs only while the agent works, so that measuring is not timed."""
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
    """Measure the current policy at one place of the grid, and note it in the run's log."""
    start = time.perf_counter()
    evaluator.measure(nre, current, ledger)
    rate = evaluator.points[-1][1]
    said = f"NRE {nre}: log10 success {rate.log10} (evaluated in {time.perf_counter() - start:.2f} s)\n"
    safe_files.append(folder / LOG, said)


def _keep_final(folder: Path, budget: int) -> None:
    """Name the policy at the budget as the final one. It is a link, so that the file is on the disk only once."""
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
        asks_from=asks_from(agent),
        tolerance=evaluator.tolerance,
        points=evaluator.curve(questions),
        unasked=evaluator.unasked,
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
            evaluation_s=round(time.perf_counter() - clock.start - clock.wall, 3),
            peak_memory_mb=round(clock.peak(), 1),
            resumed=resumed,
            threads=threads(),
            processor=visible(processor(), MOST_TEXT - 1),
            versions={
                name: visible(version, MOST_TEXT - 1)
                for name, version in (versions() | {NETWORKS: clock.networks()}).items()
            },
        ),
    )
