"""Gaussian1D: a point on the line [-4, 4], rewarded near -2 and +2 (after the first figure of BaNEL, arXiv 2510.09596).

The line is cut into 1,000 cells. A sequence is the number of a cell in three decimal digits, the most significant first, so
each digit narrows the interval tenfold. The base policy is a Gaussian about 0 over the cells, so both rewarded places lie in
its tails. Success: the cell's centre lies within 0.05 of -2 or of 2. Vocabulary 10 (digits, no end token), horizon 3,
budget 5,000.

The success set has 24 cells, 244..255 and 744..755. Base success, exact: 10^-2.9818 (standard deviation 0.65); its
effective number of successes is 23.8.
All cells can be listed, so a policy can be drawn as a curve: `python -m benchmarks.tasks.gaussian1d` draws BaNEL's policies,
round by round.
"""

from __future__ import annotations

from functools import partial

import numpy as np
from numpy.typing import NDArray

from banel_envs.assets import combined_digest
from banel_envs.policies.storage.store import shipped_policy
from banel_envs.problem import Problem, Tokens
from banel_envs.task import Task

VOCABULARY = tuple("0123456789")
HORIZON = 3
CELLS = 10**HORIZON
PLACES = 10 ** np.arange(HORIZON - 1, -1, -1)  # what each digit counts: 100, 10, 1
LOW, HIGH = -4.0, 4.0
WIDTH = (HIGH - LOW) / CELLS
TARGETS, REACH = (-2.0, 2.0), 0.05
BASE = "gaussian1d_base.safetensors"

PIXELS = (40, 250)  # height and width of a picture: four cells a column
PAPER, INK, OPEN, MARK = (255, 255, 255), (60, 60, 60), (190, 210, 240), (200, 30, 30)


def encode(cells: NDArray[np.int64]) -> Tokens:
    """Cell numbers 0..999 [n] to tokens [n, T]."""
    return np.asarray(cells, np.int64)[:, None] // PLACES % 10


def centres(tokens: Tokens) -> NDArray[np.float64]:
    """The centre of each sequence's cell on the line: [n]."""
    x: NDArray[np.float64] = LOW + (tokens @ PLACES + 0.5) * WIDTH
    return x


def reward(tokens: Tokens) -> NDArray[np.int8]:
    """1 for a cell whose centre lies within REACH of a target, else 0: [n]."""
    distance: NDArray[np.float64] = np.abs(centres(tokens)[:, None] - TARGETS).min(axis=1)  # [n]
    return (distance <= REACH).astype(np.int8)


def successes() -> Tokens:
    """Every cell near a target: [24, T]."""
    tokens = encode(np.arange(CELLS))
    near: Tokens = tokens[reward(tokens) == 1]
    return near


def text(tokens: Tokens) -> str:
    """The cell [T] and its centre."""
    return f"{''.join(map(str, tokens))}: x = {centres(tokens[None])[0]:+.3f}"


def picture(tokens: Tokens) -> NDArray[np.uint8]:
    """The line with its whole numbers, and the interval that the written digits leave; with three digits it is the point."""
    height, width = PIXELS
    # An environment shows unfinished sequences too. What is not written yet has the index V, which is no digit.
    written = tokens[tokens < len(VOCABULARY)]
    first = int(written @ PLACES[: len(written)])
    left, right = (cell * width // CELLS for cell in (first, first + 10 ** (HORIZON - len(written))))
    axis = height * 3 // 4
    pixels = np.full((height, width, 3), PAPER, np.uint8)
    pixels[axis // 3 : axis, left : max(right, left + 1)] = MARK if len(written) == HORIZON else OPEN
    pixels[axis] = INK
    for x in range(int(LOW), int(HIGH) + 1):
        pixels[axis : axis + 4, min(int((x - LOW) / (HIGH - LOW) * width), width - 1)] = INK
    return pixels


def build_v0() -> Task:
    """Gaussian1D-v0."""
    problem = Problem(
        id="banel/Gaussian1D-v0",
        vocabulary=VOCABULARY,
        horizon=HORIZON,
        budget=5_000,
        base=partial(shipped_policy, BASE),
        printer=text,
        image=picture,
    )
    return Task(
        problem, reward, successes, witness=lambda: successes()[0], digest=combined_digest(BASE), family="paper"
    )
