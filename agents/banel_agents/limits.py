"""The limits of settings. Each field of a Config states what it may be, and all fields are checked in one place.

>>> from dataclasses import dataclass
>>> @dataclass(frozen=True)
... class MyConfig:
...     batch: BatchSize = 500  # sequences a round
...     decay: Annotated[float, Range(0, 1)] = 0.9
...     form: Annotated[str, OneOf("small", "large")] = "small"
...
...     def __post_init__(self) -> None:
...         check_settings(self)
>>> MyConfig(batch=0)
Traceback (most recent call last):
banel_envs.errors.BadValue: MyConfig: batch is 0; it must be a whole number (int) from 1 to 100,000
"""

from __future__ import annotations

import dataclasses
import math
import numbers
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cache
from types import NoneType
from typing import Annotated, Any, get_args, get_origin, get_type_hints

from banel_envs.errors import BadValue
from banel_envs.files import visible
from banel_envs.names import shown

# What an agent may report about itself: names of ASCII letters, because two names could look the same with others.
SERIES = r"[A-Za-z0-9_][A-Za-z0-9_ .:/()%+-]{0,99}"
MOST_SERIES = 64  # names


@dataclass(frozen=True)
class Range:
    """The numbers from `low` to `high`, both finite. With `above`, `low` itself is not among them."""

    low: float
    high: float
    above: bool = False

    def holds(self, value: float) -> bool:
        """Whether the number is in the range. NaN never is."""
        return (self.low < value if self.above else self.low <= value) and value <= self.high

    def __str__(self) -> str:
        return f"above {self.low:,} and at most {self.high:,}" if self.above else f"from {self.low:,} to {self.high:,}"


@dataclass(frozen=True, init=False)
class OneOf:
    """A setting that is one of these words."""

    words: tuple[str, ...]

    def __init__(self, *words: str) -> None:
        object.__setattr__(self, "words", words)


BatchSize = Annotated[int, Range(1, 100_000)]
"""How many sequences are sampled, asked or trained on at once. The upper end still fits in memory at the longest horizon."""
Steps = Annotated[int, Range(1, 1_000)]
"""A whole number of steps or passes."""
Epochs = Annotated[float, Range(0, 1_000, above=True)]
"""Passes over the data. With a fraction the last pass stops early."""
LearningRate = Annotated[float, Range(0, 1, above=True)]
"""The learning rate of Adam, which changes each weight by about so much in a step."""
Temperature = Annotated[float, Range(0.01, 1_000)]
"""The number that divides every logit. From 0.01 on the logits stay finite in float32."""
Weight = Annotated[float, Range(0, 1_000)]
"""The weight of a term that is added to the reward, in reward units."""
Context = Annotated[int, Range(1, 10_000)]
"""How many tokens a state holds: the last one and those before it."""
Units = Annotated[int, Range(1, 4_096)]
"""The width of a network's layers."""

TYPES: dict[type, str] = {
    bool: "true or false (bool)",
    int: "a whole number (int)",
    float: "a finite number (float)",
    str: "a word (str)",
}


@dataclass(frozen=True)
class Rule:
    """What a field may hold: its type and its limit."""

    type: type
    limit: Range | OneOf | None = None

    def check(self, who: str, name: str, value: object) -> Any:
        """The value in the field's own type. BadValue names the class, the field, the value and the limit."""
        try:
            clean = _as_type(value, self.type)
        except (ValueError, OverflowError):
            clean = math.nan  # NaN is in no range and is none of the words, so the value is refused below
        if not self._holds(clean):
            raise BadValue(f"{who}: {name} is {shown(value)}; it must be {self}")
        return clean

    def _holds(self, clean: Any) -> bool:
        match self.limit:
            case Range():
                return self.limit.holds(clean)
            case OneOf():
                return clean in self.limit.words
            case _:
                return not isinstance(clean, float) or math.isfinite(clean)

    def __str__(self) -> str:
        if isinstance(self.limit, OneOf):
            return f"one of {', '.join(self.limit.words)}"
        what = TYPES.get(self.type, f"of type {self.type.__name__}")
        return f"{what} {self.limit}" if self.limit else what


def check_settings(config: Any) -> None:
    """Check every field of a config dataclass. Its `__post_init__` calls this.

    A whole number in a field for a float becomes a float.

    Raises:
        BadValue: names the class, the field, the value and what it may be.
    """
    kind: Any = type(config)
    for name, rule in rules(kind).items():
        object.__setattr__(config, name, rule.check(type(config).__name__, name, getattr(config, name)))


@cache
def rules(config: Any) -> Mapping[str, Rule]:
    """The rule of each field of a config's class. A field whose type is not in TYPES has none; its class has to check it."""
    try:
        hints = get_type_hints(config, include_extras=True)
    except (
        NameError,
        TypeError,
        AttributeError,
    ):  # a user's class may have annotations that only type checkers can read
        return {}
    found = {f.name: _rule(hints[f.name]) for f in dataclasses.fields(config)}
    return {name: rule for name, rule in found.items() if rule is not None}


def _rule(hint: Any) -> Rule | None:
    base, *notes = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    limit = next((note for note in notes if isinstance(note, Range | OneOf)), None)
    return Rule(base, limit) if isinstance(base, type) and base in TYPES else None


def _as_type(value: Any, wanted: type) -> Any:
    """The value as a plain bool, int, float or str of Python, also from NumPy's types; ValueError for another type."""
    takes = {int: numbers.Integral, float: numbers.Real, NoneType: object}.get(wanted, wanted)
    # For Python, True is a whole number; here it is not. If all that is known of a field is a default of None, its type is
    # not known, and any value is taken.
    if not isinstance(value, takes) or (isinstance(value, bool) and wanted not in (bool, NoneType)):
        raise ValueError(value)
    return wanted(value) if wanted in TYPES else value


def check_reported(agent: str, nre: int, values: Mapping[str, Any], known: Iterable[str] = ()) -> None:
    """Raise BadValue unless a record can hold what an agent reports about itself at an NRE: numbers by name.

    `known` are the names that it reported before.
    """
    for name, value in values.items():
        if not isinstance(name, str) or not re.fullmatch(SERIES, name):
            raise BadValue(
                f"{agent} reports {visible.shown(name)}; a name is of at most 100 letters, digits and ' _.:/()%+-'"
            )
        if not math.isfinite(float(value)):
            raise BadValue(f"{agent} reports {name} = {float(value)} at NRE {nre}; leave it out where it is not finite")
    names = list(dict.fromkeys([*known, *values]))
    if len(names) > MOST_SERIES:
        last = names[MOST_SERIES]
        raise BadValue(
            f"{agent} reports more than {MOST_SERIES} names, the last is {last!r}; keep the others in a file"
        )
