"""What would make a language model sample, score or train wrongly is put into HFPolicy, and the test that guards it sees it."""

from __future__ import annotations

import copy

import numpy as np
import pytest

pytest.importorskip("peft")
import torch

from banel_envs.policies.language.hf_policy import HFPolicy
from banel_envs.policies.training import Trainer
from tests.shared.language import FAMILIES, base
from tests.shared.language_toy import END, PROMPT, SPACE, T, misfit, padded, plain, probabilities

torch.set_num_threads(1)


@pytest.fixture(scope="module", params=FAMILIES)
def toy(request):
    return base(request.param)


class Changed(HFPolicy):
    """Its logits [m, V] go through `change`, which is told how many tokens have been written."""

    written = 0

    def _read(self, tokens, state):
        self.written = 0 if tokens is self._given else self.written + 1
        logits, state = super()._read(tokens, state)
        return self.change(logits.clone()), state

    def change(self, logits):
        raise NotImplementedError


class TopK(Changed):
    def change(self, logits):
        return logits.masked_fill(logits < logits.topk(2).values[:, -1:], -torch.inf)


class TopP(Changed):
    def change(self, logits):
        ordered, order = torch.softmax(logits, -1).sort(descending=True)
        cut = torch.zeros_like(logits, dtype=torch.bool).scatter(1, order, ordered.cumsum(1) - ordered > 0.7)
        return logits.masked_fill(cut, -torch.inf)


class Temperature(Changed):
    def change(self, logits):
        return logits / 0.7


class RepetitionPenalty(Changed):
    """Of what the prompt holds."""

    def change(self, logits):
        seen = torch.tensor(sorted(set(PROMPT)))
        logits[:, seen] = torch.where(logits[:, seen] > 0, logits[:, seen] / 1.5, logits[:, seen] * 1.5)
        return logits


class MinimumLength(Changed):
    def change(self, logits):
        return logits.index_fill(1, torch.tensor([2, 3]), -torch.inf) if self.written < 2 else logits


class OneEndId(HFPolicy):
    """The second id that ends a text is a word to it."""

    def _folded(self, logits):
        return logits


class LostEndId(HFPolicy):
    """The second id that ends a text can't be written, and its probability goes to all others."""

    def _folded(self, logits):
        return logits.index_fill(-1, self._ends[1:], -torch.inf)


class LeftPadded(HFPolicy):
    """End ids before the prompt, without a mask."""

    def __init__(self, base, prompt, horizon):
        super().__init__(base, (*[3] * 16, *prompt), horizon)


class Dropout(HFPolicy):
    """Reads the model in training mode."""

    def _read(self, tokens, state):
        for network in (self.base.model, self.model):
            network.train()
        try:
            return super()._read(tokens, state)
        finally:
            for network in (self.base.model, self.model):
                network.eval()


class GlobalState(HFPolicy):
    """Draws from the process's generator."""

    def sample(self, n, rng):
        return super().sample(n, np.random.default_rng(np.random.randint(2**31)))


class Leaking(HFPolicy):
    """A clone that shares its adapter."""

    def clone(self):
        return copy.copy(self)


SAMPLING = (TopK, TopP, Temperature, RepetitionPenalty, MinimumLength, OneEndId, LostEndId, LeftPadded)


def fits(policy):
    """Whether the samples are of the model, by chi-square over every sequence."""
    found, limit = misfit(policy.sample(200_000, np.random.default_rng(0)), probabilities(policy.base.model))
    return found < limit


def test_every_sequence_is_drawn_as_often_as_the_model_says(toy):
    assert probabilities(toy.model).sum() == pytest.approx(1)
    assert fits(HFPolicy(toy, PROMPT, T))


@pytest.mark.parametrize("trap", SAMPLING)
def test_a_trap_of_sampling_is_seen(toy, trap):
    assert not fits(trap(toy, PROMPT, T))


def test_dropout_that_is_left_on_is_seen():
    made = base("gpt2")  # whose dropouts are 0.5
    with torch.random.fork_rng(devices=[]):
        assert fits(HFPolicy(made, PROMPT, T)) and not fits(Dropout(made, PROMPT, T))
    assert not made.model.training


def repeats(policy):
    """Whether samples are the seed's alone, whatever the process's generators stand at."""
    before = np.random.get_state()
    try:
        rows = []
        for seed in (0, 1):
            np.random.seed(seed)
            with torch.random.fork_rng(devices=[]):
                torch.manual_seed(seed)
                rows.append(policy.sample(200, np.random.default_rng(5)))
        return bool((rows[0] == rows[1]).all())
    finally:
        np.random.set_state(before)


def test_a_global_generator_is_seen(toy):
    assert repeats(HFPolicy(toy, PROMPT, T)) and not repeats(GlobalState(toy, PROMPT, T))


def stays(policy):
    """Whether a policy is what it was after its clone has been trained, by its samples."""
    expected = np.exp(policy.log_prob(padded()))
    trainer = Trainer(policy.clone(), 3e-2)
    for _ in range(10):
        trainer.step(padded()[:2])
    found, limit = misfit(policy.sample(20_000, np.random.default_rng(0)), expected)
    return found < limit


def test_an_adapter_that_leaks_is_seen(toy):
    assert stays(HFPolicy(toy, PROMPT, T)) and not stays(Leaking(toy, PROMPT, T))


# --- padding


def test_scores_are_those_of_a_sequence_whatever_lengths_stand_beside_it(toy):
    policy, rows = HFPolicy(toy, PROMPT, T), padded()
    Trainer(policy, 1e-2).step(rows)  # an adapter that counts
    alone = np.array([policy.log_prob(row[None])[0] for row in rows])
    np.testing.assert_allclose(policy.log_prob(rows), alone, atol=1e-5)
    np.testing.assert_allclose(policy.log_prob(rows.repeat(20, axis=0)), alone.repeat(20), atol=1e-5)  # by the walk
    np.testing.assert_allclose(policy.differentiable_log_prob(rows).detach().numpy(), alone, atol=1e-5)
    short, long = rows[0], rows[-1]
    assert (short == END).all() and (long != END).all()
    for other in (short, long):
        pair = policy.log_prob(np.stack([rows[3], other]))
        np.testing.assert_allclose(pair[0], alone[3], atol=1e-5)


def test_left_padding_without_a_mask_would_change_scores(toy):
    """What a batch of prompts and answers of several lengths, padded on the left and read without a mask, would give."""
    policy = HFPolicy(toy, PROMPT, T)

    def by_plain_forward(row, pads):
        total = 0.0
        for t, token in enumerate(row):
            each = torch.softmax(plain(toy.model, (*[3] * pads, *PROMPT), row[:t]), -1)
            total += float(torch.log(each[2] + each[3] if token == END else each[token]))
        return total

    exact = np.array([by_plain_forward(row, 0) for row in SPACE])
    wrong = np.array([by_plain_forward(row, T - len(row)) for row in SPACE])
    found = policy.log_prob(padded())
    np.testing.assert_allclose(found, exact, atol=1e-4)
    shorter = np.array([len(row) < T for row in SPACE])
    assert np.abs(found - wrong)[shorter].max() > 0.05
