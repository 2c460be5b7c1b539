"""Every shipped agent keeps the contract, and check_agent notices one that does not."""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from banel_agents import AGENTS, make_agent
from banel_agents.base import Answers, ask, fit
from banel_agents.shared.distil import threshold
from banel_agents.testing import check_agent
from banel_envs import Oracle, Task, success_rate
from banel_envs.errors import BadValue, BudgetExhausted, UnknownName
from banel_envs.policies import COST, Excluding
from banel_envs.policies.composed.filtered import Filtered
from banel_envs.testing import ContractBroken, check_policy
from tests.shared.beginnings import BUDGET, EVERY, SUCCESSES, T, base, task

LOCAL = [name for name in AGENTS if "ppo" not in name]  # PPO's randomness is Stable-Baselines3's, seeded from rng


@pytest.mark.parametrize("name", list(AGENTS))
def test_the_contract(name):
    check_agent(lambda: make_agent(name), task(), budget=150)


@pytest.mark.parametrize("name", LOCAL)
def test_every_policy_is_one(name):
    oracle = Oracle(task(), budget=150)
    *_, last = make_agent(name).learn(oracle.problem, oracle, np.random.default_rng(0))
    mass = np.exp(last.log_prob(EVERY)).sum()
    if isinstance(last, Filtered):  # its normaliser is estimated, and it has no next tokens
        low, high = np.exp(np.array(last.log_normaliser_interval) - last.log_normaliser)
        assert low <= mass <= high
        return
    assert mass == pytest.approx(1, abs=1e-5)
    if not isinstance(last, Excluding):  # its next tokens are float32 differences of nearly equal masses
        check_policy(last, oracle.problem, 500)


@dataclass(frozen=True)
class Nothing:
    pass


class Honest:
    name = "honest"
    Config = Nothing
    config = Nothing()

    def learn(self, problem, oracle, rng):
        policy = problem.base_policy()
        yield policy
        while oracle.left:
            ask(oracle, policy.sample(50, rng))


class AsksFirst(Honest):
    def learn(self, problem, oracle, rng):
        oracle(problem.base_policy().sample(1, rng))
        yield problem.base_policy()


class Thaws(Honest):
    def learn(self, problem, oracle, rng):
        policy = problem.base_policy()
        yield policy
        fit(policy, policy.sample(100, rng), rng, epochs=1, lr=1e-2)


class Dices(Honest):
    def learn(self, problem, oracle, rng):
        yield problem.base_policy()
        oracle(problem.base_policy().sample(20, np.random.default_rng()))


class Silent(Honest):
    def learn(self, problem, oracle, rng):
        return iter(())


class Reports(Honest):
    """Reports what no record can hold: a name that a record refuses."""

    reported: ClassVar = {"T=2": 1.0}


class ReportsNothing(Honest):
    """Reports a number that is none."""

    reported: ClassVar = {"loss": float("nan")}


class Greedy(Honest):
    def learn(self, problem, oracle, rng):
        yield problem.base_policy()
        oracle(problem.base_policy().sample(oracle.left + 1, rng))


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (AsksFirst, "before its first yield"),
        (Thaws, "changed after"),
        (Dices, "randomness"),
        (Silent, "no policy"),
        (Reports, "'T=2'; a name is of at most 100 letters"),
        (ReportsNothing, "loss = nan at NRE 0"),
    ],
)
def test_a_broken_agent_is_named(broken, says):
    check_agent(Honest, task(), budget=100)
    with pytest.raises(ContractBroken, match=says):
        check_agent(broken, task(), budget=100)


def test_an_agent_that_overdraws_a_budget_with_something_left_is_told():
    with pytest.raises(BudgetExhausted, match="101 sequences asked, 100 of 100"):
        check_agent(Greedy, task(), budget=100)


def test_withheld_rows_are_dropped_before_anything_reads_them():
    oracle = Oracle(task(), feedback="failures")
    mixed = np.concatenate((SUCCESSES[:3], base().sample(20, np.random.default_rng(0))))
    answers = ask(oracle, mixed)
    known = set(map(bytes, SUCCESSES))
    assert len(answers.tokens) == sum(bytes(row) not in known for row in mixed) < len(mixed)
    assert len(answers.successes) == 0 and len(answers.failures) == len(answers.tokens)
    assert oracle.count == len(mixed)


def test_asking_is_trimmed_to_the_budget():
    oracle = Oracle(task(), budget=7)
    assert len(ask(oracle, base().sample(20, np.random.default_rng(0))).tokens) == 7 and oracle.left == 0


@pytest.mark.parametrize("epochs", [0.5, 1.0, 2.5])
def test_fit_takes_that_many_passes_and_raises_the_likelihood(epochs):
    policy, tokens = base(), SUCCESSES[:100]
    before, trained = policy.log_prob(tokens).mean(), COST.trained
    fit(policy, tokens, np.random.default_rng(0), epochs=epochs, lr=1e-3, batch=16)
    assert policy.log_prob(tokens).mean() > before
    passes = (COST.trained - trained) / task().problem.lengths(tokens).sum()
    assert passes == pytest.approx(epochs, rel=0.1)


def test_weights_of_zero_teach_nothing():
    policy = base()
    fit(policy, SUCCESSES, np.random.default_rng(0), epochs=1, lr=1e-2, weights=np.zeros(len(SUCCESSES)))
    np.testing.assert_array_equal(policy.log_prob(EVERY), base().log_prob(EVERY))


def test_without_replacement_asks_nothing_twice_and_ends_with_the_space():
    oracle = Oracle(task(), budget=1_200)
    *_, last = make_agent("without_replacement").learn(oracle.problem, oracle, np.random.default_rng(0))
    asked = np.concatenate([oracle.ledger.tokens(a) for a in oracle.ledger.asks])
    assert len(np.unique(asked, axis=0)) == len(asked) <= len(EVERY)
    failures = asked[np.concatenate([a.rewards for a in oracle.ledger.asks]) == 0]
    assert (last.log_prob(failures) == -np.inf).all()
    expected = np.exp(base().log_prob(SUCCESSES)).sum() / (1 - np.exp(base().log_prob(failures)).sum())
    assert 10 ** success_rate(task(), last).log10 == pytest.approx(expected, rel=1e-6)


def test_memorise_scores_one_and_finds_nothing_fresh():
    oracle = Oracle(task(), budget=BUDGET)
    *_, last = make_agent("memorise").learn(oracle.problem, oracle, np.random.default_rng(0))
    assert success_rate(task(), last).log10 == 0
    known = last.sample(1, np.random.default_rng(0))
    assert success_rate(task(), last, exclude=known).zero


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_banel_gains_from_failures_and_more_than_its_twin(seed):
    """Where one first token in some ten never fails, its absence from the failures is there to be learnt."""
    token = int(np.argmin(np.abs(base().next_log_probs(np.empty((1, 0), np.int64))[0] - np.log(0.1))))
    hits = EVERY[EVERY[:, 0] == token]
    easy = Task(task().problem, lambda tokens: tokens[:, 0] == token, lambda: hits)

    def final(made):
        oracle = Oracle(made, budget=1_000, feedback="failures")
        agent = make_agent("banel", {"batch": 200, "pool": 4_000, "minibatch": 32, "phi_lr": 5e-3, "distil_lr": 3e-3})
        *_, last = agent.learn(oracle.problem, oracle, np.random.default_rng(seed))
        return success_rate(easy, last).log10

    start, learnt, twin = success_rate(easy, base()).log10, final(easy), final(easy.blind())
    assert start < -0.9 and learnt > -0.1 and learnt > twin


@pytest.mark.parametrize(
    ("ratios", "f", "passes"),
    [
        ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 3.0, 2),
        ([1.0, 2.0, 3.0, 4.0, 5.0, 6.0], 1.5, 4),
        ([0.0] * 7 + [1.0, 2.0], 3.0, 2),  # an atom at the threshold does not slip through
        ([0.0] * 3 + [1.0] * 6, 3.0, 6),  # the best atom alone is more than 1 in f: it stays whole
        ([5.0], 3.0, 1),
        ([1.0] * 4, 2.0, 4),
    ],
)
def test_the_threshold_lets_at_most_one_in_f_pass(ratios, f, passes):
    assert (np.array(ratios) >= threshold(np.array(ratios), f)).sum() == passes


def test_banel_regions_carry_the_interval_of_their_normaliser():
    oracle = Oracle(task(), budget=500, feedback="failures")
    agent = make_agent("banel", {"batch": 100, "pool": 2_000, "form": "regions", "f": 1.5})
    *_, last = agent.learn(oracle.problem, oracle, np.random.default_rng(0))
    rate = success_rate(task(), last)
    assert rate.method == "filtered" and rate.low < rate.log10 < rate.high
    total = np.exp(last.log_prob(EVERY)).sum()
    low, high = np.exp(np.array(last.log_normaliser_interval) - last.log_normaliser)
    assert low <= total <= high  # the true normaliser lies in the interval about the estimate


@pytest.mark.parametrize(
    ("settings", "says"),
    [({"f": 1.0}, "above 1"), ({"form": "x"}, "distil"), ({"nope": 1}, "settings are"), ({"batch": 1.5}, "int")],
)
def test_bad_settings_are_named(settings, says):
    with pytest.raises(BadValue, match=says):
        make_agent("banel", settings)


def test_unknown_agents_are_named():
    for name in ("nope", "no_such_module:X", "banel_agents.base:Nope"):
        with pytest.raises(UnknownName):
            make_agent(name)
    assert Answers(EVERY[:2], np.array([0, 1], np.float32)).successes.shape == (1, T)
