"""The final answer of a worked-out solution in the manner of GSM8K, and whether it is the right one.

`reference` is the rule of the authors' repository (openai/grade-school-math, grade_school_math/dataset.py): the first place
where `#### ` is followed by digits, points and commas, with an optional hyphen before them; commas are removed, and two
answers are equal as texts. So `#### 18.0` and `#### 18.` are wrong where `#### 18` is right, and so are `#### $18`, `####18`
and `####  18`, which have no answer at all.

`lenient` is a variant of ours that reads numbers as numbers. It looks at what follows each `####` up to the end of its line,
takes signs (the Unicode minus too), `$`, `%`, commas between groups of three digits and decimals, leaves out words such as
units, and compares exact decimals. If there are no numbers there, or two different ones, there is no answer; nor where a number
goes on in a form that is not read, such as `5,5` and `1e1`.

| after `#### `      | reference | lenient |
|--------------------|-----------|---------|
| `18`               | `18`      | 18      |
| `1,080`            | `1080`    | 1080    |
| `-3`               | `-3`      | -3      |
| `18.50`            | `18.50`   | 18.5    |
| `18 eggs`          | `18`      | 18      |
| `$18`, `−18`       | none      | 18, -18 |
| `50%`              | `50`      | 50      |
| `18 or 19`         | `18`      | none    |
| `5,5`, `1e1`       | `55`, `1` | none    |
| `eighteen`         | none      | none    |
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banel_envs.errors import BadValue
from banel_envs.names import unknown

MARK = "####"
_REFERENCE = re.compile(r"#### (-?[0-9.,]+)")
_AFTER_MARK = re.compile(r"####([^\n]*)")
_NUMBER = re.compile(
    "(?P<sign>[-+\u2212]?)[ ]?[$]?[ ]?(?P<inner>[-\u2212]?)"  # -$3 and $-3
    "(?P<digits>[0-9]{1,3}(?:,[0-9]{3})+(?![0-9])(?:[.][0-9]+)?|[0-9]+(?:[.][0-9]+)?|[.][0-9]+)"
)

_GOES_ON = re.compile("(?:,|[.]|[eE][-+\u2212]?)[0-9]")


def reference(text: str) -> str | None:
    """The answer in a solution as a text without commas; None where there is none."""
    found = _REFERENCE.search(text)
    return None if found is None else found[1].replace(",", "")


def lenient(text: str) -> Decimal | None:
    """The answer in a solution as an exact number; None where there is none, or two that differ, or one not read whole."""
    found = [number for line in _AFTER_MARK.findall(text) for number in _NUMBER.finditer(line)]
    numbers = {_value(number) for number in found}
    read = len(numbers) == 1 and not any(_GOES_ON.match(number.string, number.end()) for number in found)
    return numbers.pop() if read else None


def _value(number: re.Match[str]) -> Decimal:
    value = Decimal(number["digits"].replace(",", ""))
    negative = (number["sign"] in {"-", "\u2212"}) != bool(number["inner"])
    return value.copy_negate() if negative and value else value  # unlike -value it rounds nothing


Rule = Callable[[str], Any]
RULES: Mapping[str, Rule] = MappingProxyType({"reference": reference, "lenient": lenient})
"""The rules by their names: a solution to its answer, None for none."""


def correct(solutions: Sequence[str], gold: str, rule: str = "reference") -> NDArray[np.int8]:
    """1 for each of n solutions whose answer is that of the gold solution, else 0: [n].

    Args:
        solutions: n texts.
        gold: the gold solution, which has an answer.
        rule: "reference" or "lenient".

    Raises:
        BadValue: the gold solution has no answer.
        UnknownName: there is no such rule.
    """
    if rule not in RULES:
        raise unknown("rule", rule, RULES)
    answer = RULES[rule]
    right = answer(gold)
    if right is None:
        raise BadValue(
            f"the gold solution {gold[-60:]!r} has no answer by the rule {rule!r}; it must end in '{MARK} number'"
        )
    return np.array([answer(text) == right for text in solutions], np.int8)
