"""Raw data that is not shipped: where it lies, and whether it is what it should be.

Everything is read from the folder that the environment variable BANEL_DATA names. `banel data mnist` puts the images of MNIST
(LeCun, Cortes, Burges; CC BY-SA 3.0) there as `mnist.npz`, `banel data gsm8k` the questions of GSM8K (Cobbe et al. 2021, MIT)
as `gsm8k_train.jsonl.gz` and `gsm8k_test.jsonl.gz`. What is checked is the content, whichever way the files were made.
"""

from __future__ import annotations

import hashlib
import os
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from banel_envs.errors import BadValue, BanelError, FileRefused
from banel_envs.files import safe_files, safe_npz, strict_json

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
GSM8K = {"train": "gsm8k_train.jsonl.gz", "test": "gsm8k_test.jsonl.gz"}
# SHA-256 of each question and each answer in UTF-8, a zero byte behind each: equal however the lines were written and packed.
GSM8K_SHA256 = {
    "train": "f17601ecfbf6da6ab2fee0a4f3f1f2cd1a949bf8e74cab0bc16c655dd48f4fbc",
    "test": "c5b1da44f494863d8fdd63656e6914de8bfdc73cdb98ae07fbd332c73f1ef21d",
}
GSM8K_SIZES = {"train": 7_473, "test": 1_319}
FETCH_GSM8K = "`banel data gsm8k` fetches it"
_GZIP = 16 + zlib.MAX_WBITS  # says zlib that a gzip header comes first


class DataMissing(BanelError):
    """Raw data that this needs is not there; the message says where it is looked for and how to get it."""


class DataAltered(BanelError):
    """Raw data is not what it should be; the message names both hashes."""


class WordProblem(NamedTuple):
    """A question of GSM8K, with a worked-out solution that ends in `#### number`."""

    question: str
    answer: str


def data_folder(purpose: str, holds: str = f"{MNIST} (SHA-256 of its content {MNIST_SHA256}); {FETCH}") -> Path:
    """The folder that BANEL_DATA names.

    Args:
        purpose: what needs it, for the message.
        holds: what the folder has to hold and how to get it, for the message.

    Raises:
        DataMissing: the variable is not set.
    """
    named = os.environ.get(VARIABLE)
    if not named:
        raise DataMissing(f"{purpose}: set the environment variable {VARIABLE} to the folder that holds {holds}")
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


def gsm8k(part: str = "test", folder: Path | None = None) -> list[WordProblem]:
    """The questions of GSM8K in their order: 7,473 of `train` or 1,319 of `test`.

    Args:
        part: "train" or "test".
        folder: where the file lies; by default the folder that BANEL_DATA names.

    Raises:
        BadValue: there is no such part.
        DataMissing: the variable is not set, or the folder has no such file.
        DataAltered: the file is something else.
    """
    if part not in GSM8K:
        raise BadValue(f"GSM8K has no part {part!r}; its parts are {', '.join(GSM8K)}")
    holds = f"{GSM8K[part]} (SHA-256 of its content {GSM8K_SHA256[part]}); {FETCH_GSM8K}"
    path = (data_folder("the questions of GSM8K", holds) if folder is None else folder) / GSM8K[part]
    if not path.is_file():
        raise DataMissing(f"{path} is missing: {VARIABLE} must name the folder that holds {holds}")
    try:
        content = _unzipped(safe_files.read(path, safe_files.TABLE, links=True))
    except (FileRefused, zlib.error) as error:
        raise DataAltered(f"{path} is no gzip file with GSM8K: {error}; remove it, then {FETCH_GSM8K}") from error
    return check_gsm8k(content, part, str(path))


def check_gsm8k(content: bytes, part: str, source: str) -> list[WordProblem]:
    """The questions in lines of JSON, once their content has been checked.

    Raises:
        DataAltered: names the source and both hashes.
    """
    try:
        lines = [strict_json.loads(line) for line in content.splitlines()]
        found = [WordProblem(str(line["question"]), str(line["answer"])) for line in lines]
    except (ValueError, LookupError, TypeError) as error:
        raise DataAltered(f"{source} has no lines of JSON with question and answer: {error}; {FETCH_GSM8K}") from error
    text = "".join(f"{one.question}\0{one.answer}\0" for one in found)
    digest = hashlib.sha256(text.encode()).hexdigest()
    if digest != GSM8K_SHA256[part]:
        raise DataAltered(
            f"{source} is not the part {part} of GSM8K: {len(found)} questions, SHA-256 of their content {digest}, expected "
            f"{GSM8K_SIZES[part]} with {GSM8K_SHA256[part]}; remove it, then {FETCH_GSM8K}"
        )
    return found


def _unzipped(packed: bytes) -> bytes:
    """The content of a gzip file, which may not be longer than a table; zlib.error for anything else."""
    unpacking = zlib.decompressobj(_GZIP)
    content = unpacking.decompress(packed, safe_files.TABLE)
    if not unpacking.eof:
        raise zlib.error(f"it is cut off, or holds more than {safe_files.TABLE} bytes")
    return content
