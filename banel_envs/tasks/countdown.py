"""Countdown: write an arithmetic expression over six given numbers whose value is the target (Hutton 2002).

Success: the sequence is a postfix expression with the end token behind it. It uses each number at most once, its value is
the target, and every intermediate result is a positive whole number. So a - b needs a > b, and a / b needs b to divide a.
Vocabulary 11 (the numbers 3 6 25 50 75 100, four operators, the end token =), horizon 12, budget 7,500.
In postfix the grammar needs no brackets: a number may follow if it is not yet used, an operator if at least two values
are on the stack, and the end if exactly one is. The target, 132, is in an asset; another instance has another target.

The success set has 5,702 of the 4,675,753 legal expressions, all of them enumerated. Base success, exact: 10^-2.9982; its
effective number of successes is 868. The base policy was trained on random legal expressions of every value.
What a failure can teach (`python -m benchmarks.tasks.failures`): 14% of the base policy's samples break a rule, and 55% have a
value above 999. Samples with two or more multiplications are 49% of all and hold 3% of the success. Those with exactly one
multiplication are 35% and hold 85%, and those with a multiplication as the last operator are 37% and hold 53%. No single token
decides: of the classes by operators and length, those that succeed 10 times as often as the base policy hold 40% of its success.

Types of failure, told under the feedback `typed`. The clauses are checked from the top, and the first that fails decides:

    code  stage  name          what is wrong
    1     0      malformed     it leaves the grammar
    2     1      difference    an intermediate difference is below 1
    3     1      remainder     an intermediate quotient is not whole
    4     2      fewer digits  the value is below the target and has fewer digits
    5     2      more digits   the value is above the target and has more digits
    6     3      below         the value is below the target and has as many digits
    7     3      above         the value is above the target and has as many digits

Of 2 and 3 the operator that comes first decides. Types 4 to 7 are a coarse distance from the target, the order of magnitude and
the side. Without the digits, all of the 86% that break no rule would be of one stage. Below and above have no order.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, partial
from itertools import combinations

import numpy as np
from numpy.typing import NDArray

from banel_envs.assets import asset, combined_digest
from banel_envs.automaton import Automaton, explored
from banel_envs.policies.storage.store import shipped_policy
from banel_envs.problem import FailureType, Problem, Tokens
from banel_envs.task import Task

NUMBERS = (3, 6, 25, 50, 75, 100)
OPERATORS = "+-*/"
K = len(NUMBERS)
VOCABULARY = (*(f"{number} " for number in NUMBERS), *(f"{operator} " for operator in OPERATORS), "=")
END = len(VOCABULARY) - 1
HORIZON = 2 * K  # 6 numbers, 5 operators, the end

PUZZLE = "countdown_puzzle.npz"
BASE = "countdown_base.safetensors"

FAILURES = (
    FailureType("malformed", 0, "It leaves the grammar."),
    FailureType("difference", 1, "An intermediate difference is below 1."),
    FailureType("remainder", 1, "An intermediate quotient is not whole."),
    FailureType("fewer digits", 2, "The value is below the target and has fewer digits."),
    FailureType("more digits", 2, "The value is above the target and has more digits."),
    FailureType("below", 3, "The value is below the target and has as many digits."),
    FailureType("above", 3, "The value is above the target and has as many digits."),
)


@dataclass(frozen=True)
class Expressions:
    """Legal postfix expressions over one set of numbers, of one length."""

    values: NDArray[np.int64]  # [m]
    tokens: NDArray[np.int8]  # [m, length]

    def where(self, value: int) -> Expressions:
        """The expressions with this value."""
        rows = self.values == value
        return Expressions(self.values[rows], self.tokens[rows])


def results(a: NDArray[np.int64], b: NDArray[np.int64]) -> Iterator[NDArray[np.int64]]:
    """Sum, difference, product and quotient of positive a and b, which are broadcast; 0 where the rules forbid a result."""
    yield a + b
    yield np.maximum(a - b, 0)
    yield a * b
    yield np.where(a % b == 0, a // b, 0)


def evaluate(tokens: Tokens) -> NDArray[np.int64]:
    """The value [n] of each sequence [n, T]; 0 where it is malformed or breaks a rule."""
    return checked(tokens)[0]


def checked(tokens: Tokens) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The values [n] as `evaluate` gives them, and the first operator [n] whose result the rules forbid.

    An operator is its index in OPERATORS, and -1 stands where none is forbidden. Of a malformed sequence it says nothing.
    """
    # All sequences are evaluated at once, token by token. A row that broke a rule is computed further and its result dropped.
    n, row = len(tokens), np.arange(len(tokens))
    stack = np.ones((n, HORIZON + 2), np.int64)  # with two ones at the bottom: an operator always finds two values
    depth, used, legal = np.full(n, 2), np.zeros(n, np.int64), np.ones(n, bool)
    forbidden = np.full(n, -1)
    for token in tokens.T:
        number, operator = token < K, (token >= K) & (token < END)
        bit = np.where(number, 1 << token, 0)
        legal &= (used & bit == 0) & (~operator | (depth >= 4))
        used |= bit
        # A result that the rules forbid is 0, see `results`.
        result = np.choose((token - K).clip(0, 3), list(results(stack[row, depth - 2], stack[row, depth - 1])))
        forbidden = np.where(legal & operator & (result == 0), token - K, forbidden)
        legal &= ~operator | (result > 0)
        depth = depth + number - (operator & legal)
        pushed = np.where(number, np.array(NUMBERS)[token.clip(max=K - 1)], np.maximum(result, 1))
        writes = legal & (number | operator)
        stack[row[writes], depth[writes] - 1] = pushed[writes]
    ended = legal & (depth == 3) & (tokens[:, -1] == END)  # 3: the two ones and the value
    return np.where(ended, stack[:, 2], 0), forbidden


def expressions(target: int | None = None) -> Iterator[Expressions]:
    """Every legal expression, one set of numbers after another: all of them, or those whose value is the target.

    An expression over a set of numbers consists of one over a part of the set, one over the rest, and an operator. So the
    sets are done in the order of their size. Nothing is built from the largest set, so with a target only its expressions
    with that value are written out.
    """
    known: dict[frozenset[int], Expressions] = {}
    for size in range(1, K + 1):
        for members in combinations(range(K), size):
            known[frozenset(members)] = found = _over(members, known, target if size == K else None)
            yield found if target is None else found.where(target)


def _over(members: tuple[int, ...], known: dict[frozenset[int], Expressions], target: int | None) -> Expressions:
    """The legal expressions that use exactly these numbers, from the expressions over every smaller set."""
    if len(members) == 1:
        return Expressions(np.array([NUMBERS[members[0]]]), np.array([members], np.int8))
    pieces = []
    for size in range(1, len(members)):
        for part in combinations(members, size):
            left, right = known[frozenset(part)], known[frozenset(members) - frozenset(part)]
            for operator, values in enumerate(results(left.values[:, None], right.values)):
                i, j = np.nonzero(values > 0 if target is None else values == target)
                last = np.full((len(i), 1), K + operator, np.int8)
                pieces.append(Expressions(values[i, j], np.hstack((left.tokens[i], right.tokens[j], last))))
    return Expressions(np.concatenate([p.values for p in pieces]), np.concatenate([p.tokens for p in pieces]))


def padded(tokens: NDArray[np.int8]) -> Tokens:
    """Expressions [m, length] as sequences [m, T]."""
    return np.pad(tokens, ((0, 0), (0, HORIZON - tokens.shape[1])), constant_values=END).astype(np.int64)


@cache
def puzzle() -> int:
    """The target to hit."""
    with np.load(asset(PUZZLE)) as stored:
        return int(stored["target"])


def reward(tokens: Tokens) -> NDArray[np.int8]:
    """1 for a legal expression whose value is the target, else 0: [n]."""
    hits: NDArray[np.int8] = (evaluate(tokens) == puzzle()).astype(np.int8)
    return hits


def failure_type(problem: Problem, tokens: Tokens) -> NDArray[np.int8]:
    """The code of what is wrong with each sequence, by FAILURES; 0 for a success: [n]."""
    values, forbidden = checked(tokens)
    target = puzzle()
    digits, wanted = np.char.str_len(values.astype(str)), len(str(target))
    # The clauses in reverse order, because the first one that fails decides.
    codes = np.where(values == target, 0, np.where(values < target, 6, 7))
    codes = np.where(digits < wanted, 4, np.where(digits > wanted, 5, codes))
    codes = np.where(forbidden >= 0, np.where(forbidden == OPERATORS.index("-"), 2, 3), codes)
    return np.where(problem.well_formed(tokens), codes, 1).astype(np.int8)


@cache
def successes() -> Tokens:
    """Every expression whose value is the target: [N, T]."""
    return np.concatenate([padded(found.tokens) for found in expressions(puzzle())])


def well_formed_next(prefix: Tokens) -> NDArray[np.int8]:
    """The grammar as an action mask: prefixes [n, t] to allowed tokens [n, V]."""
    number, operator = prefix < K, (prefix >= K) & (prefix < END)
    depth = number.sum(axis=1) - operator.sum(axis=1)
    mask = np.zeros((len(prefix), len(VOCABULARY)), np.int8)
    mask[:, :K] = ~(prefix[:, :, None] == np.arange(K)).any(axis=1)
    mask[:, K:END] = (depth >= 2)[:, None]
    mask[:, END] = depth == 1
    ended = (prefix == END).any(axis=1)
    mask[ended] = 0
    mask[ended, END] = 1
    return mask


def future(prefix: Tokens) -> NDArray[np.int64]:
    """What the grammar still depends on after prefixes [n, t]: which numbers are used, the stack's depth, the end: [n, K + 2]."""
    used = (prefix[:, :, None] == np.arange(K)).any(axis=1)
    operator = (prefix >= K) & (prefix < END)
    depth = used.sum(axis=1) - operator.sum(axis=1)
    return np.column_stack((used, depth, (prefix == END).any(axis=1)))


@cache
def grammar() -> Automaton:
    """The grammar with few states, over well-formed prefixes."""
    return explored(well_formed_next, future, HORIZON)


def render(tokens: Tokens) -> str:
    """One sequence [T] in infix with its value; a malformed one as it is written.

    >>> render(np.array([2, 3, 6, 0, 8, 10, 10, 10, 10, 10, 10, 10]))
    '25 50 + 3 * =   is   ((25 + 50) * 3) = 225'
    """
    written = "".join(VOCABULARY[t] for t in tokens).split("=")[0].strip()
    text = f"{written} =".strip() if END in tokens else written
    stack: list[str] = []
    for word in written.split():
        if word in OPERATORS:
            if len(stack) < 2:
                return f"{text}   is malformed"
            right, left = stack.pop(), stack.pop()
            word = f"({left} {word} {right})"
        stack.append(word)
    value = int(evaluate(tokens[None])[0])
    if value:
        return f"{text}   is   {stack[0]} = {value}"
    whole = END in tokens and len(stack) == 1
    return f"{text}   is   {stack[0]}, which breaks a rule" if whole else f"{text}   is malformed"


def build_v0() -> Task:
    """Countdown-v0."""
    numbers = ", ".join(map(str, NUMBERS))
    problem = Problem(
        id="banel/Countdown-v0",
        vocabulary=VOCABULARY,
        horizon=HORIZON,
        budget=7_500,
        base=partial(shipped_policy, BASE),
        end=END,
        prompt=f"Write an expression with the value {puzzle()} over the numbers {numbers}, each used at most once, "
        "in postfix (25 50 + 3 * = is 225). Every intermediate result must be a positive whole number.",
        allowed=well_formed_next,
        grammar=grammar,
        printer=render,
        failure_types=FAILURES,
    )
    return Task(
        problem,
        reward,
        failure_type=partial(failure_type, problem),
        successes=successes,
        witness=lambda: successes()[0],
        digest=combined_digest(PUZZLE, BASE),
        family="algorithmic",
    )
