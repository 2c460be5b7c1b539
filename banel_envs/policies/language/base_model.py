"""LanguageModel: a frozen causal language model of Hugging Face that many policies share, with its tokenizer and its end ids.

Its ids stay its ids: the vocabulary of its policies is every row of its head, those that the tokenizer lacks included. What its
folder says of sampling (`generation_config.json`: top_k, temperature, ...) is not read, but for the ids that end a text.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import operator
import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any
from weakref import WeakSet

import torch

from banel_envs.errors import BadValue, ModelMissing
from banel_envs.files.visible import shown
from banel_envs.policies.autoregressive import Ints
from banel_envs.policies.language.reading import first_line, read
from banel_envs.policies.language.support import context_of, unreadable

VARIABLE = "BANEL_MODEL"
# What a configuration says of the file and not of the function that the model computes.
OF_THE_FILE = {
    *("_name_or_path", "name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype", "use_cache"),
    *("bos_token_id", "eos_token_id", "pad_token_id"),
}

_loaded: WeakSet[LanguageModel] = WeakSet()
"""The models of this process, for policies that are read from files. Two of them may be the same model, loaded twice."""


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
        """The model of a local folder, of a GGUF file or of the hub.

        Args:
            source: the folder, the .gguf file (its weights are no longer quantised then), or an id such as
                "Qwen/Qwen2.5-0.5B-Instruct". Of a folder only safetensors are read, and no code.
            device: where it computes.
            dtype: float32 on a CPU and bfloat16 elsewhere, if it is None.
            ends: the ids that end a text; by default all that the source names.

        Raises:
            MissingExtra: transformers, or gguf for a GGUF file, is not installed.
            ModelMissing: there is no such folder or file, it holds no model, or the model or its tokenizer is damaged.
            BadValue: no id ends a text, or what is said to end one is no id.
        """
        on_cpu = torch.device(device).type == "cpu"
        model, tokenizer = read(source, dtype or (torch.float32 if on_cpu else torch.bfloat16))
        return cls.of(model.to(device), tokenizer, ends=ends, name=str(source))

    @classmethod
    def of(
        cls, model: Any, tokenizer: Any | None = None, *, ends: Sequence[int] | None = None, name: str = "a model"
    ) -> LanguageModel:
        """A model that is in memory. It is frozen from now on.

        Raises:
            BadValue: no id ends a text, or one of them is no id, or not of the vocabulary.
        """
        model.eval().requires_grad_(False)
        found = cls(model, tokenizer, (), name)
        if ends is not None and not isinstance(ends, list | tuple | range):
            ends = [ends]  # type: ignore[list-item]  # one id, or what `_id` refuses by name
        named = [_id(k, name) for k in (_named_ends(model, tokenizer) if ends is None else ends)]
        found.ends = tuple(dict.fromkeys(k for k in named if ends is not None or 0 <= k < found.vocabulary))
        if not found.ends:
            raise BadValue(f"{name} names no id that ends a text; give ends=[...]")
        if wrong := [k for k in found.ends if not 0 <= k < found.vocabulary]:
            raise BadValue(f"{name}: the end id {wrong[0]} is outside 0..{found.vocabulary - 1}")
        _loaded.add(found)
        return found

    @property
    def vocabulary(self) -> int:
        """V: the rows of the head. There may be more than the tokenizer has ids."""
        return int(self.model.get_output_embeddings().weight.shape[0])

    @property
    def context(self) -> int | None:
        """The most tokens that the model reads; None where it does not say (see support.context_of)."""
        return context_of(self.model.config.get_text_config())

    @cached_property
    def words_digest(self) -> str:
        """SHA-256 of what the tokenizer reads and writes, which decides rewards of texts; of nothing without one."""
        found, words = hashlib.sha256(), self.tokenizer
        if words is not None:
            backend = getattr(words, "backend_tokenizer", None)
            written = [words.decode([k], clean_up_tokenization_spaces=False) for k in range(len(words))]
            template = getattr(words, "chat_template", None)
            said = [written, None if backend is None else backend.to_str(), template]
            found.update(json.dumps(said, sort_keys=True, default=str).encode())
        return found.hexdigest()

    @cached_property
    def unreadable(self) -> str | None:
        """Why no HFPolicy can be made of it; None if one can (see support.unreadable)."""
        return unreadable(self.model, self.ends[0])

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
        """A text as ids, with what the tokenizer puts before every text.

        Raises:
            BadValue: there is no tokenizer, the text is no str or holds half of a surrogate pair, the tokenizer cannot
                write it, or writes an id that is no row of the head.
        """
        return self._encoded(text, "the text")

    def plain_ids(self, text: str) -> list[int]:
        """A text as ids and nothing before or after them; BadValue as for `ids`."""
        return self._encoded(text, "the text", add_special_tokens=False)

    def _encoded(self, text: str, what: str, **how: bool) -> list[int]:
        """A text as ids of the head; `what` is its name in an error."""
        words = self._words
        _check_text(text, what)
        try:
            ids = [int(k) for k in words.encode(text, **how)]
        except Exception as error:  # such as a tokenizer without a token for what it does not know
            raise BadValue(
                f"{self.name}: its tokenizer cannot write {what}: {first_line(error)}; give the prompt as ids"
            ) from error
        if wrong := [k for k in ids if not 0 <= k < self.vocabulary]:
            token = words.convert_ids_to_tokens(wrong[0])
            raise BadValue(
                f"{self.name}: {what} holds the token {token!r}, whose id {wrong[0]} is outside 0..{self.vocabulary - 1}: "
                f"the tokenizer has more ids than the head has rows; write it without, or give the model its own tokenizer"
            )
        return ids

    @property
    def _words(self) -> Any:
        """The tokenizer; BadValue where there is none."""
        if self.tokenizer is None:
            raise BadValue(f"{self.name} has no tokenizer; give the prompt as ids")
        return self.tokenizer

    def chat(self, question: str, system: str | None = None) -> list[int]:
        """The ids of a conversation that ends where the model's answer to a question begins, by the tokenizer's chat template.

        The template writes what begins a text itself, so it is not written a second time.

        Args:
            question: the user's message.
            system: what comes before it; by default what the template puts there.

        Raises:
            BadValue: there is no tokenizer, it has no chat template, or the template refuses these messages; or a text is
                none, as for `ids`.
        """
        if not getattr(self._words, "chat_template", None):
            raise BadValue(f"{self.name} has no chat template; write the prompt as plain text, and give it to `ids`")
        _check_text(question, "the question")
        if system is not None:
            _check_text(system, "the system's message")
        told = [] if system is None else [{"role": "system", "content": system}]
        messages = [*told, {"role": "user", "content": question}]
        try:
            text = str(self._words.apply_chat_template(messages, add_generation_prompt=True, tokenize=False))
        except Exception as error:  # a template is a program of the model's, and raises what it likes
            raise BadValue(
                f"{self.name}: its chat template refuses the messages: {first_line(error)}; write a plain prompt"
            ) from error
        return self._encoded(text, "what its chat template writes", add_special_tokens=False)

    def text(self, tokens: Ints) -> str:
        """Ids [t] as text. An id that the tokenizer lacks is written as its number: <id 151700>."""
        known = 0 if self.tokenizer is None else len(self.tokenizer)
        parts = []
        for is_known, run in itertools.groupby((int(k) for k in tokens), lambda k: 0 <= k < known):
            ids = list(run)
            if is_known and self.tokenizer is not None:
                parts.append(str(self.tokenizer.decode(ids, clean_up_tokenization_spaces=False)))
            else:
                parts += [f"<id {k}>" for k in ids]
        return "".join(parts)


def _check_text(text: Any, what: str) -> None:
    """BadValue unless it is a text that UTF-8 can hold, which is what a tokenizer reads."""
    if not isinstance(text, str):
        raise BadValue(f"{what} is a {type(text).__name__}; it is a str")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise BadValue(
            f"{what} holds {text[error.start]!r} at position {error.start} (from 0), half of a surrogate pair, which is no "
            f"character; replace it, as by text.encode(errors='replace').decode()"
        ) from None


def _id(value: Any, name: str) -> int:
    """A whole number as an int; BadValue otherwise."""
    try:
        if not isinstance(value, bool):
            return operator.index(value)
    except TypeError:
        pass
    raise BadValue(f"{name}: {shown(value)} is said to end a text, and is no id; give ends=[...], whole numbers")


def _named_ends(model: Any, tokenizer: Any | None) -> list[Any]:
    """The ids that end a text, by the generation's configuration, the model's and the tokenizer, in this order."""
    found: list[Any] = []
    for owner in (getattr(model, "generation_config", None), model.config, tokenizer):
        ends = getattr(owner, "eos_token_id", None)
        found += [] if ends is None else list(ends) if isinstance(ends, list | tuple) else [ends]
    return found


def find(digest: str) -> LanguageModel:
    """The model with this digest: one that this process has loaded, or the one that BANEL_MODEL names.

    Raises:
        ModelMissing: there is none.
    """
    if (known := next((model for model in _loaded if model.digest == digest), None)) is not None:
        return known
    folder = os.environ.get(VARIABLE)
    if folder:
        # The digest covers the weights in the precision that they had, which on a GPU is another one than here.
        for dtype in (torch.float32, torch.bfloat16, torch.float16):
            model = LanguageModel.load(folder, dtype=dtype)
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
