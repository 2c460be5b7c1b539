"""The task of the runs that are killed. Its reward notes each row before it answers, and can kill its own process."""

from __future__ import annotations

import itertools
import os
import signal
import time

import numpy as np
import torch
from numpy.typing import NDArray

from banel_envs import Problem, Task
from banel_envs.policies.networks.transformer import Transformer, TransformerConfig
from banel_envs.policies.torch_policy import TorchPolicy
from banel_envs.problem import Tokens

V, T, END, BUDGET = 4, 6, 3, 240
START = (2, 0, 1)  # what a success begins with
# What the processes of the runs are told: where the reward notes its rows, how long it sleeps for each, where to die.
WITNESS, ROW_TIME, TEAR = "BANEL_KILLS_WITNESS", "BANEL_KILLS_ROW_TIME", "BANEL_KILLS_TEAR"
ROWS_AT_ONCE = "BANEL_KILLS_ROWS_AT_ONCE"


def build() -> Task:
    """The task of these runs, in the worker's process."""
    if os.environ.get(TEAR):
        line, share = os.environ.pop(TEAR).split(":")
        die_amid_write(int(line), float(share))
    everything = np.array(list(itertools.product(range(V), repeat=T)))
    ended = everything == END
    whole = everything[(ended[:, :-1] <= ended[:, 1:]).all(axis=1)]
    successes = whole[(whole[:, : len(START)] == START).all(axis=1)]
    problem = Problem("bench/Kills-v0", ("a", "b", "c", "."), T, BUDGET, base_policy, END)
    most = int(os.environ.get(ROWS_AT_ONCE) or 0) or None
    return Task(problem, reward, lambda: successes, lambda: successes[0], rows_at_once=most)


def base_policy() -> TorchPolicy:
    """A small transformer of seeded weights."""
    network = Transformer(TransformerConfig(V, T, width=16, layers=1, heads=2))
    network.initialise(np.random.default_rng(3))
    with torch.no_grad():
        network.head.weight.mul_(2.0)
    return TorchPolicy(network.eval(), END)


def reward(tokens: Tokens) -> NDArray[np.bool_]:
    """Note the rows where a kill cannot undo it, take some time, answer."""
    fd = os.open(os.environ[WITNESS], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)
    os.write(fd, tokens.astype(np.uint8).tobytes())
    os.close(fd)
    time.sleep(len(tokens) * float(os.environ[ROW_TIME]))
    answer: NDArray[np.bool_] = (tokens[:, : len(START)] == START).all(axis=1)
    return answer


def die_amid_write(line: int, share: float) -> None:
    """Kill this process in its `line`-th question or answer, when `share` of the line is written."""
    write, left = os.pwrite, line

    def pwrite(fd: int, data: bytes, offset: int) -> int:
        nonlocal left
        if data.startswith((b'{"ask"', b'{"answer"')):
            left -= 1
            if left == 0:
                write(fd, data[: int(share * (len(data) + 1))], offset)
                os.kill(os.getpid(), signal.SIGKILL)
        return write(fd, data, offset)

    os.pwrite = pwrite  # type: ignore[assignment]
