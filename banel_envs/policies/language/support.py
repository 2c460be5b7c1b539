"""Which models can be policies, and how far they read."""

from __future__ import annotations

from typing import Any

import torch

from banel_envs.policies.language.reading import first_line

SHARED = {"DynamicLayer", "DynamicSlidingWindowLayer", "DummyLayer"}
"""Layers of transformers' caches that hold the keys and values of each token, or nothing, since they use another layer's."""
RESCALED = ("longrope", "dynamic")  # rope types whose positions are scaled anew beyond a length


def unreadable(model: Any, token: int) -> str | None:
    """Why no policy can be made of a model; None if one can.

    What a policy has read of a prompt must be keys and values of each token, which can be taken for any of its sequences. A
    recurrent state cannot: it stands for all that was read.

    Args:
        model: of transformers, with a head.
        token: any id, which is read twice.
    """
    name = type(model).__name__
    try:
        with torch.inference_mode():
            device = model.get_output_embeddings().weight.device
            given = torch.full((1, 2), token, device=device)
            cache = model(input_ids=given, use_cache=True, logits_to_keep=1).past_key_values
        kinds = {type(layer).__name__ for layer in cache.layers}
    except Exception as error:  # a model is anybody's code
        return f"{name} cannot be read token by token: {first_line(error)}"
    if other := sorted(kinds - SHARED):
        return f"{name} keeps a {other[0]} of what it read, and only keys and values of tokens can be shared"
    return None


def context_of(config: Any) -> int | None:
    """The most tokens that a model reads, by the configuration of its text part; None where it does not say.

    A model that scales its positions anew beyond a length (RESCALED) computes other numbers then for what it read before, and
    for whatever else is in the batch. So that length is the most that it reads here.
    """
    said = [getattr(config, "max_position_embeddings", None)]
    scaled = getattr(config, "rope_parameters", None) or getattr(config, "rope_scaling", None) or {}
    for kind in (scaled, *(value for value in scaled.values() if isinstance(value, dict))):
        if kind.get("rope_type", kind.get("type")) in RESCALED:
            first = "original_max_position_embeddings"
            said += [getattr(config, first, None), kind.get(first)]
    return min((most for most in said if isinstance(most, int) and most > 0), default=None)
