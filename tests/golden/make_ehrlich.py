"""Make ehrlich.npz: the registered Ehrlich functions and their values on 10,000 sequences each, by pytorch-holo.

pytorch-holo needs numpy<2, so it runs in an environment of its own (about a minute):

    python3 -m venv holo
    holo/bin/pip install 'numpy<2' pytorch-holo==0.0.5 torch==2.13.0
    holo/bin/python tests/golden/make_ehrlich.py
    python -m banel_envs.build ehrlich --data tests/golden    # then, in the project's environment: the assets

A function is named by its sizes and a torch seed: holo draws the rest. The sequences are chain draws, uniform ones,
some with motifs planted and mutants of optima: each value (and infeasibility) at least 100 times, the rest as drawn.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from holo.test_functions.closed_form import Ehrlich
from holo.test_functions.elemental import sample_dmp

SIZES = {"num_states": 12, "dim": 10, "num_motifs": 2, "motif_length": 4, "quantization": 4}
SEEDS = {"easy": 29, "v0": 31, "hard": 26}  # of 0 to 39: base success nearest 1e-2, 1e-4, 1e-6 with most to find
DRAWN, KEPT, LEAST = 400_000, 10_000, 100
INFEASIBLE = 255


def make(name: str) -> Ehrlich:
    """The holo function behind a registered id."""
    return Ehrlich(**SIZES, random_seed=SEEDS[name])


def values(function: Ehrlich, tokens: np.ndarray) -> np.ndarray:
    """What holo answers to sequences [n, L]: float32 [n], -inf where infeasible."""
    return function(torch.from_numpy(tokens.astype(np.int64))).numpy()


def drawn(function: Ehrlich, rng: np.random.Generator) -> np.ndarray:
    """A mixed pool of distinct sequences [n, L]: of the chain, uniform, with motifs planted, and mutants of optima."""
    n, V, L = DRAWN // 4, SIZES["num_states"], SIZES["dim"]
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    chain = sample_dmp(function.initial_dist, function.transition_matrix, L, n, generator).numpy()
    uniform = rng.integers(V, size=(n, L))
    with_motifs = planted(function, chain, rng)
    optima = with_motifs[values(function, with_motifs) == 1]
    pool = np.concatenate((chain, uniform, with_motifs, mutants(optima, n, rng)))
    return rng.permutation(np.unique(pool, axis=0))


def planted(function: Ehrlich, tokens: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """A copy of the sequences [n, L] with each motif written over them, at a random place."""
    tokens, rows = tokens.copy(), np.arange(len(tokens))[:, None]
    for motif, spacing in zip(function.motifs, function.spacings, strict=True):
        offset = np.append(0, spacing.numpy().cumsum())
        begin = rng.integers(tokens.shape[1] - offset[-1], size=rows.shape)
        tokens[rows, begin + offset] = motif.numpy()
    return tokens


def mutants(parents: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Copies [n, L] of random parents, each with a share of its tokens drawn anew."""
    copies = parents[rng.integers(len(parents), size=n)]
    mutate = rng.random(copies.shape) < rng.choice([0.05, 0.2, 0.4, 0.6], (n, 1))
    copies[mutate] = rng.integers(SIZES["num_states"], size=int(mutate.sum()))
    return copies


def chosen(index: np.ndarray) -> np.ndarray:
    """Rows of the pool [KEPT]: the first LEAST of each value, then the first of what is left."""
    first = np.concatenate([np.flatnonzero(index == value)[:LEAST] for value in np.unique(index)])
    rest = np.setdiff1d(np.arange(len(index)), first)
    return np.sort(np.concatenate((first, rest[: KEPT - len(first)])))


def golden(name: str) -> dict[str, np.ndarray]:
    """Parameters, packed sequences and value indices of one function."""
    function = make(name)
    pool = drawn(function, np.random.default_rng(SEEDS[name]))
    found = values(function, pool)
    table = np.unique(found[np.isfinite(found)])
    index = np.where(np.isfinite(found), np.searchsorted(table, found), INFEASIBLE).astype(np.uint8)
    rows = chosen(index)
    spacings = np.stack([spacing.numpy() for spacing in function.spacings])
    print(name, dict(zip([*table.round(4), "infeasible"], np.unique(index[rows], return_counts=True)[1], strict=True)))
    return {
        "initial": function.initial_dist.numpy(),
        "transition": function.transition_matrix.numpy(),
        "motifs": np.stack([motif.numpy() for motif in function.motifs]),
        "offsets": np.concatenate((np.zeros((len(spacings), 1), np.int64), spacings.cumsum(axis=1)), axis=1),
        "sizes": np.array([SIZES["dim"], SIZES["quantization"]]),
        "tokens": (pool[rows, ::2] << 4 | pool[rows, 1::2]).astype(np.uint8),  # two a byte
        "values": table,
        "index": index[rows],
    }


def main() -> None:
    """Write ehrlich.npz beside this file."""
    arrays = {f"{name}_{field}": array for name in SEEDS for field, array in golden(name).items()}
    np.savez_compressed(Path(__file__).with_name("ehrlich.npz"), **arrays)


if __name__ == "__main__":
    main()
