"""The compiled kernel: a transformer's steps in C, for CPUs.

It is built when the package is built (hatch_build.py), if there is a C compiler; otherwise there is none. Everything runs
without it, in PyTorch's operations. These are several times slower, and the last bits of their results differ. So a
run's record names which of the two computed it. The environment variable BANEL_KERNEL=torch switches the kernel off.
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
from banel_envs.variables import set_variable

LIBRARY = Path(__file__).parent / "kernel.bin"  # Python would take a file that ends in .so for an extension module
SOURCES = ("kernel.c", "portable.h", "trie.h", "width.h", "lanes.h", "step.h", "train.h", "gru.h", "adam.h")
VARIABLE = "BANEL_KERNEL"
COMPILED, TORCH = KINDS = ("compiled", "torch")
MISSING = "which is not installed here: reinstall banel-envs where a C compiler (gcc or clang) is found"


@cache
def library() -> ctypes.CDLL | None:
    """The loaded kernel; None if it was not built, or if this processor has no vector registers that it can use."""
    if not LIBRARY.exists():
        return None
    try:
        found = ctypes.CDLL(str(LIBRARY))
        found.banel_built.restype = ctypes.c_char_p
        built = found.banel_built().decode()
    # The file is no kernel, or was built for another system, such as the other one of two machines that share a folder.
    except (OSError, AttributeError):
        return None
    if built.partition(" ")[0] != digest(LIBRARY.parent):
        warnings.warn(f"{LIBRARY} was built from other sources; reinstall banel-envs to use it again", stacklevel=2)
        return None
    return found if found.banel_lanes() else None


def digest(folder: Path) -> str:
    """SHA-256 of the kernel's sources; the library holds the digest of the sources that it was built from."""
    return hashlib.sha256(b"".join((folder / name).read_bytes() for name in SOURCES)).hexdigest()


def compiler() -> str | None:
    """The compiler that built the kernel in use; None where PyTorch computes.

    A kernel that another compiler built may give results whose last bits differ.
    """
    found = library()
    return None if found is None or kind() == TORCH else found.banel_built().decode().partition(" ")[2]


def kind() -> str:
    """What computes in this process: "compiled", or "torch" if there is no kernel or BANEL_KERNEL switches it off.

    Raises:
        BadValue: BANEL_KERNEL is neither of the two words.
        MissingExtra: BANEL_KERNEL asks for the kernel, and it is not installed.
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
    """The kind to go on with where a run was begun with `wanted`: PyTorch if the compiled kernel is not installed here.

    A run that steps no transformer is the same with either. In other runs the last bits of the log-probabilities differ,
    so that the agent could ask other questions; nearly always it asks the same ones. If it asks others, the ledger
    refuses to go on.
    """
    return TORCH if library() is None else wanted


@contextmanager
def using(wanted: str) -> Iterator[None]:
    """Inside the `with` block, compute with the kind `wanted`, in this process and in those that it starts.

    Raises:
        BadValue: there is no such kind.
        MissingExtra: the kernel is wanted and is not installed.
    """
    _checked(wanted, "kernel")
    with set_variable(VARIABLE, wanted):
        yield
