"""Weights as the compiled kernel reads them: copies whose addresses stay valid, and matrices packed in panels of columns."""

from __future__ import annotations

import ctypes
from typing import cast

import numpy as np
from torch import Tensor

from banel_envs import kernel
from banel_envs.policies.steps.buffers import Singles

P, N = ctypes.c_void_p, ctypes.c_int64


class Matrix(ctypes.Structure):
    """`matrix` in kernel.c."""

    _fields_ = (("out", N), ("packed", P), ("bias", P))


def lanes_for(width: int) -> int:
    """The widest registers, in numbers, that this processor has and whose double divides a network's width."""
    lanes: int = cast(ctypes.CDLL, kernel.library()).banel_lanes()
    while width % (2 * lanes):
        lanes //= 2
    return lanes


class Held:
    """Keeps alive the arrays whose addresses the kernel is given."""

    def __init__(self, lanes: int) -> None:
        """`lanes`: how many numbers a register holds; a panel of a packed matrix has twice as many columns."""
        self.panel = 2 * lanes
        self._arrays: list[Singles] = []

    def hold(self, array: Singles) -> int:
        """The address of an array, which is kept."""
        self._arrays.append(array)
        return array.ctypes.data

    def at(self, weight: Tensor) -> int:
        """The address of a copy of a weight."""
        return self.hold(np.array(numbers(weight), order="C"))  # a copy: training must not change a walk's weights

    def matrix(self, weight: Tensor, bias: Tensor) -> Matrix:
        """A weight [out, in] and a bias [out], packed in panels of columns; the last panel is filled up with zeros."""
        rows, added = numbers(weight), numbers(bias)
        out, entering = rows.shape
        if short := -out % self.panel:
            rows, added = np.pad(rows, ((0, short), (0, 0))), np.pad(added, (0, short))
        panels = rows.reshape(-1, self.panel, entering).transpose(0, 2, 1)
        return Matrix(len(added), self.hold(np.array(panels, order="C")), self.hold(np.array(added, order="C")))


def numbers(tensor: Tensor) -> Singles:
    """The numbers of a tensor, in the same memory."""
    array: Singles = tensor.detach().numpy()
    return array
