"""Sampling against transformers' `generate`, at the same length and batch, in turns; log-probabilities against a plain pass."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from statistics import median
from typing import Any

import numpy as np
import torch

from banel_envs.policies.language.base_model import LanguageModel
from banel_envs.policies.language.hf_policy import HFPolicy
from banel_envs.policies.training import Trainer

TRAINED = "with gradients"


def differences(model: LanguageModel, prompt: Sequence[int], batch: int, horizon: int) -> dict[str, float]:
    """The largest difference, in nats of a sequence, of each way to score from a plain pass over prompt and sequence."""
    policy = HFPolicy(model, prompt, horizon)
    tokens = policy.sample(batch, np.random.default_rng(0))
    expected = np.array([_plain(model, prompt, row, policy) for row in tokens])
    order = np.lexsort(tokens.T[::-1])
    ways = {
        "log_prob": policy.log_prob(tokens),
        "step by step": _unsorted(policy._score_from(policy.start(), tokens[order]), order),
        "token_log_probs": policy.token_log_probs(tokens)[0].sum(axis=1),
        TRAINED: policy.differentiable_log_prob(tokens).detach().numpy(),
    }
    return {name: float(np.abs(found - expected).max()) for name, found in ways.items()}


def _plain(model: LanguageModel, prompt: Sequence[int], row: Any, policy: HFPolicy) -> float:
    """The log-probability of one sequence from one pass of the model over prompt and sequence, without a cache."""
    length = min(int((row != policy.end).sum()) + 1, policy.horizon)
    with torch.inference_mode():
        given = torch.tensor([[*prompt, *row[:length]]])
        logits = model.model(input_ids=given, use_cache=False).logits[0, len(prompt) - 1 : -1].double()
    each = torch.log_softmax(logits, -1)
    total = 0.0
    for t, token in enumerate(row[:length].tolist()):
        ends = list(model.ends) if token == policy.end else [token]
        total += float(each[t, ends].logsumexp(0))
    return total


def _unsorted(values: Any, order: Any) -> Any:
    found = np.empty_like(values)
    found[order] = values
    return found


def against_generate(
    model: LanguageModel, prompt: Sequence[int], batch: int, horizon: int, rounds: int, trained: bool = False
) -> tuple[float, list[float]]:
    """Our tokens a CPU second (median), and how many times those of `generate`, round by round.

    Both draw `batch` sequences of exactly `horizon` tokens, from the whole distribution at temperature 1. `generate` gets the
    model without an adapter; so does ours, as long as it is not trained.
    """
    policy = HFPolicy(model, prompt, horizon)
    if trained:
        Trainer(policy, 1e-4).step(policy.sample(2, np.random.default_rng(0)))
    policy.end = None  # nothing ends: every sequence has its whole length
    ours, theirs = [], []
    for _ in range(rounds + 1):
        ours.append(_seconds(lambda: policy.sample(batch, np.random.default_rng(0))))
        theirs.append(_seconds(lambda: generate(model, prompt, batch, horizon)))
    pairs = list(zip(ours, theirs, strict=True))[1:]  # the first one warms up
    return batch * horizon / median(mine for mine, _ in pairs), [other / mine for mine, other in pairs]


def generate(model: LanguageModel, prompt: Sequence[int], batch: int, horizon: int) -> Any:
    """`batch` sequences of exactly `horizon` tokens by transformers."""
    from transformers import GenerationConfig

    given = torch.tensor([list(prompt)]).repeat(batch, 1)
    length = {"min_new_tokens": horizon, "max_new_tokens": horizon, "eos_token_id": None, "pad_token_id": 0}
    config = GenerationConfig(do_sample=True, top_k=0, top_p=1.0, temperature=1.0, **length)
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        return model.model.generate(given, attention_mask=torch.ones_like(given), generation_config=config)


def _seconds(call: Callable[[], Any]) -> float:
    start = time.process_time()
    call()
    return time.process_time() - start
