"""Asked sets: questions that are never asked twice.

The reward is deterministic, so a second question teaches nothing. What was asked is known from the questions alone, withheld
answers included: to leave out a sequence because it was asked reads no answer.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np

from banel_agents.base import Answers, ask
from banel_envs import Oracle, Problem
from banel_envs.policies import Excluding, Policy
from banel_envs.problem import Tokens

DRAWS = 20  # how often as many sequences are drawn as are wanted, before fewer are taken
EXHAUSTED = 50  # a policy that brings fewer than 1 / EXHAUSTED of them then is taken for exhausted


@dataclass
class Asked:
    """The sequences that were asked so far, and a sampler that repeats none of them."""

    known: set[bytes] = field(default_factory=set)

    def sample(self, policy: Policy, n: int, rng: np.random.Generator) -> Tokens:
        """N new, distinct sequences [n, T], which from then on count as asked.

        There are fewer if DRAWS times n draws do not bring as many, and none if they bring fewer than n / EXHAUSTED. Then
        nearly everything that the policy writes was asked already, and to look on would take longer than all else in a run.
        """
        new: list[Tokens] = []
        for _ in range(DRAWS):
            # Always n draws, however few are missing: when the policy is nearly exhausted, most draws are repeats.
            drawn = policy.sample(n, rng)
            new.extend(self.new(drawn, n - len(new)))
            if len(new) == n:
                break
        if EXHAUSTED * len(new) < n or not new:
            self.known.difference_update(row.tobytes() for row in new)
            return drawn[:0]
        return np.stack(new)

    def new(self, tokens: Tokens, most: int) -> Tokens:
        """The first rows, at most `most`, that were not asked, each once: [m, T]. From then on they count as asked."""
        fresh: list[int] = []
        for k, row in enumerate(np.ascontiguousarray(tokens, np.int64)):
            key = row.tobytes()
            if key not in self.known and len(fresh) < most:
                self.known.add(key)
                fresh.append(k)
        return tokens[fresh]

    def unasked(self, tokens: Tokens) -> Tokens:
        """The rows that were not asked, each once: [m, T]. They do not count as asked."""
        return Asked(set(self.known)).new(tokens, len(tokens))


def ask_new(asked: Asked, policy: Policy, n: int, oracle: Oracle, rng: np.random.Generator) -> tuple[Tokens, Answers]:
    """Ask up to n new samples of the policy: the sequences asked [m, T], and their answers.

    Where the policy gives nothing new, which at a low temperature happens soon, n of its samples are asked again, so that a
    loop that runs until the budget is spent ends. Then m is 0.
    """
    n = min(n, oracle.left)
    tokens = asked.sample(policy, n, rng)
    if len(tokens):
        return tokens, ask(oracle, tokens)
    again = policy.sample(n, rng)
    ask(oracle, again)
    return again[:0], Answers(again[:0], np.empty(0, np.float32))


def without_replacement(
    policy: Policy, problem: Problem, oracle: Oracle, batch: int, rng: np.random.Generator
) -> Iterator[Policy]:
    """Yield the policy, then the policy without the known failures after each question of `batch` new sequences.

    It ends before the budget if nothing new is left to ask.
    """
    yield policy
    asked = Asked()
    failures = np.empty((0, problem.T), np.int64)
    log_probs = np.empty(0)
    while oracle.left:
        tokens = asked.sample(policy, min(batch, oracle.left), rng)
        if len(tokens) == 0:
            return
        told = ask(oracle, tokens).failures
        failures = np.concatenate((failures, told))
        # Kept, because Excluding would otherwise score all failures again in each round.
        log_probs = np.concatenate((log_probs, policy.log_prob(told)))
        yield Excluding(policy, failures, log_probs)
