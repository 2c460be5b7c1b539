"""A large vocabulary: the same numbers in blocks as at once, and memory that does not grow with sequences x vocabulary."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
import torch

from banel_envs import Problem
from banel_envs.environments.env import GenerationEnv
from banel_envs.environments.vector import GenerationVectorEnv
from banel_envs.errors import BadPolicy, BadValue, ContractBroken
from banel_envs.measure.probability import MOST_TOLERANCE, checked_log_prob
from banel_envs.meter.oracle import Oracle
from banel_envs.policies import Excluding, Mixture, Uniform, autoregressive
from banel_envs.policies.autoregressive import _children, invert, rows_at_once
from banel_envs.policies.networks.transformer import Transformer, TransformerConfig
from banel_envs.policies.torch_policy import TorchPolicy
from banel_envs.policies.training import Trainer
from banel_envs.task import Task
from banel_envs.testing import check_policy, check_task
from banel_envs.testing.rewards import neighbours
from tests.shared.policies import ENDS, Foreign, excluding, network, problem, space

LARGE = 151_936  # tokens of Qwen2's tokenizer, padded
every_end = pytest.mark.parametrize("end", ENDS)


def large_problem(V=LARGE, T=3, end=0, **more):
    return Problem("test/Large-v0", V, T, 10, lambda: Uniform(V, T, end), end=end, **more)


# --- the walks


def test_tokens_drawn_in_blocks_are_those_drawn_from_one_table(monkeypatch):
    rng = np.random.default_rng(0)
    log_probs = np.log(rng.dirichlet(np.full(11, 0.3), 40))
    node, uniform = rng.integers(40, size=300), rng.random(300)
    node = node[node != 7]  # a node that nobody stands at
    uniform = uniform[: len(node)]
    uniform[:40] = np.exp(log_probs).cumsum(axis=1)[node[:40], 3]  # on a border, or in the last bit beside it
    expected = invert(log_probs, node, uniform)
    for table in (1, 50, 11 * 40):
        monkeypatch.setattr(autoregressive, "TABLE", table)
        np.testing.assert_array_equal(invert(log_probs, node, uniform), expected)
    log_probs[33] = np.nan
    with pytest.raises(BadPolicy, match="NaN"):
        invert(log_probs, node, uniform)


def test_children_that_are_sorted_are_those_of_a_table(monkeypatch):
    rng = np.random.default_rng(1)
    node, chosen = rng.integers(9, size=100), rng.integers(30, size=100)
    expected = _children(node, chosen, 9, 30)
    monkeypatch.setattr(autoregressive, "TABLE", 9 * 30 - 1)
    for found, wanted in zip(_children(node, chosen, 9, 30), expected, strict=True):
        np.testing.assert_array_equal(found, wanted)


def test_how_many_sequences_are_walked_at_once():
    assert [rows_at_once(V) for V in (2, 29, 1_024, 1_025, LARGE, 10**9)] == [16_384, 16_384, 16_384, 16_368, 110, 1]


@every_end
def test_scores_in_blocks_are_those_of_one_walk(end, monkeypatch):
    policy, tokens = network(end), space(end)
    prefix = tokens[:, :2]
    mixture = Mixture([policy, network(end, 1)])
    without = excluding(policy, end)

    def scores():
        return (
            policy.log_prob(tokens),
            *policy.token_log_probs(tokens),
            policy.next_log_probs(prefix),
            mixture.next_log_probs(prefix),
            without.next_log_probs(prefix),
        )

    expected = scores()
    monkeypatch.setattr(autoregressive, "NUMBERS", 4 * 30)
    monkeypatch.setattr("banel_envs.policies.composed.mixture.NUMBERS", 4 * 30)
    for found, wanted in zip(scores(), expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-6)


@every_end
def test_samples_in_blocks_are_the_samples_of_each_block(end, monkeypatch):
    policy = network(end)
    rng = np.random.default_rng(3)
    expected = np.concatenate([policy.sample(k, rng) for k in (30, 30, 10)])
    monkeypatch.setattr(autoregressive, "NUMBERS", 4 * 30)
    np.testing.assert_array_equal(policy.sample(70, np.random.default_rng(3)), expected)


# --- training


@every_end
@pytest.mark.parametrize("weighted", ["not", "by sequence", "by token"])
def test_the_gradient_of_micro_batches_is_that_of_the_batch(end, weighted, monkeypatch):
    policy, tokens = network(end).double(), space(end)[::7]
    shape = {"not": None, "by sequence": len(tokens), "by token": tokens.shape}[weighted]
    weights = None if shape is None else np.random.default_rng(0).normal(size=shape)

    def gradient():
        policy.network.zero_grad()
        loss = policy.loss(tokens, weights)
        loss.backward()
        return float(loss.detach()), [w.grad.clone() for w in policy.network.parameters()]

    value, expected = gradient()
    rows = []
    monkeypatch.setattr("banel_envs.policies.torch_policy.NUMBERS", 4 * 4 * 5)
    policy.network.register_forward_hook(lambda net, given, logits: rows.append(len(logits)))
    found, gradients = gradient()
    assert max(rows) == 5 and sum(rows) == 2 * len(tokens)  # each part once forward, and once more for its gradient
    assert found == pytest.approx(value, rel=1e-12)
    for one, other in zip(gradients, expected, strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-12)


def test_the_kernel_trains_small_vocabularies_only():
    nets = [Transformer(TransformerConfig(V, 3, width=8, layers=1, heads=1)) for V in (4_096, 4_097)]
    small, large = (Trainer(TorchPolicy(net.eval(), None), 1e-3) for net in nets)
    assert large._compiled is None
    assert large.step(np.zeros((2, 3), np.int64)) > 0
    assert small.step(np.zeros((2, 3), np.int64)) > 0


# --- problems


def test_a_vocabulary_may_be_a_number_with_a_decoder():
    made = large_problem(decoder=lambda tokens: "<" + "+".join(map(str, tokens)) + ">")
    assert made.V == LARGE
    assert made.decode([[5, LARGE - 1, 0], [0, 0, 0]]) == [f"<5+{LARGE - 1}>", "<>"]
    assert made.render([5, 6, 0]) == "<5+6>"
    assert large_problem().decode([[5, LARGE - 1, 0]]) == [f"5 {LARGE - 1}"]  # without one: the numbers
    with pytest.raises(ValueError, match=f"outside 0..{LARGE - 1}"):
        made.check_tokens([[LARGE, 0, 0]])


@pytest.mark.parametrize("vocabulary", [1, 0, -3, True, ("a",)])
def test_a_vocabulary_has_two_tokens_at_least(vocabulary):
    with pytest.raises(BadValue, match="at least 2 tokens"):
        Problem("test/X-v0", vocabulary, 3, 10, lambda: Uniform(2, 3, None))


def test_two_tokens_may_print_alike():
    assert Problem("test/X-v0", ("a", "a"), 2, 10, lambda: Uniform(2, 2, None)).decode([[0, 1]]) == ["aa"]


def test_where_nothing_is_forbidden_no_mask_is_made(monkeypatch):
    def refuse(self, prefix):
        raise AssertionError("a mask was made")

    monkeypatch.setattr(Problem, "action_mask", refuse)
    assert large_problem().well_formed(np.zeros((5, 3), np.int64)).tolist() == [True] * 5


def test_environments_print_by_the_decoder():
    made = large_problem(decoder=lambda tokens: "".join(chr(97 + t) for t in tokens))
    task = Task(made, lambda tokens: np.zeros(len(tokens), np.int8))
    env = GenerationEnv(made, Oracle(task), "ansi")
    env.reset(seed=0)
    env.step(np.int64(2))
    assert env.render().startswith("c\n")
    vector = GenerationVectorEnv(made, Oracle(task), 2, render_mode="ansi")
    vector.reset(seed=0)
    vector.step(np.array([1, 2]))
    assert vector.render() == ("b", "c")


def test_neighbours_of_a_large_vocabulary_are_drawn():
    made = large_problem(T=20)
    known = np.array([[5, 7, *[0] * 18], [*range(1, 21)]])
    found = made.check_tokens(neighbours(made, known, np.random.default_rng(0)))
    changed = (found[:, None] != known).sum(axis=2)  # [m, 2]
    ended = (found == 0).any(axis=1)
    assert 150 <= len(found) <= 200
    assert ((changed.min(axis=1) == 1) | ended).all() and (changed > 0).all()


# --- checks


def test_a_large_vocabulary_is_checked_on_fewer_samples(monkeypatch):
    monkeypatch.setattr("banel_envs.testing.policies.SAMPLED", 2**23)
    monkeypatch.setattr("banel_envs.testing.policies.STEPPED", 2**18)
    monkeypatch.setattr("banel_envs.measure.draws.NUMBERS", 2**17)
    made = large_problem(V=5_000, T=2)
    policy = Counted(2)
    check_policy(policy, made)
    # 8 sequences are asked at T positions, where checks and draws ask no more at once than they do elsewhere
    assert policy.most == 838 and policy.widest < 1_000

    class Wrong(Counted):
        def sample(self, n, rng):
            return np.ones((n, 2), np.int64)

    with pytest.raises(ContractBroken, match="drew"):
        check_policy(Wrong(2), made)


class Counted(Foreign):
    """A uniform policy that notes how much was asked of it at once."""

    def __init__(self, T):
        super().__init__(0, Uniform(5_000, T, 0))
        self.most = self.widest = 0

    def sample(self, n, rng):
        self.most = max(self.most, n)
        return super().sample(n, rng)

    def next_log_probs(self, prefix):
        self.widest = max(self.widest, len(prefix))
        return super().next_log_probs(prefix)


class Off(Foreign):
    """A policy whose log_prob is 0.2 nats off, as one in bfloat16 may be."""

    def log_prob(self, tokens):
        return super().log_prob(tokens) + 0.2


def test_a_policy_may_state_a_tolerance_within_a_limit():
    with pytest.raises(BadPolicy, match=r"more than 0\.001 apart"):
        checked_log_prob(Off(None), space(None), problem(None))
    policy = Off(None)
    policy.tolerance = 0.3
    true = network(None).log_prob(space(None))
    np.testing.assert_allclose(checked_log_prob(policy, space(None), problem(None)), true, atol=1e-5)
    longer = Off(None, Uniform(4, 8, None))
    made = Problem("test/Longer-v0", tuple("abcd"), 8, 1, lambda: Uniform(4, 8, None))
    with pytest.raises(ContractBroken, match="not the sum of next_log_probs"):
        check_policy(longer, made, samples=200)
    longer.tolerance = 0.3
    check_policy(longer, made, samples=200)
    for bad in (MOST_TOLERANCE + 0.1, -1, float("nan"), "much"):
        policy.tolerance = bad
        with pytest.raises(BadPolicy, match=r"from 0 to 0\.5"):
            checked_log_prob(policy, space(None), problem(None))


@pytest.mark.slow
def test_memory_does_not_grow_with_sequences_times_vocabulary():
    script = f"""
import resource
import numpy as np
from banel_envs.policies.networks.gru import GRU, GRUConfig
from banel_envs.policies.torch_policy import TorchPolicy
from banel_envs.policies.training import Trainer
net = GRU(GRUConfig({LARGE}, 64, width=4))
net.initialise(np.random.default_rng(0))
policy = TorchPolicy(net.eval(), 0)
tokens = policy.sample(256, np.random.default_rng(1))
assert tokens.shape == (256, 64)
assert np.isfinite(policy.log_prob(tokens)).all()
policy.token_log_probs(tokens[:64])
policy.next_log_probs(tokens[:, :2])
assert Trainer(policy, 1e-3).step(tokens[:16]) > 0
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 4  # GiB


@pytest.mark.slow
def test_a_whole_task_of_a_large_vocabulary_passes_its_check():
    made = large_problem(T=3)
    task = Task(made, lambda tokens: (tokens[:, 0] % 100 == 7).astype(np.int8), witness=lambda: np.array([7] * 3))
    check_task(task)


def test_excluding_is_stored_for_a_large_vocabulary(tmp_path):
    from banel_envs.policies import load_policy_file, save_policy

    rows = np.unique(np.random.default_rng(0).integers(1, LARGE, (300, 3)), axis=0)
    policy = Excluding(Uniform(LARGE, 3, 0), rows)
    save_policy(tmp_path / "p.safetensors", policy)
    np.testing.assert_array_equal(load_policy_file(tmp_path / "p.safetensors").excluded, rows)
