"""Policies: every kind sums to 1, samples what it says, factorises into next tokens, and is stored and read again."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors.numpy import save_file

from banel_envs import kernel
from banel_envs.errors import AssetError, BadTokens, BadValue
from banel_envs.policies import (
    COST,
    Excluding,
    Mixture,
    Policy,
    Repeating,
    Tempered,
    Uniform,
    load_policy_file,
    save_policy,
)
from banel_envs.policies.autoregressive import Autoregressive, _children, invert, logsumexp
from banel_envs.policies.networks.gru import GRU, GRUConfig
from banel_envs.policies.networks.markov_transformer import ChainedTransformer
from banel_envs.policies.networks.transformer import Transformer, TransformerConfig
from banel_envs.policies.torch_policy import FEW, TorchPolicy
from banel_envs.testing import check_policy
from tests.shared.policies import ENDS, KINDS, T, V, network, problem, space

torch.set_num_threads(1)  # networks this small only wait for each other

every_kind = pytest.mark.parametrize("kind", KINDS)
every_end = pytest.mark.parametrize("end", ENDS)


def test_the_space():
    assert len(space(None)) == V**T
    assert len(space(V - 1)) == sum(3**k for k in range(T)) + 3**T  # ended after k others, or never
    assert len(np.unique(space(V - 1), axis=0)) == len(space(V - 1))


@every_end
@every_kind
def test_the_contract(kind, end):
    policy = KINDS[kind](end)
    assert isinstance(policy, Policy)
    check_policy(policy, problem(end), samples=5_000)


@every_end
@every_kind
def test_probabilities_sum_to_1_and_factorise(kind, end):
    policy, tokens = KINDS[kind](end), space(end)
    log_probs = policy.log_prob(tokens)
    assert np.exp(log_probs).sum() == pytest.approx(1, abs=2e-6)
    total, possible = np.zeros(len(tokens)), np.isfinite(log_probs)
    with np.errstate(all="raise"):
        for position in range(T):
            steps = policy.next_log_probs(tokens[possible, :position])
            total[possible] += steps[np.arange(possible.sum()), tokens[possible, position]]
    assert np.allclose(total[possible], log_probs[possible], rtol=1e-5, atol=1e-6)


@every_end
@every_kind
def test_next_tokens_are_the_conditionals_of_the_whole(kind, end):
    """p(next | prefix) by summing log_prob over everything that begins so: the definition, by brute force."""
    policy, tokens = KINDS[kind](end), space(end)
    probs = np.exp(policy.log_prob(tokens))
    for prefix in ([], [0], [2, 1], [1, 0, 2]):
        begins = (tokens[:, : len(prefix)] == prefix).all(axis=1)
        mass = np.array([probs[begins & (tokens[:, len(prefix)] == v)].sum() for v in range(V)])
        if mass.sum() > 1e-12:
            found = np.exp(policy.next_log_probs(np.array([prefix], int).reshape(1, -1)))[0]
            assert np.allclose(found, mass / mass.sum(), atol=1e-6)


@every_end
@every_kind
def test_frequencies_agree_with_probabilities(kind, end):
    """Pearson's chi-square at a fixed seed, cells of fewer than 5 expected counts pooled."""
    policy, tokens, n = KINDS[kind](end), space(end), 20_000
    place = {row.tobytes(): k for k, row in enumerate(tokens)}
    counts = np.zeros(len(tokens))
    for row in policy.sample(n, np.random.default_rng(11)):
        counts[place[row.tobytes()]] += 1
    expected = n * np.exp(policy.log_prob(tokens))
    assert counts[expected == 0].sum() == 0
    small = expected < 5
    expected = np.append(expected[~small], expected[small].sum())
    counts = np.append(counts[~small], counts[small].sum())
    keep = expected > 1
    statistic = ((counts - expected)[keep] ** 2 / expected[keep]).sum()
    freedom = max(keep.sum() - 1, 1)
    assert statistic < freedom + 5 * np.sqrt(2 * freedom)


def test_the_chi_square_would_notice():
    """What the test above is worth: a policy sampled at another temperature fails it by far."""
    tokens, n = space(None), 20_000
    expected = n * np.exp(network(None).log_prob(tokens))
    place = {row.tobytes(): k for k, row in enumerate(tokens)}
    counts = np.zeros(len(tokens))
    for row in network(None, temperature=1.2).sample(n, np.random.default_rng(11)):
        counts[place[row.tobytes()]] += 1
    assert ((counts - expected) ** 2 / expected).sum() > 2 * len(tokens)


@every_end
def test_float64_is_the_brute_force(end):
    """Teacher forcing on every sequence by itself, no prefix shared, no cache."""
    policy, tokens = network(end).double(), space(end)
    with torch.inference_mode():
        logits = torch.cat([policy.network(torch.from_numpy(row[None])) for row in tokens])
    steps = torch.log_softmax(logits, -1).gather(2, torch.from_numpy(tokens)[:, :, None])[:, :, 0].numpy()
    live = np.ones_like(tokens, bool)
    live[:, 1:] = True if end is None else tokens[:, :-1] != end
    brute = (steps * live).sum(axis=1)
    assert np.allclose(policy.log_prob(tokens), brute, rtol=1e-9, atol=0)
    assert np.allclose(network(end).log_prob(tokens), brute, rtol=1e-5, atol=0)
    assert np.allclose(policy.differentiable_log_prob(tokens).detach().numpy(), brute, rtol=1e-9, atol=0)


@every_end
def test_order_repeats_and_chunks_do_not_matter(end, monkeypatch):
    policy, rng = network(end).double(), np.random.default_rng(0)
    tokens = space(end)[rng.integers(len(space(end)), size=300)]
    alone = np.concatenate([policy.log_prob(row[None]) for row in tokens])
    monkeypatch.setattr("banel_envs.policies.autoregressive.CHUNK", 64)
    assert np.allclose(policy.log_prob(tokens), alone, rtol=1e-12, atol=0)
    assert policy.log_prob(tokens[:0]).shape == (0,)
    assert policy.sample(130, rng).shape == (130, T)


def test_inverting_a_distribution():
    with np.errstate(divide="ignore"):
        log_probs = np.log(np.array([[0, 0.25, 0, 0.75, 0], [1, 0, 0, 0, 0], [0, 0, 0, 0, 1], [0.5, 0, 0, 0, 0.5]]))
    below_1 = np.nextafter(1, 0)
    cases = [
        (0, 0.0, 1),  # the first token has probability 0
        (0, 0.25, 3),  # the boundary belongs to the next token, and the one between has probability 0
        (0, np.nextafter(0.25, 0), 1),
        (0, below_1, 3),  # the last token has probability 0
        (1, 0.0, 0),
        (1, below_1, 0),
        (2, 0.0, 4),
        (3, 0.0, 0),
        (3, below_1, 4),
    ]
    node, uniform, expected = (np.array(column) for column in zip(*cases, strict=True))
    assert invert(log_probs, node, uniform).tolist() == expected.tolist()


def test_inverting_for_many_nodes_never_draws_the_impossible():
    """The nearest number below 1 still draws a token that has a probability, at every node."""
    m = 16_384
    with np.errstate(divide="ignore"):
        log_probs = np.log(np.tile([0.25, 0.75, 0.0], (m, 1)))
    node = np.arange(m)
    assert (invert(log_probs, node, np.full(m, np.nextafter(1, 0))) == 1).all()
    assert (invert(log_probs, node, np.zeros(m)) == 0).all()


def test_logsumexp():
    assert logsumexp(np.array([])) == logsumexp(np.array([-np.inf])) == -np.inf
    assert logsumexp(np.log([0.1, 0.2, 0.3])) == pytest.approx(np.log(0.6))
    assert logsumexp(np.array([-2000.0, -2000.0])) == pytest.approx(-2000 + np.log(2))


@pytest.mark.parametrize("kind", ["torch", "uniform", "tempered", "mixture", "excluding"])
def test_what_is_no_sequence_is_refused(kind):
    policy = KINDS[kind](V - 1)
    good = space(V - 1)[:2]
    for bad in (good[:, :-1], good[0], good + V, good - V, good * 1.0, np.array([[3, 0, 3, 3]])):
        with pytest.raises(BadTokens):
            policy.log_prob(bad)
    assert np.array_equal(policy.log_prob(good.astype(np.uint8)), policy.log_prob(good))


def test_a_prefix_that_fills_the_horizon_has_no_next_token():
    with pytest.raises(BadTokens, match="the horizon is 4"):
        network(None).next_log_probs(space(None)[:1])


def test_a_mixture_draws_one_member_a_sequence():
    """Two constant members give two constant rows, never one that changes in the middle."""
    a, b = space(None)[0], space(None)[-1]
    tokens = Mixture([Repeating(a, V), Repeating(b, V)]).sample(2_000, np.random.default_rng(0))
    kinds, counts = np.unique(tokens, axis=0, return_counts=True)
    assert kinds.tolist() == [a.tolist(), b.tolist()] and abs(counts[0] - 1_000) < 150
    assert 400 < (tokens[:1_000] == a).all(axis=1).sum() < 600  # and in no order: any part is a sample


def test_prefixes_that_nobody_writes_are_no_nan():
    a, end = space(3)[17], np.array([[3]])
    mixture = Mixture([Repeating(a, V), Repeating(a, V)])
    with np.errstate(all="raise"):
        for policy in (mixture, Excluding(network(3), np.array([[3, 3, 3, 3]]))):
            assert np.exp(policy.next_log_probs(end)).sum() == pytest.approx(1)


def test_excluding_refuses_what_it_cannot_do():
    rows = space(None)[[3, 4, 3]]
    with pytest.raises(BadValue, match="1 of the 3 excluded sequences are repeats"):
        Excluding(Uniform(V, T, None), rows)
    with pytest.raises(BadValue, match="nothing is left"):
        Excluding(Uniform(V, T, None), space(None))
    last = Excluding(Uniform(V, T, None), space(None)[1:])
    before = COST.sampled
    assert (last.sample(50, np.random.default_rng(0)) == space(None)[0]).all()
    assert COST.sampled - before < 50 * V**T * T * 2  # drawn in batches as large as needed, not without end


@pytest.mark.parametrize("temperature", [0, -1, float("nan")])
def test_temperatures_above_0_only(temperature):
    for make in (lambda: Tempered(Uniform(V, T, None), temperature), lambda: network(None, temperature=temperature)):
        with pytest.raises(BadValue, match="above 0"):
            make()


def test_tempering_twice_is_tempering_once():
    assert np.allclose(Tempered(network(3), 2).log_prob(space(3)), network(3).tempered(2).log_prob(space(3)), atol=1e-5)


def test_copies_are_independent_and_counters_count():
    policy = network(3)
    twin, fresh, before = policy.clone(), policy.with_new_weights(np.random.default_rng(9)), policy.log_prob(space(3))
    with torch.no_grad():
        twin.network.head.weight.zero_()
    assert np.array_equal(policy.log_prob(space(3)), before)
    assert not np.allclose(fresh.log_prob(space(3)), before)
    start = COST.scored
    policy.log_prob(np.array([[3, 3, 3, 3], [0, 1, 3, 3], [0, 1, 2, 2]]))
    assert COST.scored - start == 1 + 3 + 4
    with COST.paused():
        policy.sample(10, np.random.default_rng(0))
    assert COST.scored - start == 8
    with pytest.raises(BadValue, match="n must be at least 0"):
        policy.sample(-1, np.random.default_rng(0))


@pytest.mark.parametrize("temperature", [1, 0.5])
def test_weights_of_the_loss(temperature):
    policy, tokens = network(3, temperature=temperature).double(), space(3)[:6]
    weights = np.arange(6) / 3
    assert policy.loss(tokens).item() == pytest.approx(-policy.log_prob(tokens).mean())
    assert policy.loss(tokens, weights).item() == pytest.approx(-(policy.log_prob(tokens) * weights).mean())


@every_end
@pytest.mark.parametrize("kind", [k for k in KINDS if "float64" not in k])
def test_stored_and_read_again(kind, end, tmp_path):
    policy, tokens = KINDS[kind](end), space(end)
    save_policy(tmp_path / "p", policy)
    again = load_policy_file(tmp_path / "p")
    assert type(again) is type(policy)
    assert np.array_equal(again.log_prob(tokens), policy.log_prob(tokens))
    draws = [p.sample(50, np.random.default_rng(1)) for p in (policy, again)]
    assert np.array_equal(*draws)
    assert (tmp_path / "p").stat().st_mode & 0o777 == 0o644


def test_a_policy_of_the_users_own_has_no_stored_form(tmp_path):
    class Mine:
        pass

    with pytest.raises(BadValue, match=r"a Mine cannot be stored; the kinds are transformer, .*uniform"):
        save_policy(tmp_path / "p", Mine())
    assert not (tmp_path / "p").exists()


CONFIG = {"vocabulary": V, "horizon": T, "width": 16, "layers": 1, "heads": 2}
GARBAGE = [
    None,
    [],
    "uniform",
    {},
    {"kind": "pickle"},
    {"kind": ["uniform"]},
    {"kind": "uniform"},
    {"kind": "uniform", "vocabulary": 4, "horizon": 4, "end": None, "extra": 1},
    {"kind": "mixture", "members": []},
    {"kind": "mixture", "members": 3},
    {"kind": "mixture", "members": [{"kind": "mixture"}]},
    {"kind": "tempered", "temperature": 0, "policy": {"kind": "uniform", "vocabulary": 4, "horizon": 4, "end": None}},
    {"kind": "tempered", "temperature": 1, "policy": {"kind": "repeating", "vocabulary": 4}},
    {"kind": "excluding", "policy": {"kind": "uniform", "vocabulary": 4, "horizon": 4, "end": None}},
    {"kind": "repeating", "vocabulary": 4},
    {"kind": "transformer", "config": CONFIG, "end": None, "temperature": 1},
    {"kind": "transformer", "config": CONFIG | {"width": -1}, "end": None, "temperature": 1},
    {"kind": "transformer", "config": [], "end": None, "temperature": 1},
]


@pytest.mark.parametrize("spec", GARBAGE, ids=str)
def test_garbage_is_no_policy(spec, tmp_path):
    save_file({"x": np.zeros(3)}, tmp_path / "p", metadata={"policy": json.dumps(spec)})
    with pytest.raises(AssetError, match="is not a stored policy"):
        load_policy_file(tmp_path / "p")


def test_files_that_hold_none(tmp_path):
    save_policy(tmp_path / "p", network(3))
    content = (tmp_path / "p").read_bytes()
    (tmp_path / "short").write_bytes(content[:-9])
    (tmp_path / "text").write_text("hello")
    (tmp_path / "empty").touch()
    save_file({"x": np.zeros(3)}, tmp_path / "bare")
    save_file({"x": np.zeros(3)}, tmp_path / "broken", metadata={"policy": "{"})
    for name in ("short", "text", "empty", "bare", "broken", "missing"):
        with pytest.raises(AssetError, match=name):
            load_policy_file(tmp_path / name)


LONG = 20  # so that a cache grows more than once
STEPPED = {
    **{f"transformer of {k}": lambda k=k: Transformer(TransformerConfig(V, LONG, 16, k, heads=2)) for k in (1, 2, 3)},
    **{f"gru of {k}": lambda k=k: GRU(GRUConfig(V, LONG, 16, k)) for k in (1, 2)},
    "chained": lambda: ChainedTransformer(TransformerConfig(V, LONG, 16, 2, heads=4)),
}


@pytest.fixture(params=kernel.KINDS)
def computing(request):
    """With the compiled kernel, and without."""
    if request.param == kernel.COMPILED and kernel.library() is None:
        pytest.skip("no C compiler built the kernel")
    with kernel.using(request.param):
        yield request.param


@pytest.mark.parametrize("end", ENDS)
@pytest.mark.parametrize("n", [1, V + 2, FEW + 1, 1500])  # fewer prefixes than tokens, more, several blocks of them
@pytest.mark.parametrize("kind", STEPPED)
def test_steps_agree_with_teacher_forcing(kind, n, end, computing):
    net = STEPPED[kind]()
    net.initialise(np.random.default_rng(0))
    with torch.no_grad():
        net.head.weight.normal_(generator=torch.Generator().manual_seed(1))  # away from uniform
    policy = TorchPolicy(net.eval(), end)
    exact = policy.double()
    tokens = exact.sample(n, np.random.default_rng(1))
    assert np.array_equal(policy.sample(n, np.random.default_rng(1)), tokens)  # no number lies on an edge at this seed
    whole = exact.differentiable_log_prob(tokens).detach().numpy()
    order = np.lexsort(tokens.T[::-1])
    stepped = [Autoregressive._score_sorted(p, tokens[order]) for p in (exact, policy)]
    np.testing.assert_allclose(stepped[0], whole[order], rtol=1e-10)
    np.testing.assert_allclose(stepped[1], whole[order], rtol=1e-5)
    np.testing.assert_allclose(exact.log_prob(tokens), whole, rtol=1e-10)


def test_few_are_scored_at_once_and_counted_the_same(computing):
    policy, few = network(3), space(3)[:FEW]
    counted = []
    for score in (policy._score_sorted, super(TorchPolicy, policy)._score_sorted):
        before = COST.scored
        scored = score(few)
        counted.append((COST.scored - before, scored))
    assert counted[0][0] == counted[1][0]
    np.testing.assert_allclose(counted[0][1], counted[1][1], rtol=1e-5)


def test_a_state_may_be_stepped_more_than_once(computing):
    policy = network(None)
    _, state = policy.step(np.array([V]), 0, policy.start())
    branches = [policy.select(state, np.zeros(2, np.int64)) for _ in range(2)]
    first, _ = policy.step(np.array([0, 1]), 1, branches[0])
    second, _ = policy.step(np.array([2, 3]), 1, branches[1])
    again, _ = policy.step(np.array([0, 1]), 1, branches[0])
    assert np.array_equal(first, again)
    assert not np.array_equal(first, second)


def test_children_are_the_distinct_prefixes_reached():
    rng = np.random.default_rng(0)
    for n, m in ((1, 1), (50, 7)):
        node, chosen = rng.integers(m, size=n), rng.integers(V, size=n)
        reached, place = np.unique(node * V + chosen, return_inverse=True)
        parents, last, which = _children(node, chosen, m, V)
        assert np.array_equal(parents * V + last, reached)
        assert np.array_equal(which, place)
