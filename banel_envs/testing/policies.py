"""The contract of a policy. Call `banel_envs.testing.check_policy`."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banel_envs.binomial import clopper_pearson
from banel_envs.errors import BadPolicy, BanelError, ContractBroken
from banel_envs.measure.draws import check_draws
from banel_envs.measure.probability import FALSE_ALARM, checked_log_prob
from banel_envs.policies.protocol import METHODS, Policy
from banel_envs.problem import Problem, Tokens
from banel_envs.testing.rewards import FEWEST

PREFIXES = 5_000  # the most distinct beginnings that are compared; all sequences if there are no more
SAMPLED = 2**30  # the most samples x T x V, and
STEPPED = (
    2**26
)  # the most sequences x T x V that are asked token by token; a large vocabulary is checked on fewer of them
TOLERANCE = 1e-5  # the relative error that is allowed to probabilities which are computed in float32


def check_policy(
    policy: Policy, problem: Problem, samples: int = 5_000, rng: np.random.Generator | None = None
) -> None:
    """Check that a policy samples legal sequences as often as it says, from rng alone, and is a probability.

    Where V x T is large, fewer samples are drawn, and fewer prefixes are asked. Two computations of one log-probability may
    differ by the policy's own `tolerance`, in nats, where it states one (`banel_envs.measure.probability.tolerance`).

    Raises:
        ContractBroken: names what broke.
    """
    rng = rng or np.random.default_rng(0)
    name = type(policy).__name__
    check_has(policy, METHODS, f"the policy {name}", "banel_envs.policies.Policy")
    try:
        _check_answers(policy, problem, samples, rng)
        check_draws(policy, problem, rng)
    except BadPolicy as error:
        raise ContractBroken(f"{name}: {error}") from error


def check_has(thing: object, names: Sequence[str], what: str, contract: str) -> None:
    """ContractBroken, naming what is missing, unless the thing has all of these."""
    missing = [name for name in names if not hasattr(thing, name)]
    if missing:
        raise ContractBroken(f"{what} has no {', no '.join(missing)}; {contract} says what it must have")


def _check_answers(policy: Policy, problem: Problem, samples: int, rng: np.random.Generator) -> None:
    name = type(policy).__name__
    size, off = problem.V * problem.T, max(TOLERANCE, getattr(policy, "tolerance", 0.0))
    tokens = _check_samples(policy, problem, min(samples, max(FEWEST, SAMPLED // size)), rng)
    few = tokens[: min(200, max(4, STEPPED // size))]
    log_probs = _array(policy.log_prob(few), f"{name}.log_prob")
    if log_probs.dtype != np.float64 or log_probs.shape != (len(few),):
        raise ContractBroken(f"{name}.log_prob answers {log_probs.dtype} {list(log_probs.shape)}, not float64 [n]")
    if np.isnan(log_probs).any():
        raise ContractBroken(f"{name}.log_prob answers NaN")
    # Whatever is drawn has a probability above 0.
    never = few[~np.isfinite(log_probs)]
    if len(never):
        raise ContractBroken(f"{name} drew {problem.decode(never)[0]!r}, whose log_prob is not finite")
    order = rng.permutation(len(few))
    _close(policy.log_prob(few[order]), log_probs[order], f"{name}.log_prob depends on the order of the rows", off)
    _close(_by_steps(policy, problem, few), log_probs, f"{name}.log_prob is not the sum of next_log_probs", off)
    checked_log_prob(policy, few, problem)
    _check_frequencies(policy, problem, tokens)


def sequences(problem: Problem, length: int | None = None) -> Tokens:
    """Every sequence [N, T], or every distinct beginning of `length` tokens [N, length], in lexicographic order."""
    length = problem.T if length is None else length
    rows = np.empty((1, 0), np.int64)
    for position in range(length):
        grown = np.repeat(rows, problem.V, axis=0)
        last = np.tile(np.arange(problem.V), len(rows))
        if problem.end is not None and position:
            keep = (grown[:, -1] != problem.end) | (last == problem.end)
            grown, last = grown[keep], last[keep]
        rows = np.concatenate((grown, last[:, None]), axis=1)
    return rows


def _array(answer: NDArray[Any], what: str) -> NDArray[Any]:
    if not isinstance(answer, np.ndarray):
        raise ContractBroken(f"{what} answers a {type(answer).__name__}, not a NumPy array")
    return answer


def _close(found: NDArray[np.float64], expected: NDArray[np.float64], complaint: str, off: float = TOLERANCE) -> None:
    if not np.allclose(found, expected, rtol=TOLERANCE, atol=off):
        worst = int(np.abs(found - expected).argmax())
        raise ContractBroken(f"{complaint}: row {worst} has {found[worst]} and {expected[worst]}")


def _check_samples(policy: Policy, problem: Problem, n: int, rng: np.random.Generator) -> Tokens:
    """Samples [n, T], legal, and a function of rng alone."""
    name, seed = type(policy).__name__, int(rng.integers(2**63))
    # A sampler that also draws from a global generator gives the same samples twice only by chance, so both are watched.
    before = (random.getstate(), repr(np.random.get_state()))
    tokens = _array(policy.sample(n, np.random.default_rng(seed)), f"{name}.sample")
    if before != (random.getstate(), repr(np.random.get_state())):
        raise ContractBroken(f"{name}.sample draws from a global generator; draw from rng alone")
    if not np.array_equal(tokens, policy.sample(n, np.random.default_rng(seed))):
        raise ContractBroken(f"{name}.sample gives other samples from an equal rng")
    if tokens.shape != (n, problem.T) or policy.sample(0, rng).shape != (0, problem.T):
        raise ContractBroken(f"{name}.sample gives shape {list(tokens.shape)} for {n} samples, not [n, {problem.T}]")
    try:
        return problem.check_tokens(tokens)
    except BanelError as error:
        raise ContractBroken(f"{name}.sample drew what is no sequence: {error}") from error


def _by_steps(policy: Policy, problem: Problem, tokens: Tokens) -> NDArray[np.float64]:
    """log_prob [n] of beginnings [n, t] from next_log_probs, each of which must be a distribution."""
    total = np.zeros(len(tokens))
    for position in range(tokens.shape[1]):
        # All sequences begin with one empty prefix. Where a row for each would be too much, it is asked once.
        rows = tokens[: 1 if position == 0 and len(tokens) * problem.V > STEPPED else None, :position]
        steps = _array(policy.next_log_probs(rows), "next_log_probs")
        if steps.shape != (len(rows), problem.V):
            raise ContractBroken(f"next_log_probs answers shape {list(steps.shape)}, not [n, {problem.V}]")
        reached = np.isfinite(total)  # what follows a beginning of probability 0 is not defined
        asked = steps[reached[: len(rows)]]
        masses = np.exp(asked).sum(axis=1)
        _close(masses, np.ones_like(masses), f"next_log_probs at position {position} does not sum to 1")
        place = np.minimum(np.arange(int(reached.sum())), len(asked) - 1)
        total[reached] += asked[place, tokens[reached, position]]
    return total


def _check_frequencies(policy: Policy, problem: Problem, tokens: Tokens) -> None:
    """The longest beginnings that are few enough occur as often as they should."""
    name, length = type(policy).__name__, 1
    while length < problem.T and problem.V ** (length + 1) <= PREFIXES:
        length += 1
    begun = sequences(problem, length)
    whole = length == problem.T
    log_probs = policy.log_prob(begun) if whole else _by_steps(policy, problem, begun)
    probs = np.exp(log_probs)
    if abs(probs.sum() - 1) > TOLERANCE:
        raise ContractBroken(f"the probabilities of all {len(begun)} {name} beginnings sum to {probs.sum()}")
    place = {row.tobytes(): k for k, row in enumerate(begun)}
    counts = np.zeros(len(begun), np.int64)
    for row in np.ascontiguousarray(tokens[:, :length]):
        counts[place[row.tobytes()]] += 1
    # The level is divided by the number of beginnings, since each of them is one more chance of a false alarm.
    for count, row in _suspects(counts, probs, len(tokens)):
        low, high = clopper_pearson(count, len(tokens), 1 - FALSE_ALARM / len(begun))
        if not low <= probs[row] <= high:
            raise ContractBroken(
                f"{name} drew {begun[row].tolist()} {count} times in {len(tokens)}; "
                f"its probability is {probs[row]:.3e}, outside {low:.3e}..{high:.3e}"
            )


def _suspects(counts: NDArray[np.int64], probs: NDArray[np.float64], n: int) -> Iterator[tuple[int, int]]:
    """(count, row) of the frequencies more than 4 standard deviations off, which alone may fail the exact test."""
    spread = np.sqrt(np.maximum(probs * (1 - probs), 0) * n)
    far = np.flatnonzero(np.abs(counts - n * probs) > 4 * spread)
    return ((int(counts[row]), int(row)) for row in far)
