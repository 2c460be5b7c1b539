"""Fetch raw data that does not ship with the package, for the command `banel data mnist`."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from banel_envs.data import MNIST, MNIST_SHAPES, DataMissing, check_mnist, mnist
from banel_envs.errors import MissingExtra

OPENML = "mnist_784"  # its 70,000 images are in the order of the original files, the training images first
TRAINING = MNIST_SHAPES["train_images"][0]


def fetch_mnist(folder: Path) -> Path:
    """Put mnist.npz into a folder. scikit-learn loads it from OpenML, and its content is checked before it is written.

    If the right file is there already, nothing is loaded.

    Returns:
        The path of the file.

    Raises:
        DataAltered: what was loaded, or the file that is there already, is not MNIST; nothing was written.
        DataMissing: MNIST could not be loaded, or the folder cannot be written to.
        MissingExtra: scikit-learn is not installed, or pandas, which scikit-learn needs to read the files.
    """
    path = folder / MNIST
    if path.exists():
        mnist(folder)
        return path
    arrays = check_mnist(_load(), f"{OPENML} of openml.org")
    try:
        _write(path, arrays)
    except OSError as error:
        raise DataMissing(f"{path} cannot be written: {error}; choose another folder") from error
    return path


def _load() -> dict[str, NDArray[np.generic]]:
    """MNIST from OpenML, as arrays under the names of MNIST_SHAPES."""
    try:
        from sklearn.datasets import fetch_openml

        bunch = fetch_openml(OPENML, version=1, as_frame=False, parser="pandas", cache=False)
        images, labels = np.asarray(bunch.data).reshape(-1, 28, 28), np.asarray(bunch.target).astype(np.int64)
    except ImportError as error:
        raise MissingExtra(f"fetching MNIST: {error}; pip install 'banel-envs[digits,leaderboard]'") from error
    except (OSError, ValueError) as error:
        raise DataMissing(f"{OPENML} could not be loaded from openml.org: {error}; try again later") from error
    return {
        "train_images": images[:TRAINING],
        "train_labels": labels[:TRAINING],
        "test_images": images[TRAINING:],
        "test_labels": labels[TRAINING:],
    }


def _write(path: Path, arrays: Mapping[str, NDArray[np.generic]]) -> None:
    """Write the whole file or nothing: it is written under another name and then renamed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    save: Callable[..., None] = np.savez_compressed  # equal arrays give equal bytes, because it stores no time
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            save(file, **arrays)
            file.flush()
            os.fsync(file.fileno())
        Path(name).chmod(0o644)  # mkstemp makes files that only their owner may read
        Path(name).replace(path)
    finally:
        Path(name).unlink(missing_ok=True)
