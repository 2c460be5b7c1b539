"""LoRA adapters (Hu et al. 2021, arXiv 2106.09685): each on a copy of a frozen model that shares the model's tensors."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from banel_envs.errors import MissingExtra


def adapted(model: Any, rank: int, alpha: float) -> Any:
    """A copy of a frozen model, sharing its tensors, with a LoRA adapter in float32 on every linear layer but the head."""
    try:
        from peft import LoraConfig, inject_adapter_in_model
    except ModuleNotFoundError as error:
        raise MissingExtra("a policy of a language model needs peft: pip install 'banel-envs[llm]'") from error
    # GPT-2's linear layers keep their weights transposed, as transformers.pytorch_utils.Conv1D; peft wants to be told.
    transposed = any(type(module).__name__ == "Conv1D" for module in model.modules())
    config = LoraConfig(
        r=rank, lora_alpha=alpha, target_modules="all-linear", lora_dropout=0.0, bias="none", fan_in_fan_out=transposed
    )
    with torch.random.fork_rng(devices=[]):  # peft draws from the process's generator; `draw` draws again
        made = inject_adapter_in_model(config, sharing(model)).eval()
    for weight in made.parameters():
        if weight.requires_grad:
            weight.data = weight.data.float()
    return made


def sharing(model: Any) -> Any:
    """A copy of a model that shares the tensors which are not trained."""
    tensors = (*model.parameters(), *model.buffers())
    return copy.deepcopy(model, {id(tensor): tensor for tensor in tensors if not tensor.requires_grad})


def draw(adapter: Mapping[str, torch.nn.Parameter], rng: np.random.Generator) -> None:
    """Make an adapter untrained, in place: the first factors uniform as in torch.nn.Linear, the second ones 0."""
    with torch.no_grad():
        for name, weight in adapter.items():
            if not is_drawn(name):
                weight.zero_()
                continue
            bound = 1 / np.sqrt(weight.shape[1])
            weight.copy_(torch.from_numpy(rng.uniform(-bound, bound, tuple(weight.shape))))


def is_drawn(name: str) -> bool:
    """Whether an adapter's weight is a first factor, which is drawn; the second ones begin at 0."""
    return ".lora_A." in name
