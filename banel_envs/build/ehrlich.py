"""Rebuild the assets of the registered Ehrlich tasks: their functions, and base policies that are their chains.

Instance 0 takes the functions from the file that tests/golden/make_ehrlich.py wrote with pytorch-holo's own generator
(`--data tests/golden`). Any other instance draws functions of the same sizes with this package's generator until base
success, exact, is within a fifth of a decade of what the id promises.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from banel_envs.errors import AssetError
from banel_envs.policies.networks.markov_transformer import chained_policy
from banel_envs.policies.storage.store import save_policy
from banel_envs.tasks.ehrlich import FUNCTIONS, Ehrlich, base_name, draw

TAKES = "seconds; --data: the folder with ehrlich.npz, written by tests/golden/make_ehrlich.py (not for --instance k)"

LOG10_SUCCESS = {"easy": -2.0, "v0": -4.0, "hard": -6.0}
NEAR = 0.2  # decades
SIZES = {"vocabulary": 12, "length": 10, "motifs": 2, "motif_length": 4, "quantisation": 4}
FIELDS = ("initial", "transition", "motifs", "offsets", "sizes")


def build(out: Path, data: Path | None = None, instance: int = 0) -> None:
    """Write every asset of this family into `out`."""
    functions = drawn(instance) if instance else read(data)
    np.savez_compressed(out / FUNCTIONS, **functions)  # type: ignore[arg-type]
    for k, name in enumerate(LOG10_SUCCESS):
        initial, transition = functions[f"{name}_initial"], functions[f"{name}_transition"]
        weights = np.random.default_rng([20240701, instance, k])
        save_policy(out / base_name(name), chained_policy(initial, transition, SIZES["length"], weights))


def read(data: Path | None) -> dict[str, NDArray[np.generic]]:
    """The functions that pytorch-holo drew, by name and field."""
    path = (data or Path()) / "ehrlich.npz"
    if not path.is_file():
        raise AssetError(f"{path} is missing; tests/golden/make_ehrlich.py writes it, --data names its folder")
    with np.load(path) as file:
        return {f"{name}_{field}": file[f"{name}_{field}"] for name in LOG10_SUCCESS for field in FIELDS}


def drawn(instance: int) -> dict[str, NDArray[np.generic]]:
    """New functions of the same sizes and difficulties."""
    arrays: dict[str, NDArray[np.generic]] = {}
    rng = np.random.default_rng([20240702, instance])
    for name, wanted in LOG10_SUCCESS.items():
        function = draw(**SIZES, rng=rng)
        while abs(log10_success(function) - wanted) > NEAR:
            function = draw(**SIZES, rng=rng)
        print(f"{name}: base success 10^{log10_success(function):.3f}")
        sizes = np.array([function.length, function.quantisation])
        fields = (function.initial, function.transition, function.motifs, function.offsets, sizes)
        arrays.update({f"{name}_{field}": array for field, array in zip(FIELDS, fields, strict=True)})
    return arrays


def log10_success(function: Ehrlich) -> float:
    """Of the function's own chain, exactly; -inf where the successes are too many to list."""
    tokens = function.successes()
    if tokens is None:
        return -np.inf
    steps = function.transition[tokens[:, :-1], tokens[:, 1:]].prod(axis=1)
    return float(np.log10((function.initial[tokens[:, 0]] * steps).sum()))
