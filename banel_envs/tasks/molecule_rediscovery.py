"""MoleculeRediscovery: write a SMILES of one given molecule, the target, which was in no training data.

Success: the string is a plain spelling of the target. All plain spellings ship as a set, so neither a reward nor a success
rate needs rdkit. The atoms may come in any order: any atom may be first, the branches may have any order, and the ring may
be opened at any of its bonds and numbered by any of the four digits. Plain means three things.

1. The six ring atoms are all written as aromatic (c), or all in one of the two Kekulé forms (C, with three bonds =).
2. The last branch of an atom has no brackets: no ")" is followed by ")" or by the end.
3. No bond sign could be left out: there is no "-", and a ring digit has "=" at one of its two ends at most.

There are 30,720 such strings. rdkit reads some 5 * 10^10 strings of at most 40 tokens as the target. Most of them are full
of needless signs and brackets. They are too many to list, and those that are not plain fail.

The target is bupropion, CC(NC(C)(C)C)C(=O)c1cccc(Cl)c1 (16 heavy atoms). Vocabulary 22, horizon 40 (see smiles.py),
budget 5,000. Base success, exact (`banel list`): 10^-8.6654; its effective number of successes is 138. The Kekulé forms
hold 3 millionths of it. With failures alone BaNEL ends below the base, in the median of three seeds (docs/tasks.md).
Source: GuacaMol's rediscovery benchmarks (Brown et al. 2019). Here the similarity to the target is not told.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from banel_envs.assets import asset, combined_digest
from banel_envs.problem import Tokens
from banel_envs.task import Task
from banel_envs.tasks.shared import smiles
from banel_envs.tasks.shared.smiles import BASE

SPELLINGS = "molecule_rediscovery_spellings.npz"


@cache
def successes() -> Tokens:
    """Every spelling of the target: [N, T], the canonical one first."""
    with np.load(asset(SPELLINGS)) as table:
        spellings: Tokens = table["tokens"].astype(np.int64)
    spellings.flags.writeable = False  # every caller gets the same array
    return spellings


@cache
def _keys() -> frozenset[bytes]:
    return frozenset(map(bytes, successes().astype(np.uint8)))


def reward(tokens: Tokens) -> NDArray[np.int8]:
    """1 for one of the target's plain spellings, else 0: [n]."""
    keys = _keys()
    rows = np.ascontiguousarray(tokens, np.uint8)
    return np.fromiter((bytes(row) in keys for row in rows), np.int8, len(rows))


def needless(tokens: Tokens) -> bool:
    """Whether a sequence [T] has a "-" or brackets around a last branch: no plain spelling of the target has them."""
    after = np.append(tokens[1:], smiles.END)
    bracketed = (tokens == smiles.CLOSE) & ((after == smiles.CLOSE) | (after == smiles.END))
    return bool(bracketed.any() or (tokens == smiles.INDEX["-"]).any())


def printer(tokens: Tokens) -> str:
    """One sequence [T] as its SMILES, with its numbers of atoms and rings, and with a note if it cannot be a plain spelling.

    >>> printer(smiles.encode(["CC(C)(C)"])[0])
    'CC(C)(C)  (4 heavy atoms, 0 rings; not a plain spelling: it has needless brackets or "-")'
    """
    text = smiles.printer(tokens)
    if not needless(tokens) or not smiles.well_formed(tokens[None])[0]:
        return text
    return text.removesuffix(")") + '; not a plain spelling: it has needless brackets or "-")'


def target() -> str:
    """The target as rdkit's canonical SMILES."""
    return smiles.text_of(successes()[0])


def build_v0() -> Task:
    """MoleculeRediscovery-v0."""
    return Task(
        smiles.problem("banel/MoleculeRediscovery-v0", printer),
        reward,
        successes=successes,
        witness=lambda: successes()[0],
        digest=combined_digest(SPELLINGS, BASE),
        family="molecules",
    )
