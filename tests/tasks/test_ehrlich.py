"""Ehrlich functions: pytorch-holo's values, brute force, the chain as a policy that can be trained."""

from __future__ import annotations

import itertools
from contextlib import closing
from pathlib import Path

import gymnasium as gym
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from banel_agents.sequence import ppo
from banel_envs import TASKS, Oracle, success_rate
from banel_envs.build import ehrlich as builder
from banel_envs.errors import AssetError, BadValue
from banel_envs.policies import load_policy_file, save_policy
from banel_envs.policies.networks.markov_transformer import FLOOR, chained_policy, log_chain
from banel_envs.tasks import ehrlich as family
from banel_envs.testing import check_policy, check_task, sequences

torch.set_num_threads(1)

NAMES = {"easy": "banel/EhrlichEasy-v0", "v0": "banel/Ehrlich-v0", "hard": "banel/EhrlichHard-v0"}
GOLDEN = {  # log10 base success, successes, effective number
    "easy": (-2.0842154, 7_916, 729.1412),
    "v0": (-3.9792745, 4_597, 242.1298),
    "hard": (-6.1626987, 924, 179.5211),
}
HOLO = Path(__file__).parents[1] / "golden" / "ehrlich.npz"
INFEASIBLE = 255
REFRESH = "the assets are not the ones these figures were read from; if on purpose, raise the version in the ids"


def holo(name):
    """Of a registered function: sequences [10,000, L], holo's values (-inf where infeasible), and the raw arrays."""
    with np.load(HOLO) as file:
        arrays = {field.removeprefix(f"{name}_"): file[field] for field in file.files if field.startswith(f"{name}_")}
    packed = arrays["tokens"]
    tokens = np.stack((packed >> 4, packed & 15), axis=2).reshape(len(packed), -1).astype(np.int64)
    values = np.append(arrays["values"], -np.inf)[np.minimum(arrays["index"], len(arrays["values"]))]
    return tokens, values, arrays


def slow_value(function, row):
    """Straight from the definition, with loops."""
    if function.initial[row[0]] == 0 or any(function.transition[a, b] == 0 for a, b in itertools.pairwise(row)):
        return -np.inf
    value, k = 1.0, function.motifs.shape[1]
    for motif, offset in zip(function.motifs, function.offsets, strict=True):
        shares = [
            sum(row[place + o] == m for m, o in zip(motif, offset, strict=True)) / k
            for place in range(len(row) - offset[-1])
        ]
        value *= np.floor(max(shares) * function.quantisation + 1e-9) / function.quantisation
    return value


@pytest.mark.parametrize("name", NAMES)
def test_golden_values_are_pytorch_holos(name):
    tokens, expected, arrays = holo(name)
    assert tokens.shape == (10_000, 10) and len(np.unique(tokens, axis=0)) == 10_000
    counts = np.bincount(arrays["index"], minlength=256)
    assert (counts[: len(arrays["values"])] >= 100).all() and counts[INFEASIBLE] >= 100 and arrays["values"][-1] == 1
    function = family.registered_function(name)
    found = function.value(tokens)
    assert np.array_equal(np.isinf(found), np.isinf(expected))
    assert np.array_equal(found.astype(np.float32), expected)  # sixteenths, so equal to the last bit
    assert np.array_equal(function.reward(tokens), (expected == 1).astype(np.int8))
    for field in ("initial", "transition", "motifs", "offsets"):
        assert np.array_equal(getattr(function, field), arrays[field])


@pytest.mark.parametrize("name", NAMES)
def test_pytorch_holo_says_so_itself(name):
    pytest.importorskip("holo")
    from golden import make_ehrlich

    tokens, expected, arrays = holo(name)
    function = make_ehrlich.make(name)
    assert np.array_equal(make_ehrlich.values(function, tokens), expected)
    assert np.array_equal(function.transition_matrix.numpy(), arrays["transition"])


@pytest.mark.parametrize("name", NAMES)
def test_golden_base_success(name):
    task = TASKS[NAMES[name]]
    log10, size, effective = GOLDEN[name]
    rate = success_rate(task, task.problem.base_policy())
    assert (rate.method, len(task.successes())) == ("exact", size), REFRESH
    assert 10**rate.log10 == pytest.approx(10**log10, rel=1e-5), REFRESH
    assert rate.effective == pytest.approx(effective, rel=1e-4), REFRESH
    assert rate.log10 == pytest.approx(builder.log10_success(family.registered_function(name)), abs=1e-5)


def test_the_contract_of_a_task_made_by_its_sizes():
    check_task(family.ehrlich(5, 8, 2, 3, 1, seed=3), samples=2_000)
    assert gym.make(NAMES["v0"]).action_space.n == 12


@settings(max_examples=25, deadline=None)
@given(st.integers(3, 5), st.sampled_from([(1, 2), (1, 4), (2, 2), (2, 3), (3, 2)]), st.integers(0, 10**6), st.data())
def test_successes_are_all_there_are(V, motifs, seed, data):
    """Against every sequence of the space, judged by loops for a part of it."""
    c, k = motifs
    q = data.draw(st.sampled_from([q for q in range(1, k + 1) if k % q == 0]))
    rng = np.random.default_rng(seed)
    function = family.draw(V, c * k + int(rng.integers(2)), c, k, q, rng)
    task = family._task("test/Ehrlich-v0", function, lambda: None, "")
    every = sequences(task.problem)
    right = function.reward(every) == 1
    assert np.array_equal(task.successes(), every[right])  # both in lexicographic order
    assert function.reward(function.witness()[None]).tolist() == [1]
    some = np.concatenate((rng.integers(len(every), size=40), rng.choice(np.flatnonzero(right), 10)))
    expected = [slow_value(function, row) for row in every[some]]
    assert np.allclose(function.value(every[some]), expected, rtol=1e-12, atol=0)
    assert np.array_equal(right[some], np.array(expected) == 1)


@pytest.mark.parametrize("name", NAMES)
def test_mutants_of_successes_are_judged_as_by_definition(name):
    function, rng = family.registered_function(name), np.random.default_rng(0)
    tokens = function.successes()[rng.integers(GOLDEN[name][1], size=300)]
    tokens[np.arange(300), rng.integers(10, size=300)] = rng.integers(12, size=300)
    expected = np.array([slow_value(function, row) for row in tokens])
    assert np.array_equal(function.reward(tokens), (expected == 1).astype(np.int8))
    assert 0 < (expected == 1).sum() < 300 and np.isinf(expected).any()


def test_the_mask_is_the_chain():
    function, problem = family.registered_function("v0"), TASKS[NAMES["v0"]].problem
    assert problem.action_mask(np.empty((2, 0), int)).tolist() == [[1] * 12] * 2
    tokens = np.random.default_rng(1).integers(12, size=(500, 10))
    allowed = [problem.action_mask(tokens[:, :t])[np.arange(500), tokens[:, t]] for t in range(10)]
    feasible = np.all(allowed, axis=0)
    assert np.array_equal(feasible, function.feasible(tokens)) and 0 < feasible.sum() < 500


def test_rendering_marks_what_is_banned():
    function, problem = family.registered_function("v0"), TASKS[NAMES["v0"]].problem
    assert problem.render(function.witness()) == "".join(family.LETTERS[t] for t in function.witness())
    a, b = np.argwhere(function.transition == 0)[0]
    row = np.full(10, a)
    row[-1] = b
    assert problem.render(row).splitlines()[1] == " " * 9 + "^"


@pytest.mark.parametrize("sizes", [(32, 32, 4, 4, 4), (20, 15, 2, 4, 2), (32, 128, 8, 8, 8)])
def test_what_is_too_large_to_list_is_not_listed(sizes):
    task = family.ehrlich(*sizes)
    assert task.successes() is None
    assert task.reward(task.witness()[None]).tolist() == [1]


def test_a_task_is_its_seed():
    first, again, other = family.ehrlich(seed=1), family.ehrlich(seed=1), family.ehrlich(seed=2)
    assert first.digest == again.digest != other.digest and first.problem.id != other.problem.id
    assert np.array_equal(first.successes(), again.successes())
    assert family.ehrlich(seed=1, quantisation=1).digest != first.digest


@pytest.mark.parametrize(
    ("sizes", "what"),
    [
        ({"vocabulary": 1}, "vocabulary is 1"),
        ({"vocabulary": 63}, "2 to 62"),
        ({"length": 5}, "at least 6"),
        ({"motifs": 0}, "0 motifs"),
        ({"motif_length": 1}, "2 motifs of 1"),
        ({"quantisation": 2}, "quantisation is 2; it must divide the motif length, 3"),
        ({"quantisation": 0}, "quantisation is 0"),
    ],
)
def test_sizes_that_cannot_be(sizes, what):
    with pytest.raises(BadValue, match=what):
        family.ehrlich(**sizes)


@pytest.mark.parametrize("name", NAMES)
def test_the_base_policy_is_the_chain(name):
    function, base = family.registered_function(name), TASKS[NAMES[name]].problem.base_policy()
    tokens, _, _ = holo(name)
    tokens = tokens[function.feasible(tokens)]
    steps = np.log(function.transition[tokens[:, :-1], tokens[:, 1:]].astype(np.float64)).sum(axis=1)
    chain = steps - np.log(len(function.initial))
    assert np.allclose(base.log_prob(tokens), chain, rtol=1e-5, atol=0)
    assert np.allclose(base.double().log_prob(tokens), chain, rtol=1e-6, atol=0)  # the weights are float32


def small(seed=0):
    function = family.draw(4, 5, 1, 3, 3, np.random.default_rng(7))
    return chained_policy(
        function.initial, function.transition, 5, np.random.default_rng(seed), width=8, layers=1, heads=2
    )


def trained(policy, steps=30):
    tokens = np.random.default_rng(0).integers(4, size=(64, 5))
    optimiser = torch.optim.Adam(policy.network.parameters(), lr=1e-2)
    for _ in range(steps):
        optimiser.zero_grad()
        policy.loss(tokens).backward()
        optimiser.step()
    return policy


def test_every_part_of_the_chained_network_learns(tmp_path):
    policy, space = small(), np.array(list(itertools.product(range(4), repeat=5)))
    chain = policy.log_prob(space)
    before = {name: w.clone() for name, w in policy.network.named_parameters()}
    trained(policy)
    learnt = policy.log_prob(space)
    assert np.exp(learnt).sum() == pytest.approx(1, abs=1e-5) and abs(learnt - chain).max() > 0.1
    assert all(not torch.equal(w, before[name]) for name, w in policy.network.named_parameters())
    with torch.inference_mode():
        steps = torch.log_softmax(policy.network(torch.from_numpy(space)).double(), -1)
    whole = steps.gather(2, torch.from_numpy(space)[:, :, None])[:, :, 0].sum(dim=1).numpy()
    assert np.allclose(learnt, whole, rtol=1e-5, atol=1e-5)  # cached steps against teacher forcing
    save_policy(tmp_path / "p.safetensors", policy)
    read = load_policy_file(tmp_path / "p.safetensors")
    assert np.array_equal(read.log_prob(space), learnt) and read.spec() == policy.spec()
    fresh = read.with_new_weights(np.random.default_rng(5))  # its chain came through the file
    assert np.allclose(fresh.log_prob(space), chain, rtol=1e-5)
    assert not torch.equal(fresh.network.body.token.weight, small().network.body.token.weight)


def test_temperature_is_the_softmaxs():
    policy = trained(small())
    prefix = np.array([[1, 2], [3, 0]])
    logs = policy.next_log_probs(prefix) / 2
    expected = logs - np.log(np.exp(logs).sum(axis=1, keepdims=True))
    assert np.allclose(policy.tempered(2.0).next_log_probs(prefix), expected, atol=1e-5)


def test_the_chained_policy_keeps_the_contract():
    task = family.ehrlich(4, 6, 1, 3)
    check_policy(task.problem.base_policy(), task.problem, samples=2_000)


def test_log_chain_has_no_infinity():
    logs = log_chain(np.array([0.5, 0.5]), np.array([[1.0, 0.0], [0.25, 0.75]]))
    assert np.allclose(np.exp(logs), [[1, 0], [0.25, 0.75], [0.5, 0.5]], atol=1e-10)
    assert logs[0, 1] == pytest.approx(FLOOR) and np.exp(logs).sum(axis=1) == pytest.approx(1)


def test_ppos_policy_is_the_networks():
    """SB3's actor on features and head gives the policy's own next-token distribution, before and after learning."""

    task = family.ehrlich(4, 6, 1, 3)
    with closing(Oracle(task, budget=200)) as oracle:
        model, policy = ppo.build(task.problem, oracle, ppo.PPOConfig(), seed=0)
        tokens = policy.sample(20, np.random.default_rng(0))
        for learn in (False, True):
            if learn:
                model.learn(model.n_envs * model.n_steps)
            for position in range(6):
                blank = np.where(np.arange(6) < position, tokens, 4)
                observation = {"tokens": torch.from_numpy(blank), "position": torch.full((20, 1), position)}
                with torch.no_grad():
                    logits = model.policy.get_distribution(observation).distribution.logits
                expected = policy.next_log_probs(tokens[:, :position])
                assert np.allclose(logits.numpy(), expected, atol=1e-4)


def test_building_without_holos_file_says_where_it_comes_from(tmp_path):
    with pytest.raises(AssetError, match=r"make_ehrlich\.py"):
        builder.build(tmp_path, tmp_path)


def test_the_shipped_assets_are_what_the_build_writes(tmp_path):
    builder.build(tmp_path, HOLO.parent)
    with np.load(tmp_path / family.FUNCTIONS) as built, np.load(family.asset(family.FUNCTIONS)) as shipped:
        assert built.files == shipped.files
        assert all(np.array_equal(built[name], shipped[name]) for name in built.files)
    for name in NAMES:
        file = family.base_name(name)
        assert (tmp_path / file).read_bytes() == family.asset(file).read_bytes()
