"""Speed of a policy of d64 L2 h4 over 10 tokens: sampling and scoring, against what one would pick.

The weights are drawn, so the next token is close to uniform and few prefixes are shared: the hard case for a policy
that computes each distinct prefix once.
"""

from __future__ import annotations

import importlib.util
import statistics
import time
from functools import partial
from typing import Any
from unittest import mock

import numpy as np
import torch

from banel_envs import kernel
from banel_envs.policies.networks.transformer import Transformer, TransformerConfig
from banel_envs.policies.steps import compiled_steps
from banel_envs.policies.torch_policy import FEW, TorchPolicy
from benchmarks.speed.measure import Bar, Work, compare, interleaved, line, matrix_rate, spread
from benchmarks.speed.rivals import StaticCache

V, T, WIDTH, LAYERS, HEADS = 12, 10, 64, 2, 4
PRODUCTS = {  # a product of each token's pass through the network -> how many of them
    (WIDTH, 3 * WIDTH): LAYERS,
    (WIDTH, WIDTH): LAYERS,
    (WIDTH, 4 * WIDTH): LAYERS,
    (4 * WIDTH, WIDTH): LAYERS,
    (WIDTH, V): 1,
}
TOKEN = sum(2 * a * b * count for (a, b), count in PRODUCTS.items())  # floating-point operations a token
CHUNK = 2048  # rows at once for whoever has no chunks of its own
HF = "HF generate"
WITHOUT = "without the kernel"
SIZES = {1: 4.0, 64: 4.0, 2048: 2.5, 100_000: 6.0}  # batch -> bar: times HF generate
SHARE = Bar(50)


def policy() -> TorchPolicy:
    """The network here, with drawn weights."""
    network = Transformer(TransformerConfig(V, T, WIDTH, LAYERS, HEADS))
    network.initialise(np.random.default_rng(0))
    return TorchPolicy(network.eval(), None)


def sampling(repeats: int) -> None:
    """Sequences a second, and the share of the machine's matrix-product rate."""
    here = policy()
    model = gpt2()
    if model is None:
        line("sampling against Hugging Face", "skipped: pip install transformers (extra `bench`)")
    for n, bar in SIZES.items():
        works: dict[str, Work] = {"here": partial(here.sample, n, np.random.default_rng(0))}
        if kernel.kind() == kernel.COMPILED:
            works[WITHOUT] = partial(without_kernel, works["here"])
        if model is not None:
            works[HF] = partial(in_chunks, partial(generate, model), n)
        caches = {rows: StaticCache(here.network, rows) for rows in {min(CHUNK, n), n % CHUNK or min(CHUNK, n)}}
        works["static cache"] = partial(in_chunks, lambda rows, caches=caches: caches[rows].sample(), n)
        works["full forward"] = partial(in_chunks, partial(full_forward, here.network), n)
        rounds = repeats * 4 if n <= 64 else min(repeats, 3) if n > CHUNK else repeats
        taken = interleaved(works, rounds, warm=n <= CHUNK)
        compare(f"sampling, batch {n:,}, x {T} tokens", taken, "here", n, "seq", {HF: Bar(bar)})
        share(f"  rate reached, batch {n:,}", here, taken["here"], n, SHARE if n == CHUNK else None)
        if n == CHUNK:
            line(f"  in the compiled kernel, batch {n:,}", f"{in_kernel(works['here']):.0%} of the time")


def scoring(repeats: int) -> None:
    """Sequences a second of log_prob against one full forward over all positions."""
    here = policy()
    for n in (64, 2048, 20_000):
        tokens = here.sample(n, np.random.default_rng(1))
        works: dict[str, Work] = {
            "here": partial(here.log_prob, tokens),
            "full forward": partial(score_full, here, tokens),
        }
        if kernel.kind() == kernel.COMPILED:
            works[WITHOUT] = partial(without_kernel, works["here"])
        taken = interleaved(works, repeats)
        compare(f"scoring, {n:,} x {T} tokens", taken, "here", n, "seq")
        if n > FEW or kernel.kind() == kernel.COMPILED:  # else scored whole, and no prefix is computed by itself
            share(f"  rate reached, {n:,}", here, taken["here"], tokens, SHARE if n > FEW else None)


def share(what: str, here: TorchPolicy, seconds: list[float], asked: int | np.ndarray, bar: Bar | None) -> None:
    """Operations of the prefixes really computed over the time, against the machine's rate on products of the same sizes."""
    rows, asked_tokens = count_rows(here, asked)
    machine = statistics.median(matrix_rate(PRODUCTS, min(rows // T or 1, CHUNK)))
    reached = [rows * TOKEN / s for s in seconds]
    percent = [100 * r / machine for r in reached]
    line(
        what,
        f"{spread([r / 1e9 for r in reached])} Gflop/s",
        f"floor, bare products: {machine / 1e9:.3g}",
        f"{spread(percent)} %",
        ("" if bar is None else bar.verdict(statistics.median(percent), "%") + "; ")
        + f"{rows:,} prefixes computed for {asked_tokens:,} tokens",
    )


def without_kernel(work: Work) -> None:
    """The same in PyTorch's operations."""
    with kernel.using(kernel.TORCH):
        work()


def in_kernel(work: Work) -> float:
    """The share of its time that the work spends in the compiled kernel; NumPy and Python take the rest."""
    spent = 0.0

    def functions(width: int) -> Any:
        lanes, step, scratch = found(width)

        def timed(*arguments: Any) -> int:
            nonlocal spent
            start = time.perf_counter()
            answer = step(*arguments)
            spent += time.perf_counter() - start
            return int(answer)

        return lanes, timed, scratch

    found = compiled_steps._functions
    with mock.patch.object(compiled_steps, "_functions", functions):
        start = time.perf_counter()
        for _ in range(10):
            work()
        return spent / (time.perf_counter() - start)


def count_rows(here: TorchPolicy, asked: int | np.ndarray) -> tuple[int, int]:
    """Distinct prefixes that sampling `asked` sequences, or scoring these, computes; and the tokens in them."""
    counted: list[int] = []

    class Counting(TorchPolicy):
        def step(self, last: Any, position: int, state: Any) -> Any:
            counted.append(len(last))
            return super().step(last, position, state)

    counting = Counting(here.network, here.end)
    if isinstance(asked, int):
        counting.sample(asked, np.random.default_rng(0))
        return sum(counted), asked * T
    counting.log_prob(asked)
    return sum(counted), asked.size


def gpt2() -> Any:
    """A GPT-2 of the same size; None without transformers."""
    if importlib.util.find_spec("transformers") is None:
        return None
    from transformers import GPT2Config, GPT2LMHeadModel

    config = GPT2Config(vocab_size=V + 1, n_positions=T + 1, n_embd=WIDTH, n_layer=LAYERS, n_head=HEADS)
    return GPT2LMHeadModel(config).eval()


def in_chunks(sample: Any, n: int) -> None:
    """As many samples, CHUNK at most at once."""
    with torch.inference_mode():
        for i in range(0, n, CHUNK):
            sample(min(CHUNK, n - i))


def generate(model: Any, n: int) -> Any:
    """Hugging Face's own loop with its cache, no filter on the next token."""
    begin = torch.full((n, 1), V)
    return model.generate(
        begin,
        attention_mask=torch.ones_like(begin),
        do_sample=True,
        top_k=0,
        max_new_tokens=T,
        use_cache=True,
        eos_token_id=None,
        pad_token_id=0,
    )


def full_forward(network: Transformer, n: int) -> torch.Tensor:
    """No cache: the whole prefix again for every token."""
    written = torch.empty((n, 0), dtype=torch.long)
    for _ in range(T):
        probabilities = torch.softmax(network.head(network.features(written)[:, -1]), dim=1)
        written = torch.cat((written, torch.multinomial(probabilities, 1)), dim=1)
    return written


def score_full(here: TorchPolicy, tokens: np.ndarray) -> np.ndarray:
    """Teacher forcing over whole rows, log-softmax in float64 as here."""
    parts = []
    with torch.inference_mode():
        for batch in torch.split(torch.from_numpy(tokens), CHUNK):
            log_probs = torch.log_softmax(here.network(batch).double(), dim=2)
            parts.append(log_probs.gather(2, batch[..., None]).sum(dim=(1, 2)))
    return torch.cat(parts).numpy()
