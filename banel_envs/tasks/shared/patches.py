"""Binary images as token sequences: an image is cut into 2x2 patches, row by row, and each patch is one of 16 tokens.

A patch's token has one bit for each pixel: 8 top left, 4 top right, 2 bottom left, 1 bottom right. It is printed as a
hexadecimal digit. A whole image is printed in half blocks, one line of text for two rows of pixels. A sequence of patches
is the same as an image, so its probability is that of the image, and it has a quarter of the steps.
"""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from banel_envs.problem import Tokens

Images = NDArray[np.bool_]
"""Binary images [n, side, side], True where there is ink."""

VOCABULARY = tuple("0123456789abcdef")
BITS = np.array([8, 4, 2, 1])  # top left, top right, bottom left, bottom right
HALF_BLOCKS = " ▄▀█"  # the index is 2 x upper + lower pixel
INK, PAPER, BLANK = 0, 255, 160  # grey levels of a picture; BLANK is what is not written yet
PICTURE = 160  # the least number of pixels along a side of a picture


def to_tokens(images: Images) -> Tokens:
    """Images [n, side, side] of even side to tokens [n, (side / 2)^2].

    >>> to_tokens(np.array([[[True, False], [False, True]]])).tolist()
    [[9]]
    """
    n, side, _ = images.shape
    patches = images.reshape(n, side // 2, 2, side // 2, 2).swapaxes(2, 3).reshape(n, -1, 4)
    tokens: Tokens = patches @ BITS
    return tokens


def to_images(tokens: Tokens) -> Images:
    """The inverse of to_tokens: tokens [n, T] to images [n, side, side]."""
    n, T = tokens.shape
    across = math.isqrt(T)
    pixels = (tokens[:, :, None] & BITS) > 0  # [n, T, 4]
    images: Images = pixels.reshape(n, across, across, 2, 2).swapaxes(2, 3).reshape(n, 2 * across, 2 * across)
    return images


def text(tokens: Tokens) -> str:
    """One image [T] in half blocks."""
    upper, lower = (to_images(tokens[None])[0, row::2].astype(int) for row in (0, 1))
    return "\n".join("".join(HALF_BLOCKS[pair] for pair in row) for row in 2 * upper + lower)


def picture(tokens: Tokens) -> NDArray[np.uint8]:
    """One image [T] as pixels [height, width, 3]. Ink is black; a patch that is not written yet (token V) is grey."""
    blank = tokens == len(VOCABULARY)
    ink = to_images(np.where(blank, 0, tokens)[None])[0]
    unwritten = to_images(np.where(blank, BITS.sum(), 0)[None])[0]
    grey = np.where(unwritten, BLANK, np.where(ink, INK, PAPER)).astype(np.uint8)
    scale = -(-PICTURE // len(grey))
    return np.repeat(np.kron(grey, np.ones((scale, scale), np.uint8))[:, :, None], 3, axis=2)
