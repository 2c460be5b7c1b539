"""Needle: the negative control. Successes drawn at random among 10^6 sequences, with no structure to learn.

A sequence is a number of six decimal digits. Success: output number n of the generator SplitMix64 (Steele, Lea, Flood
2014), started at a state mixed from the run's seed, is below 10^-3 of its range: a new set each run. The policies,
the problem and the vocabulary (10 digits, no end token, horizon 6, budget 3,000) are the same for every seed.

The success set: about 1,000 sequences (seed 0: 985). The base policy is exactly uniform, and can be trained: a
transformer whose head starts at zero. So base success is the share of the set, 10^-3.0066 for seed 0.

What it controls for: given any answers, each sequence not yet asked succeeds with probability 10^-3, so whatever a method
does, its expected fresh success is 10^-3 times the mass it puts on them. `without_replacement` puts all there but
3 in 10^6. Who does better in the mean was lucky, or read the set: `python -m benchmarks.needle` tests it (30 seeds: none
of the nine other agents stands above).
SplitMix64 is no cipher. Whoever inverts it reads the success set, as reading this file would.
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
PLACES = len(VOCABULARY) ** np.arange(HORIZON - 1, -1, -1)  # what each digit counts
RATE = 1e-3
BELOW = np.uint64(RATE * 2**64)
BASE = "needle_base.safetensors"

GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # SplitMix64's step: 2^64 over the golden ratio, made odd
MIXES = ((30, np.uint64(0xBF58476D1CE4E5B9)), (27, np.uint64(0x94D049BB133111EB)))


def split_mix(state: int, n: NDArray[np.int64]) -> NDArray[np.uint64]:
    """Outputs number n [k], counted from 0, of SplitMix64 started at a state below 2^64: [k]."""
    z = np.uint64(state) + (n.astype(np.uint64) + np.uint64(1)) * GOLDEN  # wraps, as it should
    for shift, factor in MIXES:
        z = (z ^ (z >> np.uint64(shift))) * factor
    result: NDArray[np.uint64] = z ^ (z >> np.uint64(31))
    return result


def key_of(seed: int) -> int:
    """The state that a run's seed starts from: unlike those of other seeds, anywhere in 0..2^64 - 1."""
    return int.from_bytes(hashlib.blake2b(str(seed).encode(), digest_size=8, person=b"banel/Needle").digest(), "big")


def encode(numbers: NDArray[np.int64]) -> Tokens:
    """Numbers 0..999,999 [n] to tokens [n, T]."""
    return np.asarray(numbers, np.int64)[:, None] // PLACES % len(VOCABULARY)


def reward(seed: int, tokens: Tokens) -> NDArray[np.int8]:
    """1 where the generator of a run's seed gives the sequence a number below BELOW: [n]."""
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
    """Needle-v0 as the runs with this seed meet it."""
    rule = f"{combined_digest(BASE)} SplitMix64 from blake2b of the seed, below {BELOW}"
    return Task(
        PROBLEM,
        partial(reward, seed),
        partial(successes, seed),
        witness=lambda: successes(seed)[0],
        seeded=of_seed,
        control="no structure: no method can beat without_replacement in the mean",
        digest=hashlib.sha256(rule.encode()).hexdigest(),
        family="dial",
    )


def build_v0() -> Task:
    """Needle-v0: the set of seed 0; see Task.of_seed for the others."""
    return of_seed(0)
