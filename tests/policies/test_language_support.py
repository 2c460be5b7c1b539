"""Which models can be policies: those that keep keys and values of tokens, as far as their positions are not scaled anew."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import transformers

from banel_envs.errors import BadValue
from banel_envs.policies.language import base_model
from banel_envs.policies.language.base_model import LanguageModel
from banel_envs.policies.language.hf_policy import HFPolicy
from banel_envs.policies.storage.store import load_policy_file, save_policy
from tests.shared.language import base, config, model, tokenizer

SIZES = {
    "hidden_size": 16,
    "intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 2,
    "num_key_value_heads": 1,
    "vocab_size": 20,
    "eos_token_id": [2, 3],
    "bos_token_id": 0,
    "pad_token_id": None,
}
NOT_SHARED = {
    "Lfm2Config": {"full_attn_idxs": [1]},
    "RwkvConfig": {},
    "Llama4TextConfig": {"head_dim": 8, "num_local_experts": 2, "attention_chunk_size": 4, "intermediate_size_mlp": 16},
}


def made(name, **more):
    sizes = {
        k: v
        for k, v in SIZES.items()
        if name != "RwkvConfig" or k not in ("num_attention_heads", "num_key_value_heads")
    }
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return transformers.AutoModelForCausalLM.from_config(getattr(transformers, name)(**sizes, **more))


@pytest.mark.parametrize("name", NOT_SHARED)
def test_a_model_that_cannot_be_a_policy_is_refused_when_one_is_made(name):
    with pytest.raises(BadValue, match=r"keeps a|cannot be read"):
        HFPolicy(LanguageModel.of(made(name, **NOT_SHARED[name]), ends=[2, 3]), [4, 5], 4)


@pytest.mark.parametrize("name", ["MistralConfig", "Gemma3TextConfig"])
def test_sliding_windows_are_read(name):
    more = {"head_dim": 8} if name.startswith("Gemma") else {}
    policy = HFPolicy(LanguageModel.of(made(name, sliding_window=3, **more), ends=[2, 3]), [4, 5, 6, 7, 8], 6)
    tokens = policy.sample(20, np.random.default_rng(0))
    walk = policy._score_from(policy.start(), tokens[np.lexsort(tokens.T[::-1])])
    np.testing.assert_allclose(walk, policy.log_prob(tokens[np.lexsort(tokens.T[::-1])]), atol=1e-4)


def test_positions_that_are_scaled_anew_are_not_reached():
    rope = {
        "rope_type": "longrope",
        "short_factor": [1.0] * 4,
        "long_factor": [4.0] * 4,
        "rope_theta": 10_000.0,
        "original_max_position_embeddings": 8,
        "factor": 8.0,
    }
    long = {"max_position_embeddings": 64, "original_max_position_embeddings": 8, "rope_parameters": rope}
    found = LanguageModel.of(made("Phi3Config", **long), ends=[2, 3])
    assert found.context == 8
    with pytest.raises(BadValue, match="longer than the 8"):
        HFPolicy(found, [4, 9, 7, 1], 5)
    HFPolicy(found, [4, 9, 7, 1], 4)


def test_the_context_of_a_nested_configuration_counts():
    whole = config("llama", 20, [2, 3], 12)
    whole.get_text_config = lambda **_: config("llama", 20, [2, 3], 7)
    assert base_model.context_of(whole.get_text_config()) == 7
    whole.max_position_embeddings = -1
    assert base_model.context_of(whole) is None  # as XLNet says that it has no limit


def test_a_policy_of_a_bfloat16_model_finds_it_by_its_folder(tmp_path, monkeypatch):
    model(V=20).save_pretrained(tmp_path / "m")
    tokenizer().save_pretrained(tmp_path / "m")
    first = LanguageModel.load(tmp_path / "m", dtype=torch.bfloat16)
    save_policy(tmp_path / "p.safetensors", HFPolicy(first, [4, 5], 4))
    monkeypatch.setattr(base_model, "_loaded", [])
    monkeypatch.setenv("BANEL_MODEL", str(tmp_path / "m"))
    monkeypatch.setattr(
        base_model, "_loaded", type("None", (), {"__iter__": lambda _: iter(()), "add": lambda *_: None})()
    )
    assert load_policy_file(tmp_path / "p.safetensors").base.digest == first.digest
    assert LanguageModel.load(tmp_path / "m", device="cpu:0").model.dtype == torch.float32


def test_the_tokenizer_has_a_digest_of_its_own():
    words = tokenizer()
    same = base(V=300, tokenizer=words).words_digest
    other = tokenizer()
    other.chat_template = "another"
    assert same == base(V=300, tokenizer=tokenizer()).words_digest != base(V=300, tokenizer=other).words_digest
    spoken = tokenizer()
    spoken.decode = lambda ids, **_: "9" if list(ids) == [7] else words.decode(ids, clean_up_tokenization_spaces=False)
    assert base(V=300, tokenizer=spoken).words_digest != same


@pytest.mark.parametrize(
    "wrong", [{"horizon": 2.5}, {"horizon": True}, {"alpha": "x"}, {"temperature": "x"}, {"temperature": np.inf}]
)
def test_what_is_no_number_is_refused(wrong):
    given = {"horizon": 4} | wrong
    with pytest.raises(BadValue):
        HFPolicy(base(), [0, 1], **given)


def test_numbers_of_numpy_are_stored(tmp_path):
    policy = HFPolicy(base(), [0, 1], np.int64(4), temperature=np.float32(1.5), rank=np.int64(2))
    save_policy(tmp_path / "p.safetensors", policy)
    assert load_policy_file(tmp_path / "p.safetensors").temperature == 1.5
