"""Rebuild AdditionAttack's assets from nothing: target transformer, its answers, two base policies.

The target (d64, 2 layers, 103k parameters) reads `a+b=` and writes four digits, least significant first, which is
what makes it perfect on natural queries: a carry is then known when its digit is written. It never sees an operand
with a leading zero, and errs on those. The base policies (d32, 2 layers) are one run of maximum likelihood on
natural queries, stopped at two lengths: the longer, the rarer a leading zero, the harder the task.
"""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from banel_envs.build.shared.addition import answers_alone, greedy_digits
from banel_envs.policies.gradient_step import descend
from banel_envs.policies.networks.transformer import Transformer, TransformerConfig
from banel_envs.policies.storage.store import save_policy
from banel_envs.policies.torch_policy import TorchPolicy
from banel_envs.tasks.addition_attack import (
    HORIZON,
    LENGTHS,
    OFFSETS,
    QUERIES,
    SIZES,
    TABLE,
    TARGET,
    encode,
    summands,
)
from banel_envs.tasks.shared.addition import END, write_wrong

TAKES = "about 8 minutes on one core, 1 GB of memory, no raw data"

ANSWER = 4  # digits of an answer, least significant first
LENGTH_SHARES = (0.1, 0.2, 0.7)  # of operands with 1, 2 and 3 digits in training
TARGET_SEED = 4  # of 1 to 4 the one with the most to attack: 23,741 wrong queries, the others 8,962 to 11,028
TARGET_STEPS, TARGET_BATCH, TARGET_RATE = 7_000, 256, 2e-3
BLOCK = 10_000  # queries answered at once
BASE_BATCH, BASE_RATE = 256, 5e-4
BASE_STEPS = {"addition_attack_base.safetensors": 500, "addition_attack_base_hard.safetensors": 1_500}


def build(out: Path, data: Path | None = None, instance: int = 0) -> None:
    """Write every asset of this family into `out`."""
    rng = np.random.default_rng([TARGET_SEED, instance])
    target = train_target(rng)
    save_policy(out / TARGET, TorchPolicy(target, end=None))
    answers = answer_all(target)
    true = np.add(*summands(np.arange(QUERIES)))
    wrong = np.flatnonzero(answers != true)
    write_wrong(out / TABLE, wrong, answers[wrong])
    natural = is_natural(np.arange(QUERIES))
    errors = int((natural[wrong]).sum())
    others = f"{len(wrong) - errors:,} of {QUERIES - natural.sum():,} others"
    print(f"target: {errors} of {natural.sum():,} natural queries wrong, {others}")
    train_bases(np.random.default_rng([20251010, instance]), out)


def is_natural(index: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether neither operand of a query has a leading zero."""
    a, b = summands(index)
    k = np.searchsorted(OFFSETS, index, side="right") - 1
    least = np.array([[10 ** (length - 1) if length > 1 else 0 for length in pair] for pair in SIZES])[k]  # [n, 2]
    return (a >= least[:, 0]) & (b >= least[:, 1])


def natural_queries(n: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """N query numbers without leading zeros, operand lengths drawn by LENGTH_SHARES."""
    la, lb = rng.choice(LENGTHS, (2, n), p=LENGTH_SHARES)
    low = np.array([0, 0, 10, 100])
    a, b = rng.integers(low[la], 10**la), rng.integers(low[lb], 10**lb)
    index: NDArray[np.int64] = OFFSETS[3 * (la - 1) + lb - 1] + a * 10**lb + b
    return index


def _with_answers(index: NDArray[np.int64]) -> tuple[torch.Tensor, torch.Tensor]:
    """Query and answer in one row [n, 12], and the positions of the answer [n, 4]."""
    tokens = encode(index)
    row = np.full((len(index), HORIZON + ANSWER), END, np.int64)
    row[:, :HORIZON] = tokens
    start = (tokens != END).sum(axis=1) + 1  # after the '='
    where = start[:, None] + np.arange(ANSWER)
    total = np.add(*summands(index))
    row[np.arange(len(index))[:, None], where] = total[:, None] // 10 ** np.arange(ANSWER) % 10
    return torch.from_numpy(row), torch.from_numpy(where)


def train_target(rng: np.random.Generator) -> Transformer:
    """Maximum likelihood of the answer alone, learning rate decaying linearly from 40% of the run."""
    net = Transformer(TransformerConfig(len("0123456789+="), HORIZON + ANSWER, width=64))
    net.initialise(rng)
    return answers_alone(net, lambda: _with_answers(natural_queries(TARGET_BATCH, rng)), TARGET_STEPS, TARGET_RATE)


def answer_all(net: Transformer) -> NDArray[np.int64]:
    """The greedy answer to every well-formed query: [1,232,100]."""
    target = TorchPolicy(net, end=None)
    answers = np.empty(QUERIES, np.int64)
    # No block crosses a pair of lengths, so all queries of one have the same length.
    blocks = [(low, int(end)) for start, end in pairwise(OFFSETS) for low in range(int(start), int(end), BLOCK)]
    for low, end in tqdm(blocks, desc="answers", mininterval=10):
        index = np.arange(low, min(low + BLOCK, end))
        tokens = encode(index)
        read = tokens[:, : int((tokens[0] != END).sum()) + 1]
        answers[index] = greedy_digits(target, read, ANSWER) @ 10 ** np.arange(ANSWER)
    return answers


def train_bases(rng: np.random.Generator, out: Path) -> None:
    """One maximum-likelihood run on natural queries, saved at each length in BASE_STEPS."""
    net = Transformer(TransformerConfig(len("0123456789+="), HORIZON))
    net.initialise(rng)
    policy = TorchPolicy(net, END)
    optimiser = torch.optim.AdamW(net.parameters(), lr=BASE_RATE, betas=(0.9, 0.98), weight_decay=0.01)
    names = {steps: name for name, steps in BASE_STEPS.items()}
    for step in tqdm(range(1, max(names) + 1), desc="base", mininterval=10):
        descend(optimiser, policy.loss(encode(natural_queries(BASE_BATCH, rng))))
        if step in names:
            save_policy(out / names[step], policy)
