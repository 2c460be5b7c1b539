"""What is wrong with a policy's weights, in words: the first that is NaN or infinite, else the largest.

Those of a torch policy's `network`, and of what a composed policy is made of. Nothing here imports torch.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banel_envs.policies.protocol import parts_of

LARGE = 1e6  # a weight beyond it may overflow a product of float32


def bad_weight(policy: Any) -> str | None:
    """The first weight that is NaN or infinite, as "its weight head.bias[3] is nan"; None where there is none."""
    for name, weight in weights(policy):
        if not math.isfinite(_sum(weight)) and not (finite := np.isfinite(weight)).all():
            place = tuple(int(i) for i in np.argwhere(~finite)[0])
            return f"its weight {name}{list(place) if place else ''} is {weight[place]}"
    return None


def blame(policy: Any) -> str:
    """What to write behind a complaint: the first bad weight, else the largest where that is huge, else nothing."""
    found = bad_weight(policy)
    if found is None:
        sizes = [(float(np.abs(weight).max()), name) for name, weight in weights(policy) if weight.size]
        most, name = max(sizes, default=(0.0, ""))
        found = f"its weights are finite, the largest is {most:.1e} in {name}" if most > LARGE else None
    return "" if found is None else f"; {found}: train it with a smaller step"


def weights(policy: Any) -> Iterator[tuple[str, NDArray[Any]]]:
    """The name and the numbers of every weight that is learnt, those of inner policies with it."""
    network: Any = getattr(policy, "network", None)
    if hasattr(network, "named_parameters"):
        yield from ((name, weight.detach().cpu().numpy()) for name, weight in network.named_parameters())
    for part in parts_of(policy):
        yield from weights(part)


def _sum(weight: NDArray[Any]) -> float:
    """NaN or infinite where a number is (or where a sum of finite ones overflows): much faster than looking at each."""
    with np.errstate(all="ignore"):
        return float(weight.sum())
