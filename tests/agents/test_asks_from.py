"""What agents say in `asks_from` is true, and check_agent refuses one that says what is not."""

from __future__ import annotations

from functools import partial

import numpy as np
import pytest

from banel_agents import AGENTS, make_agent
from banel_agents.base import ask, asks_from, fit
from banel_agents.declared import DRAWN, not_samples, questions_of
from banel_agents.shared.asked import Asked
from banel_agents.testing import check_agent
from banel_envs import Problem
from banel_envs.policies import Excluding, Uniform
from banel_envs.testing import ContractBroken
from tests.agents.test_agents import Honest
from tests.shared.beginnings import base, task

SAYS = [name for name in AGENTS if asks_from(make_agent(name))]
RUN = {"budget": 200}


@pytest.mark.parametrize("name", SAYS)
def test_it_is_true_over_several_questions(name):
    check_agent(lambda: make_agent(name, {"batch": 40}), task(temperature=1.7), budget=120)


def test_who_filters_repeats_nothing_or_samples_beside_its_policy_says_nothing():
    silent = {"tempered_sft", "tempered_sft_new", "omission", "bandit", "expert_iteration", "genetic", "proxy"}
    silent |= {"screened_bandit", "ppo", "maskable_ppo", "esrl", "esrl_paper"}
    assert set(AGENTS) - set(SAYS) == silent


class Says(Honest):
    asks_from = "yielded"


class Colder(Says):
    def learn(self, problem, oracle, rng):
        policy = problem.base_policy()
        yield policy
        while oracle.left:
            ask(oracle, policy.tempered(0.4).sample(50, rng))


class LikelyHalf(Says):
    def learn(self, problem, oracle, rng):
        policy = problem.base_policy()
        yield policy
        while oracle.left:
            pool = policy.sample(100, rng)
            ask(oracle, pool[np.argsort(policy.log_prob(pool))[50:]])


class WellBegun(Says):
    def learn(self, problem, oracle, rng):
        policy = problem.base_policy()
        yield policy
        while oracle.left:
            pool = policy.sample(100, rng)
            ask(oracle, pool[pool[:, 0] != pool[0, 0]][:50])


class RepeatsNothing(Says):
    def learn(self, problem, oracle, rng):
        policy, asked = problem.base_policy().tempered(0.5), Asked()
        yield policy
        while len(rows := asked.sample(policy, min(25, oracle.left), rng)):
            ask(oracle, rows)


class SaysItRepeatsNothing(Says):
    asks_from = "unasked"

    def learn(self, problem, oracle, rng):
        policy = problem.base_policy().tempered(0.5)
        yield policy
        while oracle.left:
            ask(oracle, policy.sample(50, rng))


class Lags(Says):
    """It yields what it has trained, and goes on to ask the base policy."""

    def learn(self, problem, oracle, rng):
        policy = problem.base_policy()
        yield policy
        while oracle.left:
            ask(oracle, policy.sample(50, rng))
            trained = policy.clone()
            fit(trained, policy.sample(200, rng)[:1], rng, epochs=50, lr=1e-2)
            yield trained


class SaysBase(Lags):
    asks_from = "base"

    def learn(self, problem, oracle, rng):
        policy = problem.base_policy().tempered(2.0)
        yield policy
        while oracle.left:
            ask(oracle, policy.sample(50, rng))


class Impossible(Says):
    def learn(self, problem, oracle, rng):
        rows = problem.base_policy().sample(50, rng)
        yield Excluding(problem.base_policy(), rows[:1])
        ask(oracle, rows)


class Mumbles(Says):
    asks_from = "temperature"


class Last(Lags):
    """What `Lags` does is true of the base policy."""

    asks_from = "base"


@pytest.mark.parametrize("honest", [Says, Last])
def test_the_truth_is_accepted(honest):
    check_agent(honest, task(), **RUN)


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (Colder, "log-probability"),
        (LikelyHalf, "log-probability"),
        (WellBegun, "pattern|log-probability"),
        (RepeatsNothing, "no samples"),
        (SaysItRepeatsNothing, "a second time"),
        (Lags, "asks_from is 'yielded'"),
        (SaysBase, "asks_from is 'base'"),
        (Impossible, "probability 0"),
        (Mumbles, "one of base, yielded, unasked"),
    ],
)
def test_a_false_word_is_refused(broken, says):
    with pytest.raises(ContractBroken, match=says):
        check_agent(broken, task(), **RUN)


def test_the_truth_is_hardly_ever_refused():
    """Ranks are uniform under the truth: of 200 honest runs of 60 rows none is refused, where each has 19 draws a row."""
    problem, rng = task().problem, np.random.default_rng(0)
    policy = Uniform(problem.V, problem.T, problem.end)
    for mode in ("yielded", "unasked"):
        for _ in range(100):
            rows = [policy.sample(30, rng), policy.sample(30, rng)] if mode == "yielded" else two_new(policy, rng)
            assert not_samples([(policy, part) for part in rows], mode, problem, rng) is None
    assert DRAWN == 19


def two_new(policy, rng):
    asked = Asked()
    return [asked.sample(policy, 30, rng), asked.sample(policy, 30, rng)]


def test_questions_belong_to_the_policy_yielded_last():
    one, two, three = base(), base(), base()
    rows = [np.zeros((n, 6), np.int64) for n in (10, 10, 5)]
    asked = [(0, rows[0]), (10, rows[1]), (20, rows[2])]
    yielded = [(0, one), (10, two), (10, three)]
    found = questions_of("yielded", task().problem, yielded, asked)
    assert [policy for policy, _ in found] == [one, three, three]
    assert [len(tokens) for _, tokens in found] == [10, 10, 5]
    assert len({id(policy) for policy, _ in questions_of("base", task().problem, yielded, asked)}) == 1


def test_that_nothing_is_asked_twice_shows_where_all_sequences_are_alike():
    problem = Problem("test/Coins-v0", ("h", "t"), 6, 64, partial(Uniform, 2, 6, None))
    policy, rng = problem.base_policy(), np.random.default_rng(0)
    new = two_new(policy, rng)
    assert "share asked before" in str(not_samples([(policy, rows) for rows in new], "yielded", problem, rng))
    assert not_samples([(policy, rows) for rows in new], "unasked", problem, rng) is None
