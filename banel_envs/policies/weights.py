"""Say what is wrong with a policy's weights: which is the first that is NaN or infinite, or which is too large.

This looks at the weights of a PyTorch policy's `network`, and at those of the policies that a composed policy is made of.
Nothing here imports PyTorch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banel_envs.policies.protocol import parts_of

LARGE = 1e6  # products of larger weights may overflow in float32


def bad_weight(policy: Any) -> str | None:
    """The first weight that is NaN or infinite, in words such as "its weight head.bias[3] is nan"; None if there is none."""
    for name, weight in weights(policy):
        if not math.isfinite(_sum(weight)) and not (finite := np.isfinite(weight)).all():
            place = tuple(int(i) for i in np.argwhere(~finite)[0])
            return f"its weight {name}{list(place) if place else ''} is {weight[place]}"
    return None


def blame(policy: Any) -> str:
    """What to add to an error message: the first bad weight, or the largest weight if it is above LARGE, or nothing."""
    found = bad_weight(policy)
    if found is None:
        sizes = [(float(np.abs(weight).max()), name) for name, weight in weights(policy) if weight.size]
        most, name = max(sizes, default=(0.0, ""))
        found = f"its weights are finite, the largest is {most:.1e} in {name}" if most > LARGE else None
    return "" if found is None else f"; {found}: train it with a smaller step"


def weights(policy: Any) -> Iterator[tuple[str, NDArray[Any]]]:
    """The name and the numbers of every weight that is learnt, including the weights of inner policies."""
    network: Any = getattr(policy, "network", None)
    if hasattr(network, "named_parameters"):
        yield from ((name, weight.detach().cpu().numpy()) for name, weight in network.named_parameters())
    for part in parts_of(policy):
        yield from weights(part)


def _sum(weight: NDArray[Any]) -> float:
    """The sum of all numbers: NaN or infinite if one of them is. This is much faster than a look at each number.

    The sum of finite numbers may overflow too, so whoever finds it infinite has to look at each.
    """
    with np.errstate(all="ignore"):
        return float(weight.sum())
