"""Who trains: the kernel what it knows, PyTorch everything else; both with about the same result."""

from __future__ import annotations

import copy

import numpy as np
import pytest
import torch

from banel_envs import kernel
from banel_envs.errors import BadValue
from banel_envs.policies.cost import COST
from banel_envs.policies.networks.gru import GRU
from banel_envs.policies.networks.transformer import Transformer
from banel_envs.policies.steps.features import PrefixFeatures
from banel_envs.policies.steps.kernel_supports import takes, takes_gru, trains
from banel_envs.policies.torch_policy import TorchPolicy
from banel_envs.policies.training import Trainer
from tests.kernel.nets import KINDS, compiled_here, distance, policy, uniform_sequences

kinds = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


class Mine(Transformer):
    """A user's own, which computes the same."""


class MyGRU(GRU):
    """A user's own, which computes the same."""


def first(network):
    return next(network.parameters())


def frozen(network):
    first(network).requires_grad_(False)


def by_columns(network):
    weight = network.head.weight
    weight.data = weight.data.t().contiguous().t()


def method_of_its_own(network):
    forward = network.head.forward
    network.head.forward = lambda x: forward(x)


CHANGES = {
    "a frozen weight": frozen,
    "a weight by columns": by_columns,
    "a hook": lambda n: n.head.register_forward_hook(lambda *_: None),
    "a hook on the gradient": lambda n: n.head.register_full_backward_hook(lambda *_: None),
    "a hook before the gradient": lambda n: n.head.register_full_backward_pre_hook(lambda *_: None),
    "a weight's hook": lambda n: first(n).register_hook(lambda g: g),
    "a weight's hook behind the sum": lambda n: first(n).register_post_accumulate_grad_hook(lambda w: None),
    "a method of its own": method_of_its_own,
}


def trained(p, steps=15):
    """The losses of a few steps, and whether PyTorch computed them."""
    trainer, rng = Trainer(p, 3e-3), np.random.default_rng(0)
    before = COST.in_torch
    losses = [
        trainer.step(uniform_sequences(40, p, k), rng.normal(1, 0.5, 40) if k % 2 else None) for k in range(steps)
    ]
    return losses, COST.in_torch > before


@compiled_here
@kinds
def test_the_kernel_trains_as_torch_does(kind):
    ours, torchs = policy(kind=kind, end=4), policy(kind=kind, end=4)
    losses, in_torch = trained(ours)
    assert not in_torch
    with kernel.using("torch"):
        expected, in_torch = trained(torchs)
    assert in_torch
    np.testing.assert_allclose(losses, expected, rtol=1e-4)
    tokens = np.concatenate([uniform_sequences(40, ours, k) for k in range(15)])
    assert ours.log_prob(tokens).mean() > policy(kind=kind, end=4).log_prob(tokens).mean() + 0.1
    np.testing.assert_allclose(ours.log_prob(tokens), torchs.log_prob(tokens), atol=2e-3)


@compiled_here
@kinds
@pytest.mark.parametrize("why", CHANGES)
def test_what_the_kernel_would_train_wrongly_is_torchs(why, kind):
    p, plain = policy(kind=kind), policy(kind=kind)
    assert trains(p.network)
    CHANGES[why](p.network)
    assert not trains(p.network)
    begun = first(p.network).detach().clone()
    losses, in_torch = trained(p)
    assert in_torch
    if why == "a frozen weight":
        assert torch.equal(first(p.network), begun)
    else:
        np.testing.assert_allclose(losses, trained(plain)[0], rtol=1e-4)


@compiled_here
@pytest.mark.parametrize(("mine", "kind"), [(Mine, Transformer), (MyGRU, GRU)], ids=["transformer", "gru"])
def test_a_subclass_is_torchs(mine, kind):
    p = policy(kind=mine)
    assert not (trains(p.network) or takes(p.network) or takes_gru(p.network))
    losses, in_torch = trained(p)
    assert in_torch
    np.testing.assert_allclose(losses, trained(policy(kind=kind))[0], rtol=1e-4)


def test_a_hook_is_called_in_training():
    p, seen = policy(), []
    p.network.head.register_full_backward_hook(lambda *_: seen.append(1))
    Trainer(p, 1e-3).step(uniform_sequences(5, p))
    assert seen == [1]


@pytest.mark.parametrize("lr", [0.0, -1.0, float("nan")])
def test_a_learning_rate_is_above_0(lr):
    with pytest.raises(BadValue, match="learning rate"):
        Trainer(policy(), lr)


@compiled_here
def test_a_step_takes_a_sequence_and_a_weight_for_each():
    p = policy()
    trainer, before = Trainer(p, 1e-3), policy().log_prob(uniform_sequences(9, p))
    with pytest.raises(BadValue, match="without a sequence"):
        trainer.step(np.empty((0, p.horizon), np.int64))
    with pytest.raises(BadValue, match=r"weights have the shape \[2\]; 3 sequences take \[3\]"):
        trainer.step(uniform_sequences(3, p), np.ones(2))
    assert np.array_equal(p.log_prob(uniform_sequences(9, p)), before)


def prefixes(p, n=60):
    tokens = torch.from_numpy(uniform_sequences(n, p)).to(torch.int32)
    lengths = torch.from_numpy(np.random.default_rng(1).integers(0, p.horizon, n))
    return tokens, lengths


def read_in_torch(network, tokens, lengths):
    """The features after every prefix, straight from the network."""
    return network.features(tokens[:, :-1].long())[torch.arange(len(tokens)), lengths]


@compiled_here
@kinds
def test_features_of_prefixes_and_their_gradient_are_the_networks(kind):
    """A loss that reads the features and the head; the head's part comes from PyTorch, all below it from the kernel."""
    p, exact = policy(32, kind=kind), policy(32, kind=kind).double()
    tokens, lengths = prefixes(p)
    features = PrefixFeatures(p.network)
    expected = read_in_torch(exact.network, tokens, lengths)
    for unread in (tokens, torch.where(torch.arange(p.horizon) < lengths[:, None], tokens, 0)):
        found = features(unread, lengths)
        assert found.shape == expected.shape == (60, p.network.head.in_features)
        torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)
    for policy_, read in ((p, found), (exact, expected)):
        policy_.network.zero_grad()
        (policy_.network.head(read).tanh().pow(2).sum() + read[::2].pow(3).mean()).backward()
    grads = [
        np.concatenate([w.grad.double().numpy().ravel() for w in policy_.network.parameters()])
        for policy_ in (p, exact)
    ]
    assert distance(*grads) < 1e-5
    for ours, torchs in zip(p.network.parameters(), exact.network.parameters(), strict=True):
        assert (ours.grad != 0).any() == (torchs.grad != 0).any()


@compiled_here
@kinds
def test_two_batches_of_features_before_their_gradients(kind):
    """The gradient of the first one finds what the second one has overwritten computed again."""
    p = policy(kind=kind)
    features, (tokens, lengths) = PrefixFeatures(p.network), prefixes(p)
    alone = []
    for part in (slice(30), slice(30, None)):
        p.network.zero_grad()
        features(tokens[part], lengths[part]).pow(2).sum().backward()
        alone.append([w.grad for w in p.network.parameters() if w.grad is not None])
    p.network.zero_grad()
    both = [features(tokens[part], lengths[part]).pow(2).sum() for part in (slice(30), slice(30, None))]
    sum(both).backward()
    together = [w.grad for w in p.network.parameters() if w.grad is not None]
    for a, b, c in zip(*alone, together, strict=True):
        torch.testing.assert_close(a + b, c, rtol=1e-4, atol=1e-5)


@kinds
def test_features_of_a_network_that_is_torchs(kind):
    p = policy(kind=kind).double()
    tokens, lengths = prefixes(p)
    torch.testing.assert_close(
        PrefixFeatures(p.network)(tokens, lengths), read_in_torch(p.network, tokens, lengths), rtol=1e-12, atol=1e-12
    )


def everything(module):
    """All that a network holds, by name: its layers' kinds, their attributes, and its tensors."""
    found = {}
    for name, part in module.named_modules():
        kept = {key: value for key, value in vars(part).items() if key not in ("_modules", "_parameters", "_buffers")}
        found[name] = type(part), {key: value for key, value in kept.items() if not key.startswith("_flat")}
    return found


@kinds
def test_a_copy_is_what_deepcopy_makes_with_memory_of_its_own(kind):
    p = policy(kind=kind)
    next(p.network.parameters()).requires_grad_(False)
    p.network.train()
    twin, deep = p.clone(), copy.deepcopy(p.network)
    assert everything(twin.network).keys() == everything(deep).keys()
    for name, (made, kept) in everything(twin.network).items():
        assert made is everything(deep)[name][0]
        assert kept == everything(deep)[name][1]
    pairs = zip(twin.network.named_parameters(), deep.named_parameters(), p.network.named_parameters(), strict=True)
    for (name, ours), (expected, theirs), (_, original) in pairs:
        assert name == expected and type(ours) is torch.nn.Parameter
        assert torch.equal(ours, theirs) and ours.requires_grad == theirs.requires_grad and ours.grad is None
        assert ours.untyped_storage().data_ptr() != original.untyped_storage().data_ptr()
    tokens = uniform_sequences(30, p)
    before = p.log_prob(tokens)
    assert np.array_equal(twin.log_prob(tokens), before)
    assert np.array_equal(twin.double().log_prob(tokens), TorchPolicy(deep, None).double().log_prob(tokens))
    trained(twin, 2)
    assert np.array_equal(p.log_prob(tokens), before)
    assert not np.array_equal(twin.log_prob(tokens), before)


def test_a_copy_shares_no_attribute_that_can_change():
    p = policy()
    p.network.mask, p.network.blocks[0].seen = torch.zeros(3), [1]
    twin = p.clone()
    twin.network.mask[0] = 1
    twin.network.blocks[0].seen.append(2)
    assert p.network.mask.tolist() == [0, 0, 0] and p.network.blocks[0].seen == [1]


def test_a_copy_of_a_network_with_a_hook_keeps_the_hook():
    p, seen = policy(), []
    p.network.head.register_forward_hook(lambda *_: seen.append(1))
    p.clone().loss(uniform_sequences(3, p))
    assert seen == [1]


def test_a_copy_of_a_network_with_a_method_of_its_own_does_not_use_the_original():
    """A bound method that stands in an attribute belongs to the copy in the copy."""
    p = policy()
    p.network.head.forward = p.network.head.forward  # a bound method
    twin = p.clone()
    with torch.no_grad():
        twin.network.head.weight.zero_()
        twin.network.head.bias.zero_()
    with kernel.using("torch"):
        np.testing.assert_allclose(twin.next_log_probs(np.zeros((1, 1), np.int64)), np.log(1 / 5), rtol=1e-6)
