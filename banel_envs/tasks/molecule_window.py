"""MoleculeWindow: write a molecule whose five properties lie in narrow windows at once.

Success: the string is well-formed (smiles.py), rdkit parses it, and ring count (independent cycles), molecular weight,
logP (Crippen), synthetic accessibility (SA score, Ertl and Schuffenhauer 2009, from rdkit's Contrib) and drug-likeness
(QED, Bickerton et al. 2012) all lie in their windows, see WINDOWS. Rewards need rdkit (extra `chem`). Rings and the mass of
the heavy atoms are read off the tokens. The other properties are computed in the order of their cost, and computing stops
at the first one outside its window, so QED is computed for few molecules. Vocabulary 22, horizon 40, budget 5,000.

The successes cannot be enumerated. A pool ships instead: the successes among 1,000,000 sequences that were drawn once from
the base policy, and among sequences from two proposals that succeed 70 and 400 times as often. These are some 2,200
distinct successes on v0 and 1,050 on Hard. The rate of a policy is given as a certified interval (certified.py). Its lower
end is the exact probability of the successes in the pool, of those that the run asked and of those that were met while
counting. Its upper end is the probability of the pool's and the run's successes, plus what 10,000 samples of the policy
leave possible. If no other success is met, that is 10^-3.43. The last policy of a run gets 100,000 samples (10^-4.43, some
25 seconds on one core); 1,000,000 would give 10^-5.43 (4 minutes: `success_rate(..., samples=10**6)`). A number is given
if 100 samples succeed, or if importance sampling can be trusted (importance.py).
Base success from a million samples of the base policy, with 105 and 18 successes: 1.04e-4 (95%: 8.5e-5 to 1.26e-4) on v0,
and between 1.1e-5 and 2.8e-5 on Hard.
rdkit computes the properties (the pool was judged with 2026.09.1). With another version a molecule may leave its window.
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
SAMPLES, FINAL = 10_000, 100_000  # the size of the counting sample of a policy, and of the last policy of a run
REMEMBERED = 100_000  # how many molecules the results of `judge` are kept for
KEYS = {"banel/MoleculeWindow-v0": "v0", "banel/MoleculeWindowHard-v0": "hard"}  # names in the pool's file
MOST_HYDROGENS = 0.16  # largest share of a molecule's mass; a cycloalkane's is 0.144, and every window asks for rings


Window = tuple[float, float]
"""Both ends, inclusive."""


@dataclass(frozen=True)
class Windows:
    """A window for each property, in the order in which they are computed: the cheapest first."""

    rings: Window  # the number of independent cycles
    weight: Window  # Da
    logp: Window
    sa: Window  # 1 (easy to make) to 10
    qed: Window  # 0 to 1


WINDOWS = {
    "banel/MoleculeWindow-v0": Windows((3, 3), (300, 310), (2.0, 2.5), (1.0, 2.4), (0.9, 1.0)),
    "banel/MoleculeWindowHard-v0": Windows((3, 3), (302, 306), (2.0, 2.5), (1.0, 2.2), (0.9, 1.0)),
}


def properties(molecule: Any) -> Iterator[float]:
    """Weight, logP, SA and QED of an rdkit molecule. Each is computed only when it is asked for."""
    kit = smiles.rdkit()
    yield kit.MolWt(molecule)
    yield kit.MolLogP(molecule)
    yield kit.sa_score(molecule)
    yield kit.qed(molecule)


@lru_cache(REMEMBERED)
def judge(text: str, w: Windows) -> bool:
    """Whether rdkit reads a SMILES as a molecule whose weight, logP, SA and QED lie in their windows."""
    molecule = smiles.molecule(text)
    if molecule is None:
        return False
    return all(low <= value <= high for value, (low, high) in zip(properties(molecule), astuple(w)[1:], strict=True))


def possible(tokens: Tokens, w: Windows) -> NDArray[np.bool_]:
    """Which sequences [n, T] can succeed, as far as the rings and the mass of the heavy atoms tell: [n].

    Both are read off the tokens, so most sequences are decided without rdkit.
    """
    rings, mass = smiles.ring_count(tokens), smiles.heavy_mass(tokens)
    inside = (rings >= w.rings[0]) & (rings <= w.rings[1])
    inside &= (mass <= w.weight[1]) & (mass >= w.weight[0] * (1 - MOST_HYDROGENS))
    return inside


def reward(w: Windows, tokens: Tokens) -> NDArray[np.int8]:
    """1 for a molecule with every property in its window, else 0: [n].

    Raises:
        MissingExtra: rdkit is not installed.
    """
    smiles.rdkit()  # a missing rdkit must not depend on whether a sequence of this batch needs it
    rows = np.flatnonzero(possible(tokens, w))
    rows = rows[smiles.well_formed(tokens[rows])]
    rewards = np.zeros(len(tokens), np.int8)
    rewards[rows] = [judge(smiles.text_of(row), w) for row in tokens[rows]]
    return rewards


@cache
def pool(id: str) -> Pool:
    """The task's known successes, and the number of sequences that the base policy and each proposal drew for them."""
    key = KEYS[id]
    policies = [shipped_policy(name) for name in (BASE, *PROPOSALS)]
    with np.load(asset(POOL)) as table:
        known = [
            Proposal(policy, int(drawn), table[f"{key}_{k}"].astype(np.int64))
            for k, (policy, drawn) in enumerate(zip(policies, table[f"{key}_drawn"], strict=True))
        ]
    return Pool(tuple(known), SAMPLES, FINAL)


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
    """MoleculeWindowHard-v0: its windows lie inside those of v0, and some are narrower."""
    return _build("banel/MoleculeWindowHard-v0")
