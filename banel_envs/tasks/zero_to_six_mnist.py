"""ZeroToSix on MNIST: a model of handwritten zeros must draw a six (BaNEL, arXiv 2510.09596).

The images are binary, in two sizes, and are written in 2x2 patches (16 tokens, see patches.py; no end token). The 10x10
images are the central 20x20 pixels, averaged two by two (horizon 25); the others have 28x28 pixels (horizon 196). A pixel is
ink if it is at least half black. A six is *clean* if a classifier, which was fitted to the other half of MNIST, calls it a
six with a probability of at least .95.

ZeroToSixMNIST: the image is one of the 5,907 clean sixes (of 6,868 distinct ones). Base success, exact: 10^-8.9601; its
effective number of successes is 27.7.
ZeroToSixMNISTBall: the image differs from one of 400 clean sixes in at most one pixel. There are 40,400 such images; base
success 10^-8.9659, effective number 69.0.
ZeroToSixMNIST28: the image is one of 1,500 clean sixes of 28x28 pixels; base success 10^-28.2403, effective number 4.9.
The 400 and the 1,500 are random ones. With so many an exact evaluation takes a second or two. The budget is 7,500, and
2,500 with 28x28 pixels, where a round of BaNEL takes about a minute on one core.

The base policies are GRUs of width 128, fitted to the distinct zeros. They need 23.99 and 67.24 nats for a zero. A classifier
over all ten digits takes 97.0% and 98.4% of their samples for zeros, and 99.1% and 100.0% of the real zeros.
The images are not shipped. Rewards look up keyed 64-bit digests of the sixes. Success rates and witnesses need `mnist.npz`
(see banel_envs/data.py): those of its sixes whose digest is in the table are the success set.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, partial

import numpy as np
from numpy.typing import NDArray

from banel_envs.assets import asset, combined_digest
from banel_envs.data import data_folder, mnist
from banel_envs.policies.storage.store import shipped_policy
from banel_envs.problem import Problem, Tokens
from banel_envs.task import Task
from banel_envs.tasks.shared import patches
from banel_envs.tasks.shared.patches import Images

KEY = b"banel/ZeroToSixMNIST"  # with this key the digests differ from those of any other task
HALF_BLACK = 127.5  # the middle of the grey levels 0..255
MARGIN = 4  # how many pixels are cut off on each side
BALL = 400  # the number of clean sixes with a ball; with all of them an exact evaluation would take minutes
FULL = 1_500  # the number of clean sixes of 28x28 pixels, for the same reason


def pooled(images: NDArray[np.uint8]) -> Images:
    """Grey images [n, 28, 28] as binary images [n, 10, 10]."""
    crop = images[:, MARGIN:-MARGIN, MARGIN:-MARGIN]
    means: Images = crop.reshape(-1, 10, 2, 10, 2).mean(axis=(2, 4)) >= HALF_BLACK
    return means


def full(images: NDArray[np.uint8]) -> Images:
    """Grey images [n, 28, 28] as binary images of the same size."""
    ink: Images = images >= HALF_BLACK
    return ink


def distinct(digit: int, binary: Callable[[NDArray[np.uint8]], Images], purpose: str) -> Tokens:
    """The distinct binary images of a digit in MNIST, as tokens [n, T] in lexicographic order."""
    images, labels = mnist(data_folder(purpose))
    return np.unique(patches.to_tokens(binary(images[labels == digit])), axis=0)


def digests(tokens: NDArray[np.integer]) -> NDArray[np.uint64]:
    """The keyed 64-bit digest (BLAKE2b) of each sequence [n, T]: [n]."""
    keyed, rows = hashlib.blake2b(digest_size=8, key=KEY), tokens.astype(np.uint8)
    answers = []
    for row in rows:
        one = keyed.copy()
        one.update(row)
        answers.append(one.digest())
    return np.frombuffer(b"".join(answers), "<u8").astype(np.uint64)


def ball(tokens: NDArray[np.integer]) -> NDArray[np.uint8]:
    """Each sequence [n, T], and all sequences that differ from it in one pixel: [n, 1 + 4T, T]."""
    # A token has one bit for each pixel, so XOR with a single bit flips one pixel. The first row flips none.
    T = tokens.shape[1]
    flips = np.zeros((1 + 4 * T, T), np.uint8)
    flips[1 + np.arange(4 * T), np.arange(4 * T) // 4] = np.tile(patches.BITS, T)
    return tokens.astype(np.uint8)[:, None] ^ flips


@dataclass(frozen=True)
class Variant:
    """One of the three tasks: its images, and the clean sixes that count as successes."""

    id: str
    horizon: int
    binary: Callable[[NDArray[np.uint8]], Images]
    base: str
    table: str  # the digests of the clean sixes, in the order in which they are taken
    most: int | None = None  # how many of them count; None for all
    radius: int = 0  # pixels that a success may differ from a clean six
    budget: int = 7_500


@cache
def counted(variant: Variant) -> NDArray[np.uint64]:
    """The digests of the clean sixes that count, ascending."""
    with np.load(asset(variant.table)) as arrays:
        return np.sort(arrays["digests"][: variant.most])


def reward(variant: Variant, tokens: Tokens) -> NDArray[np.int8]:
    """1 for a sequence that is a clean six, or within the radius of one, else 0: [n]."""
    if not variant.radius:
        return np.isin(digests(tokens), counted(variant)).astype(np.int8)
    # Only digests of the sixes are known, so it is the neighbours of the sequence that are looked up.
    near = ball(tokens)
    known = np.isin(digests(near.reshape(-1, variant.horizon)), counted(variant)).astype(np.int8)
    hits: NDArray[np.int8] = known.reshape(near.shape[:2]).max(axis=1)
    return hits


@cache
def sixes(variant: Variant) -> Tokens:
    """The clean sixes that count: [n, T].

    Raises:
        DataMissing, DataAltered: the images of MNIST are missing or are not the original ones.
    """
    images = distinct(6, variant.binary, f"the successes of {variant.id}")
    clean: Tokens = images[np.isin(digests(images), counted(variant))]
    return clean


@cache
def successes(variant: Variant) -> Tokens:
    """Every success: [N, T]; raises what `sixes` raises."""
    if not variant.radius:
        return sixes(variant)
    return np.unique(ball(sixes(variant)).reshape(-1, variant.horizon), axis=0).astype(np.int64)


def _build(variant: Variant) -> Task:
    problem = Problem(
        id=variant.id,
        vocabulary=patches.VOCABULARY,
        horizon=variant.horizon,
        budget=variant.budget,
        base=partial(shipped_policy, variant.base),
        printer=patches.text,
        image=patches.picture,
    )
    rule = f"{combined_digest(variant.table, variant.base)} {KEY!r} {variant.most} {variant.radius}"
    return Task(
        problem,
        partial(reward, variant),
        successes=partial(successes, variant),
        witness=lambda: sixes(variant)[0],
        digest=hashlib.sha256(rule.encode()).hexdigest(),
        family="paper",
    )


TABLE, TABLE_28 = "zero_to_six_mnist_digests.npz", "zero_to_six_mnist28_digests.npz"
BASE, BASE_28 = "zero_to_six_mnist_base.safetensors", "zero_to_six_mnist28_base.safetensors"
MNIST = Variant("banel/ZeroToSixMNIST-v0", 25, pooled, BASE, TABLE)
MNIST_BALL = Variant("banel/ZeroToSixMNISTBall-v0", 25, pooled, BASE, TABLE, most=BALL, radius=1)
MNIST_28 = Variant("banel/ZeroToSixMNIST28-v0", 196, full, BASE_28, TABLE_28, most=FULL, budget=2_500)


def build_v0() -> Task:
    """ZeroToSixMNIST-v0."""
    return _build(MNIST)


def build_ball() -> Task:
    """ZeroToSixMNISTBall-v0."""
    return _build(MNIST_BALL)


def build_28() -> Task:
    """ZeroToSixMNIST28-v0."""
    return _build(MNIST_28)
