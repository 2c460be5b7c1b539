"""Raw data that is not shipped: where it lies, and whether it is what it should be.

The images of MNIST (LeCun, Cortes, Burges; CC BY-SA 3.0) are read from `mnist.npz` in the folder that the environment
variable BANEL_DATA names; `banel data mnist` puts the file there. What is checked is the content, whichever way
the file was made.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from banel_envs.errors import BanelError, FileRefused
from banel_envs.files import safe_files, safe_npz

Bytes = NDArray[np.uint8]

VARIABLE = "BANEL_DATA"
MNIST = "mnist.npz"
PARTS = ("train", "test")
MNIST_SHAPES = {
    "train_images": (60_000, 28, 28),
    "train_labels": (60_000,),
    "test_images": (10_000, 28, 28),
    "test_labels": (10_000,),
}
# SHA-256 of the bytes of the four arrays, one after another. The file's own hash would depend on how it was compressed.
MNIST_SHA256 = "06b0d1f124c4e5fa796686ade41a9b778edacc8622f2195a352ef479ad44fc16"
FETCH = "`banel data mnist` fetches it"


class DataMissing(BanelError):
    """Raw data that this needs is not there; the message says where it is looked for and how to get it."""


class DataAltered(BanelError):
    """Raw data is not what it should be; the message names both hashes."""


def data_folder(purpose: str) -> Path:
    """The folder that BANEL_DATA names.

    Args:
        purpose: what needs it, for the message.

    Raises:
        DataMissing: the variable is not set.
    """
    named = os.environ.get(VARIABLE)
    if not named:
        raise DataMissing(
            f"{purpose}: set the environment variable {VARIABLE} to the folder that holds {MNIST} "
            f"(SHA-256 of its content {MNIST_SHA256}); {FETCH}"
        )
    return Path(named)


def mnist(folder: Path) -> tuple[Bytes, Bytes]:
    """All of MNIST, the training rows first: images [70000, 28, 28] and labels [70000].

    Raises:
        DataMissing: the folder has no mnist.npz.
        DataAltered: it holds something else.
    """
    path = folder / MNIST
    if not path.is_file():
        raise DataMissing(
            f"{path} is missing: {VARIABLE} must name the folder that holds {MNIST} "
            f"(SHA-256 of its content {MNIST_SHA256}); {FETCH}"
        )
    try:
        found = safe_npz.tables(safe_files.read(path, safe_files.TABLE, links=True), safe_files.TABLE)
        arrays = {name: found[name] for name in MNIST_SHAPES}
    except (FileRefused, LookupError, ValueError) as error:
        raise DataAltered(
            f"{path} is no .npz file with {', '.join(MNIST_SHAPES)} "
            f"(SHA-256 of their content {MNIST_SHA256}): {error}; remove it, then {FETCH}"
        ) from error
    arrays = check_mnist(arrays, str(path))
    images, labels = (np.concatenate([arrays[f"{part}_{name}"] for part in PARTS]) for name in ("images", "labels"))
    return images, labels


def check_mnist(arrays: Mapping[str, NDArray[np.generic]], source: str) -> dict[str, Bytes]:
    """The four arrays of MNIST_SHAPES as bytes, once their content has been checked.

    Raises:
        DataAltered: names the source and both hashes.
    """
    content, clean = hashlib.sha256(), {}
    for name, shape in MNIST_SHAPES.items():
        array = arrays[name].astype(np.uint8) if arrays[name].dtype.kind in "uif" else np.empty(0, np.uint8)
        # The conversion to bytes wraps numbers above 255, so the result is compared with what was given.
        if array.shape != shape or not np.array_equal(array, arrays[name]):
            raise DataAltered(
                f"{source} is not MNIST: its {name} are {arrays[name].dtype} {list(arrays[name].shape)}, expected whole "
                f"numbers 0..255 of shape {list(shape)} (SHA-256 of its content {MNIST_SHA256}); {FETCH}"
            )
        content.update(array.tobytes())
        clean[name] = array
    if content.hexdigest() != MNIST_SHA256:
        raise DataAltered(
            f"{source} is not MNIST: SHA-256 of its content {content.hexdigest()}, expected {MNIST_SHA256}; "
            f"remove it, then {FETCH}"
        )
    return clean
