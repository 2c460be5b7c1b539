"""HFPolicy samples and scores what the model says after the prompt, whatever its folder says of sampling; adapters are apart."""

from __future__ import annotations

import gc
import random
import subprocess
import sys

import numpy as np
import pytest

pytest.importorskip("peft")
import torch

from banel_agents import make_agent
from banel_envs import Oracle, Problem, Task
from banel_envs.errors import BadValue, ModelMissing
from banel_envs.measure.probability import walks
from banel_envs.policies import Trainable, load_policy_file, save_policy
from banel_envs.policies.language.base_model import LanguageModel
from banel_envs.policies.language.hf_policy import HFPolicy
from banel_envs.policies.mark import Mark, is_stored_whole
from banel_envs.policies.training import Trainer
from banel_envs.testing import check_policy
from tests.shared.language import CONTEXT, CUTS, FAMILIES, base, model, saved, tokenizer
from tests.shared.language_toy import END, PROMPT, SPACE, T, misfit, padded, plain, probabilities

torch.set_num_threads(1)
every_family = pytest.mark.parametrize("family", FAMILIES)


@pytest.fixture(scope="module", params=FAMILIES)
def toy(request):
    return base(request.param)


@pytest.fixture(scope="module")
def llama():
    return base()


# --- samples


@every_family
def test_what_a_folder_says_of_sampling_is_not_read(tmp_path, family):
    cut, free = (saved(tmp_path / name, family, 12, (2, 3), cuts) for name, cuts in (("cut", CUTS), ("free", None)))
    policies = [HFPolicy(LanguageModel.load(folder), PROMPT, T) for folder in (cut, free)]
    assert policies[0].ends == (2, 3)
    rows = [policy.sample(300, np.random.default_rng(0)) for policy in policies]
    np.testing.assert_array_equal(*rows)
    assert len(np.unique(rows[0], axis=0)) > 20  # top_k=1 would leave one


def test_the_contract(toy):
    problem = Problem("test/Language-v0", toy.vocabulary, T, 10, lambda: HFPolicy(toy, PROMPT, T), end=END)
    check_policy(HFPolicy(toy, PROMPT, T), problem, samples=2_000)
    assert walks(HFPolicy(toy, PROMPT, T))


# --- log-probabilities


@every_family
@pytest.mark.parametrize("batch", [1, 32])
def test_log_probabilities_are_those_of_a_plain_forward_pass(family, batch):
    made = base(family, V=50, ends=(7,))
    policy = HFPolicy(made, [4, 9, 2], 12, temperature=1.3)
    tokens = policy.sample(batch, np.random.default_rng(1))
    expected = []
    for row in tokens:
        with torch.no_grad():
            given = torch.tensor([[4, 9, 2, *row]])
            each = torch.log_softmax(made.model(given).logits[0].double() / 1.3, -1)
        length = int((row != 7).sum()) + 1
        expected.append(sum(float(each[2 + t, row[t]]) for t in range(min(length, 12))))
    np.testing.assert_allclose(policy.log_prob(tokens), expected, atol=1e-4)
    order = np.lexsort(tokens.T[::-1])
    walked = policy._score_from(None, tokens[order])
    np.testing.assert_allclose(walked, np.array(expected)[order], atol=1e-4)
    np.testing.assert_allclose(policy.token_log_probs(tokens)[0].sum(axis=1), expected, atol=1e-4)
    np.testing.assert_allclose(policy.differentiable_log_prob(tokens).detach().numpy(), expected, atol=1e-4)
    steps = policy.next_log_probs(tokens[:, :3])
    went_on = tokens[:, 2] != 7
    third = policy.token_log_probs(tokens)[0][:, 3]
    np.testing.assert_allclose(steps[np.arange(batch), tokens[:, 3]][went_on], third[went_on], atol=1e-4)


def test_end_ids_are_one_token(llama):
    policy = HFPolicy(llama, PROMPT, T)
    both = torch.softmax(plain(llama.model, PROMPT, ()), -1)[2:].sum()
    found = np.exp(policy.next_log_probs(np.empty((1, 0), np.int64))[0])
    assert found[2] == pytest.approx(float(both)) and found[3] == 0
    assert np.exp(policy.log_prob(padded())).sum() == pytest.approx(1, abs=1e-6)
    hot = policy.tempered(0.5)
    np.testing.assert_allclose(
        np.exp(hot.next_log_probs(np.empty((1, 0), np.int64))[0]), found**2 / (found**2).sum(), atol=1e-7
    )


def test_replay_is_to_the_bit(llama):
    first, again = (HFPolicy(llama, PROMPT, T) for _ in range(2))
    tokens = first.sample(100, np.random.default_rng(4))
    np.testing.assert_array_equal(tokens, again.sample(100, np.random.default_rng(4)))
    np.testing.assert_array_equal(first.log_prob(tokens), again.log_prob(tokens))
    for policy in (first, again):
        Trainer(policy, 1e-2).step(tokens[:20])
    np.testing.assert_array_equal(first.log_prob(tokens), again.log_prob(tokens))


# --- training and adapters


def test_dropout_is_off_even_in_training():
    made = base("gpt2")
    policy = HFPolicy(made, PROMPT, T)
    before = policy.log_prob(padded())
    policy.train()
    np.testing.assert_array_equal(policy.log_prob(padded()), before)
    found = policy.differentiable_log_prob(padded()).detach().numpy()
    np.testing.assert_allclose(np.exp(found), probabilities(made.model), atol=1e-5)


def test_a_new_adapter_changes_nothing_and_a_trained_one_learns(toy):
    assert isinstance(HFPolicy(toy, PROMPT, T), Trainable)
    policy, rows = HFPolicy(toy, PROMPT, T), padded()
    np.testing.assert_allclose(np.exp(policy.log_prob(rows)), probabilities(toy.model), atol=1e-6)
    frozen = toy.digest, {n: w.clone() for n, w in toy.model.named_parameters()}
    target = rows[[int(policy.log_prob(rows).argmin())]].repeat(4, axis=0)
    trainer = Trainer(policy, 3e-2)
    losses = [trainer.step(target) for _ in range(40)]
    assert losses[-1] < losses[0] - 1
    assert all(torch.equal(w, frozen[1][n]) for n, w in toy.model.named_parameters())
    fresh = policy.with_new_weights(np.random.default_rng(5))
    np.testing.assert_allclose(np.exp(fresh.log_prob(rows)), probabilities(toy.model), atol=1e-6)
    assert np.exp(policy.log_prob(rows)).sum() == pytest.approx(1, abs=1e-6)


@pytest.mark.parametrize("trained", [False, True])
def test_an_adapter_that_changes_nothing_is_left_out_with_the_same_bits(toy, monkeypatch, trained):
    policy = HFPolicy(toy, PROMPT, T)
    if trained:
        Trainer(policy, 1e-2).step(padded())
    assert policy._network() is (policy.model if trained else toy.model)
    found = (
        policy.sample(200, np.random.default_rng(0)),
        policy.log_prob(padded()),
        policy.next_log_probs(padded()[:, :1]),
    )
    monkeypatch.setattr(HFPolicy, "_network", lambda self: self.model)
    again = (
        policy.sample(200, np.random.default_rng(0)),
        policy.log_prob(padded()),
        policy.next_log_probs(padded()[:, :1]),
    )
    for a, b in zip(found, again, strict=True):
        np.testing.assert_array_equal(a, b)


def test_adapters_do_not_leak(llama):
    first = HFPolicy(llama, PROMPT, T)
    rows = padded()
    second, before = first.clone(), first.log_prob(rows)
    trainer = Trainer(second, 3e-2)
    for _ in range(10):
        trainer.step(rows[:2])
    trained = second.log_prob(rows)
    assert np.abs(trained - before).max() > 0.1
    np.testing.assert_array_equal(first.log_prob(rows), before)
    third = second.clone()
    Trainer(third, 3e-2).step(rows[4:])
    np.testing.assert_array_equal(second.log_prob(rows), trained)
    found, limit = misfit(first.sample(20_000, np.random.default_rng(0)), np.exp(before))
    assert found < limit
    found, limit = misfit(first.sample(20_000, np.random.default_rng(0)), np.exp(trained))
    assert found > 2 * limit
    shared = {w.data_ptr() for w in llama.model.parameters()}
    frozen = [w for p in (first, second, third) for w in p.model.parameters() if not w.requires_grad]
    assert all(w.data_ptr() in shared for w in frozen)  # one frozen model in memory


def test_a_gradient_is_its_own_whatever_is_computed_before_it(llama):
    rows, weights = padded(), np.linspace(-1, 1, len(SPACE))
    one, other = HFPolicy(llama, PROMPT, T, rows=2), HFPolicy(llama, PROMPT, T, rows=100)
    loss = one.loss(rows, weights)
    busy = one.clone()
    Trainer(busy, 1e-2).step(rows)
    busy.sample(10, np.random.default_rng(0))
    loss.backward()  # part by part, computed again
    other.loss(rows, weights).backward()
    for a, b in zip(one.parameters(), other.parameters(), strict=True):
        torch.testing.assert_close(a.grad, b.grad, rtol=1e-4, atol=1e-6)


def test_global_generators_stay_as_they_were(tmp_path):
    folder = saved(tmp_path / "m", V=12, ends=(2, 3))

    def states():
        return random.getstate(), repr(np.random.get_state()), torch.random.get_rng_state().tolist()

    before = states()
    policy = HFPolicy(LanguageModel.load(folder), PROMPT, T)
    tokens = policy.clone().sample(20, np.random.default_rng(0))
    policy.log_prob(tokens)
    Trainer(policy.with_new_weights(np.random.default_rng(0)), 1e-3).step(tokens)
    assert states() == before


def test_an_agent_that_reads_hidden_states_says_so(llama):
    problem = Problem("test/Language-v0", 4, T, 60, HFPolicy(llama, PROMPT, T).clone, end=END, decoder=llama.text)
    task = Task(problem, lambda tokens: (tokens[:, 0] == 1).astype(np.int8))
    with pytest.raises(BadValue, match="reads the hidden states"):
        next(iter(make_agent("elliptical").learn(problem, Oracle(task, budget=60), np.random.default_rng(0))))


# --- storage


def test_a_stored_policy_is_its_adapter(tmp_path, monkeypatch):
    folder = saved(tmp_path / "m", "qwen2", 310, (1, 5), words=tokenizer())
    policy = HFPolicy(LanguageModel.load(folder), "Tom has 3 apples", 6, rank=2)
    rows = policy.sample(20, np.random.default_rng(0))
    Trainer(policy, 1e-2).step(rows)
    save_policy(tmp_path / "p.safetensors", policy)
    assert is_stored_whole(policy) and Mark.of(policy).fits(policy)
    assert (tmp_path / "p.safetensors").stat().st_size < 0.5 * (folder / "model.safetensors").stat().st_size
    again = load_policy_file(tmp_path / "p.safetensors")  # the model is loaded in this process
    np.testing.assert_array_equal(again.log_prob(rows), policy.log_prob(rows))
    assert again.prompt == policy.prompt and again.ends == (1, 5)

    monkeypatch.setattr("banel_envs.policies.language.base_model._loaded", set())
    with pytest.raises(ModelMissing, match="set BANEL_MODEL to its folder"):
        load_policy_file(tmp_path / "p.safetensors")
    monkeypatch.setenv("BANEL_MODEL", str(saved(tmp_path / "other", "qwen2", 310, (1, 5), seed=1)))
    with pytest.raises(ModelMissing, match="belongs to the model"):
        load_policy_file(tmp_path / "p.safetensors")
    monkeypatch.setenv("BANEL_MODEL", str(folder))
    np.testing.assert_array_equal(load_policy_file(tmp_path / "p.safetensors").log_prob(rows), policy.log_prob(rows))


@pytest.mark.parametrize("gone", [0, 1])
def test_a_model_that_was_loaded_twice_is_found_as_long_as_either_is_there(tmp_path, gone):
    folder = saved(tmp_path / "m", V=12, ends=(2, 3))
    models = [LanguageModel.load(folder) for _ in range(2)]
    save_policy(tmp_path / "p.safetensors", HFPolicy(models[0], PROMPT, T))
    del models[gone]
    gc.collect()
    assert load_policy_file(tmp_path / "p.safetensors").base is models[0]


def test_text_names_ids_that_the_tokenizer_lacks():
    made = base("llama", V=310, ends=(1,), tokenizer=tokenizer())
    ids = made.ids("3 + 4 = 7")
    assert made.text(np.array(ids)) == "3 + 4 = 7"
    assert made.text(np.array([*ids, 305, 304])) == "3 + 4 = 7<id 305><id 304>"
    problem = Problem("test/X-v0", made.vocabulary, 4, 10, lambda: None, end=1, decoder=made.text)
    assert problem.decode([[ids[0], 1, 1, 1]]) == [made.text(np.array(ids[:1]))]


# --- bad input


def test_bad_input_is_named(tmp_path, llama):
    with pytest.raises(ModelMissing, match="no folder"):
        LanguageModel.load(tmp_path / "nowhere")
    (tmp_path / "empty").mkdir()
    with pytest.raises(ModelMissing, match="no causal language model"):
        LanguageModel.load(tmp_path / "empty")
    with pytest.raises(BadValue, match=rf"a prompt of 57 tokens and sequences of 9 are longer than the {CONTEXT}"):
        HFPolicy(llama, [1] * 57, 9)
    HFPolicy(llama, [1] * 57, 8)
    for prompt in (None, 3, [1.5], ["1"], {"ids": 1}):
        with pytest.raises(BadValue, match=r"the prompt is .*; give text or ids"):
            HFPolicy(llama, prompt, 8)
    with pytest.raises(BadValue, match=r"ends is \[0\.5\]; give ids, or None"):
        HFPolicy(llama, [0], 8, ends=[0.5])
    with pytest.raises(BadValue, match=r"the model is 'a/folder'; give a LanguageModel"):
        HFPolicy("a/folder", [0], 8)
    with pytest.raises(BadValue, match="no token"):
        HFPolicy(llama, [], 3)
    with pytest.raises(BadValue, match=r"the id 4 is outside 0\.\.3"):
        HFPolicy(llama, [4], 3)
    with pytest.raises(BadValue, match="has no tokenizer"):
        HFPolicy(llama, "words", 3)
    with pytest.raises(BadValue, match="no id that ends a text"):
        LanguageModel.of(model(ends=(9,)))
    with pytest.raises(BadValue, match=r"end id 9 is outside"):
        LanguageModel.of(model(), ends=[9])
    with pytest.raises(BadValue, match="no id ends a text"):
        HFPolicy(llama, PROMPT, 3, ends=[])


@pytest.mark.parametrize(
    ("name", "values"),
    [
        ("temperature", (0.0, -1.0, np.inf, np.nan)),
        ("alpha", (np.inf, np.nan)),
        ("rank", (0, 1_025, 1.5, True)),
        ("rows", (0, 1.5)),
        ("horizon", (0, 2.5, True)),
    ],
)
def test_a_number_out_of_range_is_named(name, values, llama):
    for value in values:
        with pytest.raises(BadValue, match=f"{name} is {value}"):
            HFPolicy(llama, PROMPT, **{"horizon": 3, name: value})
    if name == "temperature":
        with pytest.raises(BadValue, match="temperature is inf"):
            HFPolicy(llama, PROMPT, 3).tempered(np.inf)


def test_an_end_id_that_is_named_twice_counts_once(llama):
    once, twice = (HFPolicy(llama, PROMPT, T, ends=ends) for ends in ([2, 3], [2, 3, 2]))
    assert twice.ends == (2, 3)
    np.testing.assert_array_equal(once.log_prob(padded()), twice.log_prob(padded()))


@pytest.mark.slow
def test_memory_of_a_large_vocabulary():
    script = """
import resource
import numpy as np
from banel_envs.policies.language.hf_policy import HFPolicy
from banel_envs.policies.training import Trainer
from tests.shared.language import CONTEXT, base
policy = HFPolicy(base("qwen2", V=151_936, ends=(0, 1), scale=0.02), [5], CONTEXT - 1)
tokens = policy.sample(256, np.random.default_rng(0))
policy.log_prob(tokens), policy.token_log_probs(tokens[:64]), policy.next_log_probs(tokens[:, :2])
Trainer(policy, 1e-3).step(tokens[:16])
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert float(done.stdout) < 4  # GiB
