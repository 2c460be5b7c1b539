"""Make a network without drawing its weights, because they are read from a file or drawn from a Generator afterwards."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch.overrides import TorchFunctionMode


class _NotDrawn(TorchFunctionMode):
    """Inside, the functions of torch.nn.init leave their tensor as it is."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Any, args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else kwargs["tensor"]
        return func(*args, **kwargs)


@contextmanager
def unwritten() -> Iterator[None]:
    """Inside the `with` block, networks are made on the device "meta": their weights have shapes and no memory.

    Nothing is drawn from the process's generator. The initial values of nn.Embedding are not computed on "meta" either,
    because PyTorch imports torch._dynamo for that, which takes seconds.
    """
    with torch.device("meta"), _NotDrawn():
        yield
