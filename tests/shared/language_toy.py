"""A language model over 4 tokens, two of which end a text, at 3 positions: every sequence, and how often each is to be drawn."""

from __future__ import annotations

import itertools

import numpy as np
import torch

PROMPT, T, END = (0, 1, 0, 1, 1), 3, 2
SPACE = [s for n in range(T) for s in itertools.product((0, 1), repeat=n)]
SPACE = [(*s, END) for s in SPACE] + [s for s in itertools.product((0, 1), repeat=T)]


def padded():
    return np.array([(*s, *[END] * (T - len(s))) for s in SPACE])


def plain(network, prompt, written):
    """The next-token logits after prompt and tokens, from a plain forward pass of the whole."""
    with torch.no_grad():
        return network(torch.tensor([[*prompt, *written]])).logits[0, -1].double()


def probabilities(network, prompt=PROMPT):
    """The probability of every sequence of the toy, both end ids together."""
    found = []
    for row in SPACE:
        p = 1.0
        for t, token in enumerate(row):
            each = torch.softmax(plain(network, prompt, row[:t]), -1)
            p *= float(each[2] + each[3] if token == END else each[token])
        found.append(p)
    return np.array(found)


def misfit(tokens, expected):
    """Chi-square of the samples against these probabilities of every sequence, and its 1 - 1e-6 limit (Wilson, Hilferty 1931).

    A sample that is no sequence of the toy fits nothing.
    """
    place = {row.tobytes(): k for k, row in enumerate(padded())}
    counts = np.bincount([place.get(row.tobytes(), len(SPACE)) for row in tokens], minlength=len(SPACE) + 1)
    wanted = np.maximum(expected, 1e-9) * len(tokens)
    d = len(SPACE) - 1
    found = np.inf if counts[-1] else ((counts[:-1] - wanted) ** 2 / wanted).sum()
    return found, d * (1 - 2 / (9 * d) + 4.753 * np.sqrt(2 / (9 * d))) ** 3
