"""LanguageModel: a frozen causal language model of Hugging Face that many policies share, with its tokenizer and its end ids.

Its ids stay its ids: the vocabulary of its policies is every row of its head, those that the tokenizer lacks included. What its
folder says of sampling (`generation_config.json`: top_k, temperature, ...) is not read, but for the ids that end a text.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from weakref import WeakValueDictionary

import torch

from banel_envs.errors import BadValue, MissingExtra, ModelMissing
from banel_envs.policies.autoregressive import Ints

VARIABLE = "BANEL_MODEL"
HUB_ID = re.compile(r"[\w.-]+/[\w.-]+")
TOKENIZERS = ("tokenizer.json", "tokenizer_config.json", "tokenizer.model", "vocab.json")
# What a configuration says of the file and not of the function that the model computes.
OF_THE_FILE = {
    *("_name_or_path", "name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype", "use_cache"),
    *("bos_token_id", "eos_token_id", "pad_token_id"),
}

_loaded: WeakValueDictionary[str, LanguageModel] = WeakValueDictionary()
"""The models of this process by their digests, for policies that are read from files."""


@dataclass(eq=False)
class LanguageModel:
    """A model that is never changed. Use `load` or `of`."""

    model: Any  # a transformers.PreTrainedModel with a head, in evaluation mode, its weights frozen
    tokenizer: Any | None
    ends: tuple[int, ...]  # the ids that end a text; a policy writes the first of them for all
    name: str

    @classmethod
    def load(
        cls,
        source: str | Path,
        *,
        device: str = "cpu",
        dtype: torch.dtype | None = None,
        ends: Sequence[int] | None = None,
    ) -> LanguageModel:
        """The model of a local folder or of the hub.

        Args:
            source: the folder, or an id such as "Qwen/Qwen2.5-0.5B-Instruct". Only safetensors are read, and no code.
            device: where it computes.
            dtype: float32 on a CPU and bfloat16 elsewhere, if it is None.
            ends: the ids that end a text; by default all that the folder names.

        Raises:
            MissingExtra: transformers is not installed.
            ModelMissing: there is no such folder, or it holds no model.
            BadValue: no id ends a text.
        """
        try:
            from transformers import AutoModelForCausalLM, AutoTokenizer
        except ModuleNotFoundError as error:
            raise MissingExtra("a language model needs transformers: pip install 'banel-envs[llm]'") from error
        if not Path(source).is_dir() and (isinstance(source, Path) or not HUB_ID.fullmatch(source)):
            raise ModelMissing(
                f"{source} is no folder; give that of a model (config.json, model.safetensors) or a hub id"
            )
        dtype = dtype or (torch.float32 if device == "cpu" else torch.bfloat16)
        safe = {"trust_remote_code": False}
        with torch.random.fork_rng(devices=[]):
            try:
                model = AutoModelForCausalLM.from_pretrained(source, dtype=dtype, use_safetensors=True, **safe)
            except (OSError, ValueError, KeyError) as error:
                first = str(error).strip().partition("\n")[0]
                raise ModelMissing(f"{source} holds no causal language model that can be read: {first}") from error
            tokenizer = AutoTokenizer.from_pretrained(source, **safe) if _has_tokenizer(Path(source)) else None
        return cls.of(model.to(device), tokenizer, ends=ends, name=str(source))

    @classmethod
    def of(
        cls, model: Any, tokenizer: Any | None = None, *, ends: Sequence[int] | None = None, name: str = "a model"
    ) -> LanguageModel:
        """A model that is in memory. It is frozen from now on.

        Raises:
            BadValue: no id ends a text, or one of them is not of the vocabulary.
        """
        model.eval().requires_grad_(False)
        found = cls(model, tokenizer, (), name)
        named = _named_ends(model, tokenizer) if ends is None else ends
        found.ends = tuple(dict.fromkeys(int(k) for k in named if ends is not None or 0 <= k < found.vocabulary))
        if not found.ends:
            raise BadValue(f"{name} names no id that ends a text; give ends=[...]")
        if wrong := [k for k in found.ends if not 0 <= k < found.vocabulary]:
            raise BadValue(f"{name}: the end id {wrong[0]} is outside 0..{found.vocabulary - 1}")
        _loaded[found.digest] = found
        return found

    @property
    def vocabulary(self) -> int:
        """V: the rows of the head. There may be more than the tokenizer has ids."""
        return int(self.model.get_output_embeddings().weight.shape[0])

    @property
    def context(self) -> int | None:
        """The most tokens that the model reads; None where it does not say."""
        return getattr(self.model.config, "max_position_embeddings", None)

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        device: torch.device = self.model.get_output_embeddings().weight.device
        return device

    @cached_property
    def digest(self) -> str:
        """SHA-256 of the architecture, the weights and the buffers, each in the precision that it has."""
        config = {k: v for k, v in self.model.config.to_dict().items() if k not in OF_THE_FILE and k[0] != "_"}
        found = hashlib.sha256(json.dumps([type(self.model).__name__, config], sort_keys=True, default=str).encode())
        tensors = itertools.chain(self.model.named_parameters(), self.model.named_buffers())
        for name, tensor in sorted(tensors, key=lambda named: named[0]):
            found.update(json.dumps([name, str(tensor.dtype), list(tensor.shape)]).encode())
            found.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().data)
        return found.hexdigest()

    def ids(self, text: str) -> list[int]:
        """A text as ids, with what the tokenizer puts before every text; BadValue without a tokenizer."""
        if self.tokenizer is None:
            raise BadValue(f"{self.name} has no tokenizer; give the prompt as ids")
        return [int(k) for k in self.tokenizer.encode(text)]

    def text(self, tokens: Ints) -> str:
        """Ids [t] as text. An id that the tokenizer lacks is written as its number: <id 151700>."""
        known = 0 if self.tokenizer is None else len(self.tokenizer)
        parts = []
        for is_known, run in itertools.groupby((int(k) for k in tokens), lambda k: k < known):
            ids = list(run)
            if is_known and self.tokenizer is not None:
                parts.append(str(self.tokenizer.decode(ids, clean_up_tokenization_spaces=False)))
            else:
                parts += [f"<id {k}>" for k in ids]
        return "".join(parts)


def _has_tokenizer(source: Path) -> bool:
    """Whether a folder holds a tokenizer; of the hub it is taken for granted. Ids can be used without one."""
    return not source.is_dir() or any((source / name).exists() for name in TOKENIZERS)


def _named_ends(model: Any, tokenizer: Any | None) -> list[int]:
    """The ids that end a text, by the generation's configuration, the model's and the tokenizer, in this order."""
    found: list[int] = []
    for owner in (getattr(model, "generation_config", None), model.config, tokenizer):
        ends = getattr(owner, "eos_token_id", None)
        found += [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
    return found


def find(digest: str) -> LanguageModel:
    """The model with this digest: one that this process has loaded, or that of the folder which BANEL_MODEL names.

    Raises:
        ModelMissing: there is none.
    """
    if (known := _loaded.get(digest)) is not None:
        return known
    folder = os.environ.get(VARIABLE)
    if folder:
        model = LanguageModel.load(Path(folder) if Path(folder).is_dir() else folder)
        if model.digest == digest:
            _kept.append(model)
            return model
        raise ModelMissing(
            f"the policy belongs to the model {digest[:16]}..., and {VARIABLE}={folder} is {model.digest[:16]}..."
        )
    raise ModelMissing(
        f"the policy is an adapter of the model {digest[:16]}..., which is not here: load it with LanguageModel.load, "
        f"or set {VARIABLE} to its folder"
    )


_kept: list[LanguageModel] = []
"""The models that were loaded for policies of files: the policies after them need them too."""
