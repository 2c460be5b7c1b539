"""Find the finished runs in a folder. The search follows no link, and says on stderr what it left out.

Packed submissions can be read without unpacking them first. While one is read (`opened`), its runs lie unpacked in a
temporary folder. Messages about such a run do not name that folder, but the place that the run would have if the
submission were unpacked where it is.
"""

from __future__ import annotations

import gc
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from shutil import rmtree

from banel_envs.errors import BadValue, BanelError
from banel_envs.files import safe_files
from banel_envs.files.safe_files import Found
from banel_envs.files.visible import terminal, visible
from banel_leaderboard.records import packed
from banel_leaderboard.records.record import RunRecord
from banel_leaderboard.records.run_folder import LINES, RECORD
from banel_leaderboard.records.unpack import Allowance, unpack_part


@dataclass(frozen=True)
class Place:
    """A finished run."""

    folder: Path  # its files are here
    below: Path  # no link is followed between this folder and the files
    shown: Path  # the place that messages name; for a packed run, the place that it would have if it were unpacked


@dataclass
class Opened:
    """The runs of a folder, as long as they can be read."""

    runs: list[Place] = field(default_factory=list)  # in order
    refused: list[tuple[Path, str]] = field(default_factory=list)  # folders that were not read, and why
    unpacked: list[tuple[Path, Path]] = field(default_factory=list)  # temporary folder, part that is unpacked there

    def told(self, what: object) -> str:
        """A text about a run, with the run's own place instead of the temporary folder."""
        text = str(what)
        for place, part in self.unpacked:
            text = text.replace(str(place), str(part))
        return text


def find(folder: Path, *names: str) -> Found:
    """Find every record.json below a folder, or every file of these names, in order.

    Folders that could not be searched, or whose names cannot be shown, are among `refused`. Links to folders are counted
    and not followed.

    Raises:
        FileRefused: there are too many files.
    """
    found = safe_files.find(folder, *(names or (RECORD,)))
    if found.links:
        many = "a link to a folder was" if found.links == 1 else f"{found.links} links to folders were"
        print(terminal(f"{many} not followed in {folder}; put the folders themselves there"), file=sys.stderr)
    # A name with characters that cannot be seen could look like that of another run in a table or on the terminal.
    odd = {path for path in found.paths if not _can_be_shown(path.relative_to(folder))}
    found.refused += [(path.parent, "its name has characters that cannot be seen; give it another") for path in odd]
    found.paths = [path for path in found.paths if path not in odd]
    return found


def _can_be_shown(path: Path) -> bool:
    return visible(str(path), None) == str(path)


def is_folder(folder: Path) -> bool:
    """Whether runs can be there: it is a folder, or a path that leads into a part of a packed submission."""
    return folder.is_dir() or _part_above(folder) is not None


def _part_above(path: Path) -> Path | None:
    """The part of a packed submission that a path leads into; None if the path exists or leads into no part."""
    there = next((place for place in path.parents if place.is_dir()), None)
    return there if there is not None and not os.path.lexists(path) and (there / LINES).is_file() else None


@contextmanager
def many() -> Iterator[None]:
    """Inside the `with` block, where thousands of records are read, Python's cyclic garbage collector rests.

    Records hold no circles. The collector would go over all that were read again and again, which takes as long as reading.
    """
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


@contextmanager
def opened(folder: Path) -> Iterator[Opened]:
    """All finished runs in a folder, packed or not; the folder itself may be a run.

    Args:
        folder: a folder of runs or of packed submissions, or a path inside a packed one, which a run would have.

    Raises:
        BadValue: there is no such folder.
        FileRefused: the folder has too many files.
    """
    inside = None if folder.is_dir() else _part_above(folder)
    if not folder.is_dir() and inside is None:
        raise BadValue(f"{folder} is not a folder, so it holds no finished run; give the one that was handed to --out")
    made = Opened()
    only = "" if inside is None else folder.relative_to(inside).as_posix()
    submissions = _search(folder, made) if inside is None else {inside: [inside]}
    if not submissions:
        yield made
        return
    with tempfile.TemporaryDirectory(prefix="banel-") as scratch:
        for parts in submissions.values():
            _open_submission(parts, Path(scratch).resolve(), made, only)
        made.runs.sort(key=lambda place: place.shown)
        yield made


def _search(folder: Path, made: Opened) -> dict[Path, list[Path]]:
    """Note the runs that are not packed and the folders that were not read; return the parts of each packed submission."""
    found = find(folder, RECORD, LINES)
    made.refused = found.refused
    made.runs = [Place(path.parent, folder, path.parent) for path in found.paths if path.name == RECORD]
    submissions: dict[Path, list[Path]] = {}
    for part in (path.parent for path in found.paths if path.name == LINES):
        submissions.setdefault(part.absolute().parent.parent, []).append(part)
    return submissions


def _open_submission(parts: list[Path], scratch: Path, made: Opened, only: str = "") -> None:
    """Unpack the parts of one submission. A part that is damaged is refused, and the other parts are read all the same."""
    try:
        # The limits on a submission count over all its parts, so they are checked before any part is unpacked.
        left = Allowance(parts)
    except BanelError as error:
        made.refused += [(part, str(error)) for part in parts]
        return
    for part in parts:
        place = scratch / f"{len(made.unpacked):08}"
        try:
            unpack_part(part, place, left, only)
        except Exception as error:  # a full disk, or damage that no check foresaw, must not hide the other runs
            said = "" if isinstance(error, BanelError) else f"unpacking it raised {type(error).__name__}: "
            made.refused.append((part, f"{said}{error}".replace(str(place), str(part))))
            rmtree(place, ignore_errors=True)
            continue
        made.unpacked.append((place, part))
        paths = [path.parent for path in safe_files.find(place, RECORD).paths]
        made.runs += [Place(path, place, part / path.relative_to(place)) for path in paths]


@contextmanager
def finished_runs(folder: Path) -> Iterator[Opened]:
    """All finished runs in a folder, packed or not. Folders that were refused are named on stderr.

    Raises:
        BanelError: the folder holds no finished run.
    """
    with opened(folder) as found:
        for path, reason in found.refused:
            print(terminal(f"refused {path}: {reason}"), file=sys.stderr)
        if not found.runs:
            raise BanelError(f"{folder} holds no finished run; a run is finished once its {RECORD} is there")
        yield found


@contextmanager
def opened_run(folder: Path) -> Iterator[Path]:
    """The folder of one run. For a run in a packed submission it is a temporary one.

    Raises:
        BanelError: the part of the submission is not what `banel pack` writes, or the body of the `with` raised a BanelError.
    """
    inside = None if folder.is_dir() else _part_above(folder)
    if inside is None:
        yield folder
        return
    with opened(folder) as found:
        for _, reason in found.refused:
            raise BanelError(reason)
        if not [place for place in found.runs if place.shown == folder]:
            raise BadValue(f"{folder} is not in the packed submission {inside}; its {LINES} names the runs")
        try:
            yield found.runs[0].folder
        except BanelError as error:
            raise BanelError(found.told(error)) from error


def valid_records(folder: Path) -> Iterator[RunRecord]:
    """The valid records below a folder, packed or not. Ledgers are not read, so nothing is proved."""
    for path in safe_files.find(folder, RECORD, LINES).paths:
        try:
            if path.name == RECORD:
                yield RunRecord.load(path)
            else:
                yield from packed.records(path.parent)
        except BanelError:
            continue  # the board and the sweep name a bad record when they read it
