"""The controls that know the grammar or a filter, BaNEL's relatives and the search: what each does, by definition."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from banel_agents import AGENTS, make_agent
from banel_agents.controls.grammar import TEMPERATURES
from banel_agents.controls.omission import withheld_or_told
from banel_agents.failure_model.banel_paper import BY_TASK, Regions
from banel_agents.failure_model.banel_stop import Evidence
from banel_agents.failure_model.soft_banel import effective, weights_of
from banel_agents.search.arms import At, Edits, Ends, Tuned
from banel_agents.search.posteriors import Standing, Table, betas
from banel_agents.shared.asked import Asked
from banel_agents.shared.edits import children, ends_anew
from banel_envs import Oracle, Problem, Task, success_rate
from banel_envs.errors import BadValue
from banel_envs.policies import Uniform
from banel_envs.policies.composed.guided import Guided
from tests.shared.beginnings import BUDGET, END, EVERY, SUCCESSES, T, V, base, gated, task

ONCE = (
    "without_replacement",
    "uniform_grammar",
    "ladder",
    "omission",
    "bandit",
    "tempered_sft_new",
)  # agents that ask nothing twice


def run(name, made=None, *, seed=0, feedback="full", budget=500, settings=None):
    """All policies and the oracle of one run."""
    made = made or task()
    oracle = Oracle(made, budget=budget, feedback=feedback)
    return list(make_agent(name, settings).learn(made.problem, oracle, np.random.default_rng(seed))), oracle


def asked(oracle):
    return np.concatenate([oracle.ledger.tokens(ask) for ask in oracle.ledger.asks])


def found(oracle):
    """Distinct successes asked."""
    rows, rewards = asked(oracle), np.concatenate([ask.rewards for ask in oracle.ledger.asks])
    return len(np.unique(rows[rewards == 1], axis=0))


# Controls


@pytest.mark.parametrize("feedback", ["full", "failures"])
@pytest.mark.parametrize("name", ONCE)
def test_nothing_is_asked_twice(name, feedback):
    _, oracle = run(name, feedback=feedback, budget=150, settings={"batch": 60})
    rows = asked(oracle)
    assert len(np.unique(rows, axis=0)) == len(rows)
    assert len(rows) == 150 or name == "without_replacement"  # it ends where the base policy writes nothing new


@pytest.mark.parametrize("name", ["uniform_grammar", "ladder", "bandit"])
def test_what_knows_the_grammar_writes_nothing_else(name):
    made = gated().blind()
    policies, oracle = run(name, made, feedback="failures", budget=40, settings={"batch": 20})
    assert made.problem.well_formed(asked(oracle)).all()
    outside = EVERY[~made.problem.well_formed(EVERY)]
    assert all(np.isneginf(policy.log_prob(outside)).all() for policy in policies)


def test_the_uniform_control_is_uniform():
    first = run("uniform_grammar", gated(), budget=5)[0][0]
    inside = EVERY[gated().problem.well_formed(EVERY)]
    np.testing.assert_allclose(np.exp(first.log_prob(inside)), 1 / len(inside))


def test_the_ladder_is_the_mean_of_its_rungs_and_the_grammar():
    first = run("ladder", budget=5)[0][0]
    rungs = [np.exp(base().tempered(t).log_prob(EVERY)) for t in TEMPERATURES] + [np.full(len(EVERY), 1 / len(EVERY))]
    np.testing.assert_allclose(np.exp(first.log_prob(EVERY)), np.mean(rungs, axis=0), rtol=1e-4)


def test_a_grammar_that_cannot_be_counted_is_refused_by_whom_it_matters():
    mask = np.ones((1, V), np.int8)
    made = replace(task(), problem=replace(task().problem, allowed=lambda prefix: mask.repeat(len(prefix), axis=0)))
    with pytest.raises(BadValue, match="its grammar is a function of whole prefixes"):
        run("uniform_grammar", made)
    assert run("ladder", made, budget=20)[1].count == run("bandit", made, budget=20)[1].count == 20


@pytest.mark.parametrize("name", ["random_filter", "low_likelihood", "soft_banel", "negative_guidance", "bandit"])
def test_a_base_policy_that_is_no_network_is_refused(name):
    problem = Problem("me/X-v0", ("a", "b"), 3, 10, base=lambda: Uniform(2, 3, None))
    made = Task(problem, lambda tokens: np.zeros(len(tokens), np.int8))
    with pytest.raises(BadValue, match="this agent trains a network"):
        run(name, made)


@pytest.mark.parametrize("name", [name for name, shipped in AGENTS.items() if not shipped.reads_answers])
def test_what_reads_no_answer_asks_the_same_under_every_regime(name):
    settings = {"batch": 50, "pool": 200} if "filter" in name or "low" in name else {"batch": 50}
    regimes = (task(), "full"), (task(), "failures"), (task().blind(), "failures")
    full, failures, blind = (
        run(name, made, feedback=feedback, budget=200, settings=settings)[1] for made, feedback in regimes
    )
    assert sum((ask.rewards == 1).sum() for ask in full.ledger.asks)  # or the answers would be the same
    np.testing.assert_array_equal(asked(full), asked(failures))
    np.testing.assert_array_equal(asked(full), asked(blind))


def test_the_filter_by_low_likelihood_flattens_and_the_random_one_does_not():
    """The mean log-likelihood of the base policy's own samples falls under the one and stays under the other."""
    rows = base().sample(1_000, np.random.default_rng(0))
    settings = {"batch": 50, "pool": 2_000, "distil_lr": 3e-3}
    low, chance = (run(name, budget=200, settings=settings)[0][-1] for name in ("low_likelihood", "random_filter"))
    start = base().log_prob(rows).mean()
    assert low.log_prob(rows).mean() < start - 0.5 < chance.log_prob(rows).mean()


def test_omission_is_marked_and_finds_what_is_withheld():
    assert not AGENTS["omission"].ranked and all(a.ranked for name, a in AGENTS.items() if name != "omission")
    rows = np.concatenate((SUCCESSES[:2], EVERY[:3]))
    np.testing.assert_array_equal(withheld_or_told(rows, EVERY[:3]), SUCCESSES[:2])
    policies, oracle = run("omission", feedback="failures", settings={"batch": 100})
    assert 10 ** success_rate(task(), policies[-1]).log10 > 0.3 and found(oracle) > 50


def test_tempered_sft_without_repeats_meets_more_and_is_tempered_sft_while_nothing_repeats():
    """Its first question is the same; then it asks other sequences, and meets more successes."""
    settings = {"batch": 20, "steps": 30}
    (_, new), (_, plain) = (run(name, settings=settings) for name in ("tempered_sft_new", "tempered_sft"))
    first = asked(plain)[:20]
    np.testing.assert_array_equal(asked(new)[: len(np.unique(first, axis=0))], first[unrepeated(first)])
    assert len(np.unique(asked(plain), axis=0)) < len(asked(plain)) and found(new) > found(plain) > 5


def unrepeated(rows):
    """The places at which a sequence stands for the first time."""
    return np.sort(np.unique(rows, axis=0, return_index=True)[1])


# BaNEL's relatives


@pytest.mark.parametrize("f", [1.5, 3.0, 20.0])
def test_weights_have_the_effective_number_that_f_says(f):
    scores = np.random.default_rng(0).normal(0, 0.1, 5_000)
    weights = weights_of(scores, f)
    assert effective(weights) == pytest.approx(5_000 / f, rel=1e-3) and weights.mean() == pytest.approx(1)
    order = np.argsort(scores)
    assert (np.diff(weights[order]) >= 0).all()  # a higher ratio, a higher weight


def test_weights_of_equal_scores_are_equal():
    np.testing.assert_array_equal(weights_of(np.full(7, -3.0), 3.0), np.ones(7))


def test_guidance_by_hand():
    """p = q leaves p; else each token's probability is p^(1 + b) / q^b, normalised."""
    p, q = base(), base(1.7)
    prefix = np.zeros((1, 0), np.int64)
    np.testing.assert_allclose(Guided(p, p, 3.0).log_prob(EVERY), p.log_prob(EVERY), atol=1e-6)
    made = np.exp(p.next_log_probs(prefix)) ** 3 / np.exp(q.next_log_probs(prefix)) ** 2
    np.testing.assert_allclose(np.exp(Guided(p, q, 2.0).next_log_probs(prefix)), made / made.sum(), rtol=1e-6)
    with pytest.raises(BadValue, match="strength is -1"):
        Guided(p, q, -1)
    with pytest.raises(BadValue, match="differ in vocabulary, horizon or end token"):
        Guided(p, Uniform(V, T, None), 1.0)


@pytest.mark.parametrize("name", ["soft_banel", "negative_guidance"])
@pytest.mark.parametrize("seed", [0, 1])
def test_gains_from_failures_and_more_than_its_twin(name, seed):
    """Where one first token in some ten never fails, its absence from the failures is there to be learnt."""
    token = int(np.argmin(np.abs(base().next_log_probs(np.empty((1, 0), np.int64))[0] - np.log(0.1))))
    hits = EVERY[EVERY[:, 0] == token]
    easy = Task(task().problem, lambda tokens: tokens[:, 0] == token, lambda: hits)
    settings = {"batch": 200, "minibatch": 32, "phi_lr": 5e-3}
    if name == "soft_banel":
        settings |= {"pool": 4_000, "distil_lr": 3e-3}
    final, twin = (
        success_rate(
            easy, run(name, made, seed=seed, feedback="failures", budget=1_000, settings=settings)[0][-1]
        ).log10
        for made in (easy, easy.blind())
    )
    assert final > -0.2 and final > twin + 0.3


def test_regions_of_all_rounds_leave_1_in_f_each_time():
    """Of p_theta's mass f^-k is left after k rounds, outside every region: p_theta / p_phi >= tau for each p_phi."""
    theta, rng = base(6.0), np.random.default_rng(0)  # so that no sequence has much of the mass
    regions = Regions(theta, 5_000)
    models = [base(temperature) for temperature in (4.0, 9.0)]
    for k, phi in enumerate(models, 1):
        assert regions.add(phi, 2.0, 0.02, rng)
        posterior = regions.posterior(rng)
        assert 0.6 * 2.0**-k < posterior.accepted / 5_000 < 1.1 * 2.0**-k  # a tie at tau does not pass
    inside = np.isfinite(posterior.log_prob(EVERY))
    ratios = [theta.log_prob(EVERY) - phi.log_prob(EVERY) for phi in models]
    expected = np.all([r >= tau for r, tau in zip(ratios, regions.log_taus, strict=True)], axis=0)
    np.testing.assert_array_equal(inside, expected)
    assert not regions.add(base(3.0), 20.0, 0.02, rng) and len(regions.models) == 2  # too little would be left


@pytest.mark.parametrize(
    ("name", "f", "distils"), [("banel/ZeroToSix-v0", 1.032, False), ("test/Gradient-v0", 2.0, True)]
)
def test_the_papers_filter_factor_goes_by_the_task(name, f, distils):
    """With 1.032 ten rounds leave three quarters; with 2 they leave a thousandth, so that it has to distil."""
    made = replace(task(), problem=replace(task().problem, id=name))
    oracle = Oracle(made, budget=200, feedback="failures")
    agent = make_agent("banel_paper", {"batch": 20, "pool": 500, "phi_epochs": 1.0})
    list(agent.learn(made.problem, oracle, np.random.default_rng(0)))
    assert (agent.reported["distilled"] > 0) == distils
    assert next((factor for word, factor in BY_TASK.items() if word in name), agent.config.f) == f


def test_evidence_by_hand():
    """Of the eight pairs of 2 failures and 4 samples, 4 stand right and 2 are ties: 5 of 8."""
    evidence = Evidence(2)
    evidence.add(np.array([2.0, 4.0]), np.array([1.0, 2.0, 4.0, 3.0]))  # 2: above 1, and a tie; 4: above 3, and a tie
    assert evidence.open == (2 * (5 / 8 - 1 / 2), pytest.approx(2 * 7 / (12 * 4)))
    evidence.close_round()
    assert evidence.errors == pytest.approx(0.25 / (14 / 48) ** 0.5) and not evidence.lacking  # one round is too few
    evidence.add(np.empty(0), np.array([1.0]))  # nothing was told
    evidence.close_round()
    assert evidence.errors == pytest.approx(0.25 / (14 / 48) ** 0.5) and evidence.lacking
    for _ in range(2):
        evidence.add(np.full(9, 5.0), np.arange(4.0))  # every pair: the first rounds are forgotten
        evidence.close_round()
    assert evidence.errors == pytest.approx(9 / (2 * 9 * 14 / 48) ** 0.5) and not evidence.lacking


def test_the_error_of_the_evidence_is_that_of_chance():
    rng, found = np.random.default_rng(0), []
    for _ in range(2_000):
        evidence = Evidence(1)
        evidence.add(rng.normal(size=60), rng.normal(size=240))
        evidence.close_round()
        found.append(evidence.errors)
    assert abs(np.mean(found)) < 0.07 and np.std(found) == pytest.approx(1, abs=0.05)


SMALL_BANEL = {"batch": 200, "pool": 1_000, "minibatch": 32, "phi_lr": 5e-3, "distil_lr": 3e-3}


def test_banel_stop_is_banel_to_the_bit_until_it_stops():
    (policies, oracle), (others, other) = (
        run(name, feedback="failures", budget=800, settings=SMALL_BANEL | more)
        for name, more in (("banel_stop", {"rounds": 4}), ("banel", {}))
    )
    np.testing.assert_array_equal(asked(oracle), asked(other))
    for mine, banels in zip(policies, others, strict=False):
        np.testing.assert_array_equal(mine.log_prob(EVERY), banels.log_prob(EVERY))
    assert len(policies) >= 4


def test_banel_stop_stops_where_nothing_succeeds_and_goes_on_where_much_is_withheld():
    """Of its own twin nothing is withheld. Where a quarter of the mass is, failures are told from samples at once."""
    settings = SMALL_BANEL | {"rounds": 2}
    policies, oracle = run("banel_stop", task().blind(), feedback="failures", budget=1_600, settings=settings)
    assert len(policies) < 9 and oracle.left == 0
    quarter = task(lambda tokens: tokens[:, 0] != END)
    assert np.exp(base().log_prob(EVERY[EVERY[:, 0] != END])).sum() == pytest.approx(0.25, abs=0.01)
    policies, _ = run("banel_stop", quarter, feedback="failures", budget=400, settings=settings | {"rounds": 1})
    assert len(policies) == 3


@pytest.mark.parametrize("setting", [{"form": "regions"}, {"phi_data": "all"}])
def test_banel_stop_refuses_what_its_test_does_not_hold_for(setting):
    with pytest.raises(BadValue, match="one of"):
        make_agent("banel_stop", setting)


# Search


def test_asked_sequences_are_new_once():
    known = Asked()
    np.testing.assert_array_equal(known.new(EVERY[[3, 1, 3, 2]], 2), EVERY[[3, 1]])
    np.testing.assert_array_equal(known.new(EVERY[[1, 2, 4]], 9), EVERY[[2, 4]])


def test_children_are_well_formed_sequences_near_their_parents():
    problem, parents = gated().problem, EVERY[[5, 100, 600]]
    parents = parents[problem.well_formed(parents)]
    made = children(problem, parents, 300, np.random.default_rng(0))
    problem.check_tokens(made)
    assert len(made) == 300 and problem.well_formed(made).all() and len(np.unique(made, axis=0)) > 15
    fixed = Problem("me/X-v0", ("a", "b", "c"), 5, 9, base=lambda: Uniform(3, 5, None))
    made = children(fixed, np.zeros((1, 5), np.int64), 400, np.random.default_rng(0))
    assert made.shape == (400, 5) and 0.2 < ((made != 0).sum(axis=1) == 1).mean() < 0.9
    assert len(children(fixed, np.empty((0, 5), np.int64), 4, np.random.default_rng(0))) == 0


def test_ends_are_written_anew_behind_the_beginning_of_a_parent():
    problem, parent = task().problem, EVERY[[700]]
    made = ends_anew(problem, base(), parent, 4_000, np.random.default_rng(0))
    problem.check_tokens(made)
    length = problem.lengths(parent)[0]
    kept = (np.cumprod(made == parent, axis=1)).sum(axis=1).clip(max=length)
    assert (kept >= 1).mean() > (length - 1) / length - 0.05  # each number of kept tokens is as likely
    # What is written behind nothing is the policy's own.
    first = np.exp(base().next_log_probs(np.empty((1, 0), np.int64)))[0]
    other = (made[:, 0] != parent[0, 0]).mean()
    assert other == pytest.approx((1 - first[parent[0, 0]]) / length, abs=0.02)


@pytest.mark.parametrize(("a", "b"), [(1, 1), (1, 700), (30, 5), (200, 4_000)])
def test_the_draws_are_nearly_those_of_beta(a, b):
    drawn, exact = betas(a, b, 40_000, np.random.default_rng(0)), np.random.default_rng(1).beta(a, b, 40_000)
    assert drawn.mean() == pytest.approx(exact.mean(), rel=0.02) and drawn.std() == pytest.approx(exact.std(), rel=0.06)
    assert (drawn > 0).all() and (drawn < 1).all()


def test_thompson_sampling_prefers_the_better_arm_and_skips_the_dry():
    arms = [Standing(Edits(str(k), task().problem, SUCCESSES)) for k in range(3)]
    arms[0].successes, arms[0].failures = 30, 70
    arms[1].successes, arms[1].failures = 3, 97
    arms[2].dry = True
    for groups in ([arms], [[arm] for arm in arms], [[arms[0]], arms[1:]]):
        good, bad, dry = Table(groups).choose(1_000, np.random.default_rng(0))
        assert good > 950 and good + bad == 1_000 and dry == 0
    Table([arms]).forget(0.5)
    assert (arms[0].successes, arms[0].failures) == (15, 35)
    arms[0].dry = arms[1].dry = True
    assert Table([arms]).choose(10, np.random.default_rng(0)) == [0, 0, 0]


def test_arms_that_learn_wait_for_the_first_success():
    rng, problem = np.random.default_rng(0), task().problem
    for arm in (
        Edits("e", problem),
        Ends("n", problem, policy=base()),
        At("t", Tuned(problem, base(), 30, 1e-2, 64), 1.0),
    ):
        assert not arm.ready
        arm.learn(SUCCESSES[:20], rng)
        assert arm.ready and 0 < len(arm.draw(50, rng)) <= 50
    assert arm.policy.log_prob(SUCCESSES).mean() > base().log_prob(SUCCESSES).mean() + 1


@pytest.mark.parametrize("seed", [0, 1])
def test_the_bandit_finds_more_distinct_successes_than_any_control(seed):
    settings = {"batch": 50, "lr": 1e-2}
    mine = found(run("bandit", seed=seed, settings=settings)[1])
    others = {
        name: found(run(name, seed=seed, settings={"batch": 50})[1]) for name in ("without_replacement", "ladder")
    }
    assert mine > 60 and mine > 2 * max(others.values())


def test_the_bandit_ends_with_the_space():
    """1,093 sequences, and a budget beyond them: it does not ask for ever."""
    _, oracle = run("bandit", budget=BUDGET)
    assert len(asked(oracle)) <= len(EVERY) and found(oracle) > 100 and END == 3


@pytest.mark.parametrize(
    "name", ["bandit", "soft_banel", "banel_stop", "negative_guidance", "pseudo_count", "elliptical"]
)
def test_withheld_rows_are_read_by_nothing(name, monkeypatch):
    """A run that is never shown the withheld rows takes the same path as one that is told NaN for them."""
    settings = {"batch": 50} | ({"pool": 200} if "banel" in name else {})
    through, oracle = run(name, feedback="failures", budget=300, settings=settings)
    assert any((ask.rewards == 1).any() for ask in oracle.ledger.asks)

    from banel_agents import base as module
    from banel_agents.search import bandit

    def only_failures(oracle, tokens):
        tokens = tokens[: oracle.left]
        failed = oracle(tokens) == 0
        return module.Answers(tokens[failed], np.zeros(failed.sum(), np.float32))

    monkeypatch.setattr(module, "ask", only_failures)
    monkeypatch.setattr(bandit, "ask", only_failures)
    without, other = run(name, feedback="full", budget=300, settings=settings)
    np.testing.assert_array_equal(asked(oracle), asked(other))
    np.testing.assert_array_equal(through[-1].log_prob(EVERY), without[-1].log_prob(EVERY))
