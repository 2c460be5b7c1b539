"""Small tasks and environments for the tests of the doors: gymnasium, Stable-Baselines3, TorchRL."""

from __future__ import annotations

import random
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import numpy as np
import pytest

from banel_envs import TASKS, GenerationEnv, GenerationVectorEnv, Oracle, Problem, Task
from banel_envs.errors import BanelError
from banel_envs.policies import Uniform
from tests.shared.fuzz_meter import END, truth

ID = "banel_envs:banel/AdditionAttack-v0"


def no_b_twice(prefix):
    """A mask that depends on the whole prefix."""
    mask = np.ones((len(prefix), 4), np.int8)
    mask[:, 1] = (prefix != 1).all(axis=1)
    return mask


def task(end=END, allowed=no_b_twice):
    """Four tokens, three places, and some successes among 85 sequences."""
    base = partial(Uniform, 4, 3, end)
    return Task(Problem("test/Env-v0", ("a", "b", "c", "$"), 3, 50, base, end=end, allowed=allowed), truth)


def single(budget=50, made=None, **kwargs):
    made = made or task()
    return GenerationEnv(made.problem, Oracle(made, budget=budget, **kwargs))


def vector(n, budget=50, made=None, autoreset_mode="SameStep", **kwargs):
    made = made or task()
    return GenerationVectorEnv(made.problem, Oracle(made, budget=budget, **kwargs), n, autoreset_mode=autoreset_mode)


def asked(id):
    """The task of this id, if it can be asked on this machine."""
    try:
        problem = TASKS[id].problem
        TASKS[id].reward(np.full((1, problem.T), problem.end or 0))
    except BanelError as error:
        pytest.skip(f"{id}: {error}")
    return TASKS[id]


@contextmanager
def generators_kept() -> Iterator[None]:
    """Torch on one thread; it and the process's global generators are put back as they were."""
    import torch

    before = (random.getstate(), np.random.get_state(), torch.get_rng_state())
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # networks this small wait for each other on two, minutes where the machine is busy
    try:
        yield
    finally:
        torch.set_num_threads(threads)
        random.setstate(before[0])
        np.random.set_state(before[1])
        torch.set_rng_state(before[2])


def same(ours, theirs, where=""):
    """Equal to the type: tuples, lists, dictionaries, object arrays of them, arrays, numbers."""
    if isinstance(theirs, dict):
        assert set(ours) == set(theirs), (where, set(ours) ^ set(theirs))
        for key in theirs:
            same(ours[key], theirs[key], f"{where}/{key}")
    elif isinstance(theirs, tuple | list) or (isinstance(theirs, np.ndarray) and theirs.dtype == object):
        assert type(ours) is type(theirs), where
        for k, (a, b) in enumerate(zip(ours, theirs, strict=True)):
            same(a, b, f"{where}/{k}")
    elif isinstance(theirs, np.ndarray):
        assert (ours.dtype, ours.shape) == (theirs.dtype, theirs.shape), where
        np.testing.assert_array_equal(ours, theirs, where)
    else:
        assert ours == theirs, where
