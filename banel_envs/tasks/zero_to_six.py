"""ZeroToSix: a model of handwritten zeros must draw a six (BaNEL), on the 8x8 digits of scikit-learn.

The 178 zeros and 181 sixes of `sklearn.datasets.load_digits` (extra `digits`, read offline when the reward is first
asked) are turned by up to 16 degrees, moved by up to half a pixel and thresholded, in whole numbers, hence alike
everywhere: 7,002 distinct zeros and 7,018 sixes, of which none coincide. Success: the image is one of the 3,599 sixes
that differ from every zero in at least 8 of 64 pixels. Vocabulary 16 (2x2 patches, see patches.py; no end token),
horizon 16, budget 7,500.

Base success, exact: 10^-9.2506, carried by 66.5 sixes in effect. The base policy, a GRU of width 96, has 14.27 nats
a zero; a nearest-neighbour classifier over all ten digits calls 99.0% of its samples zeros. The goldens are in
tests/tasks/test_zero_to_six.py.
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
DIGITS_SHA256 = "8f26b2bd9d135c256808f68f14fdabddde6d9c7f869ae419704b051f0f14b3b3"  # of all 1,797 images as bytes
BASE = "zero_to_six_base.safetensors"

TURNS = ((1, 0, 1), (40, 9, 41), (40, -9, 41), (24, 7, 25), (24, -7, 25))  # (c, s, h), cos = c / h, sin = s / h
SHIFTS = (-1, 0, 1)  # to the right, in half pixels
THRESHOLDS = (4, 6, 8)  # the least grey level that is ink
BLOCK = 500  # images compared at once, to bound memory
CLEAR = 8  # pixels in which a six must differ from every zero


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
    """Images [n, 8, 8] turned about their centre, then shifted, by bilinear interpolation in whole numbers.

    Returns:
        Grey levels times (2h)²: where h is the denominator of the turn, that many parts has a pixel.
    """
    c, s, h = turn
    part = 2 * h  # parts of a pixel
    y, x = np.meshgrid(*(2 * np.arange(SIDE) - SIDE + 1,) * 2, indexing="ij")  # in half pixels about the centre
    x = x - shift
    (row, below), (column, right) = (np.divmod(at + (SIDE - 1) * h, part) for at in (c * y - s * x, c * x + s * y))
    padded = np.pad(images, ((0, 0), (SIDE, SIDE + 1), (SIDE, SIDE + 1)))  # no turn reaches farther
    result = np.zeros_like(images)
    for down, weight_y in ((0, part - below), (1, below)):
        for over, weight_x in ((0, part - right), (1, right)):
            result += padded[:, row + SIDE + down, column + SIDE + over] * (weight_y * weight_x)
    return result


def variants(digit: int) -> Images:
    """The distinct binary images [n, 8, 8] that a digit's images are multiplied to, in a fixed order."""
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
    """What the base policy was trained on: [n, 8, 8]."""
    return variants(0)


def distances(images: Images, others: Images) -> NDArray[np.int64]:
    """In how many pixels each image [n, side, side] differs from the nearest of the others: [n]."""
    a, b = (x.reshape(len(x), -1).astype(np.float32) for x in (images, others))
    nearest = np.empty(len(a), np.int64)
    for rows in np.array_split(np.arange(len(a)), -(-len(a) // BLOCK)):
        unlike = a[rows].sum(axis=1)[:, None] + b.sum(axis=1) - 2 * a[rows] @ b.T  # exact: whole numbers below 2^24
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
    """1 where the image is one of the sixes: [n]."""
    return np.isin(_codes(tokens), _sixes()).astype(np.int8)


def successes() -> Tokens:
    """Every six that is clear of the zeros: [N, T]."""
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
