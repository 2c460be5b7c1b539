"""A GGUF file is read as the model that it was written from; chat prompts are what the template writes, once."""

from __future__ import annotations

import json

import numpy as np
import pytest

pytest.importorskip("transformers")
import torch

from banel_envs.errors import BadValue, MissingExtra, ModelMissing
from banel_envs.policies.language import reading
from banel_envs.policies.language.base_model import LanguageModel
from tests.shared.language import CHAT, CONTEXT, base, model, talking, tokenizer

V, WIDTH, HEADS, KEYS = 310, 16, 2, 1
SHARED = {"model.embed_tokens.weight": "token_embd.weight", "model.norm.weight": "output_norm.weight"}
IN_A_LAYER = {
    "self_attn.q_proj": "attn_q",
    "self_attn.k_proj": "attn_k",
    "self_attn.v_proj": "attn_v",
    "self_attn.o_proj": "attn_output",
    "mlp.gate_proj": "ffn_gate",
    "mlp.up_proj": "ffn_up",
    "mlp.down_proj": "ffn_down",
    "input_layernorm": "attn_norm",
    "post_attention_layernorm": "ffn_norm",
}


def interleaved(weight, heads):
    """Rows of a projection in the order that llama.cpp has them: the two halves of each head's rotation in turn."""
    return weight.reshape(heads, 2, -1, weight.shape[1]).swapaxes(1, 2).reshape(weight.shape)


def named(name):
    """The name in a GGUF file of a weight of a Llama."""
    if name == "lm_head.weight":
        return "output.weight"
    if name in SHARED:
        return SHARED[name]
    layer, _, rest = name.removeprefix("model.layers.").partition(".")
    return f"blk.{layer}.{IN_A_LAYER[rest.removesuffix('.weight')]}.weight"


def written(path, network, words):
    """A GGUF file of a tiny Llama, as llama.cpp's converter lays it out, with a byte-level tokenizer and a chat template."""
    gguf = pytest.importorskip("gguf")
    out = gguf.GGUFWriter(str(path), "llama")
    config = network.config
    out.add_block_count(config.num_hidden_layers)
    out.add_context_length(CONTEXT)
    out.add_embedding_length(WIDTH)
    out.add_feed_forward_length(config.intermediate_size)
    out.add_head_count(HEADS)
    out.add_head_count_kv(KEYS)
    out.add_layer_norm_rms_eps(config.rms_norm_eps)
    out.add_rope_freq_base(10_000.0)
    out.add_rope_dimension_count(WIDTH // HEADS)
    out.add_vocab_size(V)
    ids = words.get_vocab()
    text = [word for word, _ in sorted(ids.items(), key=lambda pair: pair[1])]
    text += [f"<unused {k}>" for k in range(len(text), V)]
    out.add_tokenizer_model("gpt2")
    out.add_token_list(text)
    control = int(gguf.TokenType.CONTROL)
    out.add_token_types([control if word in ("<s>", "</s>") else int(gguf.TokenType.NORMAL) for word in text])
    merges = json.loads(words.backend_tokenizer.to_str())["model"]["merges"]
    out.add_token_merges([" ".join(pair) for pair in merges])
    out.add_bos_token_id(ids["<s>"])
    out.add_eos_token_id(ids["</s>"])
    out.add_chat_template(CHAT)
    for name, weight in network.state_dict().items():
        array = weight.numpy().astype(np.float32)
        if ".q_proj." in name or ".k_proj." in name:
            array = interleaved(array, HEADS if ".q_proj." in name else KEYS)
        out.add_tensor(named(name), np.ascontiguousarray(array))
    out.write_header_to_file()
    out.write_kv_data_to_file()
    out.write_tensors_to_file()
    out.close()
    return path


@pytest.fixture(scope="module")
def file(tmp_path_factory):
    """A GGUF file and the Llama in it."""
    network = model("llama", V, (1,))
    return written(tmp_path_factory.mktemp("gguf") / "tiny.gguf", network, tokenizer()), network


@pytest.mark.parametrize("kind", [str, lambda path: path])
def test_a_gguf_file_is_the_model_that_was_written(file, kind):
    path, network = file
    found = LanguageModel.load(kind(path))
    ids = torch.tensor([[5, 9, 17, 3, 250]])
    with torch.no_grad():
        torch.testing.assert_close(found.model(ids).logits, network.eval()(ids).logits, rtol=1e-4, atol=1e-5)
    assert found.ends == (1,) and found.vocabulary == V and found.context == CONTEXT
    assert found.ids("Tom has 3 apples") == tokenizer().encode("Tom has 3 apples")
    assert found.text(np.array(found.ids("3 + 4 = 7"))) == "3 + 4 = 7"


def test_a_model_of_a_gguf_file_can_be_saved_and_is_the_same(file, tmp_path):
    found = LanguageModel.load(file[0])
    found.model.save_pretrained(tmp_path / "saved")
    found.tokenizer.save_pretrained(tmp_path / "saved")
    again = LanguageModel.load(tmp_path / "saved")
    assert again.digest == found.digest and again.ends == found.ends
    assert again.chat("3 + 4?") == found.chat("3 + 4?")
    renamed = tmp_path / "renamed.gguf"
    renamed.write_bytes(file[0].read_bytes())
    assert LanguageModel.load(renamed).digest == found.digest  # the file's name is no part of it


def test_what_is_wrong_with_a_gguf_file_is_named(file, tmp_path, monkeypatch):
    with pytest.raises(ModelMissing, match=r"no file of a model.*\.gguf"):
        LanguageModel.load(tmp_path / "nowhere.gguf")
    (tmp_path / "text.gguf").write_text("no model")
    with pytest.raises(ModelMissing, match="no causal language model"):
        LanguageModel.load(tmp_path / "text.gguf")
    monkeypatch.setattr(reading, "find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"read by the package gguf: pip install 'banel-envs\[llm\]'"):
        LanguageModel.load(file[0])


# --- the chat template


def test_a_chat_prompt_is_what_the_template_writes_and_begins_once():
    made = talking()
    ids = made.chat("Tom has 3 apples.")
    assert ids.count(0) == 1 and ids[0] == 0  # one <s>, which the template writes
    assert made.text(np.array(ids)) == "<s>user: Tom has 3 apples.</s>assistant: "
    assert made.text(np.array(made.chat("7", system="Be brief."))) == "<s>system: Be brief.</s>user: 7</s>assistant: "


def test_a_tokenizer_that_begins_every_text_itself_does_not_begin_a_chat_twice():
    from tokenizers.processors import TemplateProcessing

    made = talking()
    made.tokenizer.backend_tokenizer.post_processor = TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    assert made.ids("7")[0] == 0
    assert made.chat("7").count(0) == 1


def test_without_a_template_the_way_out_is_a_plain_prompt():
    with pytest.raises(BadValue, match=r"no chat template; write the prompt as plain text"):
        talking(None).chat("7")
    with pytest.raises(BadValue, match="no tokenizer"):
        base("llama").chat("7")
    with pytest.raises(BadValue, match="refuses the messages: no system"):
        talking("{{ raise_exception('no system') }}").chat("7", system="x")
