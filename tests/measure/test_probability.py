"""A policy is a probability, or it is refused: what lies in its log_prob, its distributions, its normaliser, its draws."""

from __future__ import annotations

import copy
from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from banel_envs import Problem, Task, success_rate
from banel_envs.errors import BadPolicy, PolicyChanged
from banel_envs.measure.probability import TOLERANCE, checked_log_prob
from banel_envs.policies import Excluding, Mixture, Policy, Repeating, Tempered, Uniform, autoregressive
from banel_envs.policies.autoregressive import Autoregressive
from banel_envs.policies.composed.filtered import Filtered
from banel_envs.policies.mark import Mark
from banel_envs.policies.networks.gru import GRU, GRUConfig
from banel_envs.policies.torch_policy import TorchPolicy
from tests.shared.policies import (
    ENDS,
    HONEST,
    Foreign,
    Stepped,
    T,
    V,
    excluding,
    filtered,
    network,
    problem,
    recurrent,
    space,
)

SUCCESSES = np.array(
    [[2, 1, 0, 0], [2, 1, 0, 1], [2, 1, 2, 2], [0, 0, 1, 2], [1, 1, 1, 1]]
)  # the same with and without an end
KEYS = set(map(bytes, SUCCESSES))


def hits(tokens):
    return np.array([bytes(row) in KEYS for row in np.ascontiguousarray(tokens)], np.int8)


def task(end=None):
    return Task(problem(end), hits, successes=lambda: SUCCESSES)


every_end = pytest.mark.parametrize("end", ENDS)


# --- where successes are enumerated


@every_end
@pytest.mark.parametrize("kernel", ["compiled", "torch"])
@pytest.mark.parametrize("kind", HONEST)
def test_an_honest_policy_passes_and_its_numbers_keep_their_bits(kind, kernel, end, monkeypatch):
    monkeypatch.setenv("BANEL_KERNEL", kernel)
    policy = HONEST[kind](end)
    for tokens in (SUCCESSES, space(end), space(end)[:0], np.concatenate((SUCCESSES, SUCCESSES))):
        found, own = checked_log_prob(policy, tokens, problem(end)), policy.log_prob(tokens)
        if "foreign" in kind:
            np.testing.assert_allclose(found, own, atol=1e-5)
        else:
            np.testing.assert_array_equal(found, own)
    assert success_rate(task(end), policy).log10 is not None or kind in ("repeating", "mixture with a point")


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 2**32), st.floats(0.05, 20), st.sampled_from(ENDS), st.integers(0, 60), st.integers(1, 40))
def test_honest_policies_pass_whatever_they_are(seed, temperature, end, excluded, members):
    rng = np.random.default_rng(seed)
    rows = space(end)[rng.permutation(len(space(end)))]
    inner = Tempered(Foreign(end, Stepped(V, T, end)).inner, temperature)
    assume(np.exp(inner.log_prob(rows[:excluded])).sum() < 1 - 1e-6)  # what is left is a policy
    policies: list[Policy] = [inner, Excluding(inner, rows[:excluded]), Foreign(end, inner)]
    policies += [Mixture(policies + [Repeating(rows[k], V) for k in range(members)])]
    for policy in policies:
        found = checked_log_prob(policy, rows, problem(end))
        np.testing.assert_allclose(found, policy.log_prob(rows), rtol=1e-6, atol=1e-9)
        assert np.exp(found).sum() == pytest.approx(1, abs=1e-6)


def test_a_set_that_is_walked_in_parts(monkeypatch):
    """Parts of 7 share prefixes; the last part is few enough for a network to score it at once."""
    monkeypatch.setattr(autoregressive, "CHUNK", 70)
    monkeypatch.setenv("BANEL_KERNEL", "torch")
    for end in ENDS:
        for policy in (network(end), recurrent(end), Uniform(V, T, end), Foreign(end)):
            np.testing.assert_allclose(
                checked_log_prob(policy, space(end), problem(end)), policy.log_prob(space(end)), rtol=1e-5
            )


class Zero(Uniform):
    def log_prob(self, tokens):
        return np.zeros(len(tokens))


class Favoured(Uniform):
    """Adds mass to the successes alone."""

    def log_prob(self, tokens):
        return super().log_prob(tokens) + 2.0 * hits(tokens)


class Barely(Foreign):
    """Sums to 1.01 after the prefixes of successes alone; its log_prob says the same."""

    def next_log_probs(self, prefix):
        steps = super().next_log_probs(prefix).copy()
        begun = (prefix[:, None] == SUCCESSES[None, :, : prefix.shape[1]]).all(axis=2).any(axis=1)
        steps[begun] += np.log(1.01)
        return steps

    def log_prob(self, tokens):
        return super().log_prob(tokens) + np.log(1.01) * T * hits(tokens)


class Heavy(Uniform):
    """The same inside a step: after the token 2 before position 1, where no draw need ever be."""

    def step(self, last, position, state):
        log_probs, state = super().step(last, position, state)
        log_probs[last == 2] += np.log(1.01) * (position == 1)
        return log_probs, state


class Fickle(Uniform):
    """Has the first token certain, another one in each part of a set: each part by itself sums to 1."""

    walks = 0

    def start(self):
        Fickle.walks += 1
        return super().start()

    def step(self, last, position, state):
        log_probs, state = super().step(last, position, state)
        if position == 0:
            log_probs[:] = -np.inf
            log_probs[:, Fickle.walks % V] = 0.0
        return log_probs, state


class Nan(Foreign):
    def log_prob(self, tokens):
        return np.where(hits(tokens), np.nan, super().log_prob(tokens))


class NanSteps(Foreign):
    def next_log_probs(self, prefix):
        return super().next_log_probs(prefix) * np.nan


class Short(Foreign):
    def next_log_probs(self, prefix):
        return super().next_log_probs(prefix)[:1]


class Narrow(Foreign):
    def next_log_probs(self, prefix):
        return super().next_log_probs(prefix)[:, :-1]


class Scalar(Foreign):
    def log_prob(self, tokens):
        return -1.0


class Peeking(GRU):
    """Sees the whole sequence where it is fed whole: each distribution sums to 1, and the token to come is nearly certain."""

    def forward(self, tokens):
        return 20.0 * torch.nn.functional.one_hot(tokens, V).double()


def peeking(end):
    net = Peeking(GRUConfig(V, T, width=8))
    net.initialise(np.random.default_rng(0))
    return TorchPolicy(net.eval(), end)


def lying(liar, **attributes):
    for name, value in attributes.items():
        setattr(liar, name, value)
    return liar


def broken(end, value=np.nan, name="norm.bias"):
    policy = network(end)
    with torch.no_grad():
        dict(policy.network.named_parameters())[name].view(-1)[3] = value
    return policy


LIARS = {
    "0 everywhere": (lambda end: Zero(V, T, end), "log_prob is not the sum"),
    "mass added to successes": (lambda end: Favoured(V, T, end), "log_prob is not the sum"),
    "1.01 on the prefixes of successes": (Barely, r"after the prefix \[\] sums to 1.01, not to 1 within 1e-05"),
    "1.01 in a step": (lambda end: Heavy(V, T, end), r"after the prefix \[2\] sums to 1.01"),
    "NaN": (Nan, "nan against"),
    "NaN distributions": (NanSteps, r"after the prefix \[\] sums to nan"),
    "too few rows": (Short, r"answers 1 rows to 3 prefixes"),
    "too few tokens": (Narrow, r"shape \[1, 3\], not \[m, 4\]"),
    "one number": (Scalar, r"answers shape \[\] to 5 sequences"),
    "NaN weights": (broken, r"NaN; its weight norm.bias\[3\] is nan: train it"),
    "NaN weights inside": (lambda end: Mixture([network(end), Tempered(broken(end), 2.0)]), r"norm.bias\[3\] is nan"),
    "infinite weights": (lambda end: broken(end, np.inf, "head.weight"), r"head.weight\[0, 3\] is inf"),
    "overflow": (
        lambda end: broken(end, 1e38, "blocks.0.norm1.weight"),
        r"finite, the largest is 1.0e\+38 in blocks.0.norm1",
    ),
    "a log_prob of its own": (
        lambda end: lying(network(end), log_prob=lambda tokens: np.zeros(len(tokens))),
        "log_prob is not the sum",
    ),
    "a score of its own": (
        lambda end: lying(network(end), watched_log_prob=lambda tokens, watch=None: np.zeros(len(tokens))),
        "log_prob is not the sum",
    ),
    "a peeking network": (peeking, "fed whole sequences, is not what it is token by token"),
    "a liar in a mixture": (lambda end: Mixture([network(end), Zero(V, T, end)]), "log_prob is not the sum"),
    "a liar inside": (
        lambda end: Excluding(Zero(V, T, end), space(end)[:3], np.full(3, -9.0)),
        "log_prob is not the sum",
    ),
    "excluded mass": (
        lambda end: Excluding(network(end), space(end)[:3], np.log(np.full(3, 0.3))),
        r"excludes 0\.9 of its inner policy's mass; that set holds [0-9.]*(e-05)?$",
    ),
    "excluded mass, later": (lambda end: lying(excluding(network(end), end), log_left=-5.0), "excludes 0.99"),
    "excluded twice": (
        lambda end: lying(excluding(network(end), end), excluded=np.concatenate([space(end)[:3]] * 2)),
        "3 of the sequences that it excludes are repeats",
    ),
    "a set that it does not exclude": (
        lambda end: lying(Excluding(network(end), SUCCESSES), _keys=set()),
        None,  # what it says it excludes counts as excluded: a rate of zero
    ),
    "a normaliser": (lambda end: lying(filtered(end), log_normaliser=-6.0), r"exp\(-6\).*of 4000 proposals passed"),
    "an interval": (lambda end: lying(filtered(end), log_normaliser_interval=(-9.0, 0.0)), "not from its counts"),
    "a filtered liar": (lambda end: lying(filtered(end), policy=Zero(V, T, end)), "log_prob is not the sum"),
}


@every_end
@pytest.mark.parametrize("kind", LIARS)
def test_what_is_no_probability_is_refused(kind, end, monkeypatch):
    monkeypatch.setenv("BANEL_KERNEL", "torch")
    make, says = LIARS[kind]
    policy = make(end)
    if says is None:
        honest = {
            "a score of its own": network(end),
            "a set that it does not exclude": Excluding(network(end), SUCCESSES),
        }
        assert success_rate(task(end), policy) == success_rate(task(end), honest[kind])
        return
    with pytest.raises(BadPolicy, match=says):
        success_rate(task(end), policy)


@every_end
def test_a_set_that_grows_is_checked_as_if_it_were_new(end, monkeypatch):
    """What was scored before is not asked again, unless the inner policy or the set is another one."""
    asked = []
    walked = Autoregressive.watched_log_prob

    def counting(self, tokens, watch=None):
        asked.append(len(tokens))
        return walked(self, tokens, watch)

    base, other = network(end, 3), network(end, 4)
    sets = [space(end)[:10], space(end)[:30], space(end)[5:35], space(end)[:20]]
    grown = [Excluding(base, rows) for rows in sets]
    monkeypatch.setattr(Autoregressive, "watched_log_prob", counting)
    for policy, new in zip(grown, (10, 20, 30, 20), strict=True):
        asked.clear()
        checked_log_prob(policy, SUCCESSES, problem(end))
        assert asked == [new, len(SUCCESSES)]
    liar = Excluding(other, sets[3], base.log_prob(sets[3]))  # the set before, weighed by the policy before
    with pytest.raises(BadPolicy, match="of its inner policy's mass"):
        checked_log_prob(liar, SUCCESSES, problem(end))
    with torch.no_grad():
        base.network.head.bias += torch.arange(V)
    with pytest.raises(BadPolicy, match="of its inner policy's mass"):
        checked_log_prob(grown[3], SUCCESSES, problem(end))


def test_a_prefix_that_is_asked_twice_has_one_distribution(monkeypatch):
    monkeypatch.setattr(autoregressive, "CHUNK", 64)
    policy = Fickle(V, T, None)
    with pytest.raises(BadPolicy, match="a prefix that is asked twice has two distributions"):
        checked_log_prob(policy, space(None), problem(None))


class Asked(Foreign):
    """Notes what it is asked."""

    def __init__(self, end):
        super().__init__(end)
        self.prefixes = []

    def next_log_probs(self, prefix):
        self.prefixes += list(map(tuple, prefix.tolist()))
        return super().next_log_probs(prefix)


@every_end
def test_each_distinct_prefix_is_asked_once_in_order_of_depth(end, monkeypatch):
    monkeypatch.setattr("banel_envs.measure.probability.NUMBERS", 3 * V)  # three prefixes at a time
    policy = Asked(end)
    found = checked_log_prob(policy, space(end), problem(end))
    prefixes = policy.prefixes
    assert len(set(prefixes)) == len(prefixes) and list(map(len, prefixes)) == sorted(map(len, prefixes))
    assert set(prefixes) == {
        tuple(row[:t]) for row in space(end).tolist() for t in range(T) if end is None or end not in row[:t]
    }
    np.testing.assert_allclose(found, network(end).log_prob(space(end)), atol=1e-6)


def test_the_tolerance_buys_nothing():
    """Distributions that sum to almost 1.00001 are divided by their sum: over 200 tokens that would be 0.2%."""
    horizon = 200
    long = Problem("test/Long-v0", ("a", "b"), horizon, 1, partial(Uniform, 2, horizon, None))

    class Generous(Uniform):
        def next_log_probs(self, prefix):
            return np.full((len(prefix), 2), np.log(0.5 * (1 + 0.9 * TOLERANCE)))

    tokens = np.zeros((1, horizon), np.int64)
    found = checked_log_prob(Generous(2, horizon, None), tokens, long)
    assert found[0] == pytest.approx(horizon * np.log(0.5), abs=1e-9)


def test_what_follows_an_impossible_prefix_is_not_asked():
    class Dies(Foreign):
        def next_log_probs(self, prefix):
            steps = np.full((len(prefix), V), -np.inf)
            steps[:, 0] = 0.0
            steps[(prefix != 0).any(axis=1)] = np.nan
            return steps

        def log_prob(self, tokens):
            return np.where((tokens == 0).all(axis=1), 0.0, -np.inf)

    found = checked_log_prob(Dies(None), space(None), problem(None))
    assert found[0] == 0 and np.isneginf(found[1:]).all()


def test_a_rate_above_1_is_refused_whoever_gives_it():
    twice = Task(problem(None), hits, successes=lambda: np.repeat(space(None), 2, axis=0))
    with pytest.raises(BadPolicy, match="probability of 2 in all; it is at most 1"):
        success_rate(twice, Uniform(V, T, None))


def test_a_filtered_rate_is_at_most_1():
    """All that passes is a success, and chance let fewer proposals pass than should: the estimate is cut at 1."""
    base, phi = Uniform(V, T, None), Repeating(space(None)[0], V)
    task = Task(problem(None), hits, successes=lambda: space(None))
    rate = success_rate(task, Filtered(base, [phi], [0.0], 1_000, 990))
    assert rate.log10 == rate.high == 0 and -0.01 < rate.low <= 0
    with pytest.raises(BadPolicy, match=r"probability of 1\.99"):
        success_rate(task, Filtered(base, [phi], [0.0], 1_000, 500))


# --- sampling


@pytest.mark.parametrize("kernel", ["compiled", "torch"])
@pytest.mark.parametrize("value", [np.nan, np.inf])
@pytest.mark.parametrize(
    "wrap",
    [
        lambda p: p,
        lambda p: Tempered(p, 2.0),
        lambda p: Mixture([p]),
        lambda p: Excluding(p, space(None)[:1], np.array([-9.0])),
        lambda p: Filtered(p, [Uniform(V, T, None)], [0.0], 1, 1),
    ],
)
def test_nothing_is_drawn_from_a_bad_network(wrap, value, kernel, monkeypatch):
    monkeypatch.setenv("BANEL_KERNEL", kernel)
    for made, name in ((network, "norm.bias"), (recurrent, "head.bias")):
        policy = made(None)
        with torch.no_grad():
            dict(policy.network.named_parameters())[name][2] = value
        with pytest.raises(BadPolicy, match=rf"NaN.*its weight {name}\[2\] is {value}"):
            wrap(policy).sample(10, np.random.default_rng(0))


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_nothing_is_drawn_from_bad_numbers(value):
    class Given(Uniform):
        def step(self, last, position, state):
            log_probs, state = super().step(last, position, state)
            return log_probs + value * (position == 2), state

    with np.errstate(invalid="ignore"), pytest.raises(BadPolicy, match="NaN, infinite or all 0, at position"):
        Given(V, T, None).sample(10, np.random.default_rng(0))


# --- a policy that is changed after it was yielded


@every_end
@pytest.mark.parametrize("kind", HONEST)
def test_a_policy_left_alone_fits_its_mark(kind, end):
    policy = HONEST[kind](end)
    mark = Mark.of(policy)
    mark.check(policy)
    policy.sample(50, np.random.default_rng(1))
    mark.check(policy)
    assert (mark.drawn is None) == (
        kind not in ("a subclass with a step", "torch in float64") and "foreign" not in kind
    )


def _of(policy):
    """A network somewhere inside."""
    while not hasattr(policy, "network"):
        policy = policy.inner if hasattr(policy, "inner") else getattr(policy, "policy", None) or policy.members[0]
    return policy.network


WITHOUT_A_NETWORK = (
    *("uniform", "repeating", "a subclass with a step", "uniform over a grammar", "excluding from a grammar"),
)


@pytest.mark.parametrize("kind", [k for k in HONEST if k not in WITHOUT_A_NETWORK])
def test_a_trained_policy_no_longer_fits(kind):
    policy = HONEST[kind](None)
    mark = Mark.of(policy)
    with torch.no_grad():
        _of(policy).head.weight[1, 1] += 0.1
    with pytest.raises(PolicyChanged, match=r"changed after it was yielded; yield policy.clone\(\)"):
        mark.check(policy)


CHANGES = {
    "temperature": (lambda: network(None), lambda p: setattr(p, "temperature", 2.0)),
    "its sequence": (lambda: Repeating(SUCCESSES[0], V), lambda p: p.tokens.__setitem__(0, 1)),
    "a step of its own": (lambda: Stepped(V, T, None), lambda p: setattr(p, "step", Uniform(V, T, None).step)),
    "its counts": (lambda: filtered(None), lambda p: setattr(p, "accepted", p.accepted - 1)),
    "its set": (lambda: excluding(network(None), None), lambda p: setattr(p, "excluded", p.excluded[1:])),
    "a member": (lambda: Mixture([Uniform(V, T, None)]), lambda p: setattr(p, "members", (network(None),))),
}


@pytest.mark.parametrize("kind", CHANGES)
def test_other_changes_are_noticed(kind):
    make, change = CHANGES[kind]
    policy = make()
    mark = Mark.of(policy)
    change(policy)
    assert not mark.fits(policy)


def test_copies_have_the_same_mark():
    policy = excluding(network(None), None)
    assert Mark.of(copy.deepcopy(policy)).digest == Mark.of(policy).digest
