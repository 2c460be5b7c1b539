"""Reading files that somebody else made: regular files only, no links, no more bytes than an honest run needs.

A run's folder may come from a stranger. A pipe named record.json would keep the reader waiting for ever, a device has no
end, a link shows a file of the reader's own, and a file of 5 GB fills the memory before its first line is checked. So every
file of a run's folder is read here: what it is and how large it is stand in the file system, and are looked at first.
Two names of one file (hard links) are fine: the harness itself makes them.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Collection, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import NoReturn

from banel_envs.errors import FileMissing, FileRefused

# The most bytes that are read of a file; beside each the largest of the committed runs and shipped files.
RECORD = 8 * 2**20  # 9,670: a curve of 16 points, and what an agent reports, at most 6 MB (see field_limits.py)
STATUS = 2**16  # 204: a few words, and the last error
LEDGER = 2**28  # 265,881 for 7,500 questions of 8 tokens: room for a thousand times as many
POLICY = 2**28  # 514,408: room for a mixture of 500 of the largest shipped network
SETTINGS = 2**20  # a table of an agent's settings: typed by hand
ANSWERS = 2**26  # a question, or its answers, of a reward that is answered by files: a million rows of 60 letters
ATTESTATIONS = 2**26  # what was replayed, about 400 bytes a run
TABLE = 2**28  # an .npz file, and its arrays unpacked: MNIST has 55 million bytes

MOST_LEVELS = 16  # folders in each other that are searched for runs; OUT/<space>/<task>/<agent>/<feedback>/<seed> has 6
MOST_ENTRIES = 5_000_000  # files and folders that are searched; a run has about 22
_PIECE = 2**20

_BINARY = getattr(os, "O_BINARY", 0)  # Windows
_CLOEXEC, _NOFOLLOW, _NONBLOCK = (getattr(os, name, 0) for name in ("O_CLOEXEC", "O_NOFOLLOW", "O_NONBLOCK"))
_FILE = os.O_RDONLY | _BINARY | _CLOEXEC | _NONBLOCK
_FOLDER = os.O_RDONLY | _CLOEXEC | getattr(os, "O_DIRECTORY", 0)

_WHAT = {
    stat.S_IFREG: "a file",
    stat.S_IFLNK: "a link",
    stat.S_IFIFO: "a pipe",
    stat.S_IFSOCK: "a socket",
    stat.S_IFDIR: "a folder",
    stat.S_IFCHR: "a device",
    stat.S_IFBLK: "a device",
}


def read(path: str | Path, most: int, *, below: Path | None = None, links: bool = False) -> bytes:
    """The content of a regular file.

    Args:
        path: the file.
        most: bytes that it may have.
        below: a folder that the path is below: no folder between the two may be a link.
        links: whether the file itself may be a link; for files that a person names, and for installed ones.

    Raises:
        FileMissing: there is none.
        FileRefused: it is a link, a pipe, a device or a folder, has more bytes, or cannot be read.
    """
    path = Path(path)
    with _opened(path, below, links) as fd:
        return b"".join(_pieces(fd, path, most))


def sha256(path: str | Path, most: int, *, below: Path | None = None) -> str:
    """SHA-256 of a regular file, in hex; arguments and errors as for `read`."""
    path, digest = Path(path), hashlib.sha256()
    with _opened(path, below, links=False) as fd:
        for piece in _pieces(fd, path, most):
            digest.update(piece)
    return digest.hexdigest()


def read_named(path: Path, most: int) -> bytes:
    """A file that a person named on the command line: it may be a link or a pipe, and only its size is bounded.

    Raises:
        FileRefused: it cannot be read, or has more than `most` bytes.
    """
    try:
        with path.open("rb") as file:
            content = file.read(most + 1)
    except (OSError, ValueError) as error:
        _fail(path, error)
    if len(content) > most:
        raise _too_large(path, most)
    return content


def write(path: Path, content: bytes, draft: Path) -> None:
    """Write a file whole or not at all: as `draft` first, which is made anew and no link, then renamed."""
    draft.unlink(missing_ok=True)
    with os.fdopen(os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _BINARY | _CLOEXEC, 0o666), "wb") as file:
        file.write(content)
    draft.replace(path)


def append(path: Path, text: str) -> None:
    """Add to a text file, which is made if it is not there; FileRefused if it is a link, a pipe or a device."""
    try:
        fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | _CLOEXEC | _NOFOLLOW | _NONBLOCK, 0o666)
    except OSError as error:
        _fail(path, error)
    with os.fdopen(fd, "a") as file:
        check_regular(fd, path)
        file.write(text)


def check_regular(fd: int, path: Path) -> None:
    """FileRefused unless an open file is a regular one."""
    _check_status(os.fstat(fd), path)


@dataclass
class Found:
    """What a search met."""

    paths: list[Path] = field(default_factory=list)  # in order
    refused: list[tuple[Path, str]] = field(default_factory=list)  # folders that were not searched, and why
    links: int = 0  # to folders; none is followed


def find(folder: Path, *names: str) -> Found:
    """Everything of one of these names below a folder, whatever it is: `read` then says what it is.

    Raises:
        FileRefused: there are more than MOST_ENTRIES files and folders.
    """
    found, entries, waiting = Found(), 0, [(folder, 0)]
    while waiting:
        place, level = waiting.pop()
        if level > MOST_LEVELS:
            found.refused.append((place, f"it is more than {MOST_LEVELS} folders deep; runs stand higher"))
            continue
        try:
            with os.scandir(place) as inside:
                for entry in inside:
                    entries += 1
                    if entries > MOST_ENTRIES:
                        raise FileRefused(f"{folder} holds more than {MOST_ENTRIES:,} files; name a folder inside it")
                    if _sort(entry, names, found):
                        waiting.append((place / entry.name, level + 1))
        except OSError as error:
            found.refused.append((place, f"it cannot be searched: {error.strerror}"))
    found.paths.sort()
    found.refused.sort()
    return found


def _sort(entry: os.DirEntry[str], names: Collection[str], found: Found) -> bool:
    """Note an entry that is looked for, or a link; whether it is a folder to search."""
    if entry.name in names:
        found.paths.append(Path(entry.path))
        return False
    if entry.is_dir(follow_symlinks=False):
        return True
    with suppress(OSError):  # a link to itself
        found.links += entry.is_symlink() and entry.is_dir()
    return False


@contextmanager
def _opened(path: Path, below: Path | None, links: bool) -> Iterator[int]:
    """A regular file, open to be read."""
    try:
        fd = _open_file(path, None, path, links) if below is None else _open_below(path, below, links)
    except (OSError, ValueError) as error:  # ValueError: a zero byte in the name
        _fail(path, error)
    try:
        yield fd
    finally:
        os.close(fd)


def _open_below(path: Path, below: Path, links: bool) -> int:
    """Folder by folder from `below` on, so that nobody can put a link in between while we look."""
    parts = path.relative_to(below).parts
    if not parts or ".." in parts:
        raise FileRefused(f"{path} is not below {below}")
    if os.open not in os.supports_dir_fd:  # not on this system: a look at each folder has to do
        for parent in (below.joinpath(*parts[:k]) for k in range(1, len(parts))):
            _check_folder(os.lstat(parent), parent)
        return _open_file(path, None, path, links)
    fd = os.open(below, _FOLDER)
    try:
        for k, part in enumerate(parts[:-1], 1):
            _check_folder(os.stat(part, dir_fd=fd, follow_symlinks=False), below.joinpath(*parts[:k]))
            inner = os.open(part, _FOLDER | _NOFOLLOW, dir_fd=fd)
            os.close(fd)
            fd = inner
        return _open_file(parts[-1], fd, path, links)
    finally:
        os.close(fd)


def _open_file(name: str | Path, folder: int | None, path: Path, links: bool) -> int:
    _check_status(
        os.stat(name, dir_fd=folder, follow_symlinks=links), path
    )  # before it is opened: a device may act on that
    fd = os.open(name, _FILE | (0 if links else _NOFOLLOW), dir_fd=folder)
    try:
        check_regular(fd, path)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _pieces(fd: int, path: Path, most: int) -> Iterator[bytes]:
    if os.fstat(fd).st_size > most:
        raise _too_large(path, most, os.fstat(fd).st_size)
    left = most + 1  # it may grow while it is read
    while piece := os.read(fd, min(_PIECE, left)):
        left -= len(piece)
        if not left:
            raise _too_large(path, most)
        yield piece


def _check_status(status: os.stat_result, path: Path) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise FileRefused(f"{path} is {_what(status)}; only regular files are read: put the file itself there")


def _check_folder(status: os.stat_result, path: Path) -> None:
    if not stat.S_ISDIR(status.st_mode):
        raise FileRefused(f"{path} is {_what(status)}, not a folder; no link is followed on the way to a file")


def _what(status: os.stat_result) -> str:
    return _WHAT.get(stat.S_IFMT(status.st_mode), "no regular file")


def _too_large(path: Path, most: int, size: int | None = None) -> FileRefused:
    has = "more" if size is None else f"{size:,} bytes"
    return FileRefused(f"{path} has {has}; at most {most:,} bytes of such a file are read")


def _fail(path: Path, error: OSError | ValueError) -> NoReturn:
    refusal = FileMissing if isinstance(error, OSError) and error.errno == errno.ENOENT else FileRefused
    raise refusal(f"{path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
