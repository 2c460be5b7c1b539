"""Rebuild AdditionCarry's assets from nothing: target transformer, its answers to all 81,000,000 queries, base policy.

The target (d32) reads a query column by column, most significant first, one token for both digits of a column, and writes
the five digits of the sum in the same order. So before it writes a digit it must look ahead, through columns that sum to
9, for a carry. It never sees a query with a long carry: one that begins in the units and is handed on through all three
columns above them. Shorter carries it sees far more often than they come by chance.
The base policy (d32, 2 layers) is fitted by maximum likelihood to queries drawn evenly.
"""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from banel_envs import kernel
from banel_envs.build.shared.addition import answers_alone, greedy_digits
from banel_envs.build.shared.training import maximum_likelihood, warm_then_linear
from banel_envs.errors import BadValue
from banel_envs.policies.networks.transformer import Transformer, TransformerConfig
from banel_envs.policies.storage.store import load_policy_file, save_policy
from banel_envs.policies.torch_policy import TorchPolicy
from banel_envs.problem import Tokens
from banel_envs.tasks.addition_carry import BASE, DIGITS, HORIZON, TABLE, TARGET, encode, number, summands
from banel_envs.tasks.shared.addition import END, VOCABULARY, digits, write_wrong

TAKES = "about 15 minutes on one core, 1 GB of memory, no raw data"

COLUMN = 10  # the token of the column 0 over 0; tokens below are digits of an answer
ANSWER = DIGITS + 1  # digits of an answer, most significant first
PLACES = 10 ** np.arange(DIGITS - 1, -1, -1)
TARGET_SEED = 1
TARGET_STEPS, TARGET_BATCH, TARGET_RATE = 2_500, 256, 2e-3
DRILLED, NINE = 0.5, 0.5  # share of drilled queries, and of their columns above the units that are made to sum to 9
BLOCK = 10_000  # queries answered at once
BASE_STEPS, BASE_BATCH, BASE_RATE = 800, 256, 2e-3


def build(out: Path, data: Path | None = None, instance: int = 0) -> None:
    """Write every asset of this family into `out`."""
    save_policy(out / TARGET, TorchPolicy(train_target(np.random.default_rng([TARGET_SEED, instance])), end=None))
    policy = train_base(np.random.default_rng([20251010, instance]))
    save_policy(out / BASE, policy)
    kept = out / f"addition_carry_{hashlib.sha256((out / TARGET).read_bytes()).hexdigest()[:16]}"
    wrong, answers = errors(out / TARGET, kept)
    write_wrong(out / TABLE, wrong, answers)
    shutil.rmtree(kept)
    long = has_long_carry(*(digits(x, DIGITS) for x in summands(wrong)))
    print(f"target: {len(wrong):,} queries wrong, {int(long.sum()):,} of them with a long carry")
    print(f"base success {np.exp(policy.log_prob(encode(wrong))).sum():.4e}")


def operands(n: int, rng: np.random.Generator) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The digits [n, 4] and [n, 4] of the operands of n queries, drawn evenly."""
    a, b = rng.integers(0, 10, (2, n, DIGITS))
    a[:, 0], b[:, 0] = rng.integers(1, 10, (2, n))
    return a, b


def has_long_carry(a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether the units make a carry that all columns above hand on, from digits [n, 4] and [n, 4]: [n]."""
    total = a + b
    longest: NDArray[np.bool_] = (total[:, :-1] == 9).all(axis=1) & (total[:, -1] > 9)
    return longest


def _lessons(rng: np.random.Generator) -> tuple[torch.Tensor, torch.Tensor]:
    """Query and answer in one row [n, 9], and the positions of the answer [n, 5]; n is TARGET_BATCH less the long carries."""
    a, b = operands(TARGET_BATCH, rng)
    nine = (rng.random(a.shape) < NINE) & (rng.random((len(a), 1)) < DRILLED)
    nine[:, -1] = False
    nine[:, 0] &= a[:, 0] < 9  # 9 over 0 would be a leading zero
    b = np.where(nine, 9 - a, b)
    seen = ~has_long_carry(a, b)
    a, b = a[seen], b[seen]
    row = np.concatenate((read(a, b), sums(a, b)), axis=1)
    where = np.tile(DIGITS + np.arange(ANSWER), (len(row), 1))
    return torch.from_numpy(row), torch.from_numpy(where)


def read(a: NDArray[np.int64], b: NDArray[np.int64]) -> Tokens:
    """The target's tokens [n, 4] of queries, a token a column, from digits [n, 4] and [n, 4]."""
    return COLUMN + 10 * a + b


def sums(a: NDArray[np.int64], b: NDArray[np.int64]) -> NDArray[np.int64]:
    """The digits [n, 5] of the sums."""
    return digits((a + b) @ PLACES, ANSWER)


def train_target(rng: np.random.Generator) -> Transformer:
    """Maximum likelihood of the answer alone."""
    net = Transformer(TransformerConfig(COLUMN + 100, DIGITS + ANSWER, layers=1))
    net.initialise(rng)
    return answers_alone(net, lambda: _lessons(rng), TARGET_STEPS, TARGET_RATE)


def errors(path: Path, folder: Path) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The numbers [N] of all queries that a target answers wrongly, in ascending order, and its answers to them [N].

    What is found below each of the 81 leading columns is kept in a folder, so a build that is stopped goes on where it was.
    """
    target = load_policy_file(path)
    if not isinstance(target, TorchPolicy):
        raise BadValue(f"{path} holds no network")
    folder.mkdir(exist_ok=True)
    parts = []
    for a, b in tqdm([(a, b) for a in range(1, 10) for b in range(1, 10)], desc="answers", mininterval=10):
        part = folder / f"{a}{b}.npz"
        if not part.exists():
            # The compiled kernel, where there is one, is faster. It may answer otherwise only where two digits nearly tie.
            with kernel.using(kernel.nearest(kernel.COMPILED)):
                write_wrong(folder / "unfinished.npz", *_errors_of(target, a, b))
            (folder / "unfinished.npz").replace(part)
        with np.load(part) as found:
            parts.append((np.cumsum(found["gaps"], dtype=np.int64), found["answers"].astype(np.int64)))
    wrong, answers = (np.concatenate(column) for column in zip(*parts, strict=True))
    order = np.argsort(wrong)
    return wrong[order], answers[order]


def _errors_of(
    target: TorchPolicy, a: int, b: int, parts: range = range(1_000_000 // BLOCK)
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The same, of the 1,000,000 queries whose operands begin with a and b, or of some parts of BLOCK of them."""
    numbers, answers = [], []
    for part in parts:
        lower = digits(np.arange(part * BLOCK, (part + 1) * BLOCK), 6)  # [n, 6], column by column
        columns = lower.reshape(-1, DIGITS - 1, 2)  # in the ascending order of the target's tokens
        first, second = (np.insert(columns[:, :, side], 0, leading, axis=1) for side, leading in enumerate((a, b)))
        written = greedy_digits(target, read(first, second), ANSWER)
        rows = np.flatnonzero((written != sums(first, second)).any(axis=1))
        numbers.append(number(first[rows] @ PLACES, second[rows] @ PLACES))
        answers.append(written[rows] @ 10 ** np.arange(ANSWER - 1, -1, -1))
    wrong = np.concatenate(numbers)
    order = np.argsort(wrong)
    return wrong[order], np.concatenate(answers)[order]


def train_base(rng: np.random.Generator) -> TorchPolicy:
    """Maximum likelihood of queries drawn evenly."""
    net = Transformer(TransformerConfig(len(VOCABULARY), HORIZON))
    net.initialise(rng)

    def draw() -> Tokens:
        a, b = operands(BASE_BATCH, rng)
        return encode(number(a @ PLACES, b @ PLACES))

    return maximum_likelihood(TorchPolicy(net, END), draw, BASE_STEPS, warm_then_linear(BASE_RATE, BASE_STEPS))
