r"""Start a program that cannot open the files in the hidden folders (Linux with Landlock).

    python isolation_wall.py '["/home/me/out/banel/AdditionAttack-v0"]' '["/tmp/scratch"]' PROGRAM ARGUMENT ...

What it stops: the program, and every process that it starts, cannot open, make, remove, move or link a file in the hidden
folders. This holds for every path to the file, whoever owns it, and for root too. Nor can the program look into other
processes (ptrace, /proc/PID/mem, /proc/PID/fd), such as the one that holds the oracle. It cannot undo any of this.

What it does not stop: the program can see the names, sizes and times of the hidden files. A process outside can open the
files for it (a container service, cron, ssh to this machine). The files can be read through another mount of the same
folder, and so can copies of them elsewhere. Nothing here hides the reward: a program that can import a shipped task can
compute its answers.

Landlock takes a list of what is allowed; there is no list of what is forbidden. So in a folder above a hidden one, every
entry that is not hidden is allowed by itself. The program can use the files and folders that were in such a folder when
it started, but it can make no new ones there.
"""

from __future__ import annotations

import ctypes
import json
import os
import sys
from collections.abc import Iterable, Iterator
from typing import TypeAlias

StrPath: TypeAlias = str | os.PathLike[str]

# System calls, the same numbers on every processor but Alpha, and the rights of linux/landlock.h.
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446
VERSION, PATH_BENEATH = 1, 1
WRITE, READ, REFER, TRUNCATE = 1 << 1, 1 << 2, 1 << 13, 1 << 14
CHANGE = sum(1 << k for k in range(4, 13))  # remove and make entries of every kind
NO_NEW_PRIVILEGES = 38  # of prctl
SINCE = {REFER: 2, TRUNCATE: 3}  # the version of Landlock that brought a right; before it, REFER is always refused
MISSING = (
    "this system has no Landlock (Linux from 5.13 on has it, where it is switched on): the agent's process does not hold the "
    "reward, but it could open the ledger by its path"
)


class _Ruleset(ctypes.Structure):
    _fields_ = (("handled", ctypes.c_uint64),)


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32))


def version() -> int:
    """Landlock's version on this system; 0 if there is no Landlock."""
    if not sys.platform.startswith("linux"):
        return 0
    return max(0, int(ctypes.CDLL(None, use_errno=True).syscall(CREATE_RULESET, None, 0, VERSION)))


def behind(hidden: Iterable[StrPath], kept: Iterable[StrPath], command: list[str]) -> list[str]:
    """The command line that starts `command` without access to the hidden folders.

    The folders in `kept` stay open to it, even those inside a hidden one.
    """
    lists = (json.dumps([os.path.realpath(path) for path in paths]) for paths in (hidden, kept))
    return [sys.executable, "-I", os.path.realpath(__file__), *lists, *command]


def allowed(hidden: frozenset[str], folder: str = "/") -> Iterator[str]:
    """Every file and folder that holds nothing hidden, and that stands in a folder which does."""
    if folder in hidden:
        return
    if not any(path.startswith(folder.rstrip("/") + "/") for path in hidden):
        yield folder
        return
    try:
        with os.scandir(folder) as entries:
            paths = [entry.path for entry in entries if not entry.is_symlink()]  # what a link names has a rule itself
    except OSError:  # the folder cannot be listed, so it is left closed
        return
    for path in paths:
        yield from allowed(hidden, path)


def enclose(hidden: Iterable[str], kept: Iterable[str]) -> None:
    """Close the hidden folders to this process and to every process that it starts from now on.

    Landlock restricts the calling thread only, so this must be called before there is any other thread.

    Raises:
        OSError: the system refused it.
    """
    known = version()
    rights, on_files = (
        sum(right for right in some if SINCE.get(right, 1) <= known)
        for some in ((WRITE, READ, CHANGE, REFER, TRUNCATE), (WRITE, READ, TRUNCATE))
    )
    ruleset = _call(CREATE_RULESET, ctypes.byref(_Ruleset(rights)), ctypes.sizeof(_Ruleset), 0)
    for path in (*allowed(frozenset(hidden)), *kept):
        try:
            fd = os.open(path, os.O_PATH | os.O_CLOEXEC | os.O_NOFOLLOW)
        except OSError:  # the file was removed after it was listed
            continue
        rule = _Beneath(rights if os.path.isdir(path) else on_files, fd)  # noqa: PTH112 (nothing is imported for this)
        _call(ADD_RULE, ruleset, PATH_BENEATH, ctypes.byref(rule), 0)
        os.close(fd)
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl could not set PR_SET_NO_NEW_PRIVS, which Landlock needs")
    _call(RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


def _call(number: int, *arguments: object) -> int:
    """Make one of Landlock's system calls; OSError if it fails."""
    result = int(ctypes.CDLL(None, use_errno=True).syscall(number, *arguments))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"Landlock's system call {number}: {os.strerror(error)}")
    return result


def main() -> None:
    """Close the hidden folders to this process, and then replace it by the program."""
    hidden, kept = (json.loads(argument) for argument in sys.argv[1:3])
    enclose(hidden, kept)
    os.execv(sys.argv[3], sys.argv[3:])


if __name__ == "__main__":
    main()
