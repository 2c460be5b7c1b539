"""The numbers that a policy of a language model is made of: each is named where it is none that can be."""

from __future__ import annotations

import operator
from typing import Any

import numpy as np

from banel_envs.errors import BadValue
from banel_envs.files.visible import shown


def whole_ids(values: Any, what: str, takes: str) -> tuple[int, ...]:
    """Whole numbers, as they stand in a list, an array or a tensor; BadValue, naming the value, for anything else."""
    try:
        return tuple(operator.index(k) for k in values)
    except TypeError:
        raise BadValue(f"{what} is {shown(values)}; give {takes}, which are whole numbers") from None


def check_temperature(value: float) -> None:
    """BadValue unless it is a finite number above 0."""
    if not (is_number(value) and 0 < value < np.inf):
        raise BadValue(f"temperature is {shown(value)}; it must be a finite number above 0")


def is_number(value: Any) -> bool:
    """Whether it is a real number, of Python's or NumPy's."""
    return isinstance(value, int | float | np.integer | np.floating) and not isinstance(value, bool)


def check_whole(name: str, value: Any, most: int | None = None) -> None:
    """BadValue unless it is a whole number of at least 1, and at most `most` where that is given."""
    whole = isinstance(value, int | np.integer) and not isinstance(value, bool)
    if not whole or value < 1 or (most is not None and value > most):
        limit = f" and at most {most:,}" if most else ""
        raise BadValue(f"{name} is {value!r}; it is a whole number of at least 1{limit}")
