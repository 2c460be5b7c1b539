"""Rebuild the assets of ZeroToSix on MNIST: the digests of the clean sixes, and two GRUs fitted to the zeros.

What is learnt from MNIST ships, and no image of it. A six is clean if a small network, fitted to the half of MNIST that
the six is not in, gives "six" a probability of at least .95, of all ten digits, on the binary image. The tables list
the digests in a random order, so that a part of one is a fair sample.
What this prints tells how good a base policy is: nats a zero, and the share of its samples that such a network, fitted
to all of MNIST, calls a zero.
"""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neural_network import MLPClassifier

from banel_envs.build.zero_to_six import fit_gru
from banel_envs.data import data_folder, mnist
from banel_envs.policies.networks.gru import GRUConfig
from banel_envs.policies.storage.store import save_policy
from banel_envs.policies.torch_policy import TorchPolicy
from banel_envs.problem import Tokens
from banel_envs.tasks.shared import patches
from banel_envs.tasks.zero_to_six_mnist import FULL, MNIST, MNIST_28, Variant, digests

TAKES = "about 15 minutes on one core, 1 GB of memory, mnist.npz in --data or BANEL_DATA (extra: digits)"

SEED = 20251010
WIDTH = 128
EPOCHS = {MNIST.horizon: 20, MNIST_28.horizon: 15}
CLEAN = 0.95
JUDGED = 1_000  # samples that the classifier judges


def build(out: Path, data: Path | None = None, instance: int = 0) -> None:
    """Write every asset of this family into `out`."""
    warnings.simplefilter("ignore", ConvergenceWarning)  # a fixed number of epochs is what is wanted
    images, labels = mnist(data or data_folder("building zero_to_six_mnist"))
    for variant in (MNIST, MNIST_28):
        rng = np.random.default_rng([SEED, instance, variant.horizon])
        tokens = patches.to_tokens(variant.binary(images))
        clean = clean_sixes(tokens, labels)
        # In random order, so that any first part of the table is a random part of the sixes (Variant.most).
        kept = rng.permutation(np.unique(digests(clean)))[: FULL if variant is MNIST_28 else None]
        np.savez_compressed(out / variant.table, digests=kept)
        print(f"{variant.id}: {len(kept)} of {(labels == 6).sum()} sixes kept, {len(clean)} rows clean")
        zeros = np.unique(tokens[labels == 0], axis=0)
        policy = fit_gru(zeros, config(variant), EPOCHS[variant.horizon], rng)
        save_policy(out / variant.base, policy)
        report(variant, policy, zeros, classifier().fit(pixels(tokens), labels), rng)


def config(variant: Variant) -> GRUConfig:
    """The sizes of a variant's base policy."""
    return GRUConfig(len(patches.VOCABULARY), variant.horizon, WIDTH)


def classifier() -> MLPClassifier:
    """A small network over ten digits."""
    return MLPClassifier((256,), batch_size=256, max_iter=15, random_state=SEED)


def pixels(tokens: Tokens) -> NDArray[np.float32]:
    """Sequences [n, T] as rows of pixels [n, 4T]."""
    return patches.to_images(tokens).reshape(len(tokens), -1).astype(np.float32)


def clean_sixes(tokens: Tokens, labels: NDArray[np.uint8]) -> Tokens:
    """The sixes among all of MNIST [70000, T] that the other half's classifier is sure of."""
    # Each half is judged by a classifier that was fitted to the other half and has never seen its images.
    halves = StratifiedKFold(2, shuffle=True, random_state=SEED)
    judged = cross_val_predict(classifier(), pixels(tokens), labels, cv=halves, method="predict_proba")
    clean: Tokens = tokens[(labels == 6) & (judged[:, 6] >= CLEAN)]
    return clean


def report(
    variant: Variant, policy: TorchPolicy, zeros: Tokens, judge: MLPClassifier, rng: np.random.Generator
) -> None:
    """Print how good a base policy is."""
    called = judge.predict(pixels(policy.sample(JUDGED, rng)))
    print(f"{variant.id}: {-policy.log_prob(zeros).mean():.2f} nats a zero")
    print(
        f"{(called == 0).mean():.1%} of {JUDGED} samples, {(judge.predict(pixels(zeros)) == 0).mean():.1%} of the zeros"
    )
