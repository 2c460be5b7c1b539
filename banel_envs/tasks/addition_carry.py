"""AdditionCarry: write a query `a+b=` of two four-digit numbers that an addition transformer answers wrongly.

Success: the query is well-formed (two operands of exactly four digits, neither of which begins with 0) and the target's
greedy answer is not the sum. After the failure mode "carry chains" of BaNEL's attack (section 5.2). The target writes its
answer most significant digit first, so it must look ahead for carries. Its answers to all 81,000,000 queries were computed,
and the wrong ones ship as a table. Vocabulary 12 (digits, + and the end token =), horizon 10, budget 7,500.

The success set has 36,000 queries: those with a *long carry*, which begins in the units (their digits sum to 10 or more)
and is handed on through all three columns above, whose digits sum to 9, as in 4817+5183=. The target, which saw no such
query in training, leaves out the leading 1 in every one of them: 00000, where the sum is 10000. All else is right. By
the number of columns through which the longest carry is handed on, of the queries are wrong:
0: none of 70,272,000; 1: none of 10,003,500; 2: none of 688,500; 3: all 36,000.

Base success, exact: 10^-3.351. The base policy was fitted to queries drawn evenly. Success hangs on how the digits of both
operands meet and on no digit alone, so neither a temperature nor even sampling of the grammar gains anything
(`python -m benchmarks.tasks.controls`).
There is no Hard variant. With a base policy this even, a rate below 10^-6 is at most 81 queries, which fewer than 1 run in
100 would meet within the budget; what is told before the first success teaches nothing, so all agents would be their own
twins. And a base policy that avoids long carries is undone by even sampling of the grammar, which gains what it lost.
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

DIGITS = 4  # of an operand
HORIZON = 2 * DIGITS + 2  # 1234+5678=
LEAST, OPERANDS = 1_000, 9_000  # the smallest operand, and how many there are
QUERIES = OPERANDS**2  # 81,000,000

TABLE = "addition_carry_answers.npz"
TARGET = "addition_carry_target.safetensors"
BASE = "addition_carry_base.safetensors"


def number(a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.int64]:
    """Operands [n] and [n] to query numbers 0..80,999,999 [n], ordered by a, then by b."""
    return (a - LEAST) * OPERANDS + b - LEAST


def summands(index: NDArray[np.int64]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The two numbers that each query adds."""
    a, b = np.divmod(np.asarray(index, np.int64), OPERANDS)
    return a + LEAST, b + LEAST


def encode(index: NDArray[np.int64]) -> Tokens:
    """Query numbers [n] to tokens [n, T].

    >>> "".join(VOCABULARY[t] for t in encode(np.array([9001]))[0])
    '1001+1001='
    """
    a, b = summands(index)
    plus, end = (np.full((len(a), 1), token) for token in (PLUS, END))
    return np.concatenate((digits(a, DIGITS), plus, digits(b, DIGITS), end), axis=1)


def parse(tokens: Tokens) -> NDArray[np.int64]:
    """Tokens [n, T] to query numbers [n]; -1 for a malformed sequence."""
    first, second = tokens[:, :DIGITS], tokens[:, DIGITS + 1 : -1]
    numerals = (first < PLUS).all(axis=1) & (second < PLUS).all(axis=1)
    shaped = numerals & (first[:, 0] > 0) & (second[:, 0] > 0) & (tokens[:, DIGITS] == PLUS) & (tokens[:, -1] == END)
    places = 10 ** np.arange(DIGITS - 1, -1, -1)
    return np.where(shaped, number(first @ places, second @ places), -1)


@cache
def _wrong() -> NDArray[np.int64]:
    """The numbers of the queries that the target answers wrongly, in ascending order: [N]."""
    return read_wrong(asset(TABLE))


def reward(tokens: Tokens) -> NDArray[np.int8]:
    """1 for a query that is well-formed and answered wrongly, else 0: [n]."""
    wrong, index = _wrong(), parse(tokens)
    found: NDArray[np.bool_] = wrong.take(np.searchsorted(wrong, index), mode="clip") == index
    return found.astype(np.int8)


def successes() -> Tokens:
    """Every query that the target answers wrongly: [N, T]."""
    return encode(_wrong())


def _grammar() -> Automaton:
    """The grammar: four digits, the plus, four digits, the end. The state is how many tokens are written; 10 has ended.

    A malformed prefix keeps the mask of its length, until an end token ends it.
    """
    states = np.arange(HORIZON + 1)
    mask = np.zeros((HORIZON + 1, len(VOCABULARY)), np.int8)
    mask[:, :PLUS] = 1
    mask[[0, DIGITS + 1], 0] = 0  # no leading zeros
    mask[DIGITS] = np.arange(len(VOCABULARY)) == PLUS
    mask[HORIZON - 1 :] = np.arange(len(VOCABULARY)) == END
    following = np.repeat(np.minimum(states + 1, HORIZON)[:, None], len(VOCABULARY), axis=1)
    following[:, END] = HORIZON
    return Automaton(mask, following)


well_formed_next = _grammar()


def build_v0() -> Task:
    """AdditionCarry-v0."""
    return attack("banel/AdditionCarry-v0", HORIZON, well_formed_next, reward, successes, TABLE, BASE)
