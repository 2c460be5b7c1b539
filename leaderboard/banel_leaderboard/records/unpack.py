"""unpack: a packed submission back into run folders, to the byte, believing nothing that it says; see packed.py.

What is written is a new folder or a draft, in which every file is made anew: no name leads out of it, and nothing that was there
before is touched. Sizes are known before the first byte is decompressed; a stream that holds more, or less, is refused.
"""

from __future__ import annotations

import hashlib
import lzma
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from banel_envs.errors import BadValue, FileRefused
from banel_envs.files import safe_files
from banel_leaderboard.records import packed
from banel_leaderboard.records.pack import new_folder
from banel_leaderboard.records.packed import MOST_FILE, MOST_UNPACKED, LedgerPiece, Packed, PolicyPiece
from banel_leaderboard.records.run_folder import FINAL, LEDGER, LINES, RECORD, STATUS

MEMORY = 2**26  # bytes that a decompressor may take; what `banel pack` writes takes 17 million
PIECE = 2**16  # bytes that are decompressed at once


def unpack(folder: Path, out: Path) -> int:
    """Unpack a packed submission into a new folder, which is made whole or not at all; the number of its runs.

    Raises:
        BadValue: there is no packed submission, it has more files or bytes than the limits, or `out` is not new.
        BanelError: a file of it is not what `banel pack` writes.
    """
    parts = parts_below(folder)
    if not parts:
        raise BadValue(f"{folder} holds no {LINES}; name a folder that `banel pack` made")
    root = folder.absolute()
    if any(part.absolute().parent.parent != root for part in parts):
        raise BadValue(f"{folder} is no packed submission but holds one, or is a part of one; name its folder itself")
    left = Allowance(parts)
    with new_folder(out) as draft:
        return sum(unpack_part(part, draft / part.parent.name / part.name, left) for part in parts)


def parts_below(folder: Path) -> list[Path]:
    """The parts of packed submissions below a folder, in order; no link is followed."""
    return [path.parent for path in safe_files.find(folder, LINES).paths] if folder.is_dir() else []


class Allowance:
    """How many bytes may still be unpacked before a submission is beyond its limits.

    Args:
        parts: the parts of the submission.

    Raises:
        BadValue: the submission has too many files, or they are too large.
        FileRefused: a part cannot be searched, or holds something that is no part of it.
    """

    def __init__(self, parts: Iterable[Path]) -> None:
        self.left = MOST_UNPACKED
        files = size = 0
        for part in parts:
            for entry in _entries(part):
                files, size = files + 1, size + _size(entry)
                packed.check_total(files, size, str(part.absolute().parent.parent))

    def take(self, size: int, path: Path) -> None:
        """Note that so many bytes are unpacked; FileRefused if that is more than is left."""
        self.left -= size
        if self.left < 0:
            raise FileRefused(f"{path} unpacks to more than {MOST_UNPACKED:,} bytes, with the submission's other tasks")


def _size(entry: os.DirEntry[str]) -> int:
    try:
        return entry.stat(follow_symlinks=False).st_size
    except OSError:
        return 0  # it is gone, which is said when it is read


def _entries(part: Path) -> list[os.DirEntry[str]]:
    """Everything in a part, whatever it is; FileRefused if that is more than a submission has."""
    found: list[os.DirEntry[str]] = []
    try:
        with os.scandir(part) as inside:
            for entry in inside:
                found.append(entry)
                # Counted while the folder is read: a list of a million names would fill the memory first.
                if len(found) > packed.MOST_FILES:
                    raise FileRefused(f"{part} holds more than {packed.MOST_FILES} files; a submission has no more")
    except OSError as error:
        raise FileRefused(f"{part} cannot be searched: {error.strerror}") from error
    return found


def unpack_part(part: Path, out: Path, left: Allowance, only: str = "") -> int:
    """Unpack the runs of a part.

    Args:
        part: the folder that holds records.jsonl.
        out: where `<run>/record.json` and so on are made; nothing is there yet.
        left: how much of the submission may still be unpacked.
        only: a run, or a folder of runs, that is unpacked alone; all the others are only checked.

    Returns:
        The number of runs that were unpacked.

    Raises:
        FileRefused: a file is missing, is too large, is no regular file or is not what records.jsonl says, or there are
            too many files.
        RecordError: see packed.read_lines.
    """
    lines = packed.read_lines(part)
    _check_files(part, lines)
    chosen = {line.run: out / line.run for line in lines if not only or f"{line.run}/".startswith(f"{only}/")}
    # What the lines state is taken before anything is unpacked. Later each file is compared with what was stated.
    left.take(sum(p.line.ledger.bytes + (p.line.policy.bytes if p.line.policy else 0) for p in lines), part)
    for place in chosen.values():
        place.mkdir(parents=True)
    _unpack_ledgers(part, lines, chosen)
    _unpack_policies(part, lines, chosen)
    for line in lines:
        files = {STATUS: line.status(), RECORD: line.record()}  # the record last: its presence means finished
        for name, content in files.items():
            if content is not None and line.run in chosen:
                left.take(len(content), part)
                _write(chosen[line.run] / name, [content])
    return len(chosen)


def _check_files(part: Path, lines: list[Packed]) -> None:
    """FileRefused unless the part holds the files that its lines name, in order, and nothing else."""
    ledgers = [line.line.ledger.file for line in lines]
    policies = {p.sha256: p.file for p in (line.line.policy for line in lines) if p is not None}
    for stem, suffix, named in (("ledgers", "xz", ledgers), ("policies", "safetensors", list(policies.values()))):
        files = list(dict.fromkeys(named))
        if named != sorted(named) or files != [f"{stem}-{k:03}.{suffix}" for k in range(len(files))]:
            raise FileRefused(f"{part / LINES} names the files of its {stem} out of order; pack the runs again")
    expected = {LINES, *ledgers, *policies.values()}
    for entry in _entries(part):
        if entry.name not in expected:
            raise FileRefused(f"{part / entry.name} is no file of a packed submission; move it elsewhere")


def _unpack_ledgers(part: Path, lines: list[Packed], chosen: dict[str, Path]) -> None:
    for file in dict.fromkeys(line.line.ledger.file for line in lines):
        stream = _Stream(part, file)
        for line in lines:
            piece = line.line.ledger
            if piece.file == file:
                place = chosen.get(line.run)
                what = f"{part / line.run / LEDGER}, packed in {file},"
                content = _checked(stream.take(piece.packed), piece, what)
                # The stream has no index. A ledger that is not wanted must be decompressed to come to the next one.
                if place is None:
                    for _ in content:
                        pass
                else:
                    _write(place / LEDGER, content)
        stream.end()


def _checked(pieces: Iterator[bytes], piece: LedgerPiece, what: str) -> Iterator[bytes]:
    """A ledger's bytes as they come, FileRefused as soon as they are not the ones that are stated."""
    digest, size = hashlib.sha256(), 0
    for content in pieces if piece.packed == piece.bytes else packed.with_hashes(pieces):
        size += len(content)
        if size > piece.bytes:
            raise FileRefused(f"{what} has more than the {piece.bytes:,} bytes that are stated; pack the runs again")
        digest.update(content)
        yield content
    if size != piece.bytes or digest.hexdigest() != piece.sha256:
        raise FileRefused(
            f"{what} has {size:,} bytes of SHA-256 {digest.hexdigest()}; {piece.bytes:,} of {piece.sha256} are stated: "
            f"pack the runs again"
        )


class _Stream:
    """A file of ledgers that is decompressed piece by piece."""

    def __init__(self, part: Path, file: str) -> None:
        self._path = part / file
        self._packed = safe_files.read(self._path, MOST_FILE, below=part)
        self._decoder = lzma.LZMADecompressor(lzma.FORMAT_XZ, memlimit=MEMORY)

    def take(self, size: int) -> Iterator[bytes]:
        """The next `size` bytes, in pieces; FileRefused if there are fewer."""
        while size:
            content = self._next(min(size, PIECE))
            if not content and (self._decoder.eof or self._decoder.needs_input):
                raise FileRefused(f"{self._path} is cut: {size:,} bytes are missing; pack the runs again")
            size -= len(content)
            if content:
                yield content

    def end(self) -> None:
        """FileRefused unless everything was taken and nothing follows."""
        while not self._decoder.eof:
            if self._next(1):
                raise FileRefused(f"{self._path} holds more than records.jsonl states; pack the runs again")
            if not self._decoder.eof and self._decoder.needs_input:
                raise FileRefused(f"{self._path} is cut: it has no end; pack the runs again")
        if self._decoder.unused_data:
            raise FileRefused(f"{self._path} goes on behind its end; pack the runs again")

    def _next(self, most: int) -> bytes:
        if self._decoder.eof:
            return b""
        # The decoder takes all input at the first call and keeps what it does not yet need.
        fed, self._packed = self._packed, b""
        try:
            return self._decoder.decompress(fed, most)
        except (lzma.LZMAError, MemoryError) as error:
            raise FileRefused(
                f"{self._path} is no xz stream that is read here: {error}; pack the runs again"
            ) from error


def _unpack_policies(part: Path, lines: list[Packed], chosen: dict[str, Path]) -> None:
    pieces = [(line.run, line.line.policy) for line in lines if line.line.policy is not None]
    for file in dict.fromkeys(piece.file for _, piece in pieces):
        mine = [(run, piece) for run, piece in pieces if piece.file == file]
        contents = _policies(part, file, [piece for _, piece in mine])
        for run, piece in mine:
            if run in chosen:
                _write(chosen[run] / FINAL, [contents[piece.sha256]])


def _policies(part: Path, file: str, pieces: Iterable[PolicyPiece]) -> dict[str, bytes]:
    """The contents of a file of policies by their SHA-256; FileRefused unless it is made of these pieces."""
    sizes: dict[str, int] = {}
    for piece in pieces:
        if sizes.setdefault(piece.sha256, piece.bytes) != piece.bytes:
            raise FileRefused(f"{part / LINES} states two sizes of the policy {piece.sha256}; pack the runs again")
    content = safe_files.read(part / file, MOST_FILE, below=part)
    start = packed.policies_header(sizes.items())
    # The header follows from the sizes, so it is compared and never parsed.
    if not content.startswith(start) or len(content) != len(start) + sum(sizes.values()):
        raise FileRefused(f"{part / file} does not hold the policies that {LINES} states; pack the runs again")
    contents: dict[str, bytes] = {}
    at = len(start)
    for name, size in sizes.items():
        contents[name], at = content[at : at + size], at + size
        if hashlib.sha256(contents[name]).hexdigest() != name:
            raise FileRefused(f"{part / file}: the policy {name} has another SHA-256; pack the runs again")
    return contents


def _write(path: Path, pieces: Iterable[bytes]) -> None:
    with path.open("xb") as file:  # x: no file of another run is overwritten, whatever the names say
        file.writelines(pieces)
