"""Needle: the negative control. The successes are drawn at random among 10^6 sequences, with no structure to learn.

A sequence is a number n of six decimal digits. Success: output number n of the random number generator SplitMix64 (Steele,
Lea, Flood 2014) is below 10^-3 of its range. The generator's state is derived from the seed of the run, so each seed has a
success set of its own. The base policy, the problem and the vocabulary (10 digits, no end token, horizon 6, budget 3,000)
are the same for every seed.

The success set has about 1,000 sequences (985 for seed 0). The base policy is exactly uniform and can be trained: it is a
transformer whose head starts at zero. So its success rate is the share of the success set, 10^-3.0066 for seed 0.

What the task controls for: whatever was answered, each sequence that was not yet asked succeeds with probability 10^-3.
So the expected fresh success of any method is 10^-3 times the probability that it gives to these sequences.
`without_replacement` gives them all but 3 in 10^6. A method that does better in the mean was lucky, or it knew the set.
`python -m benchmarks.tasks.needle` tests that for every shipped agent (30 seeds; for the ten of the first board: none is better).
SplitMix64 is no cipher. An agent that inverts it knows the success set, and so does one that reads this file.
"""

from __future__ import annotations

import hashlib
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

from banel_envs.assets import combined_digest
from banel_envs.policies.storage.store import shipped_policy
from banel_envs.problem import Problem, Tokens
from banel_envs.task import Task

VOCABULARY = tuple("0123456789")
HORIZON = 6
SEQUENCES = len(VOCABULARY) ** HORIZON
PLACES = len(VOCABULARY) ** np.arange(HORIZON - 1, -1, -1)  # what each digit counts: 100000, ..., 10, 1
RATE = 1e-3
BELOW = np.uint64(RATE * 2**64)
BASE = "needle_base.safetensors"

GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # SplitMix64's step: 2^64 over the golden ratio, made odd
MIXES = ((30, np.uint64(0xBF58476D1CE4E5B9)), (27, np.uint64(0x94D049BB133111EB)))


def split_mix(state: int, n: NDArray[np.int64]) -> NDArray[np.uint64]:
    """The outputs of SplitMix64 with the numbers n [k], counted from 0, from a state below 2^64 on: [k]."""
    # The state of step n is the first state plus n steps, so no output needs those before it. uint64 wraps, as it should.
    z = np.uint64(state) + (n.astype(np.uint64) + np.uint64(1)) * GOLDEN
    for shift, factor in MIXES:
        z = (z ^ (z >> np.uint64(shift))) * factor
    result: NDArray[np.uint64] = z ^ (z >> np.uint64(31))
    return result


def key_of(seed: int) -> int:
    """The first state for a run's seed, anywhere in 0..2^64 - 1. Neighbouring seeds have unrelated states."""
    # A hash spreads the seeds over all states, so that their success sets have nothing to do with each other.
    return int.from_bytes(hashlib.blake2b(str(seed).encode(), digest_size=8, person=b"banel/Needle").digest(), "big")


def encode(numbers: NDArray[np.int64]) -> Tokens:
    """Numbers 0..999,999 [n] to tokens [n, T]."""
    return np.asarray(numbers, np.int64)[:, None] // PLACES % len(VOCABULARY)


def reward(seed: int, tokens: Tokens) -> NDArray[np.int8]:
    """1 for a sequence whose output, under a run's seed, is below BELOW, else 0: [n]."""
    return (split_mix(key_of(seed), tokens @ PLACES) < BELOW).astype(np.int8)


@cache
def _numbers(seed: int) -> NDArray[np.int64]:
    return np.flatnonzero(split_mix(key_of(seed), np.arange(SEQUENCES)) < BELOW)


def successes(seed: int) -> Tokens:
    """Every success of a run's seed: about 1,000 sequences [N, T]."""
    return encode(_numbers(seed))


# The Problem is the same for every seed: only the reward and the success set depend on the run's seed.
PROBLEM = Problem("banel/Needle-v0", VOCABULARY, HORIZON, budget=3_000, base=partial(shipped_policy, BASE))


def of_seed(seed: int) -> Task:
    """Needle-v0 for the runs with this seed."""
    # The digest is the same for every seed, so that the runs of several seeds make one row of the board.
    rule = f"{combined_digest(BASE)} SplitMix64 from blake2b of the seed, below {BELOW}"
    return Task(
        PROBLEM,
        partial(reward, seed),
        partial(successes, seed),
        witness=lambda: successes(seed)[0],
        seeded=of_seed,
        negative_control="no structure: no method can beat without_replacement in the mean",
        digest=hashlib.sha256(rule.encode()).hexdigest(),
        family="dial",
    )


def build_v0() -> Task:
    """Needle-v0 with the success set of seed 0; `Task.of_seed` gives the others."""
    return of_seed(0)
