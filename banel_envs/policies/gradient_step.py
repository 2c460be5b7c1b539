"""The gradient step that agents and the builds of assets share."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import torch
from torch import Tensor
from torch.optim.adam import adam


class Optimiser(Protocol):
    """What `descend` needs: torch.optim's optimisers have it."""

    param_groups: list[dict[str, Any]]

    def zero_grad(self) -> None:
        """Forget the gradients."""

    def step(self) -> Any:
        """Change the weights by their gradients."""


class Adam:
    """torch.optim.Adam with a constant learning rate and its other defaults, in one call for all weights: the same bits.

    The first optimiser of torch.optim in a process imports torch._dynamo, which takes seconds.
    """

    def __init__(self, weights: Iterable[torch.Tensor], lr: float) -> None:
        self.weights, self.lr = list(weights), lr
        self.param_groups: list[dict[str, Any]] = [{"params": self.weights}]
        self._means = [torch.zeros_like(w, memory_format=torch.preserve_format) for w in self.weights]
        self._squares = [torch.zeros_like(w, memory_format=torch.preserve_format) for w in self.weights]
        self._steps = [torch.zeros((), dtype=torch.float32, device=w.device) for w in self.weights]

    def zero_grad(self) -> None:
        """Forget the gradients."""
        for weight in self.weights:
            weight.grad = None

    @torch.no_grad()
    def step(self) -> None:
        """Change the weights that have a gradient."""
        told = [k for k, w in enumerate(self.weights) if w.grad is not None]
        adam(
            [self.weights[k] for k in told],
            [w.grad for w in self.weights if w.grad is not None],
            [self._means[k] for k in told],
            [self._squares[k] for k in told],
            [],
            [self._steps[k] for k in told],
            fused=True,
            amsgrad=False,
            maximize=False,
            weight_decay=0.0,
            lr=self.lr,
            beta1=0.9,
            beta2=0.999,
            eps=1e-8,
        )


def descend(optimiser: Optimiser, loss: torch.Tensor) -> None:
    """Take one step of the optimiser down the loss. The norm of the gradient over all weights is first clipped to 1."""
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    torch.nn.utils.clip_grad_norm_([p for g in optimiser.param_groups for p in g["params"]], 1.0)
    optimiser.step()


def in_micro_batches(log_probs: Callable[[Tensor, Tensor], Tensor], batch: Tensor, live: Tensor, size: int) -> Tensor:
    """What `log_probs` gives of tokens [n, t] and their live positions [n, t], computing `size` rows at a time.

    Where these are all, they are computed at once. Else each part is computed again when its gradient is, so the
    gradient needs no more memory than one part, however the result is used.
    """
    if len(batch) <= size:
        return log_probs(batch, live)
    from torch.utils.checkpoint import checkpoint  # here, because most runs never need it

    parts = zip(torch.split(batch, size), torch.split(live, size), strict=True)
    return torch.cat([checkpoint(log_probs, *part, use_reentrant=False) for part in parts])
