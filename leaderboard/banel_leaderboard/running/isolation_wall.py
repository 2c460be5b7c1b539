r"""wall: start a program that the system refuses the files of a run, whoever owns them (Linux with Landlock).

    python wall.py '["/home/me/out/banel/AdditionAttack-v0"]' '["/tmp/scratch"]' PROGRAM ARGUMENT ...

What it stops: the program, and whatever it starts, cannot open, make, remove, move or link a file in the hidden
folders, by any path, as root neither; nor can it look into other processes (ptrace, /proc/PID/mem, /proc/PID/fd), such as
the one that holds the oracle. It cannot take the wall down.

What it does not stop: names, sizes and times of the hidden files can be seen. A process outside may open them on its
behalf (a container service, cron, ssh to this machine), and they are readable through another mount of the same folder
or in a copy elsewhere. It hides no reward: a program that can import a shipped task can compute its answers.

Landlock knows what is allowed and not what is forbidden. So a folder above a hidden one is opened entry by entry: right
in such a folder the program uses the files and folders that were there when it started, and makes no new ones.
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
SINCE = {REFER: 2, TRUNCATE: 3}  # Landlock's version with which a right came; REFER is refused everywhere before
MISSING = (
    "this system has no Landlock (Linux 5.13 or later has, where it is switched on): the agent's process holds no reward, "
    "but could open the ledger by its path"
)


class _Ruleset(ctypes.Structure):
    _fields_ = (("handled", ctypes.c_uint64),)


class _Beneath(ctypes.Structure):
    _pack_ = 1
    _layout_ = "ms"
    _fields_ = (("allowed", ctypes.c_uint64), ("folder", ctypes.c_int32))


def version() -> int:
    """Landlock's version on this system; 0 where it cannot keep a program from files."""
    if not sys.platform.startswith("linux"):
        return 0
    return max(0, int(ctypes.CDLL(None, use_errno=True).syscall(CREATE_RULESET, None, 0, VERSION)))


def behind(hidden: Iterable[StrPath], kept: Iterable[StrPath], command: list[str]) -> list[str]:
    """The command line that starts `command` without access to the hidden folders; `kept` ones stay open to it."""
    lists = (json.dumps([os.path.realpath(path) for path in paths]) for paths in (hidden, kept))
    return [sys.executable, "-I", os.path.realpath(__file__), *lists, *command]


def allowed(hidden: frozenset[str], folder: str = "/") -> Iterator[str]:
    """The largest files and folders that hold nothing hidden."""
    if folder in hidden:
        return
    if not any(path.startswith(folder.rstrip("/") + "/") for path in hidden):
        yield folder
        return
    try:
        with os.scandir(folder) as entries:
            paths = [entry.path for entry in entries if not entry.is_symlink()]  # a link is as open as what it names
    except OSError:  # nothing in it can be opened anyway
        return
    for path in paths:
        yield from allowed(hidden, path)


def enclose(hidden: Iterable[str], kept: Iterable[str]) -> None:
    """Keep this process, and all that it starts from now on, from the files in the hidden folders; OSError if it fails.

    Only the calling thread is enclosed: call it before there are others.
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
        except OSError:  # gone since it was listed
            continue
        rule = _Beneath(rights if os.path.isdir(path) else on_files, fd)  # noqa: PTH112 (bare Python, before any import)
        _call(ADD_RULE, ruleset, PATH_BENEATH, ctypes.byref(rule), 0)
        os.close(fd)
    library = ctypes.CDLL(None, use_errno=True)
    if library.prctl(NO_NEW_PRIVILEGES, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "no new privileges could not be set")
    _call(RESTRICT_SELF, ruleset, 0)
    os.close(ruleset)


def _call(number: int, *arguments: object) -> int:
    """A system call of Landlock's; OSError where it fails."""
    result = int(ctypes.CDLL(None, use_errno=True).syscall(number, *arguments))
    if result < 0:
        error = ctypes.get_errno()
        raise OSError(error, f"Landlock's system call {number}: {os.strerror(error)}")
    return result


def main() -> None:
    """Enclose this process, then become the program."""
    hidden, kept = (json.loads(argument) for argument in sys.argv[1:3])
    enclose(hidden, kept)
    os.execv(sys.argv[3], sys.argv[3:])


if __name__ == "__main__":
    main()
