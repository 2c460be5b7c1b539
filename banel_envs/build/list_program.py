"""Rebuild ListProgram's assets from nothing: a base policy, and examples that it answers as rarely as we wish.

The base policy (d32, 2 layers) is fitted by maximum likelihood to random programs: instructions drawn by WEIGHT until
one makes a number or none is drawn; those that are empty or too long are dropped. It knows no example, so one base
policy serves every instance. The puzzle: random inputs, on which every well-formed program is run (programs of one
length that leave the same go on as one); of the outputs that random programs leave as rarely as PRIOR says one is
drawn, and all programs that leave it are stored. The instance number seeds inputs and outputs.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from banel_envs.build.shared.training import maximum_likelihood, warm_then_linear
from banel_envs.errors import BadValue
from banel_envs.policies.autoregressive import logsumexp
from banel_envs.policies.networks.transformer import Transformer, TransformerConfig
from banel_envs.policies.storage.store import save_policy
from banel_envs.policies.torch_policy import TorchPolicy
from banel_envs.problem import Tokens
from banel_envs.tasks.list_program import (
    ARGUMENTS,
    BASE,
    BLANK,
    END,
    HORIZON,
    INSTRUCTIONS,
    LENGTH,
    NUMBER,
    NUMBERS,
    PUZZLE,
    WORDS,
    States,
    V,
    apply,
    show,
)

TAKES = "about 2 minutes on one core, 1 GB of memory, no raw data"

# A random program draws each function by its weight and the end by STOP. A function's weight is divided among its arguments
# by ARGUMENT.
STOP = 3.0
WEIGHT = {
    "map": 4.0,
    "filter": 2.0,
    "scanl": 1.5,
    "zipwith": 1.5,
    "reverse": 0.6,
    "sort": 0.6,
    "tail": 0.6,
}  # others 0.2
ARGUMENT = {"+1": 4.0, "*2": 3.0, "-1": 2.0, "even": 2.0, ">0": 2.0, "+": 3.0, "max": 2.0}  # others 1
STEPS, BATCH, RATE = 2_000, 256, 2e-3
LENGTHS, LARGEST = (5, 5, 4, 3), 9  # of the inputs: elements, and their largest absolute value
PRIOR = (3e-5, 2e-4)  # limits on the probability that a random program returns the outputs
SUCCESS = (4e-5, 2e-4)  # limits on the same probability of the base policy, which is computed exactly
FEWEST, MOST = 300, 20_000  # limits on the number of programs that return them
SHORTEST = 7  # least number of tokens of such a program, with its end: it has at least three instructions


WIDTH = np.array([len(words) for words in INSTRUCTIONS])  # tokens
WRITTEN = np.array([[WORDS.index(word) for word in (*words, "end")[:2]] for words in INSTRUCTIONS])  # [32, 2]
MAKES_NUMBER = np.array([words[0] in (*NUMBERS, "count") for words in INSTRUCTIONS])


@dataclass(frozen=True)
class Level:
    """What unfinished programs of one length leave: distinct states, and how many and how probable their programs."""

    states: States  # [m, E, L]
    keys: NDArray[np.uint64]  # [m], ascending
    programs: NDArray[np.float64]  # [m]
    prior: NDArray[np.float64]  # [m]: probability that a random program begins with one of them

    @property
    def lists(self) -> NDArray[np.int64]:
        """Rows that can go on, their state being no number."""
        return np.flatnonzero(self.states[:, 0, 1] != NUMBER)


def build(out: Path, data: Path | None = None, instance: int = 0) -> None:
    """Write every asset of this family into `out`."""
    policy = train_base(np.random.default_rng(20251021))
    save_policy(out / BASE, policy)
    inputs, outputs, programs = draw_puzzle(policy, np.random.default_rng([1, instance]))
    np.savez_compressed(out / PUZZLE, inputs=inputs, outputs=outputs, programs=programs.astype(np.int8))


def draw_puzzle(policy: TorchPolicy, rng: np.random.Generator) -> tuple[States, States, Tokens]:
    """Inputs and outputs [E, L], the first that the policy answers as rarely as SUCCESS, and every answer [N, T]."""
    inputs = random_inputs(rng)
    levels = run_all(inputs)
    # PRIOR is cheap to compute and close to the base policy's rate, which is computed for these candidates only.
    for goal in candidates(levels, rng):
        programs = programs_that_leave(goal, levels, inputs)
        success = math.exp(logsumexp(policy.log_prob(programs)))
        print(f"{' '.join(map(show, goal))}: {len(programs):,} programs, base success {success:.3e}")
        if SUCCESS[0] <= success <= SUCCESS[1]:
            return inputs, goal, programs
    raise BadValue(f"no output has a base success in {SUCCESS}; widen it, or take another instance")


def chances() -> NDArray[np.float64]:
    """The probability [32 + 1] of every instruction, and of ending."""
    weights = []
    for name, *argument in INSTRUCTIONS:
        total = sum(ARGUMENT.get(other, 1.0) for other in ARGUMENTS.get(name, ()))
        weights.append(WEIGHT.get(name, 0.2) * (ARGUMENT.get(argument[0], 1.0) / total if argument else 1.0))
    every = np.array([*weights, STOP])
    shares: NDArray[np.float64] = every / every.sum()
    return shares


def random_programs(n: int, rng: np.random.Generator) -> Tokens:
    """N random programs [n, T]."""
    chance, kept = chances(), 0
    pieces = []
    while kept < n:  # programs that are empty or too long are dropped, so twice as many are drawn as are wanted
        drawn = rng.choice(len(chance), (2 * n, HORIZON), p=chance)
        rows = np.full((2 * n, 2 * HORIZON), END, np.int64)
        at, going = np.zeros(2 * n, np.int64), np.ones(2 * n, bool)
        for column in drawn.T:
            going &= column < len(INSTRUCTIONS)
            live = np.flatnonzero(going)
            for offset in range(2):
                rows[live, at[live] + offset] = WRITTEN[column[live], offset]
            at[live] += WIDTH[column[live]]
            going[live] = ~MAKES_NUMBER[column[live]]
        pieces.append(rows[(at > 0) & (at < HORIZON), :HORIZON])
        kept += len(pieces[-1])
    return np.concatenate(pieces)[:n]


def train_base(rng: np.random.Generator) -> TorchPolicy:
    """Maximum likelihood of random programs, learning rate decaying linearly."""
    net = Transformer(TransformerConfig(V, HORIZON))
    net.initialise(rng)
    policy = TorchPolicy(net, END)
    return maximum_likelihood(policy, lambda: random_programs(BATCH, rng), STEPS, warm_then_linear(RATE, STEPS))


def random_inputs(rng: np.random.Generator) -> States:
    """One list [E, L] an entry of LENGTHS."""
    inputs = np.full((len(LENGTHS), LENGTH), BLANK, np.int16)
    for row, length in zip(inputs, LENGTHS, strict=True):
        row[:length] = rng.integers(-LARGEST, LARGEST + 1, length)
    return inputs


def run_all(inputs: States, most: int = HORIZON - 1) -> list[Level]:
    """Every well-formed program of at most so many tokens, its end aside, run: one Level a number of tokens."""
    chance = chances()
    pieces: list[list[tuple[States, NDArray[np.float64], NDArray[np.float64]]]] = [[] for _ in range(most + 1)]
    pieces[0].append((inputs[None], np.ones(1), np.ones(1)))
    levels: list[Level] = []
    for length in tqdm(range(most + 1), desc="programs", mininterval=10):
        level = _merge(*(np.concatenate(parts) for parts in zip(*pieces[length], strict=True)))
        levels.append(level)
        pieces[length] = []  # these are the largest arrays, and they are merged now
        rows = level.lists
        for k, width in enumerate(WIDTH):
            if length + width <= most:
                after, ran = apply(k, level.states[rows], inputs)
                going = rows[ran]
                pieces[length + width].append((after[ran], level.programs[going], level.prior[going] * chance[k]))
    return levels


def _merge(states: States, programs: NDArray[np.float64], prior: NDArray[np.float64]) -> Level:
    """Equal states as one, their programs and probabilities summed."""
    keys, first, where = np.unique(keys_of(states), return_index=True, return_inverse=True)
    # Two states with one hash would be counted as one, and the success set would be wrong. That is seen here.
    if not np.array_equal(states[first][where], states):
        raise BadValue("two different states share a key; change the constants of keys_of")
    return Level(states[first], keys, _sums(where, programs), _sums(where, prior))


def _sums(where: NDArray[np.int64], values: NDArray[np.float64]) -> NDArray[np.float64]:
    sums: NDArray[np.float64] = np.bincount(where, values).astype(np.float64)
    return sums


def keys_of(states: States) -> NDArray[np.uint64]:
    """A 64-bit hash [n] of states [n, E, L]."""
    words = np.ascontiguousarray(states).reshape(len(states), math.prod(states.shape[1:])).view(np.uint64)
    keys = np.zeros(len(states), np.uint64)
    for word in words.T:
        keys = (keys ^ word) * np.uint64(0x9E3779B97F4A7C15)
        keys ^= keys >> np.uint64(29)
    return keys


def candidates(levels: list[Level], rng: np.random.Generator) -> States:
    """Outputs [m, E, L] worth asking for, in random order: lists, none empty, no two alike, as rare as PRIOR says."""
    keys = np.concatenate([level.keys for level in levels])
    states = np.concatenate([level.states for level in levels])
    length = np.repeat(np.arange(len(levels)), [len(level.keys) for level in levels])
    _, first, where = np.unique(keys, return_index=True, return_inverse=True)  # the first has the shortest program
    programs = _sums(where, np.concatenate([level.programs for level in levels]))
    prior = _sums(where, np.concatenate([level.prior for level in levels])) * chances()[-1]
    outputs, shortest = states[first], length[first]
    wanted = (outputs[:, 0, 1] != NUMBER) & (outputs[:, :, 0] != BLANK).all(axis=1) & (shortest + 1 >= SHORTEST)
    wanted &= (prior >= PRIOR[0]) & (prior <= PRIOR[1]) & (programs >= FEWEST) & (programs <= MOST)
    alike = np.array([len(np.unique(example, axis=0)) < len(example) for example in outputs[wanted]], bool)
    found: States = rng.permutation(outputs[wanted][~alike])
    return found


def programs_that_leave(goal: States, levels: list[Level], inputs: States) -> Tokens:
    """All programs [N, T] whose last state is `goal` [E, L]: their ends first, then what can stand before those."""
    key = keys_of(goal[None])[0]
    ends: list[dict[int, Tokens]] = [{} for _ in levels]  # by length and row of its level: all ways on [m, T - length]
    for length in reversed(range(len(levels))):
        found: dict[int, list[Tokens]] = defaultdict(list)
        for same in np.flatnonzero(levels[length].keys == key):
            found[int(same)].append(np.full((1, HORIZON - length), END))
        for k, width in enumerate(WIDTH):
            known = ends[length + width] if length + width < len(levels) else {}
            for row, child in _steps(k, levels[length], levels[length + width], known, inputs) if known else ():
                written = np.tile(WRITTEN[k, :width], (len(known[child]), 1))
                found[row].append(np.hstack((written, known[child])))
        ends[length] = {row: np.concatenate(pieces) for row, pieces in found.items()}
    return ends[0][0]


def _steps(k: int, level: Level, later: Level, known: Collection[int], inputs: States) -> Iterator[tuple[int, int]]:
    """Where instruction k leads from a row of `level` to one of the rows `known` of `later`."""
    live = np.array(sorted(known))
    after, ran = apply(k, level.states[level.lists], inputs)
    rows, keys, reached = level.lists[ran], later.keys[live], keys_of(after[ran])
    at = np.searchsorted(keys, reached).clip(max=len(live) - 1)
    hit = keys[at] == reached
    return zip(rows[hit].tolist(), live[at[hit]].tolist(), strict=True)
