"""The gradient step that agents and the builds of assets share."""

from __future__ import annotations

import torch


def descend(optimiser: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    """Take one step of the optimiser down the loss. The norm of the gradient over all weights is first clipped to 1."""
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_([p for g in optimiser.param_groups for p in g["params"]], 1.0)
    optimiser.step()
