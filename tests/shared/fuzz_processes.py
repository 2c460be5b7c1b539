"""The fuzzer of the meter over fork, spawn, AsyncVectorEnv and foreign threads: an oracle serves its own thread alone."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import random
import threading
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
from gymnasium.vector import AsyncVectorEnv

from banel_envs import GenerationEnv, GenerationVectorEnv, Oracle
from banel_envs.errors import OracleMoved
from banel_envs.task import TASKS
from tests.shared.fuzz_meter import WITNESS, T, legal


def in_child(work: Callable[[], Any]) -> str:
    """What `work` raised in a forked child, by name; "" where it returned."""
    reading, writing = os.pipe()
    child = os.fork()
    if child == 0:
        said = b""
        try:
            work()
        except BaseException as error:
            said = type(error).__name__.encode()
        os.write(writing, said)
        os._exit(0)
    os.close(writing)
    with os.fdopen(reading) as pipe:
        said = pipe.read()
    os.waitpid(child, 0)
    return said


def over_fork(oracle: Oracle, rng: random.Random) -> bool:
    """Whether a forked child was refused at every door."""
    problem, tokens = oracle.problem, legal(2, rng)
    env = GenerationVectorEnv(problem, oracle, 2)
    works = [lambda: oracle(tokens), oracle.close, lambda: oracle.ledger, lambda: play_once_of(env)]
    return in_child(rng.choice(works)) == "OracleMoved"


def play_once_of(env: GenerationVectorEnv) -> None:
    env.reset()
    for _ in range(T):
        env.step(np.zeros(env.num_envs, int))


def over_spawn(oracle: Oracle, rng: random.Random) -> bool:
    """Whether sending the oracle to a spawned process is refused."""
    env = GenerationEnv(oracle.problem, oracle)
    target, args = rng.choice(((oracle, (legal(1, rng),)), (play_once_of, (env,)), (env.reset, ())))
    try:
        multiprocessing.get_context("spawn").Process(target=target, args=args).start()
    except OracleMoved:
        return True
    return False


def over_async(oracle: Oracle, rng: random.Random) -> bool:
    """Whether the workers of an AsyncVectorEnv are refused the parent's oracle."""
    env = AsyncVectorEnv([lambda: GenerationEnv(oracle.problem, oracle)] * 2, context="fork")
    env.reset()
    try:
        for _ in range(T):
            env.step(np.zeros(2, int))
    except OracleMoved:
        return True
    finally:
        with contextlib.suppress(Exception):
            env.close(terminate=True)
    return False


def fuzz_processes(patterns: int, seed: int = 0, progress: Callable[[Any], Any] = iter) -> Counter[str]:
    """Patterns over fork, spawn and AsyncVectorEnv: every use elsewhere refused, the count unchanged everywhere."""
    tally: Counter[str] = Counter({"differences": 0, "not refused": 0})
    rng, task = random.Random(seed), TASKS["fuzz/Meter-v0"]
    for _ in progress(range(patterns)):
        WITNESS.mood, before = "well", WITNESS.answered
        oracle = Oracle(task, budget=20)
        for tokens in (legal(3, rng), legal(rng.randint(1, 5), rng)):
            oracle(tokens)
            route = rng.choices((over_fork, over_spawn, over_async), (12, 6, 2))[0]
            tally[route.__name__] += 1
            if not route(oracle, rng):
                tally["not refused"] += 1
            if WITNESS.answered - before != oracle.count:
                tally["differences"] += 1
    return tally


def hammer(calls: int, threads: int = 8) -> Counter[str]:
    """Foreign threads call one oracle as fast as they can while its own thread asks too."""
    WITNESS.mood, before = "well", WITNESS.answered
    oracle = Oracle(TASKS["fuzz/Meter-v0"], budget=1_000)
    tokens, tallies = legal(1, random.Random(0)), [Counter() for _ in range(threads)]

    ready = threading.Barrier(threads + 1)

    def call(tally: Counter[str]) -> None:
        ready.wait()
        for _ in range(calls):
            try:
                oracle(tokens)
            except OracleMoved:
                tally["refused"] += 1
            else:
                tally["not refused"] += 1

    workers = [threading.Thread(target=call, args=(tally,)) for tally in tallies]
    for worker in workers:
        worker.start()
    ready.wait()
    own = sum(len(oracle(tokens)) for _ in range(1_000))
    for worker in workers:
        worker.join()
    wrong = int(oracle.count != own) + int(WITNESS.answered - before != own)
    refused, passed = (sum(tally[key] for tally in tallies) for key in ("refused", "not refused"))
    return Counter({"refused": refused, "not refused": passed, "own calls": own, "differences": wrong})
