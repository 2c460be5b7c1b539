"""Names and values in messages: what was written, cut to a readable length, and the known name that was likely meant."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable

from banel_envs.errors import UnknownName

LONGEST_SHOWN = 80  # characters of a value in a message
LONGEST_NAME = 100  # characters of a name for which a likely other one is sought


def shown(value: object) -> str:
    """A value as a message shows it, whatever it is: its repr, cut where it is long."""
    try:
        text = repr(value)
    except Exception:  # a whole number of thousands of digits, or an object whose repr raises
        return f"a value of type {type(value).__name__} that cannot be written out"
    return text if len(text) <= LONGEST_SHOWN else f"{text[: LONGEST_SHOWN - 3]}..."


def unknown(what: str, name: object, known: Iterable[str], end: str = "") -> UnknownName:
    """The error for a name that nothing has: the likely one first, then all that exist.

    Args:
        what: "task", "agent", "suite".
        name: as it was written.
        known: every name there is.
        end: what else could be written instead, after the list.
    """
    names = list(known)
    near = did_you_mean(name, names)
    the = f"{near}The" if near else "the"
    return UnknownName(f"no {what} {shown(name)}; {the} {what}s are {', '.join(names)}{end}")


def did_you_mean(name: object, known: Iterable[str]) -> str:
    """A question such as "did you mean X? " with the known name that is closest, or nothing.

    Case, namespace and version do not count: what all names share would make any two of them alike.
    """
    if not isinstance(name, str) or len(name) > LONGEST_NAME:
        return ""
    # Reversed, so that of names with the same core the first one of the registry is proposed.
    cores = {_core(candidate): candidate for candidate in reversed(list(known))}
    near = difflib.get_close_matches(_core(name), cores, n=1)
    return f"did you mean {cores[near[0]]}? " if near else ""


def _core(name: str) -> str:
    return re.sub(r"-v\d+$", "", name.rpartition("/")[2]).lower()
