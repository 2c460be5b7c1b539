"""The limits of a stored policy. Sizes and numbers of a file are checked before anything is made of them.

Each function raises ValueError with the name, the value and the limit.
"""

from __future__ import annotations

import sys
from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banel_envs.files.visible import shown

# A network's sizes are bounded by its arrays, which are in the file. These bound policies that have no array of that size.
MOST_VOCABULARY, MOST_HORIZON = 2**20, 2**13  # tokens
MOST_LAYERS = 256  # layers of a network; each has at least 4 arrays
MOST_PARTS = 1_000  # policies that one policy is made of
MOST_SCORED, MOST_STEPS, MOST_BYTES = 4_000_000, 100_000, 2**33  # the work of an excluding policy, see `work`
MOST_STRENGTH = 1e6  # of a guided policy
COLDEST = 1e-100  # the lowest temperature; its inverse is the highest. Beyond them logits overflow

Array = NDArray[Any]


def keys(where: str, found: Any, wanted: Collection[str]) -> None:
    """Check that a table has exactly these keys."""
    if not isinstance(found, dict):
        raise ValueError(f"{where} is {shown(found)}, not a table")
    if odd := sorted(set(wanted) ^ found.keys()):
        raise ValueError(f"{where} {'has the key' if odd[0] in found else 'lacks'} {shown(odd[0])}")


def whole(name: str, value: Any, low: int, high: int) -> int:
    """Check a whole number from low to high."""
    # `type` and not isinstance, because True is an int.
    if type(value) is not int or not low <= value <= high:
        raise ValueError(f"{name} is {shown(value)}; it is a whole number from {low} to {high:,}")
    return value


def number(name: str, value: Any, low: float = -sys.float_info.max, high: float = sys.float_info.max) -> float:
    """Check a finite number from low to high."""
    if type(value) not in (int, float) or not low <= value <= high:
        raise ValueError(f"{name} is {shown(value)}; it is a number from {low:g} to {high:g}")
    return float(value)


def temperature(value: Any) -> float:
    """Check a temperature; no logit may overflow by it."""
    return number("temperature", value, COLDEST, 1 / COLDEST)


def end(value: Any, vocabulary: int) -> int | None:
    """Check the index of the end token, or None."""
    return None if value is None else whole("end", value, 0, vocabulary - 1)


def sequences(name: str, array: Array, axes: int, vocabulary: int, horizon: int | None = None) -> None:
    """Check token sequences [.., T] of this vocabulary."""
    if array.dtype != np.int64 or array.ndim != axes or horizon not in (None, array.shape[-1]):
        wanted = f"{axes} axes, the last of {horizon or 'T'}"
        raise ValueError(f"{name} has {array.dtype} {shown(list(array.shape))}; it is int64 with {wanted}")
    if not 1 <= array.shape[-1] <= MOST_HORIZON:
        raise ValueError(f"{name} has sequences of {array.shape[-1]} tokens; they have 1 to {MOST_HORIZON:,}")
    if array.size and not (array.min() >= 0 and array.max() < vocabulary):
        raise ValueError(f"{name} has tokens {array.min()}..{array.max()}; they lie in 0..{vocabulary - 1}")


def automaton(name: str, array: Array) -> None:
    """Check a table [S, V] of the states that follow each token, -1 where the token is forbidden."""
    if array.dtype != np.int64 or array.ndim != 2 or not array.size:
        raise ValueError(f"{name} has {array.dtype} {shown(list(array.shape))}; it is int64 [states, vocabulary]")
    if not (array.min() >= -1 and array.max() < len(array)):
        raise ValueError(f"{name} has states {array.min()}..{array.max()}; they lie in -1..{len(array) - 1}")


def work(rows: int, parts: int, horizon: int, vocabulary: int, chunk: int) -> None:
    """Check the work that an excluding policy takes, which grows with the excluded sequences and is not seen in the file's size.

    To find the probability that is left over, every part scores every excluded sequence, `chunk` of them at once and token
    by token. At one position they have rows x V numbers in all, of which a part is held at once.
    """
    scores, steps = rows * parts, -(-rows // chunk) * parts * horizon
    weighed = rows * vocabulary * 8
    if scores > MOST_SCORED or steps > MOST_STEPS or weighed > MOST_BYTES:
        raise ValueError(
            f"{rows:,} sequences are excluded; to weigh them takes {scores:,} scores in {steps:,} steps and {weighed:,} bytes "
            f"a position, more than {MOST_SCORED:,}, {MOST_STEPS:,} or {MOST_BYTES:,}"
        )


def network_config(config: Any, fields: Iterable[str], arrays: Mapping[str, Array]) -> None:
    """The sizes of a network, none of them larger than what its arrays can hold."""
    names = tuple(fields)
    keys("config", config, names)
    numbers = sum(array.size for array in arrays.values())
    for name in names:
        whole(name, config[name], 1, min(MOST_LAYERS, len(arrays) // 4) if name == "layers" else numbers)
    if config["width"] % config.get("heads", 1):
        raise ValueError(f"width is {config['width']}; it is a multiple of the {config['heads']} heads")


def weights(arrays: Mapping[str, Array], shapes: Mapping[str, tuple[int, ...]], finite: bool) -> None:
    """Exactly these arrays, in float32, without NaN and infinity."""
    keys("the set of weights", dict(arrays), shapes)
    for name, shape in shapes.items():
        array = arrays[name]
        if array.dtype != np.float32 or array.shape != shape:
            raise ValueError(
                f"{name} is {array.dtype} {shown(list(array.shape))}; it is float32 {shown(list(shape))} in this network"
            )
        if finite and not np.isfinite(array).all():
            raise ValueError(f"{name} has {int((~np.isfinite(array)).sum())} numbers that are NaN or infinite")
