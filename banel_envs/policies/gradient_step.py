"""The gradient step that agents and builds share."""

from __future__ import annotations

import torch


def descend(optimiser: torch.optim.Optimizer, loss: torch.Tensor) -> None:
    """One step of the optimiser down the loss, the norm of the gradient over all its weights clipped to 1."""
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_([p for g in optimiser.param_groups for p in g["params"]], 1.0)
    optimiser.step()
