"""HFPolicy samples and scores what the model says after the prompt, whatever its folder says of sampling; adapters are apart."""

from __future__ import annotations

import itertools
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
from banel_envs.measure.probability import checked_log_prob, walks
from banel_envs.policies import Trainable, load_policy_file, save_policy
from banel_envs.policies.language.base_model import LanguageModel
from banel_envs.policies.language.hf_policy import HFPolicy
from banel_envs.policies.mark import Mark, is_stored_whole
from banel_envs.policies.training import Trainer
from banel_envs.testing import check_policy
from tests.shared.language import CONTEXT, CUTS, FAMILIES, base, model, saved, tokenizer

torch.set_num_threads(1)
PROMPT, T, END = (0, 1, 0, 1, 1), 3, 2
SPACE = [s for n in range(T) for s in itertools.product((0, 1), repeat=n)]
SPACE = [(*s, END) for s in SPACE] + [s for s in itertools.product((0, 1), repeat=T)]
every_family = pytest.mark.parametrize("family", FAMILIES)


@pytest.fixture(scope="module", params=FAMILIES)
def toy(request):
    return base(request.param)


@pytest.fixture(scope="module")
def llama():
    return base()


def padded():
    return np.array([(*s, *[END] * (T - len(s))) for s in SPACE])


def plain(network, prompt, written, left=0):
    """The next-token logits after prompt and tokens, from a plain forward pass of the whole; `left` end ids before the prompt."""
    with torch.no_grad():
        return network(torch.tensor([[*[3] * left, *prompt, *written]])).logits[0, -1].double()


def probabilities(network, prompt=PROMPT, change=lambda logits, written: logits, fold=True, left=0):
    """The probability of every sequence of the toy, where `change` is done to each logits."""
    found = []
    for row in SPACE:
        p = 1.0
        for t, token in enumerate(row):
            logits = change(plain(network, prompt, row[:t], left).clone(), row[:t])
            each = torch.softmax(logits, -1)
            p *= float(each[2] + each[3] if token == END and fold else each[token])
        found.append(p)
    return np.array(found)


def top_k(logits, written):
    return logits.masked_fill(logits < logits.topk(2).values[-1], -torch.inf)


def top_p(logits, written):
    order = logits.argsort(descending=True)
    behind = torch.softmax(logits, -1)[order].cumsum(0) - torch.softmax(logits, -1)[order]
    return logits.index_fill(0, order[behind > 0.7], -torch.inf)


def penalty(logits, written):
    seen = torch.tensor(sorted({*PROMPT, *written}))
    return logits.index_copy(0, seen, torch.where(logits[seen] > 0, logits[seen] / 1.5, logits[seen] * 1.5))


def least(logits, written):
    return logits.index_fill(0, torch.tensor([2, 3]), -torch.inf) if len(written) < 2 else logits


TRAPS = {
    "top_k": {"change": top_k},
    "top_p": {"change": top_p},
    "temperature": {"change": lambda logits, written: logits / 0.7},
    "repetition penalty": {"change": penalty},
    "minimum length": {"change": least},
    "second end id": {"fold": False},
    "left padding without a mask": {"left": 16},
}


def misfit(tokens, expected):
    """Chi-square of the samples against these probabilities of every sequence, and its 1 - 1e-6 limit (Wilson, Hilferty 1931)."""
    place = {row.tobytes(): k for k, row in enumerate(padded())}
    counts = np.bincount([place[row.tobytes()] for row in tokens], minlength=len(SPACE))
    wanted = np.maximum(expected, 1e-9) * len(tokens)
    d = len(SPACE) - 1
    return ((counts - wanted) ** 2 / wanted).sum(), d * (1 - 2 / (9 * d) + 4.753 * np.sqrt(2 / (9 * d))) ** 3


# --- samples


def test_every_sequence_is_drawn_as_often_as_the_model_says(toy):
    expected = probabilities(toy.model)
    assert expected.sum() == pytest.approx(1)
    found, limit = misfit(HFPolicy(toy, PROMPT, T).sample(20_000, np.random.default_rng(0)), expected)
    assert found < limit


@pytest.mark.parametrize("trap", TRAPS)
def test_each_trap_would_be_seen(llama, trap):
    wrong = probabilities(llama.model, **TRAPS[trap])
    found, limit = misfit(HFPolicy(llama, PROMPT, T).sample(20_000, np.random.default_rng(0)), wrong)
    assert found > limit


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


def test_agents_train_it(llama):
    policy = HFPolicy(llama, PROMPT, T)
    problem = Problem("test/Language-v0", 4, T, 60, policy.clone, end=END, decoder=llama.text)
    task = Task(problem, lambda tokens: (tokens[:, 0] == 1).astype(np.int8))
    batch = {"batch": 20}
    for name, settings in (("banel", batch | {"pool": 60}), ("reinforce", batch), ("rnd", batch), ("tempered", {})):
        oracle = Oracle(task, budget=60)
        *_, last = make_agent(name, settings).learn(problem, oracle, np.random.default_rng(0))
        assert oracle.count == 60
        assert np.exp(checked_log_prob(last, padded(), problem)).sum() == pytest.approx(1, abs=1e-5)
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

    monkeypatch.setattr("banel_envs.policies.language.base_model._loaded", {})
    with pytest.raises(ModelMissing, match="set BANEL_MODEL to its folder"):
        load_policy_file(tmp_path / "p.safetensors")
    monkeypatch.setenv("BANEL_MODEL", str(saved(tmp_path / "other", "qwen2", 310, (1, 5), seed=1)))
    with pytest.raises(ModelMissing, match="belongs to the model"):
        load_policy_file(tmp_path / "p.safetensors")
    monkeypatch.setenv("BANEL_MODEL", str(folder))
    np.testing.assert_array_equal(load_policy_file(tmp_path / "p.safetensors").log_prob(rows), policy.log_prob(rows))


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
    for name, value in (("rank", 0), ("temperature", 0.0), ("rows", 0)):
        with pytest.raises(BadValue, match=f"{name} is"):
            HFPolicy(llama, PROMPT, 3, **{name: value})


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
