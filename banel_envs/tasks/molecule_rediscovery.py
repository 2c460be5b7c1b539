"""MoleculeRediscovery: write a SMILES of one given molecule, the target, which was in no training data.

Success: the string is one of the target's spellings that rdkit writes (any atom order), a frozen set that ships, so
that neither a reward nor a success rate needs rdkit. A string that parses to the target but that rdkit's writer never
produces (a ring digit skipped, a needless bond sign) fails.

The target is bupropion, CC(NC(C)(C)C)C(=O)c1cccc(Cl)c1 (16 heavy atoms, 448 spellings). Vocabulary 22, horizon 40 (see
smiles.py), budget 5,000. Base success, exact (`banel list`): 10^-8.6654, carried by 138 spellings in effect.
BaNEL from failures alone falls below the base (one seed, 10^-10.1), as its oracle-free twin does.
Source: GuacaMol's rediscovery benchmarks (Brown et al. 2019), with the target's similarity withheld.
"""

from __future__ import annotations

from functools import cache

import numpy as np
from numpy.typing import NDArray

from banel_envs.assets import asset, combined_digest
from banel_envs.problem import Tokens
from banel_envs.task import Task
from banel_envs.tasks import smiles
from banel_envs.tasks.smiles import BASE

SPELLINGS = "molecule_rediscovery_spellings.npz"


@cache
def successes() -> Tokens:
    """Every spelling of the target: [N, T], the canonical one first."""
    with np.load(asset(SPELLINGS)) as table:
        spellings: Tokens = table["tokens"].astype(np.int64)
    spellings.flags.writeable = False  # shared by everyone who asks
    return spellings


@cache
def _keys() -> frozenset[bytes]:
    return frozenset(map(bytes, successes().astype(np.uint8)))


def reward(tokens: Tokens) -> NDArray[np.int8]:
    """1 where the sequence is one of the target's spellings: [n]."""
    keys = _keys()
    rows = np.ascontiguousarray(tokens, np.uint8)
    return np.fromiter((bytes(row) in keys for row in rows), np.int8, len(rows))


def target() -> str:
    """The target as rdkit's canonical SMILES."""
    return smiles.text_of(successes()[0])


def build_v0() -> Task:
    """MoleculeRediscovery-v0."""
    return Task(
        smiles.problem("banel/MoleculeRediscovery-v0"),
        reward,
        successes=successes,
        witness=lambda: successes()[0],
        digest=combined_digest(SPELLINGS, BASE),
    )
