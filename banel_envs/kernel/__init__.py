"""The kernel in C, for CPUs: built where the package is built if a C compiler is there (hatch_build.py), else absent.

Everything runs without it, in PyTorch's operations, several times slower and to other last bits: a run's record names
which of the two computed it. The environment variable BANEL_KERNEL=torch leaves it out.
"""

from __future__ import annotations

import ctypes
import hashlib
import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from banel_envs.errors import BadValue, MissingExtra

LIBRARY = Path(__file__).parent / "kernel.bin"  # a .so would pass for a Python module
SOURCES = ("transformer.c", "lanes.h")
VARIABLE = "BANEL_KERNEL"
COMPILED, TORCH = KINDS = ("compiled", "torch")
MISSING = "which is not installed here: reinstall banel-envs where a C compiler (gcc or clang) is found"


@cache
def library() -> ctypes.CDLL | None:
    """The loaded kernel; None where it was not built, or this processor has no registers that it knows."""
    if not LIBRARY.exists():
        return None
    try:
        found = ctypes.CDLL(str(LIBRARY))
        found.banel_built.restype = ctypes.c_char_p
        built = found.banel_built().decode()
    except (OSError, AttributeError):  # built for another system, say in a folder that two machines share, or no kernel
        return None
    if built.partition(" ")[0] != digest(LIBRARY.parent):
        warnings.warn(f"{LIBRARY} was built from other sources; reinstall banel-envs to use it again", stacklevel=2)
        return None
    return found if found.banel_lanes() else None


def digest(folder: Path) -> str:
    """SHA-256 of the kernel's sources, which the library was given when it was built."""
    return hashlib.sha256(b"".join((folder / name).read_bytes() for name in SOURCES)).hexdigest()


def compiler() -> str | None:
    """What built the kernel in use; None where PyTorch computes. Another compiler may give other last bits."""
    found = library()
    return None if found is None or kind() == TORCH else found.banel_built().decode().partition(" ")[2]


def kind() -> str:
    """What computes in this process: "compiled", or "torch" where there is no kernel or it is not wanted.

    Raises:
        BadValue: BANEL_KERNEL is no such word.
        MissingExtra: it asks for the kernel, which is not there.
    """
    wanted = os.environ.get(VARIABLE)
    return _checked(wanted, VARIABLE) if wanted else TORCH if library() is None else COMPILED


def _checked(wanted: str, what: str) -> str:
    if wanted not in KINDS:
        raise BadValue(f"{what} is {wanted!r}; it must be one of {', '.join(KINDS)}")
    if wanted == COMPILED and library() is None:
        raise MissingExtra(f"{what} is {wanted!r}, {MISSING}")
    return wanted


def nearest(wanted: str) -> str:
    """What computes in place of the kernel that made a run: PyTorch where it is not installed.

    That is the same run wherever no transformer is stepped, and nearly always the same questions; a ledger tells.
    """
    return TORCH if library() is None else wanted


@contextmanager
def using(wanted: str) -> Iterator[None]:
    """Compute with this one inside, in this process and those that it starts.

    Raises:
        BadValue: there is no such kind.
        MissingExtra: the kernel is wanted and not there.
    """
    _checked(wanted, "kernel")
    before = os.environ.get(VARIABLE)
    os.environ[VARIABLE] = wanted
    try:
        yield
    finally:
        if before is None:
            del os.environ[VARIABLE]
        else:
            os.environ[VARIABLE] = before
