"""ZeroToSix: a model of handwritten zeros must draw a six (BaNEL), on the 8x8 digits of scikit-learn.

The images are made from the 178 zeros and 181 sixes of `sklearn.datasets.load_digits` (extra `digits`; they are read
offline when the reward is first asked). They are turned by up to 16 degrees, shifted by up to half a pixel and made black
and white. That is computed in whole numbers, so it is the same on every machine. It gives 7,002 distinct zeros and 7,018
distinct sixes, and no image is both. Success: the image is one of the 3,599 sixes that differ from every zero in at least
8 of 64 pixels. Vocabulary 16 (2x2 patches, see patches.py; no end token), horizon 16, budget 7,500.

Base success, exact: 10^-9.2506; its effective number of successes is 66.5. The base policy is a GRU of width 96. It needs
14.27 nats for a zero, and a nearest-neighbour classifier over all ten digits takes 99.0% of its samples for zeros.
tests/tasks/test_zero_to_six.py holds the exact numbers.
"""

from __future__ import annotations

import hashlib
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

from banel_envs.assets import combined_digest
from banel_envs.errors import AssetError, MissingExtra
from banel_envs.policies.storage.store import shipped_policy
from banel_envs.problem import Problem, Tokens
from banel_envs.task import Task
from banel_envs.tasks.shared import patches
from banel_envs.tasks.shared.patches import Images

SIDE = 8
HORIZON = SIDE * SIDE // 4
# SHA-256 of all 1,797 images as bytes. With other images the base policy and the success set would not fit together.
DIGITS_SHA256 = "8f26b2bd9d135c256808f68f14fdabddde6d9c7f869ae419704b051f0f14b3b3"
BASE = "zero_to_six_base.safetensors"

# Turns as Pythagorean triples (c, s, h), with cos = c / h and sin = s / h, so that a turn needs whole numbers only.
TURNS = ((1, 0, 1), (40, 9, 41), (40, -9, 41), (24, 7, 25), (24, -7, 25))
SHIFTS = (-1, 0, 1)  # to the right, in half pixels
THRESHOLDS = (4, 6, 8)  # the lowest grey level that is ink
BLOCK = 500  # how many images are compared at once, so that the memory stays small
CLEAR = 8  # in how many pixels a six must differ from every zero


@cache
def digits() -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The images [1797, 8, 8] in grey levels 0..16, and their labels [1797].

    Raises:
        MissingExtra: scikit-learn is not installed.
        AssetError: its digits are not those that the base policy was trained on.
    """
    try:
        from sklearn.datasets import load_digits
    except ModuleNotFoundError as error:
        raise MissingExtra(
            f"the images of ZeroToSix come with {error.name}: pip install 'banel-envs[digits]'"
        ) from error
    bunch = load_digits()
    images, labels = bunch.images.astype(np.int64), bunch.target.astype(np.int64)
    actual = hashlib.sha256(images.astype(np.uint8).tobytes()).hexdigest()
    if actual != DIGITS_SHA256:
        raise AssetError(
            f"sklearn.datasets.load_digits has other images than those this task was made from: SHA-256 {actual}, "
            f"expected {DIGITS_SHA256}; install another version of scikit-learn"
        )
    return images, labels


def moved(images: NDArray[np.int64], turn: tuple[int, int, int], shift: int) -> NDArray[np.int64]:
    """Images [n, 8, 8] turned about their centre and then shifted, by bilinear interpolation in whole numbers.

    Returns:
        Grey levels times (2h)², where h is the denominator of the turn.
    """
    c, s, h = turn
    part = 2 * h  # a pixel is divided into so many parts in each direction
    y, x = np.meshgrid(*(2 * np.arange(SIDE) - SIDE + 1,) * 2, indexing="ij")  # in half pixels from the centre
    x = x - shift
    # For each new pixel, the place in the old image that it comes from: a pixel there, and the parts to its right and below.
    (row, below), (column, right) = (np.divmod(at + (SIDE - 1) * h, part) for at in (c * y - s * x, c * x + s * y))
    padded = np.pad(images, ((0, 0), (SIDE, SIDE + 1), (SIDE, SIDE + 1)))  # no place lies farther outside
    result = np.zeros_like(images)
    for down, weight_y in ((0, part - below), (1, below)):
        for over, weight_x in ((0, part - right), (1, right)):
            result += padded[:, row + SIDE + down, column + SIDE + over] * (weight_y * weight_x)
    return result


def variants(digit: int) -> Images:
    """The distinct binary images [n, 8, 8] that are made from the images of a digit, in a fixed order."""
    images, labels = digits()
    own = images[labels == digit]
    made = [
        moved(own, turn, shift) >= threshold * (2 * turn[2]) ** 2
        for turn in TURNS
        for shift in SHIFTS
        for threshold in THRESHOLDS
    ]
    return np.unique(np.concatenate(made).reshape(-1, SIDE * SIDE), axis=0).reshape(-1, SIDE, SIDE)


def zeros() -> Images:
    """The images that the base policy was trained on: [n, 8, 8]."""
    return variants(0)


def distances(images: Images, others: Images) -> NDArray[np.int64]:
    """In how many pixels each image [n, side, side] differs from the nearest of the others: [n]."""
    a, b = (x.reshape(len(x), -1).astype(np.float32) for x in (images, others))
    nearest = np.empty(len(a), np.int64)
    for rows in np.array_split(np.arange(len(a)), -(-len(a) // BLOCK)):
        # Pixels that are ink in one image only. float32 products are fast, and exact for whole numbers below 2^24.
        unlike = a[rows].sum(axis=1)[:, None] + b.sum(axis=1) - 2 * a[rows] @ b.T
        nearest[rows] = unlike.min(axis=1)
    return nearest


@cache
def _sixes() -> NDArray[np.uint64]:
    """The codes of all successes, ascending."""
    sixes = variants(6)
    return np.sort(_codes(patches.to_tokens(sixes[distances(sixes, zeros()) >= CLEAR])))


def _codes(tokens: Tokens) -> NDArray[np.uint64]:
    """Each sequence [n, T] as one number, four bits a token: [n]."""
    shifts = np.arange(4 * HORIZON - 4, -1, -4, dtype=np.uint64)
    codes: NDArray[np.uint64] = np.bitwise_or.reduce(tokens.astype(np.uint64) << shifts, axis=1)
    return codes


def reward(tokens: Tokens) -> NDArray[np.int8]:
    """1 for one of the sixes, else 0: [n]."""
    return np.isin(_codes(tokens), _sixes()).astype(np.int8)


def successes() -> Tokens:
    """Every six that differs enough from the zeros: [N, T]."""
    shifts = np.arange(4 * HORIZON - 4, -1, -4, dtype=np.uint64)
    return (_sixes()[:, None] >> shifts & np.uint64(15)).astype(np.int64)


def build_v0() -> Task:
    """ZeroToSix-v0."""
    problem = Problem(
        id="banel/ZeroToSix-v0",
        vocabulary=patches.VOCABULARY,
        horizon=HORIZON,
        budget=7_500,
        base=partial(shipped_policy, BASE),
        printer=patches.text,
        image=patches.picture,
    )
    rule = f"{combined_digest(BASE)} {DIGITS_SHA256} {TURNS} {SHIFTS} {THRESHOLDS} {CLEAR}"
    return Task(
        problem,
        reward,
        successes=successes,
        witness=lambda: successes()[0],
        digest=hashlib.sha256(rule.encode()).hexdigest(),
        judges=("scikit-learn",),
        family="paper",
    )
