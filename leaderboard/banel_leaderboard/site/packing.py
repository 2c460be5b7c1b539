"""Columns of numbers as short texts, so that the data of 100 submissions fits into one page.

A column is a list of numbers, infinities and gaps (None). Each number is multiplied by the column's scale and rounded to a
whole number; a gap, -inf, +inf and the number z become 0, 1, 2 and 3 + 2z, or 2 - 2z where z is below 0 (so that small
numbers of either sign stay small). These codes are written one behind the other with the 92 visible ASCII characters that
need no escape in JSON or HTML, the space included: a code below 80 as one character, below 1,000 as two, below 9,464 as
three, and larger ones with their length in front. `script/decode.js` is the other direction.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from typing import Any

from banel_envs.errors import BadValue

DIGITS = "".join(chr(c) for c in range(32, 127) if chr(c) not in '"\\<')
BASE = len(DIGITS)  # 92
ONE = 80  # codes below it take one character
TWO = ONE + 10 * BASE  # and below it two: the first character is one of 10
THREE = TWO + BASE**2  # and below it three: the first character is DIGITS[90]
GAP, LOW, HIGH, FIRST = 0, 1, 2, 3

Number = float | int | None


def column(values: Iterable[Number], scale: int = 1) -> dict[str, Any]:
    """One number a row."""
    return {"k": scale, "v": "".join(_write(_code(value, scale)) for value in values)}


def lists(rows: Iterable[Sequence[Number]], scale: int = 1) -> dict[str, Any]:
    """Several numbers a row, each as its difference from the number before it; every row begins with how many there are."""
    out = []
    for row in rows:
        out.append(_write(len(row)))
        last = 0
        for value in row:
            if value is None or math.isinf(value):
                out.append(_write(_code(value, scale)))
                continue
            now = _whole(value, scale)
            out.append(_write(_signed(now - last)))
            last = now
    return {"k": scale, "l": 1, "v": "".join(out)}


def _code(value: Number, scale: int) -> int:
    if value is None:
        return GAP
    if math.isinf(value):
        return LOW if value < 0 else HIGH
    return _signed(_whole(value, scale))


def _whole(value: float, scale: int) -> int:
    if math.isnan(value):
        raise BadValue("a number of the site is NaN; write None for a gap")
    return math.floor(value * scale + 0.5)


def _signed(whole: int) -> int:
    return FIRST + (2 * whole if whole >= 0 else -2 * whole - 1)


def _write(code: int) -> str:
    if code < ONE:
        return DIGITS[code]
    if code < TWO:
        high, low = divmod(code - ONE, BASE)
        return DIGITS[ONE + high] + DIGITS[low]
    if code < THREE:
        high, low = divmod(code - TWO, BASE)
        return DIGITS[90] + DIGITS[high] + DIGITS[low]
    rest = code - THREE
    digits: list[str] = []
    while rest or not digits:
        rest, digit = divmod(rest, BASE)
        digits.append(DIGITS[digit])
    return DIGITS[91] + DIGITS[len(digits)] + "".join(reversed(digits))
