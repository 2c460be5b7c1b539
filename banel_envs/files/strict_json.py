"""JSON that somebody else wrote: one meaning or an error.

Python's own reader takes the last of two equal keys, reads NaN and Infinity, makes an infinity of 1e999, and ends in a
RecursionError at a hundred thousand brackets. Two readers that differ on such a file see two runs. So all of it is refused
here, and so is text that is not UTF-8 or holds half of a surrogate pair, which no page could be written with.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterable
from typing import Any, NoReturn

from banel_envs.errors import BadJson, NotJson
from banel_envs.files.visible import shown

# How deep lists and objects may be nested. A mixture of filtered policies in a policy's structure needs about 20 levels.
MOST_DEPTH = 64
_SURROGATE = re.compile(r"\\u[dD][89a-fA-F]")


def loads(content: bytes | str) -> Any:
    """The value of a JSON text.

    Raises:
        NotJson: it is not JSON, or not UTF-8.
        BadJson: it is JSON that has more than one meaning, or is nested too deeply; says what and where.
    """
    try:
        text = (content if isinstance(content, bytes) else content.encode()).decode()
        value = _DECODER.decode(text)
    except BadJson:
        raise
    except RecursionError:
        raise BadJson(_TOO_DEEP) from None
    except ValueError as error:
        raise NotJson(_reason(error)) from error
    if text.count("[") + text.count("{") > MOST_DEPTH:  # with fewer brackets it cannot be nested so deeply
        _check_depth(value)
    # Only an escape can hold half of a pair, since UTF-8 cannot. So most texts need no look at each string.
    if _SURROGATE.search(text):
        _check_characters(value)
    return value


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object whose keys differ."""
    # Python keeps the last of two equal keys and other readers the first, so one text would have two meanings.
    made = dict(pairs)
    if len(made) != len(pairs):
        seen: set[str] = set()
        again = next(key for key, _ in pairs if key in seen or seen.add(key))  # type: ignore[func-returns-value]
        raise BadJson(f"the key {shown(again)} stands there twice")
    return made


def _finite(digits: str) -> float:
    value = float(digits)
    if not math.isfinite(value):
        raise BadJson(f"the number {shown(digits)} is too large")
    return value


def _refuse(constant: str) -> NoReturn:
    raise BadJson(f"{constant} is not a number of JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_once, parse_float=_finite, parse_constant=_refuse)
_TOO_DEEP = f"it is nested more than {MOST_DEPTH} levels deep"


def _reason(error: ValueError) -> str:
    if "int_max_str_digits" in str(error):
        return "a whole number has too many digits"
    return str(error)


def _check_depth(value: Any) -> None:
    # Level by level and without recursion, so that a deep value cannot overflow the stack of this check.
    level = [value]
    for _ in range(MOST_DEPTH):
        level = [inner for outer in level for inner in _inside(outer) if isinstance(inner, dict | list)]
        if not level:
            return
    raise BadJson(_TOO_DEEP)


def _inside(value: Any) -> Iterable[Any]:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else ()


def _check_characters(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise BadJson("it holds half of a surrogate pair, which is no character") from None
