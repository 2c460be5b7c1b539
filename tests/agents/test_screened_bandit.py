"""The screened bandit: what it asks of its candidates, whom it credits, how it ends, and what it may not read."""

from __future__ import annotations

import numpy as np
import pytest

from banel_agents import make_agent
from banel_agents.base import Answers
from banel_agents.search.arms import Edits, Plain
from banel_agents.search.bandit import Questions
from banel_agents.search.posteriors import Standing
from banel_agents.search.screened_bandit import Screened, ScreenedBanditConfig
from banel_agents.shared.edits import mixed
from banel_envs import Oracle
from tests.shared.beginnings import END, EVERY, SUCCESSES, gated, task

SMALL = {"lr": 1e-2, "few": 5, "some": 10, "many": 30, "fit_steps": 10}


def run(made=None, *, seed=0, feedback="full", budget=300, settings=None):
    """The agent, all policies and the oracle of one run."""
    made = made or task()
    oracle = Oracle(made, budget=budget, feedback=feedback)
    agent = make_agent("screened_bandit", SMALL | (settings or {}))
    return agent, list(agent.learn(made.problem, oracle, np.random.default_rng(seed))), oracle


def asked(oracle):
    return np.concatenate([oracle.ledger.tokens(ask) for ask in oracle.ledger.asks])


def found(oracle):
    return int(sum((ask.rewards == 1).sum() for ask in oracle.ledger.asks))


class Listed(Edits):
    """An arm that gives the sequences of a list, in any order."""

    def draw(self, n, rng):
        return self.successes[rng.permutation(len(self.successes))[:n]]


def screened(told=True, **settings):
    made = Screened(task().problem, ScreenedBanditConfig(**settings), np.random.default_rng(0))
    if told:  # a first token tells a success from a failure
        rows = np.concatenate((SUCCESSES[::2], FAILURES[::2]))
        right = np.arange(len(rows)) < len(SUCCESSES[::2])
        for _ in range(8):
            made.learn(Answers(rows, right.astype(np.float32)))
    return made


FAILURES = EVERY[EVERY[:, 0] != SUCCESSES[0, 0]]


def test_an_arm_asks_the_candidates_with_the_highest_odds():
    made = screened()
    pool = np.concatenate((FAILURES[1::2][:180], SUCCESSES[1::2][:20]))
    standings = [Standing(Listed(str(k), task().problem, rows)) for k, rows in enumerate((pool, FAILURES[1::2]))]
    one, other = made.drawn(standings, [10, 4])
    assert len(one) == 10 and len(other) == 4
    assert (one[:, 0] == SUCCESSES[0, 0]).all() and not any(s.dry for s in standings)
    # Until a success is told nothing is screened, and the arm gives what it would give by itself.
    before, plain = screened(told=False), Questions(task().problem, np.random.default_rng(0))
    before.rng = np.random.default_rng(0)
    np.testing.assert_array_equal(before.drawn(standings[:1], [10])[0], plain.drawn(standings[:1], [10])[0])


def test_what_one_arm_asks_no_other_arm_asks():
    made = screened(screen=50)
    standings = [Standing(Listed(str(k), task().problem, SUCCESSES[:30])) for k in range(2)]
    one, other = made.drawn(standings, [20, 20])
    rows = np.concatenate((one, other))
    assert len(one) == 20 and len(other) == 10 and len(np.unique(rows, axis=0)) == 30
    assert [len(rows) for rows in made.drawn(standings, [5, 5])] == [0, 0] and all(s.dry for s in standings)


def test_a_plain_arm_asks_what_it_drew():
    """The classifier chooses for the one, and not for the other, which has failures and successes alike."""
    made = screened()
    pool = np.concatenate((FAILURES[1::2][:100], SUCCESSES[1::2][:20]))
    listed = Listed("listed", task().problem, pool)
    chosen, plain = made.drawn([Standing(listed), Standing(Plain(listed))], [10, 10])
    assert (chosen[:, 0] == SUCCESSES[0, 0]).all() and len(plain) == 10
    assert (plain[:, 0] == SUCCESSES[0, 0]).mean() < 0.6
    assert Plain(listed).name == "plain listed" and Plain(listed).ready and not Plain(Edits("e", task().problem)).ready


def test_a_mixture_has_each_token_from_either_parent():
    problem, parents = task().problem, SUCCESSES[[3, 90]]
    made = mixed(problem, parents, 2_000, np.random.default_rng(0))
    problem.check_tokens(made)
    ended = np.cumsum(made == END, axis=1) > 1
    assert ((made == parents[0]) | (made == parents[1]) | ended).all() and len(made) == 2_000
    differ = int(np.flatnonzero(parents[0] != parents[1])[0])
    assert (made[:, differ] == parents[0, differ]).mean() == pytest.approx(0.5, abs=0.05)
    kept = mixed(gated().problem, EVERY[gated().problem.well_formed(EVERY)][:30], 500, np.random.default_rng(0))
    assert gated().problem.well_formed(kept).all() and len(kept) > 0


def test_each_member_asks_its_share():
    """Two members that like opposite ends of the list ask half of the question each."""
    made = screened(members=2)
    pool = EVERY[:100]
    odds = np.stack((np.arange(100.0), -np.arange(100.0)))
    chosen = {row.tobytes() for row in made._best(pool, odds, 10)}
    assert chosen == {row.tobytes() for row in np.concatenate((pool[:5], pool[-5:]))}


@pytest.mark.parametrize("feedback", ["full", "failures"])
def test_it_asks_nothing_twice_and_keeps_to_the_grammar(feedback):
    made = gated()
    _, _, oracle = run(made, feedback=feedback, budget=60, settings={"batch": 20})
    rows = asked(oracle)
    assert len(rows) == 60 and len(np.unique(rows, axis=0)) == 60 and made.problem.well_formed(rows).all()


def test_arms_are_credited_with_what_they_were_told():
    agent, _, oracle = run()
    told = sum(n for name, n in agent.reported.items() if name.endswith("told successes"))
    questions = sum(n for name, n in agent.reported.items() if name.endswith(" asked"))
    assert told == found(oracle) > 0 and questions == len(asked(oracle)) == 300


@pytest.mark.parametrize("seed", [0, 1])
def test_screening_finds_more_distinct_successes(seed):
    """With half the budget that finds all 121 of them without a classifier, too."""
    settings = {"batch": 15, "tuned": False, "mixed": False, "plain": False}
    mine, unscreened = (found(run(seed=seed, budget=150, settings=settings | {"screen": n})[2]) for n in (20, 1))
    assert mine > 1.2 * unscreened


def test_it_ends_with_the_space():
    """1,093 sequences, and a budget beyond them: it does not ask for ever."""
    _, _, oracle = run(budget=2_000, settings={"batch": 200})
    assert 1_000 < len(asked(oracle)) <= len(EVERY) and found(oracle) > 100


def test_withheld_rows_are_read_by_nothing(monkeypatch):
    """A run that is never shown the withheld rows takes the same path as one that is told NaN for them."""
    _, through, oracle = run(feedback="failures")
    assert found(oracle) > 0

    from banel_agents.search import bandit

    def only_failures(oracle, tokens):
        failed = oracle(tokens) == 0
        return Answers(tokens[failed], np.zeros(failed.sum(), np.float32))

    monkeypatch.setattr(bandit, "ask", only_failures)
    _, without, other = run()
    np.testing.assert_array_equal(asked(oracle), asked(other))
    np.testing.assert_array_equal(through[-1].log_prob(EVERY), without[-1].log_prob(EVERY))
