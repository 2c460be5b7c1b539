"""Tiny language models of three families, built from a configuration, and a tokenizer that is trained in place."""

from __future__ import annotations

import json

import torch
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
from transformers import AutoModelForCausalLM, GPT2Config, LlamaConfig, PreTrainedTokenizerFast, Qwen2Config

from banel_envs.policies.language.base_model import LanguageModel

TEXTS = ["Tom has 3 apples and buys 4 more.", "How many apples has he?", "3 + 4 = 7", "The answer is 7."] * 3
CONTEXT = 65
# What a folder may say of sampling. None of it is a policy's business.
CUTS = {"do_sample": True, "top_k": 1, "top_p": 0.1, "temperature": 0.1, "repetition_penalty": 5.0, "min_length": 3}
CHAT = (
    "<s>{% for one in messages %}{{ one['role'] }}: {{ one['content'] }}</s>{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)
FAMILIES = ("qwen2", "llama", "gpt2")


def config(family, V, ends, context=CONTEXT):
    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    given = {"vocab_size": V, "eos_token_id": ends, "bos_token_id": 0, "pad_token_id": None}
    if family == "gpt2":
        dropped = {"resid_pdrop": 0.5, "attn_pdrop": 0.5, "embd_pdrop": 0.5}
        return GPT2Config(n_positions=context, n_embd=16, n_layer=2, n_head=2, **dropped, **given)
    kind = Qwen2Config if family == "qwen2" else LlamaConfig
    return kind(num_key_value_heads=1, max_position_embeddings=context, attention_dropout=0.5, **sizes, **given)


def model(family="llama", V=4, ends=(2, 3), scale=0.4, seed=0, context=CONTEXT):
    """A model whose distributions are far from even."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        made = AutoModelForCausalLM.from_config(config(family, V, list(ends), context))
        for weight in made.parameters():
            if weight.ndim > 1:
                torch.nn.init.normal_(weight, std=scale)
    return made


def base(family="llama", V=4, ends=(2, 3), tokenizer=None, **more):
    return LanguageModel.of(model(family, V, ends, **more), tokenizer, name=f"a tiny {family}")


def tokenizer():
    """A byte-level BPE tokenizer with a begin and an end token."""
    made = Tokenizer(models.BPE())
    made.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    made.decoder = decoders.ByteLevel()
    special = ["<s>", "</s>"]
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    made.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=300, special_tokens=special, initial_alphabet=alphabet)
    )
    return PreTrainedTokenizerFast(tokenizer_object=made, bos_token="<s>", eos_token="</s>")


def talking(template=CHAT, context=CONTEXT, **more):
    """A tiny model whose tokenizer has a chat template."""
    words = tokenizer()
    words.chat_template = template
    return base("llama", V=310, ends=(1,), tokenizer=words, context=context, **more)


def saved(folder, family="llama", V=310, ends=(1, 5), cuts=None, words=None, seed=0, context=CONTEXT):
    """A folder as one is downloaded, with what `cuts` says of sampling."""
    model(family, V, ends, seed=seed, context=context).save_pretrained(folder)
    if words is not None:
        words.save_pretrained(folder)
    said = {"eos_token_id": list(ends), **(cuts or {})}
    (folder / "generation_config.json").write_text(json.dumps(said))
    return folder
