"""AdditionAttack: write a query `a+b=` that a near-perfect addition transformer answers wrongly (BaNEL, section 5.2).

Success: the query is well-formed (1 to 3 digits each side, leading zeros allowed) and the target's greedy answer
is not the sum. The answers to all 1,232,100 well-formed queries ship as a table, so a reward is a look-up.
Vocabulary 12 (digits, + and the end token =), horizon 8, budget 7,500.

The failure set: 23,741 queries, exactly enumerated. None of the 1,000,000 natural queries is among them; of those with
leading zeros 82% fail where both operands have them, 9.5% where the second alone has, 3.0% where the first alone has.
Nearly all of the base policies' success lies in the second layer (a leading zero in the second operand).
Base success, exact (`banel list`): 10^-2.8933 on v0, 10^-5.0853 on Hard, whose base policy was trained three times
as long on natural queries. The goldens are in tests/tasks/test_addition_attack.py.
"""

from __future__ import annotations

from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

from banel_envs.assets import asset, combined_digest
from banel_envs.policies.storage.store import shipped_policy
from banel_envs.problem import Problem, Tokens
from banel_envs.task import Task

VOCABULARY = tuple("0123456789+=")
PLUS, END = 10, 11
HORIZON = 8  # 123+456=
LENGTHS = (1, 2, 3)  # digits an operand may have
SIZES = [(la, lb) for la in LENGTHS for lb in LENGTHS]
OFFSETS = np.cumsum([0, *(10 ** (la + lb) for la, lb in SIZES)])  # where each pair of lengths begins in the table
QUERIES = int(OFFSETS[-1])  # 1,232,100

TABLE = "addition_attack_answers.npz"
TARGET = "addition_attack_target.safetensors"


def encode(index: NDArray[np.int64]) -> Tokens:
    """Query numbers 0..1,232,099 to tokens [n, T]: ordered by both lengths, then a, then b.

    >>> "".join(VOCABULARY[t] for t in encode(np.array([1112]))[0])
    '0+012==='
    """
    index = np.asarray(index, np.int64)
    tokens = np.full((len(index), HORIZON), END, np.int64)  # [n, T]
    for k, (la, lb) in enumerate(SIZES):
        rows = np.flatnonzero((index >= OFFSETS[k]) & (index < OFFSETS[k + 1]))
        a, b = np.divmod(index[rows] - OFFSETS[k], 10**lb)
        tokens[rows[:, None], range(la)] = _digits(a, la)
        tokens[rows, la] = PLUS
        tokens[rows[:, None], range(la + 1, la + 1 + lb)] = _digits(b, lb)
    return tokens


def _digits(values: NDArray[np.int64], length: int) -> NDArray[np.int64]:
    return values[:, None] // 10 ** np.arange(length - 1, -1, -1) % 10  # [n, length]


def parse(tokens: Tokens) -> NDArray[np.int64]:
    """Tokens [n, T] to query numbers [n]; -1 for a malformed sequence."""
    plus = tokens == PLUS
    at, stop = plus.argmax(axis=1), (tokens == END).argmax(axis=1)
    first, places = _layouts()
    begin = first[at, stop]
    number = begin + np.einsum("nt,nt->n", tokens, places[at, stop])
    return np.where((begin >= 0) & (plus.sum(axis=1) == 1), number, -1)


@cache
def _layouts() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Of the queries with the plus at i and the end at j: the first one's number, -1 if none [i, j]; places [i, j, T]."""
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
    with np.load(asset(TABLE)) as table:
        wrong = np.zeros(QUERIES, bool)
        wrong[np.cumsum(table["gaps"])] = True
    return wrong


def reward(tokens: Tokens) -> NDArray[np.int8]:
    """1 where the query is well-formed and answered wrongly: [n]."""
    index = parse(tokens)
    return ((index >= 0) & _wrong()[index]).astype(np.int8)


def successes() -> Tokens:
    """Every query that the target answers wrongly: [N, T]."""
    return encode(np.flatnonzero(_wrong()))


def well_formed_next(prefix: Tokens) -> NDArray[np.int8]:
    """The grammar as an action mask: prefixes [n, t] to allowed tokens [n, V]."""
    n, t = prefix.shape
    legal = _legal(t)
    if t == 0:
        return legal.repeat(n, axis=0)
    plus = prefix == PLUS
    at = plus.argmax(axis=1)
    at[plus[:, 0]] = t
    at[prefix[:, -1] == END] = t + 1
    mask: NDArray[np.int8] = legal[at]
    return mask


@cache
def _legal(t: int) -> NDArray[np.int8]:
    """The tokens that may follow t tokens: [no plus yet, the first one at 1, 2, ... or at 0, ended; V]."""
    digits = [t, *range(t - 2, -1, -1), t - 1]  # of the operand being written
    rows = [[d < 3] * 10 + [k == 0 and d > 0, k > 0 and d > 0] for k, d in enumerate(digits[: t + 1] if t else [0])]
    return np.array([*rows, [False] * 11 + [True]] if t else rows, np.int8)


def _build(id: str, base: str) -> Task:
    problem = Problem(
        id=id,
        vocabulary=VOCABULARY,
        horizon=HORIZON,
        budget=7_500,
        base=partial(shipped_policy, base),
        end=END,
        allowed=well_formed_next,
    )
    return Task(
        problem,
        reward,
        successes=successes,
        witness=lambda: encode(np.flatnonzero(_wrong())[:1])[0],
        digest=combined_digest(TABLE, base),
        family="paper",
    )


def build_v0() -> Task:
    """AdditionAttack-v0."""
    return _build("banel/AdditionAttack-v0", "addition_attack_base.safetensors")


def build_hard() -> Task:
    """AdditionAttackHard-v0: the same target, a base policy trained longer on natural queries."""
    return _build("banel/AdditionAttackHard-v0", "addition_attack_base_hard.safetensors")
