"""MoleculeWindow: write a molecule whose five properties lie in narrow windows at once.

Success: the string is well-formed (smiles.py), rdkit parses it, and ring count (independent cycles), molecular weight,
logP (Crippen), synthetic accessibility (SA score, Ertl and Schuffenhauer 2009, from rdkit's Contrib) and drug-likeness
(QED, Bickerton et al. 2012) all lie in their windows: WINDOWS below. Rewards need rdkit (extra `chem`); rings and the
mass of the heavy atoms are read off the tokens, and properties computed from the cheapest on, so that few reach QED.
Vocabulary 22, horizon 40, budget 5,000.

There is no enumerating the successes. A pool ships instead: those among sequences drawn once from the base policy
(1,000,000) and from two proposals that succeed 70 and 400 times as often: some 2,200 and 1,050 distinct ones. A policy
has a certified interval (certified.py): at least the exact mass of the pool's successes, of those that the run asked
and of those met while counting; at most the pool's and the run's plus what 10,000 of its samples leave open. With nothing met
outside that is 10^-3.43; 10^-4.43 for the last policy of a run (100,000 samples, some 25 seconds on one core); 10^-5.43
would take 1,000,000 (4 minutes: `success_rate(..., samples=10**6)`). A number is given where 100 samples succeed, or
where importance sampling may be believed (importance.py).
Base success by the base's own million draws, 105 and 18 hits: 1.04e-4 (95%: 8.5e-5 to 1.26e-4) on v0, and between
1.1e-5 and 2.8e-5 on Hard.
Values are rdkit's (pool judged with 2026.09.1): another release may move a molecule over an edge.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import astuple, dataclass
from functools import cache, lru_cache, partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banel_envs.assets import asset, combined_digest
from banel_envs.policies.storage.store import shipped_policy
from banel_envs.pool import Pool, Proposal
from banel_envs.problem import Tokens
from banel_envs.task import Task
from banel_envs.tasks.shared import smiles
from banel_envs.tasks.shared.smiles import BASE

PROPOSALS = ("molecule_window_proposal_0.safetensors", "molecule_window_proposal_1.safetensors")
POOL = "molecule_window_pool.npz"
FRESH, FINAL = 10_000, 100_000  # samples that count for a policy beside the pool, and for the last one of a run
REMEMBERED = 100_000  # molecules whose judgement is kept
KEYS = {"banel/MoleculeWindow-v0": "v0", "banel/MoleculeWindowHard-v0": "hard"}  # in the pool's file
MOST_HYDROGENS = 0.16  # share of a molecule's mass at most: a cycloalkane's is 0.144, and every window asks for rings


Window = tuple[float, float]
"""Both ends, inclusive."""


@dataclass(frozen=True)
class Windows:
    """A window for each property, in the order in which they are judged: the cheapest first."""

    rings: Window  # independent cycles
    weight: Window  # Da
    logp: Window
    sa: Window  # 1 (easy to make) to 10
    qed: Window  # 0 to 1


WINDOWS = {
    "banel/MoleculeWindow-v0": Windows((3, 3), (300, 310), (2.0, 2.5), (1.0, 2.4), (0.9, 1.0)),
    "banel/MoleculeWindowHard-v0": Windows((3, 3), (302, 306), (2.0, 2.5), (1.0, 2.2), (0.9, 1.0)),
}


def properties(molecule: Any) -> Iterator[float]:
    """Weight, logP, SA and QED of an rdkit molecule, each computed when it is asked for."""
    kit = smiles.rdkit()
    yield kit.MolWt(molecule)
    yield kit.MolLogP(molecule)
    yield kit.sa_score(molecule)
    yield kit.qed(molecule)


@lru_cache(REMEMBERED)
def judge(text: str, w: Windows) -> bool:
    """Whether rdkit parses a SMILES to a molecule whose weight, logP, SA and QED are inside their windows."""
    molecule = smiles.molecule(text)
    if molecule is None:
        return False
    return all(low <= value <= high for value, (low, high) in zip(properties(molecule), astuple(w)[1:], strict=True))


def possible(tokens: Tokens, w: Windows) -> NDArray[np.bool_]:
    """Which sequences [n, T] can succeed by their rings and the mass of their heavy atoms, read off the tokens: [n]."""
    rings, mass = smiles.ring_count(tokens), smiles.heavy_mass(tokens)
    inside = (rings >= w.rings[0]) & (rings <= w.rings[1])
    inside &= (mass <= w.weight[1]) & (mass >= w.weight[0] * (1 - MOST_HYDROGENS))
    return inside


def reward(w: Windows, tokens: Tokens) -> NDArray[np.int8]:
    """1 where every property of the molecule is in its window: [n].

    Raises:
        MissingExtra: rdkit is not installed.
    """
    smiles.rdkit()
    rows = np.flatnonzero(possible(tokens, w))
    rows = rows[smiles.well_formed(tokens[rows])]
    rewards = np.zeros(len(tokens), np.int8)
    rewards[rows] = [judge(smiles.text_of(row), w) for row in tokens[rows]]
    return rewards


@cache
def pool(id: str) -> Pool:
    """The task's known successes, and how many sequences the base policy and each proposal drew for them."""
    key = KEYS[id]
    policies = [shipped_policy(name) for name in (BASE, *PROPOSALS)]
    with np.load(asset(POOL)) as table:
        known = [
            Proposal(policy, int(drawn), table[f"{key}_{k}"].astype(np.int64))
            for k, (policy, drawn) in enumerate(zip(policies, table[f"{key}_drawn"], strict=True))
        ]
    return Pool(tuple(known), FRESH, FINAL)


def _build(id: str) -> Task:
    return Task(
        smiles.problem(id),
        partial(reward, WINDOWS[id]),
        witness=lambda: pool(id).proposals[0].successes[0],
        pool=partial(pool, id),
        digest=combined_digest(BASE, POOL, *PROPOSALS),
        judges=("rdkit",),
        family="molecules",
    )


def build_v0() -> Task:
    """MoleculeWindow-v0."""
    return _build("banel/MoleculeWindow-v0")


def build_hard() -> Task:
    """MoleculeWindowHard-v0: narrower windows, all of them inside those of v0."""
    return _build("banel/MoleculeWindowHard-v0")
