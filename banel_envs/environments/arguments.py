"""Check the arguments of the environments: seeds, the mask of the copies to reset, and the autoreset mode."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from banel_envs.errors import BadValue

Seeds = int | Sequence[int | None] | NDArray[np.integer[Any]] | None


def check_seed(seed: Any) -> int | None:
    """The seed as a Python int, or None; BadValue unless it is None or a whole number of at least 0."""
    if seed is None:
        return None
    if isinstance(seed, bool | np.bool_) or not isinstance(seed, int | np.integer) or seed < 0:
        raise BadValue(f"seed is {seed!r}; it is a whole number of at least 0, or None")
    return int(seed)


def check_seeds(seed: Any, n: int) -> list[int | None]:
    """One seed for each copy. One number s gives s, s + 1, ...; a list or an array [n] holds the seeds themselves."""
    if isinstance(seed, list | tuple) or (isinstance(seed, np.ndarray) and seed.ndim == 1):
        if len(seed) != n:
            raise BadValue(f"there are {len(seed)} seeds for {n} copies; give one seed, or one a copy")
        return [check_seed(one) for one in seed]
    first = check_seed(seed)
    return [None if first is None else first + k for k in range(n)]


def check_reset_mask(options: dict[str, Any] | None, n: int) -> NDArray[np.bool_]:
    """Which copies are to be reset, bool [n]: those of options["reset_mask"], or all if there is no mask.

    Raises:
        BadValue: the mask is not a bool array [n] with at least one True.
    """
    if options is None or "reset_mask" not in options:
        return np.ones(n, bool)
    mask = options["reset_mask"]
    if not isinstance(mask, np.ndarray) or mask.dtype != bool or mask.shape != (n,):
        what = f"{mask.dtype} {list(mask.shape)}" if isinstance(mask, np.ndarray) else f"a {type(mask).__name__}"
        raise BadValue(f'options["reset_mask"] is {what}; it is a NumPy array of bool [{n}], True for each to reset')
    if not mask.any():
        raise BadValue(f'options["reset_mask"] is False for all {n} copies; at least one must be True')
    return mask.copy()


def check_autoreset_mode(mode: Any) -> AutoresetMode:
    """The mode, given as an AutoresetMode or by its value; BadValue if there is no such mode."""
    try:
        return AutoresetMode(mode)
    except ValueError as error:
        modes = ", ".join(repr(known.value) for known in AutoresetMode)
        raise BadValue(f"autoreset_mode is {mode!r}; it is one of {modes}, or one of AutoresetMode") from error
