"""True runs of a tiny task, for the tests of whatever reads run folders: real ledgers, real success rates."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from banel_envs import Oracle, Problem, Task, success_rate
from banel_envs.measure.success import SuccessRate
from banel_envs.policies import Mixture, Policy, Repeating, Uniform
from banel_envs.problem import Tokens
from banel_leaderboard.records.record import SCHEMA, Execution, LedgerMark, Point, Rate, RunRecord, Work
from banel_leaderboard.running.evaluator import Questions, grid

V, T, BUDGET, BATCH = 4, 3, 60, 12
SUCCESSES = np.array([[3, 3, 3], [3, 3, 2]])  # of 64 sequences: the uniform policy succeeds at 1/32
FAILURE = np.array([0, 0, 0])


def tiny(id: str = "test/Tiny-v0", budget: int = BUDGET) -> Task:
    """Success: the sequence is one of SUCCESSES."""
    problem = Problem(id, tuple("abcd"), T, budget, base=lambda: Uniform(V, T, None))
    keys = {tuple(s) for s in SUCCESSES.tolist()}
    return Task(
        problem,
        reward=lambda tokens: np.array([tuple(row) in keys for row in tokens.tolist()], np.int8),
        successes=lambda: SUCCESSES,
        witness=lambda: SUCCESSES[0],
        digest="d" * 64,
    )


def policies(good: float, steps: int) -> list[Policy]:
    """Policies that rise from uniform towards success rate 1 (good > 0) or fall to exactly zero (good = 0)."""
    uniform, end = Uniform(V, T, None), Repeating(SUCCESSES[0] if good else FAILURE, V)
    if not good:
        return [uniform] + [end] * steps
    return [uniform] + [Mixture([uniform] * max(1, round(steps / good / k)) + [end]) for k in range(1, steps + 1)]


def make_run(
    out: Path,
    agent: str = "base",
    seed: int = 0,
    *,
    feedback: str = "failures",
    task: Task | None = None,
    twin: bool = False,
    config: dict[str, Any] | None = None,
    tuned: bool = False,
    budget: int | None = None,
    good: float = 1.0,
    ask: Sequence[Sequence[int]] | None = None,
    wall_s: float = 1.5,
) -> RunRecord:
    """One run into its folder under `out`.

    Args:
        good: how fast the policy improves; 0 for one that falls to zero success.
        ask: the sequences asked, in order, repeated to fill the budget; the uniform policy's samples by default.
    """
    task = task or tiny()
    config = config or {"batch": BATCH}
    regime = "twin" if twin else feedback
    folder = out / task.problem.id / (agent + "-tuned" * tuned) / f"{regime}{budget or ''}" / f"seed-{seed}"
    binding = {"agent": agent, "config": config, "seed": seed, "twin": twin}
    meter = task.blind() if twin else task
    oracle = Oracle(meter, budget=budget, feedback=feedback, ledger=folder / "ledger.jsonl", binding=binding)
    rng = np.random.default_rng(seed)
    steps = oracle.budget // BATCH
    while oracle.left:
        n = min(BATCH, oracle.left)
        asked = Uniform(V, T, None).sample(n, rng) if ask is None else np.resize(np.array(ask), (n, T))
        if ask is not None and n == oracle.left and seed:  # no two seeds ask the same sequences
            asked[-1] = [0, seed // V % V, seed % V]  # no success
        oracle(asked)
    tokens = np.concatenate([oracle.ledger.tokens(a) for a in oracle.ledger.asks])
    rewards = np.concatenate([a.rewards for a in oracle.ledger.asks])
    hits = np.flatnonzero(rewards == 1)
    curve = policies(good, steps)
    asked, places = Questions.of(task.problem, oracle.ledger), grid(oracle.budget)
    points = [
        _point(task, curve[nre // BATCH], tokens[hits[hits < nre]], asked, (before, nre))
        for before, nre in zip([0, *places], places, strict=False)
    ]
    record = RunRecord(
        schema_number=SCHEMA,
        task=task.problem.id,
        digest=task.digest,
        agent=agent,
        config=config,
        tuned=tuned,
        seed=seed,
        feedback=feedback,
        twin=twin,
        budget=oracle.budget,
        off_board=budget is not None,
        points=points,
        first_success=int(hits[0]) + 1 if len(hits) else None,
        successes_asked=len(hits),
        ledger=LedgerMark(head=oracle.ledger.head, lines=oracle.ledger.lines, count=oracle.count),
        policy_sha256=None,
        reported={},
        work=Work(sampled=1_000, scored=500, trained=250),
        execution=execution(wall_s),
    )
    oracle.close()
    record.write(folder / "record.json")
    return record


def execution(wall_s: float) -> Execution:
    """A machine that never was."""
    return Execution(
        wall_s=wall_s,
        cpu_s=wall_s * 2,
        evaluation_s=0.1,
        peak_memory_mb=100.0,
        resumed=0,
        threads=1,
        processor="test processor",
        versions={"python": "3"},
    )


def _point(task: Task, policy: Policy, known: Tokens, asked: Questions, part: tuple[int, int]) -> Point:
    rates: list[SuccessRate] = [success_rate(task, policy, exclude=k) for k in (None, known)]
    return Point(
        nre=part[1],
        success=Rate.of(rates[0]),
        fresh=Rate.of(rates[1]),
        invalid=asked.invalid(*part),
        repeated=asked.repeated(*part),
    )


MISS = [[0, 1, 2], [0, 0, 1], [1, 1, 1]]
HIT_AT_5 = [[0, 1, 2], [0, 0, 1], [1, 1, 1], [1, 0, 1], [3, 3, 3], [0, 2, 0]]
