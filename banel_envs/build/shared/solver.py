"""The training of a small transformer that writes solutions to word problems: Reasoning's base policy."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional as F
from tqdm import tqdm

from banel_envs.build.shared.training import warm_then_linear
from banel_envs.build.shared.word_problems import WordProblem, write
from banel_envs.policies.gradient_step import descend
from banel_envs.policies.networks.transformer import Transformer, TransformerConfig
from banel_envs.tasks.language.word_tokens import END_TOKEN, VOCABULARY

CONFIG = TransformerConfig(len(VOCABULARY), horizon=128, width=96, layers=3)
# Shares of training problems with 1 to 5 operations, and with 0 to 2 distractors: at first, and later.
FIRST = ((0.7, 0.3), (0.7, 0.3))
LATER = ((0.40, 0.25, 0.17, 0.12, 0.06), (0.60, 0.25, 0.15))
FIRST_PART = 0.4  # of the steps are trained by the first shares
Shares = tuple[tuple[float, ...], tuple[float, ...]]
DRAWN = 2_048  # problems that are drawn, sorted by length and cut into batches at a time
TOKENS = 5_000  # in one batch, padding included
RATE = 2e-3


def problems(n: int, rng: np.random.Generator, longest: int, shares: Shares) -> list[WordProblem]:
    """N problems, drawn by the shares, whose question and solution together are not longer than `longest`."""
    found: list[WordProblem] = []
    while len(found) < n:
        operations, distractors = (int(rng.choice(len(share), p=share)) for share in shares)
        one = write(1 + operations, distractors, rng)
        if len(one.question) + len(one.solution) <= longest:
            found.append(one)
    return found


def batches(rng: np.random.Generator, shares: Shares) -> Iterator[tuple[NDArray[np.int64], NDArray[np.bool_]]]:
    """Batches without end, drawn by these shares: see `_rows`."""
    while True:
        drawn = problems(DRAWN, rng, CONFIG.horizon, shares)
        drawn.sort(key=lambda p: len(p.question) + len(p.solution))
        parts: list[list[WordProblem]] = [[]]
        for one in drawn:
            if (len(parts[-1]) + 1) * (len(one.question) + len(one.solution)) > TOKENS:
                parts.append([])
            parts[-1].append(one)
        for k in rng.permutation(len(parts)):
            yield _rows(parts[k])


def _rows(part: list[WordProblem]) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
    """Questions with their solutions [n, t], padded with the end token, and which of these tokens are a solution's [n, t]."""
    width = max(len(p.question) + len(p.solution) for p in part)
    rows = np.full((len(part), width), END_TOKEN, np.int64)
    counted = np.zeros(rows.shape, bool)
    for k, p in enumerate(part):
        end = len(p.question) + len(p.solution)
        rows[k, :end] = p.question + p.solution
        counted[k, len(p.question) : end] = True
    return rows, counted


@dataclass(frozen=True)
class Phase:
    """A part of the training: its learning rate rises from 0 and falls to 0 again, and its optimiser begins anew."""

    steps: int
    easy: float  # the share of its steps, the first ones, that are trained by the shares FIRST


PHASES = (Phase(5_000, 0.4), Phase(6_000, 0.0))


def train(seed: int, phases: Sequence[Phase] = PHASES) -> Transformer:
    """Maximum likelihood of solutions, given their questions, by AdamW, in phases; phase k draws from default_rng([seed, k])."""
    network = Transformer(CONFIG)
    for k, phase in enumerate(phases):
        rng = np.random.default_rng([seed, k])
        if k == 0:
            network.initialise(rng)
        _train(network, phase, rng)
    return network.eval()


def _train(network: Transformer, phase: Phase, rng: np.random.Generator) -> None:
    optimiser = torch.optim.AdamW(network.parameters(), betas=(0.9, 0.98), weight_decay=0.01)
    rate = warm_then_linear(RATE, phase.steps)
    first, later = batches(rng, FIRST), batches(rng, LATER)
    bar = tqdm(range(phase.steps), desc="solver", mininterval=10)
    for step in bar:
        for group in optimiser.param_groups:
            group["lr"] = rate(step)
        rows, counted = (torch.from_numpy(a) for a in next(first if step < phase.easy * phase.steps else later))
        logits = network(rows)[counted]  # only the solution's tokens are learnt
        loss = F.cross_entropy(logits, rows[counted])
        descend(optimiser, loss)
        if step % 100 == 0:
            bar.set_postfix(loss=f"{float(loss.detach()):.3f}")
