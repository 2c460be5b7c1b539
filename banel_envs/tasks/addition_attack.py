"""AdditionAttack: write a query `a+b=` that a near-perfect addition transformer answers wrongly (BaNEL, section 5.2).

Success: the query is well-formed (1 to 3 digits on each side, leading zeros allowed) and the target's greedy answer is
not the sum. The target is the transformer under attack. Its answers to all 1,232,100 well-formed queries ship as a table,
so a reward is a look-up. Vocabulary 12 (digits, + and the end token =), horizon 8, budget 7,500.

The success set has 23,741 queries, all of them enumerated. None of them is among the 1,000,000 queries without leading
zeros. The target answers wrongly 82% of the queries in which both operands have leading zeros, 9.5% of those in which only
the second has, and 3.0% of those in which only the first has. Nearly all of the base policies' success comes from queries
with a leading zero in the second operand only.
Base success, exact (`banel list`): 10^-2.8933 on v0 and 10^-5.0853 on Hard. The base policy of Hard was trained three
times as long on queries without leading zeros. tests/tasks/test_addition_attack.py holds the exact numbers.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from banel_envs.assets import asset
from banel_envs.automaton import Automaton
from banel_envs.problem import Tokens
from banel_envs.task import Task
from banel_envs.tasks.shared.addition import END, PLUS, VOCABULARY, attack, digits, read_wrong

HORIZON = 8  # 123+456=
LENGTHS = (1, 2, 3)  # digits an operand may have
SIZES = [(la, lb) for la in LENGTHS for lb in LENGTHS]
OFFSETS = np.cumsum([0, *(10 ** (la + lb) for la, lb in SIZES)])  # the first query number of each pair of lengths
QUERIES = int(OFFSETS[-1])  # 1,232,100

TABLE = "addition_attack_answers.npz"
TARGET = "addition_attack_target.safetensors"


def encode(index: NDArray[np.int64]) -> Tokens:
    """Query numbers 0..1,232,099 [n] to tokens [n, T]. The numbers are ordered by both lengths, then by a, then by b.

    >>> "".join(VOCABULARY[t] for t in encode(np.array([1112]))[0])
    '0+012==='
    """
    index = np.asarray(index, np.int64)
    tokens = np.full((len(index), HORIZON), END, np.int64)  # [n, T]
    for k, (la, lb) in enumerate(SIZES):
        rows = np.flatnonzero((index >= OFFSETS[k]) & (index < OFFSETS[k + 1]))
        a, b = np.divmod(index[rows] - OFFSETS[k], 10**lb)
        tokens[rows[:, None], range(la)] = digits(a, la)
        tokens[rows, la] = PLUS
        tokens[rows[:, None], range(la + 1, la + 1 + lb)] = digits(b, lb)
    return tokens


def parse(tokens: Tokens) -> NDArray[np.int64]:
    """Tokens [n, T] to query numbers [n]; -1 for a malformed sequence."""
    plus = tokens == PLUS
    at, stop = plus.argmax(axis=1), (tokens == END).argmax(axis=1)
    # For a malformed sequence `at` and `stop` point anywhere, and the number means nothing. The last line puts -1 there.
    first, places = _layouts()
    start = first[at, stop]
    number = start + np.einsum("nt,nt->n", tokens, places[at, stop])
    return np.where((start >= 0) & (plus.sum(axis=1) == 1), number, -1)


@cache
def _layouts() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """For queries with the plus at i and the end at j: the number of the first one, and what each digit counts.

    Returns:
        The numbers [i, j], -1 where there is no such query, and the places [i, j, T], such as 100, 10, 1.
    """
    first = np.full((HORIZON, HORIZON), -1)
    places = np.zeros((HORIZON, HORIZON, HORIZON), np.int64)
    for (la, lb), offset in zip(SIZES, OFFSETS, strict=False):
        stop = la + 1 + lb
        first[la, stop] = offset
        places[la, stop, :la] = 10 ** np.arange(stop - 2, lb - 1, -1)
        places[la, stop, la + 1 : stop] = 10 ** np.arange(lb - 1, -1, -1)
    return first, places


def summands(index: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The two numbers that each query adds."""
    k = np.searchsorted(OFFSETS, index, side="right") - 1
    a, b = np.divmod(index - OFFSETS[k], np.array([10**lb for _, lb in SIZES])[k])
    return a, b


@cache
def _wrong() -> NDArray[np.bool_]:
    """For every query, whether the target's answer is not the sum: [1,232,100]."""
    wrong = np.zeros(QUERIES, bool)
    wrong[read_wrong(asset(TABLE))] = True
    return wrong


def reward(tokens: Tokens) -> NDArray[np.int8]:
    """1 for a query that is well-formed and answered wrongly, else 0: [n]."""
    # The number -1 of a malformed sequence looks up the last query, which does not matter: the first condition is false.
    index = parse(tokens)
    return ((index >= 0) & _wrong()[index]).astype(np.int8)


def successes() -> Tokens:
    """Every query that the target answers wrongly: [N, T]."""
    return encode(np.flatnonzero(_wrong()))


def _grammar() -> Automaton:
    """The grammar: 1 to 3 digits, the plus, 1 to 3 digits, the end. A malformed prefix keeps the mask of what it ends in.

    The states: 0 to 3 digits before the plus, 0 to 3 tokens after the first plus, ended.
    """
    mask, following = np.zeros((9, len(VOCABULARY)), np.int8), np.zeros((9, len(VOCABULARY)), np.int64)
    for plus in (False, True):
        for written in range(4):
            state = 4 * plus + written
            mask[state, :10] = written < 3
            mask[state, END if plus else PLUS] = written > 0
            following[state] = 4 * plus + min(written + 1, 3)
            if not plus:
                following[state, PLUS] = 4
    mask[8, END] = 1
    following[8], following[:, END] = 8, 8
    return Automaton(mask, following)


well_formed_next = _grammar()


def build_v0() -> Task:
    """AdditionAttack-v0."""
    return attack(
        "banel/AdditionAttack-v0",
        HORIZON,
        well_formed_next,
        reward,
        successes,
        TABLE,
        "addition_attack_base.safetensors",
    )


def build_hard() -> Task:
    """AdditionAttackHard-v0: the same target, and a base policy that was trained longer on queries without leading zeros."""
    return attack(
        "banel/AdditionAttackHard-v0",
        HORIZON,
        well_formed_next,
        reward,
        successes,
        TABLE,
        "addition_attack_base_hard.safetensors",
    )
