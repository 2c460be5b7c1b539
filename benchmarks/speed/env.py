"""Speed of the environments against Gymnasium's and Stable-Baselines3's own vector env, and the price of the meter."""

from __future__ import annotations

import statistics
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import Env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from stable_baselines3.common.vec_env import DummyVecEnv

from banel_envs import TASKS, GenerationEnv, GenerationVectorEnv, Oracle
from benchmarks.speed.measure import Bar, Work, clear, compare, interleaved, line, rates, spread

TASK = "banel/AdditionAttack-v0"
BUDGET = 10**9
BARS = {1: None, 64: Bar(40), 1024: Bar(250)}  # copies -> times SyncVectorEnv
LIMIT = "bare loop"
STEPS = {1: 2000, 64: 200, 1024: 30}


def environments(repeats: int) -> None:
    """Steps a second, metering on, under the same random actions; one oracle for all copies everywhere."""
    single = interleaved({"single": partial(run_single, GenerationEnv(problem(), oracle()), 2000)}, repeats)["single"]
    line("env steps, GenerationEnv alone", f"{spread(rates(single, 2000))} steps/s")
    for copies, bar in BARS.items():
        actions = np.random.default_rng(0).integers(problem().V, size=(STEPS[copies], copies))
        works: dict[str, Work] = {
            "here": partial(run_vector, GenerationVectorEnv(problem(), oracle(), copies), actions),
            "SyncVectorEnv": partial(run_vector, sync(copies), actions),
            "DummyVecEnv": partial(run_sb3, DummyVecEnv(makers(copies)), actions),
            LIMIT: partial(run_bare, actions),
        }
        taken = interleaved(works, repeats)
        bars = {} if bar is None else {"SyncVectorEnv": bar, LIMIT: Bar(1 / 4)}
        compare(f"env steps, {copies:,} copies", taken, "here", actions.size, "steps", bars)


def meter(repeats: int) -> None:
    """What counting and recording add to a reward, a call of 64 sequences (bar: 60 us) and of one."""
    task, calls = TASKS[TASK], 200
    base = task.problem.base_policy().sample(64, np.random.default_rng(0))
    for n in (64, 1):
        tokens = base[:n]
        with tempfile.TemporaryDirectory() as folder:
            asked = {
                "in memory": Oracle(task, budget=BUDGET),
                "in a file": Oracle(task, budget=BUDGET, ledger=Path(folder) / "ledger.jsonl"),
            }
            works: dict[str, Work] = {name: partial(often, oracle, tokens, calls) for name, oracle in asked.items()}
            taken = interleaved({"reward": partial(often, task.reward, tokens, calls), **works}, repeats)
            for name, oracle in asked.items():
                oracle.close()
                added = [(a - b) / calls for a, b in zip(taken[name], taken["reward"], strict=True)]
                line(
                    f"meter and ledger {name}, {n} x {tokens.shape[1]} a call",
                    clear(added),
                    f"the reward alone: {clear([s / calls for s in taken['reward']])}",
                    "",
                    Bar(60, at_most=True).verdict(statistics.median(added) * 1e6, " us") if n > 1 else "",
                )


def problem() -> Any:
    return TASKS[TASK].problem


def oracle() -> Oracle:
    return Oracle(TASKS[TASK], budget=BUDGET)


def makers(copies: int) -> list[Callable[[], Env[Any, Any]]]:
    """Functions that make as many single envs on one oracle."""
    return [partial(GenerationEnv, problem(), shared) for shared in [oracle()] for _ in range(copies)]


def sync(copies: int) -> Any:
    return SyncVectorEnv(makers(copies), autoreset_mode=AutoresetMode.SAME_STEP)


def run_single(env: GenerationEnv, steps: int) -> None:
    env.reset()
    for action in np.random.default_rng(0).integers(env.problem.V, size=steps):
        if any(env.step(action)[2:4]):
            env.reset()


def run_vector(env: Any, actions: np.ndarray) -> None:
    env.reset()
    for row in actions:
        env.step(row)


def run_bare(actions: np.ndarray) -> None:
    """The limit: no meter, no masks, no infos, no checks and no copies; only tokens, ends and rewards."""
    task, copies = TASKS[TASK], np.arange(actions.shape[1])
    tokens, position = np.full((len(copies), task.problem.T), task.problem.V), np.zeros(len(copies), np.int64)
    for row in actions:
        tokens[copies, position] = row
        position += 1
        (ended,) = ((position == task.problem.T) | (row == task.problem.end)).nonzero()
        if len(ended):
            whole = tokens.take(ended, axis=0)
            whole[whole == task.problem.V] = task.problem.end
            task.reward(whole)
            tokens[ended], position[ended] = task.problem.V, 0


def run_sb3(env: DummyVecEnv, actions: np.ndarray) -> None:
    env.reset()
    for row in actions:
        env.step(row)


def often(call: Callable[[Any], object], tokens: np.ndarray, calls: int) -> None:
    for _ in range(calls):
        call(tokens)
