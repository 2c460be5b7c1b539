"""Typed BaNEL: BaNEL where no type is told, better than BaNEL where types are; and agents that know no types notice none."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pytest

from banel_agents import AGENTS, make_agent
from banel_agents.base import Answers, ask
from banel_agents.failure_model.typed_banel import NearMisses, Rounds, TypedBaNEL, TypedBaNELConfig
from banel_envs import Oracle
from banel_envs.errors import BadValue
from banel_envs.problem import FailureType
from tests.shared.beginnings import EVERY, SUCCESSES, T, base, task

START = SUCCESSES[0, :2]
TYPES = (
    FailureType("first token", 0, "The first token is wrong."),
    FailureType("second token", 1, "Only the second is."),
)


def typed():
    """The task of beginnings, which says which of the two tokens is the first wrong one."""
    plain = task()
    problem = dataclasses.replace(plain.problem, failure_types=TYPES)

    def why(tokens):
        hit = np.asarray(plain.reward(tokens)) == 1
        return np.where(hit, 0, np.where(tokens[:, 0] == START[0], 2, 1))

    return dataclasses.replace(plain, problem=problem, failure_type=why)


def asked(name, made, feedback, budget=150, settings=None, seed=0):
    """Every sequence that an agent asks [n, T], and its last policy."""
    oracle = Oracle(made, budget=budget, feedback=feedback)
    *_, last = make_agent(name, settings).learn(oracle.problem, oracle, np.random.default_rng(seed))
    return np.concatenate([oracle.ledger.tokens(one) for one in oracle.ledger.asks]), last


@pytest.mark.parametrize("name", [name for name in AGENTS if name != "typed_banel"])
def test_an_agent_that_knows_no_types_asks_what_it_asks_under_failures(name):
    untold, _ = asked(name, typed(), "failures")
    told, _ = asked(name, typed(), "typed")
    np.testing.assert_array_equal(told, untold)


SMALL = {"batch": 100, "pool": 1_000}


def test_one_that_knows_them_does_not():
    untold, _ = asked("typed_banel", typed(), "failures", 500, SMALL)
    told, _ = asked("typed_banel", typed(), "typed", 500, SMALL)
    np.testing.assert_array_equal(told[:100], untold[:100])  # before the first answer
    assert not np.array_equal(told, untold)


@pytest.mark.parametrize("form", ["ratio", "imitate", "gradient"])
@pytest.mark.parametrize("made", [typed(), typed().blind()], ids=["failures", "blind"])
def test_without_types_it_is_banel_to_the_bit(made, form):
    ours, mine = asked("typed_banel", made, "failures", 600, SMALL | {"form": form})
    theirs, other = asked("banel", made, "failures", 600, SMALL)
    np.testing.assert_array_equal(ours, theirs)
    np.testing.assert_array_equal(mine.log_prob(SUCCESSES), other.log_prob(SUCCESSES))


def prefixed(depth=5):
    """What has one rare beginning succeeds, and a type says how many leading tokens are those of it."""
    mass = np.exp(base().log_prob(EVERY))
    start = min(itertools.product(range(3), repeat=depth), key=lambda s: abs(np.log(mass[starting(s)].sum() / 1e-4)))
    types = tuple(FailureType(f"{k} right", k, "So many leading tokens are right.") for k in range(depth))
    plain = task(lambda tokens: (tokens[:, :depth] == start).all(axis=1))

    def why(tokens):
        right = np.cumprod(tokens[:, :depth] == start, axis=1).sum(axis=1)
        return np.where(right == depth, 0, 1 + right)

    problem = dataclasses.replace(plain.problem, failure_types=types)
    return dataclasses.replace(plain, problem=problem, failure_type=why), EVERY[starting(start)]


def starting(start):
    return (EVERY[:, : len(start)] == start).all(axis=1)


def test_types_of_failure_teach_where_successes_are_withheld():
    """The successes become ten times as likely as under the blind twin, and none of them was told."""
    made, goal = prefixed()
    settings = {"batch": 100, "pool": 4_000}
    for seed in range(2):
        rates = []
        for one, feedback in ((made, "typed"), (made.blind(), "failures")):
            _, last = asked("typed_banel", one, feedback, 2_000, settings, seed)
            rates.append(float(np.log10(np.exp(last.log_prob(goal)).sum())))
        assert rates[0] > rates[1] + 1, rates


def near(**settings):
    return NearMisses(TypedBaNELConfig(**settings), np.empty((0, T), np.int64))


def rows(n, first=0):
    """N distinct sequences."""
    return (np.arange(first, first + n)[:, None] // 3 ** np.arange(T)) % 3


def test_the_bar_is_the_lowest_stage_that_few_reach():
    misses = near(least=2)
    stages = np.array([0] * 6 + [1] * 2 + [2] * 2)
    misses.add(rows(10), stages)
    assert misses.bar(stages) == 2  # 4 of 10 reach stage 1, 2 of 10 stage 2
    assert near(least=3, share=0.4).bar(stages) is None  # nothing is remembered yet
    misses.config = TypedBaNELConfig(least=2, share=0.4)
    assert misses.bar(stages) == 1
    misses.config = TypedBaNELConfig(least=3, share=0.3)
    assert misses.bar(stages) == 1  # stage 2 has two near misses, and 0.4 is not more than enough
    misses.config = TypedBaNELConfig(least=3, share=0.3, enough=0.35)
    assert misses.bar(stages) is None


def test_near_misses_are_distinct_and_the_best_stay():
    misses = near(memory=3)
    misses.add(rows(4), np.array([0, 3, 1, 2]))
    misses.add(np.concatenate((rows(1, first=1), rows(1, first=9))), np.array([3, 5]))
    assert misses.stages.tolist() == [5, 3, 2]
    np.testing.assert_array_equal(misses.tokens, rows(10)[[9, 1, 3]])
    assert misses.unknown(rows(11)).tolist() == [False] * 4 + [True] * 5 + [False, True]
    assert misses.unknown(rows(2)).all()  # where nothing else is left, known failures are candidates too


def told_answers():
    tokens = rows(10)
    return Answers(tokens, np.zeros(10, np.float32), np.array([1] * 8 + [2] * 2, np.int8))


@pytest.mark.parametrize("form", ["imitate", "gradient"])
def test_the_other_forms_train_on_what_was_asked(form):
    config = TypedBaNELConfig(form=form, least=2, phi_epochs=2.0)
    rounds = Rounds(config, typed().problem, np.random.default_rng(0), {})
    score = rounds.score(base(), told_answers())
    tokens, weights = rounds.choose(rows(5), score(rows(5)))
    if form == "imitate":
        np.testing.assert_array_equal(tokens, np.concatenate([rows(2, first=8)] * 2))
        assert weights is None
        return
    np.testing.assert_array_equal(tokens, rows(10))
    np.testing.assert_allclose(weights, [-0.5] * 8 + [2.0] * 2)  # stages 0 and 1: mean 0.2, deviation 0.4


def test_a_round_of_one_stage_leaves_the_policy():
    rounds = Rounds(TypedBaNELConfig(), typed().problem, np.random.default_rng(0), {})
    answers = dataclasses.replace(told_answers(), types=np.ones(10, np.int8))
    score = rounds.score(base(), answers)
    tokens, _ = rounds.choose(rows(5), score(rows(5)))
    assert tokens.shape == (0, T)


def test_withheld_rows_and_their_types_are_dropped_together():
    oracle = Oracle(typed(), budget=50, feedback="typed")
    failures = EVERY[(EVERY[:, 0] != START[0])][[5, 50, 500]]
    told = ask(oracle, np.concatenate((failures[:2], SUCCESSES[:2], failures[2:])))
    np.testing.assert_array_equal(told.tokens, failures)
    assert told.types.tolist() == [1, 1, 1] and told.rewards.tolist() == [0, 0, 0]
    assert ask(Oracle(typed()), failures).types is None


def test_limits():
    for wrong in ({"form": "other"}, {"share": 0.0}, {"enough": 1.5}, {"least": 0}):
        with pytest.raises(BadValue):
            TypedBaNEL(TypedBaNELConfig(**wrong))
