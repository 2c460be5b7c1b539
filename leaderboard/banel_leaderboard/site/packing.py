"""Columns of numbers as short texts, so that the data of 100 submissions fits into one page.

A column is a list of numbers, infinities and gaps (None), or of lists of them. Each number is multiplied by the column's scale
`k` and rounded to a whole number z. A gap, -inf and +inf become 0, 1 and 2. Where no z is below 0 (`u`), z becomes 3 + z; else
3 + 2z, or 2 - 2z where it is below 0, so that small numbers of either sign stay small. These codes are written one behind the
other (`v`) with the 92 visible ASCII characters that need no escape in JSON or HTML, the space included: a code below 80 as
one character, below 1,000 as two, below 9,464 as three, and larger ones with their length in front. A column of one value
has its code as `c` instead. `script/1_decode.js` is the other direction.
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
    held = [_whole(value, scale) for value in values]
    unsigned = _unsigned(held)
    codes = [_code(z, unsigned) for z in held]
    made: dict[str, Any] = {"k": scale} | ({"u": 1} if unsigned else {})
    if len(set(codes)) == 1:
        return made | {"c": codes[0], "n": len(codes)}
    return made | {"v": "".join(map(_write, codes))}


def lists(rows: Iterable[Sequence[Number]], scale: int = 1) -> dict[str, Any]:
    """Several numbers a row, each as its difference from the number before it.

    Where all rows are equally long that length stands once, as `l`; else `l` is 0 and each row begins with its length.
    """
    held = [_differences([_whole(value, scale) for value in row]) for row in rows]
    unsigned = _unsigned([z for row in held for z in row])
    lengths = {len(row) for row in held}
    length = lengths.pop() if len(lengths) == 1 else 0
    out = []
    for row in held:
        out += [] if length else [_write(len(row))]
        out += [_write(_code(z, unsigned)) for z in row]
    return {"k": scale, "l": length, "v": "".join(out)} | ({"u": 1} if unsigned else {})


def _whole(value: Number, scale: int) -> Number:
    """The number that is written: whole, or an infinity, or None."""
    if value is None or math.isinf(value):
        return value
    if math.isnan(value):
        raise BadValue("a number of the site is NaN; write None for a gap")
    return round(value * scale)


def _differences(row: Sequence[Number]) -> list[Number]:
    found: list[Number] = []
    last: float = 0
    for z in row:
        finite = z is not None and not math.isinf(z)
        found.append(z - last if z is not None and finite else z)
        last = z if z is not None and finite else last
    return found


def _unsigned(held: Iterable[Number]) -> bool:
    return all(z is None or math.isinf(z) or z >= 0 for z in held)


def _code(z: Number, unsigned: bool) -> int:
    if z is None:
        return GAP
    if math.isinf(z):
        return LOW if z < 0 else HIGH
    whole = int(z)
    if unsigned:
        return FIRST + whole
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
