"""Are the sequences that an agent asked samples of the policy that it says it asks from?

For each row asked, K sequences are drawn from the declared policy. If the row is a sample of it too, then its rank among
them, by any number that can be computed of a sequence, is uniform; and so are all ranks of a run, independently, because
the policy of a question is fixed before its rows are drawn. Kolmogorov's distance of the ranks from the uniform
distribution exceeds sqrt(log(2 / a) / 2n) with probability a at most (Dvoretzky, Kiefer, Wolfowitz 1956; Massart 1990).

The numbers: log-probability; whether the sequence was asked before in the run; whether it keeps to the grammar; and sums of
random numbers, one for each token at its place, which differ wherever the tokens are distributed otherwise.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Sequence

import numpy as np

from banel_agents.base import AsksFrom
from banel_agents.shared.steps import Floats
from banel_envs import Problem
from banel_envs.policies import Policy
from banel_envs.problem import MOST_ONE_HOT, Tokens

Question = tuple[Policy, Tokens]
"""The policy that the agent says it asked from, and what it asked [n, T]."""

Asked = tuple[int, Tokens]
"""How many evaluations were spent before a question, and what it asked [n, T]."""

DRAWN = 19  # K, sequences drawn for each row asked
FALSE_ALARM = 1e-7  # the probability, for each number, that an agent which tells the truth is refused
PATTERNS = 3  # sums of random numbers
TABLE_SEED = 0  # of those numbers


def questions_of(
    mode: AsksFrom, problem: Problem, yielded: Sequence[tuple[int, Policy]], asked: Sequence[Asked]
) -> list[Question]:
    """Each question of a run with the policy that it was asked from, if what the agent says is true.

    Args:
        mode: what the agent says.
        problem: gives the base policy.
        yielded: the policies, each with how many evaluations were spent when it was yielded, in order.
        asked: the questions, in order; none before the first policy.
    """
    if mode == "base":
        base = problem.base_policy()
        return [(base, tokens) for _, tokens in asked]
    spent = [nre for nre, _ in yielded]
    return [(yielded[bisect_right(spent, nre) - 1][1], tokens) for nre, tokens in asked]


def not_samples(
    questions: Sequence[Question], mode: AsksFrom, problem: Problem, rng: np.random.Generator
) -> str | None:
    """How the rows of a run differ from samples of the declared policies, in words; None if no difference shows.

    With n rows a number's distribution has to be off by sqrt(8.4 / n) or more: 0.29 at 100 rows, 0.09 at 1,000. A row that the
    policy cannot write, or that was asked before where the agent says that it asks nothing twice, always shows.
    """
    table = np.random.default_rng(TABLE_SEED).random((PATTERNS, problem.T, min(problem.V, MOST_ONE_HOT)))
    asked: set[bytes] = set()
    ranks: dict[str, list[Floats]] = {}
    for policy, rows in questions:
        drawn = policy.sample(DRAWN * len(rows), rng)
        both = np.concatenate((rows, drawn))
        numbers = _numbers(policy, both, table, problem)
        if not np.isfinite(numbers["log-probability"][: len(rows)]).all():
            return "a sequence asked has probability 0 under it"
        before = _asked_before(rows, drawn, asked)
        if mode == "unasked" and before[: len(rows)].any():
            return "a sequence was asked a second time"
        counted = ~before[len(rows) :] if mode == "unasked" else np.ones(len(drawn), bool)
        numbers["share asked before"] = before.astype(np.float64)
        for name, values in numbers.items():
            ranks.setdefault(name, []).append(_ranks(values, len(rows), counted, rng))
    for name, found in ranks.items():
        distance, n = _distance(np.concatenate(found)), sum(map(len, found))
        if distance > math.sqrt(math.log(2 / FALSE_ALARM) / (2 * n)):
            return f"their {name} is distributed otherwise (Kolmogorov's distance {distance:.2f}, {n} rows)"
    return None


def _numbers(policy: Policy, tokens: Tokens, table: Floats, problem: Problem) -> dict[str, Floats]:
    """What is compared, of sequences [m, T]: [m] each."""
    places, columns = np.arange(problem.T), tokens % MOST_ONE_HOT  # tokens of a large vocabulary share their numbers
    numbers = {"log-probability": policy.log_prob(tokens)}
    numbers["share of malformed sequences"] = problem.well_formed(tokens).astype(np.float64)
    for k, pattern in enumerate(table):
        numbers[f"pattern {k} of tokens"] = pattern[places, columns].sum(axis=1)
    return numbers


def _asked_before(rows: Tokens, drawn: Tokens, asked: set[bytes]) -> np.ndarray:
    """Which of the rows [n, T] and of the K drawn for each [nK, T] were asked before that row: [n + nK]. Rows count as asked."""
    n, known = len(rows), np.zeros(len(rows) + len(drawn), bool)
    keys = [row.tobytes() for row in np.ascontiguousarray(np.concatenate((rows, drawn)), np.int64)]
    for i in range(n):
        own = n + DRAWN * i
        known[[i, *range(own, own + DRAWN)]] = [key in asked for key in (keys[i], *keys[own : own + DRAWN])]
        asked.add(keys[i])
    return known


def _ranks(values: Floats, n: int, counted: np.ndarray, rng: np.random.Generator) -> Floats:
    """The rank of each row's number among those drawn for it and itself, in (0, 1), ties broken by chance: [n]."""
    own, others = values[:n, None], values[n:].reshape(n, DRAWN)
    counts = counted.reshape(n, DRAWN)
    below, equal = (counts & (others < own)).sum(axis=1), (counts & (others == own)).sum(axis=1)
    ranks: Floats = (below + rng.random(n) * (equal + 1)) / (counts.sum(axis=1) + 1)
    return ranks


def _distance(ranks: Floats) -> float:
    """Kolmogorov's distance of numbers [n] from the uniform distribution on (0, 1)."""
    ordered, n = np.sort(ranks), len(ranks)
    return float(max((np.arange(1, n + 1) / n - ordered).max(), (ordered - np.arange(n) / n).max()))
