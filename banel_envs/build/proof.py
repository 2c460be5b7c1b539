"""Rebuild Proof's assets from nothing: the theorems and the base policy.

The base policy (d32, 2 layers) learns by maximum likelihood to write proofs of easier theorems: random implications
over p and q whose shortest proof has 6 to 9 rules, proved by search, each with proofs drawn uniformly from its
shortest or its next to shortest ones. The task's own theorems need 10 rules or more, so that none of them was ever
seen. Instance 0 asks for material implication, on Hard for one of De Morgan's laws; other instances for random
theorems. A theorem is taken if the base policy's exact success on it lies in the difficulty's window; the length of
the training was chosen so that both of instance 0 do.
"""

from __future__ import annotations

from collections.abc import Iterator
from itertools import chain, islice
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from banel_envs.build.shared.training import maximum_likelihood
from banel_envs.policies.autoregressive import logsumexp
from banel_envs.policies.networks.transformer import Transformer, TransformerConfig
from banel_envs.policies.storage.store import save_policy
from banel_envs.policies.torch_policy import TorchPolicy
from banel_envs.problem import Tokens
from banel_envs.tasks.proof import BASE, END, HORIZON, THEOREMS, VOCABULARY, encode
from banel_envs.tasks.shared.sequent_calculus import Formula, Formulas, Proofs, Sequent, parse

TAKES = "about 3 minutes on one core, 0.5 GB of memory, no raw data"

NAMED = {"v0": "(~p|q)>(p>q)", "hard": "~(p&q)>(~p|~q)"}
WINDOWS = {"v0": (-6.0, -4.0), "hard": (-14.0, -8.0)}  # log10 of the base policy's success
MOST = 10_000  # proofs within the horizon: bounds the time of an exact evaluation

EASY = range(6, 10)  # rules in the shortest proof of a theorem to train on
THEOREM_COUNT, DRAWS = 3_000, 8  # theorems to train on, draws of a proof for each
ATOMS = "pq"
CONNECTIVES = (2, 7)  # of a random theorem: from, below
STEPS, BATCH, RATE = 600, 256, 1e-3


def build(out: Path, data: Path | None = None, instance: int = 0) -> None:
    """Write every asset of this family into `out`."""
    rng = np.random.default_rng([20251121, instance])
    base = train_base(*training_proofs(rng), rng)
    save_policy(out / BASE, base)
    v0, hard = (choose(name, base, instance, rng) for name in WINDOWS)
    np.savez_compressed(out / THEOREMS, v0=np.array(v0), hard=np.array(hard))


def random_formula(connectives: int, rng: np.random.Generator) -> Formula:
    """A formula over ATOMS with so many connectives: kinds and sizes of parts uniform."""
    if connectives == 0:
        return Formula(ATOMS[rng.integers(len(ATOMS))])
    head = "~&|>"[rng.integers(4)]
    if head == "~":
        return Formula(head, (random_formula(connectives - 1, rng),))
    first = int(rng.integers(connectives))
    return Formula(head, (random_formula(first, rng), random_formula(connectives - 1 - first, rng)))


def random_theorems(rng: np.random.Generator) -> Iterator[Formula]:
    """Distinct random implications that hold, without end."""
    seen = set()
    while True:
        formula = random_formula(int(rng.integers(*CONNECTIVES)), rng)
        if formula.head == ">" and formula not in seen:
            formulas = Formulas(formula)
            if formulas.valid(formulas.goal(formula)):
                seen.add(formula)
                yield formula


def easy_theorems(rng: np.random.Generator) -> Iterator[tuple[Proofs, Sequent, int]]:
    """Theorems to train on: a search over each one's subformulas, its sequent, and its shortest proof's length."""
    for theorem in random_theorems(rng):
        formulas = Formulas(theorem)
        search, goal = Proofs(formulas), formulas.goal(theorem)
        shortest = next((length for length in range(1, EASY.stop) if search.count(goal, length)), 0)
        if shortest in EASY:
            yield search, goal, shortest


def training_proofs(rng: np.random.Generator) -> tuple[Tokens, NDArray[np.int64]]:
    """Proofs [N, T] of easy theorems, and the length of their theorem's shortest proof [N]."""
    proofs, lengths = [], []
    theorems = islice(easy_theorems(rng), THEOREM_COUNT)
    for search, goal, shortest in tqdm(theorems, desc="proofs", total=THEOREM_COUNT, mininterval=10):
        known = [length for length in (shortest, shortest + 1) if search.count(goal, length)]
        proofs += [search.draw(goal, int(rng.choice(known)), rng) for _ in range(DRAWS)]
        lengths += [shortest] * DRAWS
    return encode(proofs), np.array(lengths)


def train_base(proofs: Tokens, shortest: NDArray[np.int64], rng: np.random.Generator) -> TorchPolicy:
    """Maximum likelihood, theorems of each shortest length equally often."""
    net = Transformer(TransformerConfig(len(VOCABULARY), HORIZON))
    net.initialise(rng)
    policy = TorchPolicy(net, END)
    # Most random theorems are easy. Without weights the policy would see few long proofs.
    weights = 1 / np.bincount(shortest)[shortest]
    weights /= weights.sum()
    return maximum_likelihood(
        policy, lambda: proofs[rng.choice(len(proofs), BATCH, p=weights)], STEPS, lambda step: RATE
    )


def choose(name: str, base: TorchPolicy, instance: int, rng: np.random.Generator) -> str:
    """The first theorem, in instance 0 the named one, that fits the difficulty's window."""
    low, high = WINDOWS[name]
    named = [parse(NAMED[name])] if instance == 0 else []
    for theorem in chain(named, random_theorems(rng)):
        formulas = Formulas(theorem)
        search, goal = Proofs(formulas), formulas.goal(theorem)
        # A theorem as easy as those of the training could be among them, and its proof would be known.
        if any(search.count(goal, length) for length in range(1, EASY.stop)):
            continue
        lengths = range(EASY.stop, HORIZON + 1)
        if not 0 < sum(search.count(goal, length) for length in lengths) <= MOST:
            continue
        proofs = encode([proof for length in lengths for proof in search.written(goal, length)])
        success = logsumexp(base.log_prob(proofs)) / np.log(10)
        print(f"{name}: {theorem}, {len(proofs):,} proofs, base success 10^{success:.4f}")
        if low < success < high:
            break
    return str(theorem)
