"""A task for the tests of agents: a sequence succeeds by how it begins, so that a gradient can learn it in one run."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import torch

from banel_envs import Problem, Task
from banel_envs.automaton import Automaton
from banel_envs.policies.networks.transformer import Transformer, TransformerConfig
from banel_envs.policies.torch_policy import TorchPolicy

V, T, END, BUDGET = 4, 6, 3, 2_000
# No "c" anywhere, as an automaton: one state before the end and one after it.
GRAMMAR = Automaton(np.array([[1, 1, 0, 1], [0, 0, 0, 1]], np.int8), np.array([[0, 0, 0, 1], [1, 1, 1, 1]]))
torch.set_num_threads(1)


def every_sequence():
    """Each of the 1,093 sequences of up to T tokens."""
    strings = [s for n in range(T) for s in itertools.product(range(END), repeat=n)]
    padded = [s + (END,) * (T - len(s)) for s in strings] + list(itertools.product(range(END), repeat=T))
    return np.array(padded, np.int64)


EVERY = every_sequence()


def base(temperature=1.0):
    network = Transformer(TransformerConfig(V, T, width=16, layers=1, heads=2))
    network.initialise(np.random.default_rng(3))
    with torch.no_grad():
        network.head.weight.mul_(2.0)
    return TorchPolicy(network.eval(), END, temperature)


def successes():
    """Every string behind the two-token beginning that the base policy writes about once in a hundred times."""
    mass = np.exp(base().log_prob(EVERY))
    starts = [(EVERY[:, :2] == start).all(axis=1) for start in itertools.product(range(END), repeat=2)]
    return EVERY[min(starts, key=lambda rows: abs(np.log(mass[rows].sum() / 1e-2)))]


SUCCESSES = successes()
BASES = {1.0: base(1.0), 1.7: base(1.7)}


def task(reward=None, temperature=1.0):
    problem = Problem("test/Gradient-v0", ("a", "b", "c", "."), T, BUDGET, BASES[temperature].clone, END)
    start = SUCCESSES[0, :2]
    return Task(problem, reward or (lambda tokens: (tokens[:, :2] == start).all(axis=1)), lambda: SUCCESSES)


def gated(temperature=1.0):
    """The tiny task within GRAMMAR."""
    plain = task(temperature=temperature)
    return replace(plain, problem=replace(plain.problem, allowed=GRAMMAR))
