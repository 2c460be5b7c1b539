"""Rebuild the molecule tasks' assets from ZINC: base policy, the target's spellings, the window tasks' pool.

The base policy (GRU, 128 units) is trained by maximum likelihood on every molecule of `zinc250k.smi.gz` that the
vocabulary can write within the horizon once stereochemistry is dropped: 85,911 of 247,860. 3 in 16 training sequences
are in random atom order, so that one molecule has many likely spellings. Of its samples 86% are well-formed and 75%
molecules; 26.1 nats a sample. The proposals of the window tasks are the same network, moved towards the windows of v0
by the cross-entropy method (Rubinstein 1999), which on this network must stay slow: faster steps collapse onto a few
hundred molecules that say nothing of the base policy's rate.
"""

from __future__ import annotations

import gzip
import math
import re
from dataclasses import astuple
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from tqdm import tqdm

from banel_envs.binomial import clopper_pearson
from banel_envs.build.shared.spellings import plain_spellings
from banel_envs.errors import BadValue
from banel_envs.measure.importance import weigh
from banel_envs.policies.gradient_step import descend
from banel_envs.policies.networks.gru import GRU, GRUConfig
from banel_envs.policies.storage.store import save_policy
from banel_envs.policies.torch_policy import TorchPolicy
from banel_envs.pool import Pool, Proposal
from banel_envs.problem import Tokens
from banel_envs.tasks.molecule_rediscovery import SPELLINGS
from banel_envs.tasks.molecule_window import KEYS, POOL, PROPOSALS, WINDOWS, Windows, possible, properties, reward
from banel_envs.tasks.shared import smiles
from banel_envs.tasks.shared.smiles import BASE

TAKES = "about 25 minutes on one core, 2 GB of memory; --data DIR holds zinc250k.smi.gz; needs rdkit (extra chem)"

RAW = "zinc250k.smi.gz"
CHIRAL = re.compile(r"\[([A-Za-z])@+H?\]")
# Bupropion. 45 drugs and drug-like molecules were tried; in this one the success is spread over many spellings.
TARGET = "CC(NC(C)(C)C)C(=O)c1cccc(Cl)c1"
RANDOM_SPELLINGS = 4  # for each molecule; they are drawn once

WIDTH, STEPS, BATCH, RATE, WARM_UP = 128, 5_000, 256, 4e-3, 100
RANDOM_SHARE = 3 / 16  # of the training sequences that are random spellings

V0 = WINDOWS["banel/MoleculeWindow-v0"]
SAVED = (0.005, 0.03)  # success rates on v0 at which the cross-entropy method saves a proposal
DRAWN, ELITE = 40_000, 0.1  # sequences a round, share kept
FIT_EPOCHS, FIT_BATCH, FIT_RATE = 2, 64, 7e-4
SLACK = (20.0, 0.5, 0.5, 0.1)  # what counts as one unit off: Da, logP, SA, QED
FAR = 3.0  # units
LOG_MOST = 2.0  # the largest weight of a sequence, in nats above the median
SIZES = {"v0": (1_000_000, 300_000, 40_000), "hard": (1_000_000, 1_000_000, 100_000)}
"""Draws that each task's pool holds: of the base policy, then of the proposals."""
CHUNK = 10_000

Drawn = tuple[Tokens, NDArray[np.int64]]
"""Sequences [k, T] and when each was drawn."""


def build(out: Path, data: Path | None = None, instance: int = 0) -> None:
    """Write every asset of this family into `out`."""
    if data is None or not (data / RAW).is_file():
        raise BadValue(f"no {RAW} in the data folder {data}; give the folder that holds it by --data DIR")
    texts = [text for text in zinc(data / RAW) if text != TARGET]
    base = train_base(texts, np.random.default_rng([0, instance]))
    save_policy(out / BASE, base)
    np.savez_compressed(out / SPELLINGS, tokens=spellings(TARGET).astype(np.uint8))
    proposals = train_proposals(base, np.random.default_rng([20251012, instance]))
    for name, proposal in zip(PROPOSALS, proposals, strict=True):
        save_policy(out / name, proposal)
    policies = [base, *proposals]
    sources = [
        draws(policy, V0, max(SIZES[key][k] for key in SIZES), np.random.default_rng([20251014, instance, k]))
        for k, policy in enumerate(policies)
    ]
    make_pool(out / POOL, policies, sources)


def zinc(path: Path) -> list[str]:
    """The molecules that the vocabulary can write within the horizon, as canonical SMILES without stereochemistry."""
    kit = smiles.rdkit()
    with gzip.open(path, "rt") as file:
        flat = {CHIRAL.sub(r"\1", line.strip()).replace("/", "").replace("\\", "") for line in file}
    neutral = [text for text in sorted(flat) if smiles.tokenise(text) is not None]
    canonical = {kit.Chem.MolToSmiles(smiles.molecule(text)) for text in tqdm(neutral, "ZINC", mininterval=10)}
    kept = sorted(text for text in canonical if _fits(text))
    print(f"ZINC: {len(kept):,} of {len(flat):,} molecules fit")
    return kept


def _fits(text: str) -> bool:
    """Whether a SMILES stands within the horizon, its end token included."""
    numbers = smiles.tokenise(text)
    return numbers is not None and len(numbers) < smiles.HORIZON


def random_spellings(texts: list[str]) -> Tokens:
    """Some of each molecule's spellings in random atom order that fit: [m, T]."""
    kit = smiles.rdkit()
    found: list[str] = []
    for k, text in enumerate(tqdm(texts, "spellings", mininterval=10)):
        drawn = kit.Chem.MolToRandomSmilesVect(smiles.molecule(text), RANDOM_SPELLINGS, randomSeed=k + 1)
        found += [spelling for spelling in drawn if _fits(spelling)]
    return smiles.encode(found)


def train_base(texts: list[str], rng: np.random.Generator) -> TorchPolicy:
    """Maximum likelihood, RANDOM_SHARE of each batch random spellings; the rate decays along a cosine."""
    canonical, spelled = smiles.encode(texts), random_spellings(texts)
    randomised = int(RANDOM_SHARE * BATCH)
    net = GRU(GRUConfig(smiles.V, smiles.HORIZON, WIDTH))
    net.initialise(rng)
    policy = TorchPolicy(net, smiles.END)
    optimiser = torch.optim.Adam(net.parameters(), RATE)
    for step in tqdm(range(STEPS), "base", mininterval=10):
        for group in optimiser.param_groups:
            group["lr"] = RATE * min(1, (step + 1) / WARM_UP) * (1 + math.cos(math.pi * step / STEPS)) / 2 + 1e-5
        parts = [
            rows[rng.integers(len(rows), size=n)]
            for rows, n in ((canonical, BATCH - randomised), (spelled, randomised))
        ]
        descend(optimiser, policy.loss(np.concatenate(parts)))
    net.eval()
    sample = policy.sample(2_000, rng)
    valid = np.mean([smiles.molecule(smiles.text_of(row)) is not None for row in sample])
    nats = [-policy.log_prob(rows[:2_000]).mean() for rows in (canonical, spelled)]
    print(f"base: {valid:.1%} valid, {nats[0]:.2f} nats a canonical, {nats[1]:.2f} a random spelling")
    return policy


def spellings(target: str) -> Tokens:
    """Every plain spelling of the target that fits the horizon [N, T]: the canonical one first, the others sorted."""
    molecule = smiles.molecule(target)
    written = plain_spellings(molecule, smiles.RINGS)
    canonical = smiles.rdkit().Chem.MolToSmiles(molecule)
    fitting = sorted(text for text in written - {canonical} if len(smiles.tokenise(text) or ()) <= smiles.HORIZON)
    print(f"target: {len(written):,} plain spellings, {len(fitting) + 1:,} of them fit")
    return smiles.encode([canonical, *fitting])


def train_proposals(base: TorchPolicy, rng: np.random.Generator) -> list[TorchPolicy]:
    """The base policy moved towards the windows of v0 by the cross-entropy method: its states at SAVED success rates.

    Each round draws, and fits the policy to the draws that lie nearest to the windows, weighted towards the base.
    """
    policy = base.clone()
    saved: list[TorchPolicy] = []
    while len(saved) < len(SAVED):
        tokens = policy.sample(DRAWN, rng)
        off = distance(tokens, V0)
        order = np.argsort(off, kind="stable")[: int(ELITE * DRAWN)]
        kept = tokens[order[np.isfinite(off[order])]]
        # Half of the importance weight. The whole would rest on a few sequences; none would let the policy collapse.
        log_weights = (base.log_prob(kept) - policy.log_prob(kept)) / 2
        weights = np.exp(np.minimum(log_weights - np.median(log_weights), LOG_MOST))
        share = float((off == 0).mean())
        print(f"proposal: {share:.3%} of {DRAWN:,} inside, {len(kept):,} kept", flush=True)
        if share >= SAVED[len(saved)]:
            saved.append(policy.clone())
        optimiser = torch.optim.Adam(policy.network.parameters(), FIT_RATE)
        for _ in range(FIT_EPOCHS):
            for rows in np.array_split(rng.permutation(len(kept)), -(-len(kept) // FIT_BATCH)):
                descend(optimiser, policy.loss(kept[rows], weights[rows] / weights.mean()))
    return saved


def distance(tokens: Tokens, w: Windows) -> NDArray[np.float64]:
    """How far each molecule lies from the windows, summed over properties in units of SLACK: [n].

    Infinite for what is none, has other rings, or is more than FAR off before all is computed.
    """
    off = np.full(len(tokens), np.inf)
    rows = np.flatnonzero(possible(tokens, w))
    for k in rows[smiles.well_formed(tokens[rows])]:
        molecule = smiles.molecule(smiles.text_of(tokens[k]))
        if molecule is not None:
            off[k] = _distance(molecule, w)
    return off


def _distance(molecule: Any, w: Windows) -> float:
    total = 0.0
    for value, (low, high), unit in zip(properties(molecule), astuple(w)[1:], SLACK, strict=True):
        total += max(0.0, low - value, value - high) / unit
        if total > FAR:
            return math.inf
    return total


def draws(policy: TorchPolicy, w: Windows, n: int, rng: np.random.Generator) -> tuple[Tokens, NDArray[np.int64]]:
    """Those of n sequences that lie inside the windows [k, T], and the place at which each was drawn [k]."""
    inside, places = [], []
    for start in tqdm(range(0, n, CHUNK), "draws", mininterval=10):
        tokens = policy.sample(min(CHUNK, n - start), rng)
        rows = np.flatnonzero(reward(w, tokens))
        inside.append(tokens[rows])
        places.append(start + rows)
    return np.concatenate(inside), np.concatenate(places)


def make_pool(path: Path, policies: list[TorchPolicy], sources: list[Drawn]) -> None:
    """Keep the successes among the policies' draws, the base's first, and compare the estimates for the base."""
    table: dict[str, Any] = {}
    # The windows of Hard lie inside those of v0, so one set of draws, judged on v0 first, serves both tasks.
    for id, key in KEYS.items():
        hits = []
        for k, ((tokens, place), size) in enumerate(zip(sources, SIZES[key], strict=True)):
            early = tokens[place < size]
            hits.append(early[reward(WINDOWS[id], early) == 1])
            table[f"{key}_{k}"] = hits[-1].astype(np.uint8)
        table[f"{key}_drawn"] = np.array(SIZES[key])
        _compare(id, hits, SIZES[key], policies)
    np.savez_compressed(path, **table)


def _compare(id: str, hits: list[Tokens], sizes: tuple[int, ...], policies: list[TorchPolicy]) -> None:
    base = policies[0]
    for k, (rows, n, policy) in enumerate(zip(hits, sizes, policies, strict=True)):
        print(f"{id}, policy {k}: {len(rows):,} of {n:,} succeed, {len(np.unique(rows, axis=0)):,} distinct")
        weights = np.exp(base.log_prob(rows) - policy.log_prob(rows)) / n
        error, effective = 1.96 * np.sqrt((weights**2).sum()), weights.sum() ** 2 / (weights**2).sum()
        print(f"  base, by them alone: {weights.sum():.3e} +- {error:.1e}, effective sample size {effective:.0f}")
    low, high = clopper_pearson(len(hits[0]), sizes[0])
    print(f"  base, by plain Monte Carlo: {low:.3e} to {high:.3e}")
    known = tuple(Proposal(p, n, rows) for p, n, rows in zip(policies[1:], sizes[1:], hits[1:], strict=True))
    _, weighed = weigh(base, hits[0], sizes[0], Pool(known))
    every = np.ones(len(weighed.log_counts), bool)
    found = weighed.estimate(every)
    print(f"  base, by all: {np.exp(found.log):.3e}, carried by {found.effective:.0f} sequences")
    low, high = np.exp(weighed.counting.log_interval(every))
    print(f"  base, certified: {low:.3e} to {high:.3e}", flush=True)
