"""PromptedPolicy: what it computes is the network's own, with and without the kernel; its training and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from banel_envs import kernel
from banel_envs.errors import AssetError, BadValue
from banel_envs.policies import COST, load_policy_file, save_policy
from banel_envs.policies.language.prompted_policy import PromptedPolicy
from banel_envs.policies.networks.transformer import Transformer, TransformerConfig
from banel_envs.policies.storage import store
from banel_envs.policies.torch_policy import TorchPolicy
from banel_envs.policies.training import Trainer
from tests.shared.policies import V, prompted, space

END = V - 1
ONE, SEVERAL = ((0, 2, 1),), ((0, 1), (2, 0), (1, 1))
both = pytest.mark.parametrize("prompts", [ONE, SEVERAL], ids=["one prompt", "several"])
kinds = pytest.mark.parametrize("kind", ["compiled", "torch"])


def expected(policy, tokens):
    """The log-probabilities by one plain pass of the network in float64, prompt by prompt."""
    network = TorchPolicy(policy.network, END, policy.temperature).double().network
    total = np.zeros(len(tokens))
    for k, row in enumerate(tokens):
        several = len(policy.prompts) > 1
        if several and row[0] >= len(policy.prompts):
            total[k] = -np.inf
            continue
        prompt = policy.prompts[row[0] if several else 0].tolist()
        body = row[several:]
        log_probs = torch.log_softmax(network(torch.tensor([[*prompt, *body]]))[0] / policy.temperature, dim=-1)
        total[k] = -np.log(len(policy.prompts))
        for t, token in enumerate(body):
            total[k] += log_probs[len(prompt) + t, token].item()
            if token == END:
                break
    return total


@kinds
@both
def test_it_scores_as_one_plain_pass_does(prompts, kind):
    policy, tokens = prompted(END, prompts, 0.8), space(END)
    with kernel.using(kind):
        many = policy.log_prob(tokens)
        few = np.concatenate([policy.log_prob(part) for part in np.array_split(tokens[tokens[:, 0] < 3], 20)])
    plain = expected(policy, tokens)
    np.testing.assert_allclose(many, plain, atol=1e-5)
    np.testing.assert_allclose(few, plain[tokens[:, 0] < 3], atol=1e-5)


@both
def test_what_follows_depends_on_the_prompt(prompts):
    policy, other = prompted(END, prompts), prompted(END, tuple((2, *p[1:]) for p in prompts))
    tokens = space(END)[space(END)[:, 0] < len(prompts)]
    assert np.abs(policy.log_prob(tokens) - other.log_prob(tokens)).max() > 0.01


@both
def test_the_kernel_trains_as_pytorch_does(prompts):
    tokens = space(END)[space(END)[:, 0] < 3][::7]
    rng = np.random.default_rng(0)
    for weights in (None, rng.normal(size=len(tokens)), rng.normal(size=tokens.shape)):
        twins, counted = {}, {}
        for kind in ("compiled", "torch"):
            with kernel.using(kind):
                twins[kind] = prompted(END, prompts)
                trainer = Trainer(twins[kind], 1e-2)
                before = COST.trained
                losses = [trainer.step(tokens, weights) for _ in range(5)]
                counted[kind] = COST.trained - before, losses
        # The number of a prompt is drawn and not learnt; PyTorch's loss knows its probability, the kernel's does not.
        first = np.ones(len(tokens)) if weights is None else weights if weights.ndim == 1 else weights[:, 0]
        shift = np.log(len(prompts)) * first.mean()
        np.testing.assert_allclose(counted["compiled"][1], np.array(counted["torch"][1]) - shift, atol=1e-4)
        assert counted["compiled"][0] == counted["torch"][0]
        np.testing.assert_allclose(twins["compiled"].log_prob(tokens), twins["torch"].log_prob(tokens), atol=2e-3)


def test_training_moves_the_share_of_no_prompt():
    policy = prompted(END, SEVERAL)
    trainer = Trainer(policy, 1e-2)
    row = np.array([[1, 2, 0, 1]])
    before = policy.log_prob(row)
    for _ in range(50):
        trainer.step(row)
    assert policy.log_prob(row) > before + 1
    first = np.bincount(policy.sample(6_000, np.random.default_rng(0))[:, 0], minlength=V) / 6_000
    np.testing.assert_allclose(first, [1 / 3, 1 / 3, 1 / 3, 0], atol=0.03)


@both
def test_copies_are_independent_and_new_weights_are_new(prompts):
    policy, tokens = prompted(END, prompts), space(END)[:5]
    before = policy.log_prob(tokens)
    Trainer(policy.clone(), 0.1).step(tokens)
    fresh = policy.with_new_weights(np.random.default_rng(1))
    assert np.array_equal(policy.log_prob(tokens), before)
    assert (fresh.log_prob(tokens) != before).all()
    assert fresh.prompts.tolist() == policy.prompts.tolist()


@both
def test_it_is_stored_whole(tmp_path, prompts):
    policy = prompted(END, prompts, 0.9)
    save_policy(tmp_path / "p.safetensors", policy)
    again = load_policy_file(tmp_path / "p.safetensors")
    assert isinstance(again, PromptedPolicy)
    assert np.array_equal(again.log_prob(space(END)), policy.log_prob(space(END)))
    assert store.digest(again) == store.digest(policy)


def network(horizon=7):
    return Transformer(TransformerConfig(V, horizon, width=16, layers=1, heads=2))


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"prompts": ((0,), (1, 2))}, r"\[1, 2\] tokens"),
        ({"prompts": ((),)}, r"\[0\] tokens"),
        ({"prompts": ((0, V),)}, "lie in 0..3"),
        ({"prompts": ((0, END),)}, "end token 3"),
        ({"prompts": ((0,),) * 4}, "4 prompts are numbered"),
        ({"horizon": 6}, "leave 5 of the network's 7"),
        ({"horizon": 0}, "horizon is 0"),
        ({"temperature": 0.0}, "temperature is 0"),
    ],
)
def test_what_it_refuses(change, said):
    arguments = {"network": network(), "end": END, "prompts": ((0, 1),), "horizon": 4, **change}
    with pytest.raises(BadValue, match=said):
        PromptedPolicy(**arguments)


@pytest.mark.parametrize(
    ("name", "value"),
    [("prompts", []), ("prompts", [[0, 9]]), ("prompts", [[True]]), ("horizon", 99), ("prompts", [[0, 3]])],
)
def test_a_file_with_a_bad_structure_is_refused(tmp_path, monkeypatch, name, value):
    policy = prompted(END)
    changed = {**policy.spec(), name: value}
    monkeypatch.setattr(policy, "spec", lambda: changed)
    save_policy(tmp_path / "p.safetensors", policy)
    with pytest.raises(AssetError, match="not a stored policy"):
        load_policy_file(tmp_path / "p.safetensors")


def test_what_is_no_number_of_a_prompt_has_no_probability_and_teaches_nothing():
    policy = prompted(END, SEVERAL)
    rows = np.full((2, policy.horizon), END)
    rows[:, 0] = len(SEVERAL), END
    scored = policy.differentiable_log_prob(rows).detach().numpy()
    np.testing.assert_array_equal(scored, policy.log_prob(rows))
    assert np.isneginf(scored).all()
    tokens = policy.sample(20, np.random.default_rng(0))
    before = policy.log_prob(tokens)
    Trainer(policy, 0.1).step(rows)
    np.testing.assert_array_equal(policy.log_prob(tokens), before)


@pytest.mark.parametrize(
    "wrong", [{"horizon": 2.5}, {"horizon": True}, {"temperature": np.inf}, {"prompts": [[0.9, 1.7]]}]
)
def test_what_is_no_whole_number_is_refused(wrong):
    policy = prompted(END, ONE)
    given = {"prompts": ONE, "horizon": policy.horizon} | wrong
    with pytest.raises(BadValue):
        PromptedPolicy(policy.network, END, **given)
