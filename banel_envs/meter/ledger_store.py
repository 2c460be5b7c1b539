"""The two places that the bytes of a ledger can be in: memory, or a file that only one process writes."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from banel_envs.errors import FileRefused, LedgerLocked, LedgerWriteError
from banel_envs.files import safe_files

LOCK_PATIENCE = 1.0  # seconds to wait for the lock: a process that was just killed may hold it a moment longer
_OPENING = (
    os.O_RDWR | os.O_CREAT | getattr(os, "O_CLOEXEC", 0) | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
)


class MemoryStore:
    """The bytes of a ledger in memory."""

    def __init__(self) -> None:
        self._content = bytearray()

    def read(self) -> bytes:
        """The whole content."""
        return bytes(self._content)

    def append(self, line: bytes, size: int) -> None:
        """Put the line at `size`."""
        self._content[size:] = line

    def truncate(self, size: int) -> None:
        """Keep the first `size` bytes."""
        del self._content[size:]

    def sync(self) -> None:
        """Nothing to do."""

    def close(self) -> None:
        """Nothing to do."""


class FileStore:
    """The bytes of a ledger in a file, which is locked for one writer."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._changed = False
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            self._fd = os.open(path, _OPENING, 0o644)
        except OSError as error:
            raise LedgerWriteError(
                f"{path} cannot be opened for writing ({error.strerror}); nothing was evaluated: choose another folder"
            ) from error
        try:
            _check_regular(self._fd, path)
            _lock(self._fd, path)
        except BaseException:
            os.close(self._fd)
            raise

    def read(self) -> bytes:
        """The whole content."""
        pieces, at = [], 0
        while piece := os.pread(self._fd, 1 << 20, at):
            pieces.append(piece)
            at += len(piece)
        return b"".join(pieces)

    def append(self, line: bytes, size: int) -> None:
        """Write the line at `size`, whole or not at all."""
        try:
            status = os.fstat(self._fd)
            if status.st_nlink == 0:
                raise FileNotFoundError(2, "the file was removed while in use")
            if status.st_size != size:  # another process wrote: some network disks do not support the lock
                raise OSError(5, f"the file has {status.st_size} bytes, this run wrote {size}")
            self._changed, done = True, 0
            while done < len(line):
                done += os.pwrite(self._fd, line[done:], size + done)
        except BaseException as error:
            # If this fails too, the torn line is removed when the file is opened again.
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, size)
            if isinstance(error, OSError):
                raise self._failed(error) from error
            raise

    def truncate(self, size: int) -> None:
        """Cut the file to `size` bytes. A file that has no more than that is not touched."""
        try:
            if os.fstat(self._fd).st_size > size:
                self._changed = True
                os.ftruncate(self._fd, size)
        except OSError as error:
            raise self._failed(error) from error

    def sync(self) -> None:
        """Wait until what was written is on the disk."""
        try:
            os.fsync(self._fd)
        except OSError as error:
            raise self._failed(error) from error

    def close(self) -> None:
        """Sync if anything was written, close and release the lock."""
        if self._changed:
            with contextlib.suppress(OSError):
                os.fsync(self._fd)
        os.close(self._fd)

    def _failed(self, error: OSError) -> LedgerWriteError:
        return LedgerWriteError(
            f"{self.path} could not be written ({error.strerror}); it is valid up to the line before: "
            f"make room or restore the folder, then run again to go on"
        )


def _check_regular(fd: int, path: Path) -> None:
    try:
        safe_files.check_regular(fd, path)
    except FileRefused as error:
        raise LedgerWriteError(f"{error}; nothing was evaluated: choose another folder") from error


def _lock(fd: int, path: Path) -> None:
    """Lock the file for one writer. The system releases the lock when the process ends, however it ends."""
    try:
        import fcntl
    except ImportError:  # this system has no flock; the chain of hashes would show a second writer afterwards
        return
    until = time.monotonic() + LOCK_PATIENCE
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            if time.monotonic() > until:
                raise LedgerLocked(
                    f"{path} is being written by another run; wait for it or choose another folder"
                ) from error
            time.sleep(0.05)
        except OSError as error:
            raise LedgerWriteError(f"{path} cannot be locked ({error.strerror}); choose another disk") from error
        else:
            return
