"""What transformers reads of a folder, of the hub or of a GGUF file: a causal language model and its tokenizer.

A GGUF file is llama.cpp's: quantised weights, their architecture and a tokenizer in one file. Its weights are computed back into
the precision asked for, so from then on the model is an ordinary one, and no smaller than any other. What is left of the
quantisation in transformers is dropped: it says how the file was packed, and keeps such a model from being saved.

A damaged source is refused. transformers itself fills weights that are missing with random numbers, and passes over a
`generation_config.json` that it cannot read; either would be another model under the same name.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch

from banel_envs.errors import BanelError, MissingExtra, ModelMissing
from banel_envs.files.visible import visible

HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
GGUF = ".gguf"
TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")
FORMS = "a folder (config.json, model.safetensors), a .gguf file or a hub id"
GENERATION = "generation_config.json"
MODEL_WAY_OUT = f"download it again, or give {FORMS}"
WORDS_WAY_OUT = "download it again, or load a folder without a tokenizer's files and give prompts as ids"
OF_THE_PACKING = ("hf_quantizer", "quantization_method")  # attributes of a model that came out of a GGUF file


def read(source: str | Path, dtype: torch.dtype) -> tuple[Any, Any | None]:
    """A model with its weights in this precision, and its tokenizer, None where there is none.

    Args:
        source: a folder, a GGUF file or a hub id. Of a folder only safetensors are read, and no code.
        dtype: the precision of the weights.

    Raises:
        MissingExtra: transformers, or gguf for a GGUF file, is not installed.
        ModelMissing: there is no such folder or file, it holds no model, or the model or its tokenizer is damaged.
    """
    try:
        from transformers import AutoModelForCausalLM, AutoTokenizer, GenerationConfig
    except ModuleNotFoundError as error:
        raise MissingExtra("a language model needs transformers: pip install 'banel-envs[llm]'") from error
    place, which = _located(source)
    safe = {"trust_remote_code": False, **which}
    with torch.random.fork_rng(devices=[]):
        with _guarded(source, "causal language model", MODEL_WAY_OUT):
            # Shapes that differ are passed over here, and named in `_check_whole`: transformers only prints them.
            more = {"output_loading_info": True, "ignore_mismatched_sizes": True}
            kind = {} if which else {"use_safetensors": True}
            model, report = AutoModelForCausalLM.from_pretrained(place, dtype=dtype, **more, **kind, **safe)
            _check_whole(source, report)
            if not which and (Path(place) / GENERATION).exists():
                GenerationConfig.from_pretrained(place)
        with _guarded(source, "tokenizer", WORDS_WAY_OUT):
            tokenizer = AutoTokenizer.from_pretrained(place, **safe) if which or _has_tokenizer(Path(place)) else None
    if which:
        _unpacked(model)
    return model, tokenizer


@contextmanager
def _guarded(source: str | Path, what: str, way_out: str) -> Iterator[None]:
    """Whatever is raised inside is ModelMissing, and says of which source. A damaged file raises nearly anything."""
    try:
        yield
    except BanelError:
        raise
    except Exception as error:
        raise ModelMissing(f"{source} holds no {what} that can be read: {first_line(error)}; {way_out}") from error


def first_line(error: Exception) -> str:
    """What an error of another library says, in one line: its first, and the next where the first ends in a colon."""
    lines = str(error).strip().split("\n")
    first = lines[0].strip()
    if first.endswith(":") and len(lines) > 1:
        first = f"{first} {lines[1].strip()}"
    if isinstance(error, KeyError) or not first:  # whose message is the key alone
        first = f"{type(error).__name__}: {first}".removesuffix(": ")
    return visible(first.removesuffix("."))


def _check_whole(source: str | Path, report: dict[str, Any]) -> None:
    """ModelMissing unless every weight of the model was read, by what transformers reports of the loading."""
    wrong = [
        f"the weight {name} is {list(found)} and by the configuration {list(asked)}"
        for name, found, asked in sorted(report["mismatched_keys"])
    ]
    wrong += [f"the weight {name} is missing" for name in sorted(report["missing_keys"])]
    if wrong:
        many = f" (and {len(wrong) - 1} more)" if len(wrong) > 1 else ""
        said = f"{visible(wrong[0])}{many}"
        raise ModelMissing(f"{source} holds no causal language model that can be read: {said}; {MODEL_WAY_OUT}")


def _located(source: str | Path) -> tuple[str | Path, dict[str, str]]:
    """What transformers is told of a source: the folder or hub id, and the name of a GGUF file in the folder."""
    path = Path(source)
    if path.suffix == GGUF and path.is_file():
        if find_spec("gguf") is None:
            raise MissingExtra(f"{source}: a GGUF file is read by the package gguf: pip install 'banel-envs[llm]'")
        return str(path.absolute().parent), {"gguf_file": path.name}
    if path.suffix == GGUF or (not path.is_dir() and (isinstance(source, Path) or not HUB_ID.fullmatch(source))):
        raise ModelMissing(f"{source} is no folder and no file of a model; give {FORMS}")
    return source, {}


def _has_tokenizer(source: Path) -> bool:
    """Whether a folder holds a tokenizer; of the hub it is taken for granted. Ids can be used without one."""
    return not source.is_dir() or any((source / name).exists() for name in TOKENIZERS)


def _unpacked(model: Any) -> None:
    """Drop what is left of a GGUF file's quantisation, in place: with it `save_pretrained` fails."""
    for name in OF_THE_PACKING:
        if hasattr(model, name):
            delattr(model, name)
    model.is_quantized = False
    if hasattr(model.config, "quantization_config"):
        del model.config.quantization_config
