"""What a model has read, for many sequences after one prompt: keys and values with room for all the tokens to come.

transformers' own layers grow by concatenation, so that every step copies whatever was read before it. Here a step writes its
own keys and values, and nothing else moves. Only where sequences end, or take their places anew, are those that go on copied.
"""

from __future__ import annotations

import copy
from typing import Any

from torch import Tensor
from transformers.cache_utils import DynamicLayer


class Roomy(DynamicLayer):  # type: ignore[misc]  # transformers has no types here
    """A layer of a cache for m sequences of at most `most` tokens, of which `written` are there.

    `keys` and `values` [m, heads, written, width] are views of tensors that have room for all of them.
    """

    def __init__(self, keys: Tensor, values: Tensor, rows: Tensor, most: int) -> None:
        super().__init__()
        self.lazy_initialization(keys, values)
        self.most = most
        self._room = [_taken(given, rows, most) for given in (keys, values)]
        self._see(keys.shape[-2])

    def _see(self, written: int) -> None:
        self.keys, self.values = (room[:, :, :written] for room in self._room)

    def update(self, key_states: Tensor, value_states: Tensor, *args: Any, **kwargs: Any) -> tuple[Tensor, Tensor]:
        """Write the keys and values of new tokens; all of them so far."""
        before = self.keys.shape[-2]
        after = before + key_states.shape[-2]
        for room, new in zip(self._room, (key_states, value_states), strict=True):
            room[:, :, before:after] = new
        self._see(after)
        return self.keys, self.values

    def selected(self, rows: Tensor) -> Roomy:
        """A layer of these of its sequences, repeats allowed."""
        return Roomy(self.keys, self.values, rows, self.most)


def _taken(given: Tensor, rows: Tensor, most: int) -> Tensor:
    """Rows of a tensor [m, heads, written, width] as [k, heads, most, width], whose rest is not yet set."""
    made = given.new_empty((len(rows), given.shape[1], most, given.shape[3]))
    made[:, :, : given.shape[2]] = given if len(given) == 1 else given[rows]
    return made


def selected(cache: Any, rows: Tensor, most: int) -> Any:
    """A cache of these sequences of another one, with room for so many tokens each; the other one stays as it is."""
    chosen = copy.copy(cache)
    chosen.layers = [_layer(layer, rows, most) for layer in cache.layers]
    return chosen


def _layer(layer: Any, rows: Tensor, most: int) -> Any:
    if isinstance(layer, Roomy):
        return layer.selected(rows)
    if type(layer) is DynamicLayer:
        return Roomy(layer.keys, layer.values, rows, most)
    other = copy.copy(layer)  # of another kind, such as one with a sliding window: it grows in its own way
    other.batch_select_indices(rows)
    return other
