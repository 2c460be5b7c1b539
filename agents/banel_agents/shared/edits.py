"""New sequences from known ones: edits and crossings, as a genetic algorithm makes them, and ends that are written anew.

What is made is always a sequence of the problem (after the first end token only end tokens), and it keeps to the grammar.
Only integers are drawn, so the sequences are the same on every processor.
"""

from __future__ import annotations

import numpy as np

from banel_envs import Problem
from banel_envs.errors import BadValue
from banel_envs.policies import Autoregressive, Policy
from banel_envs.policies.autoregressive import invert
from banel_envs.problem import Tokens

TRIES = 10  # times that children are made, before one that is well-formed is given up
CROSSED = 0.25  # share of children with two parents


def children(problem: Problem, parents: Tokens, n: int, rng: np.random.Generator) -> Tokens:
    """Up to n well-formed sequences [m, T], each a parent [k, T] with one or more edits, or crossed with another parent.

    There are fewer than n where most edits leave the grammar.
    """
    made = np.empty((0, problem.T), np.int64)
    for _ in range(TRIES):
        if len(made) >= n or len(parents) == 0:
            break
        drawn = np.array([_child(problem, parents, rng) for _ in range(n)], np.int64)
        made = np.concatenate((made, drawn[problem.well_formed(drawn)]))
    return made[:n]


def _child(problem: Problem, parents: Tokens, rng: np.random.Generator) -> list[int]:
    """One child, which may be malformed."""
    words = _words(problem, parents[rng.integers(len(parents))])
    if rng.random() < CROSSED:
        words = _crossed(problem, words, _words(problem, parents[rng.integers(len(parents))]), rng)
    else:
        words = _edited(problem, words, rng)
        while rng.random() < 0.5:  # one edit, or a few
            words = _edited(problem, words, rng)
    words = words[: problem.T]
    pad = [] if problem.end is None else [problem.end] * (problem.T - len(words))
    return words + pad


def _words(problem: Problem, row: Tokens) -> list[int]:
    """A sequence [T] without its end tokens."""
    return [int(token) for token in row if token != problem.end]


def _crossed(problem: Problem, one: list[int], other: list[int], rng: np.random.Generator) -> list[int]:
    """The beginning of one and the end of the other; at one place in both where all sequences are of one length."""
    cut = int(rng.integers(len(one) + 1))
    return one[:cut] + other[cut if problem.end is None else int(rng.integers(len(other) + 1)) :]


def _edited(problem: Problem, words: list[int], rng: np.random.Generator) -> list[int]:
    """One token replaced, or two exchanged; where lengths differ also one put in or left out."""
    kinds = 2 if problem.end is None else 4
    kind, token = int(rng.integers(kinds)), _token(problem, rng)
    if not words:
        return words if problem.end is None else [token]
    at, to = int(rng.integers(len(words))), int(rng.integers(len(words)))
    words = list(words)
    if kind == 0:
        words[at] = token
    elif kind == 1:
        words[at], words[to] = words[to], words[at]
    elif kind == 2:
        words.insert(at, token)
    else:
        del words[at]
    return words


def _token(problem: Problem, rng: np.random.Generator) -> int:
    """A token other than the end token."""
    token = int(rng.integers(problem.V - (problem.end is not None)))
    return token + 1 if problem.end is not None and token >= problem.end else token


def mixed(problem: Problem, parents: Tokens, n: int, rng: np.random.Generator) -> Tokens:
    """Up to n well-formed sequences [m, T]: two parents [k, T] each, of which either gives each token with equal chance."""
    one, other = (parents[rng.integers(len(parents), size=n)] for _ in range(2))
    made: Tokens = np.where(rng.random(one.shape) < 0.5, one, other)
    if problem.end is not None:  # after the first end token only end tokens follow
        made[np.cumsum(made == problem.end, axis=1) > 0] = problem.end
    return made[problem.well_formed(made)]


def ends_anew(problem: Problem, policy: Policy, parents: Tokens, n: int, rng: np.random.Generator) -> Tokens:
    """N sequences [n, T]: each keeps the first tokens of a parent [k, T], and the policy writes the rest.

    How many tokens are kept is drawn evenly from 0 to the parent's length less 1.
    """
    if not isinstance(policy, Autoregressive):
        raise BadValue(f"a {type(policy).__name__} cannot go on from a prefix; give an Autoregressive policy")
    tokens = parents[rng.integers(len(parents), size=n)].copy()
    kept = (rng.random(n) * problem.lengths(tokens)).astype(np.int64)
    for position in range(problem.T):
        uniform = rng.random(n)
        rows = np.flatnonzero(kept <= position)
        if problem.end is not None and position:
            ended = tokens[rows, position - 1] == problem.end
            tokens[rows[ended], position] = problem.end
            rows = rows[~ended]
        if len(rows):
            log_probs = policy.next_log_probs(tokens[rows, :position])
            tokens[rows, position] = invert(log_probs, np.arange(len(rows)), uniform[rows])
    return tokens
