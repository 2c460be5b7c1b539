"""Where the finished runs of a folder are: a search that follows no link, and says on stderr what it passed over.

Packed submissions are read as they are: while somebody reads them (`opened`), their runs lie unpacked in a temporary
folder, and whatever is said of one names the place where it would stand if it were unpacked where it is.
"""

from __future__ import annotations

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
from banel_envs.visible import terminal, visible
from banel_leaderboard.records import packed
from banel_leaderboard.records.record import RunRecord
from banel_leaderboard.records.run_folder import LINES, RECORD
from banel_leaderboard.records.unpack import Allowance, unpack_part


@dataclass(frozen=True)
class Place:
    """A finished run."""

    folder: Path  # that its files are in
    below: Path  # the folder below which no link is followed to them
    shown: Path  # where it stands, for a message; of a packed run, where it would


@dataclass
class Opened:
    """What a folder holds, while it can be read."""

    runs: list[Place] = field(default_factory=list)  # in order
    refused: list[tuple[Path, str]] = field(default_factory=list)  # folders that were not read, and why
    unpacked: list[tuple[Path, Path]] = field(default_factory=list)  # temporary folder, and part that lies there

    def told(self, what: object) -> str:
        """Text about a run, without the temporary folder."""
        text = str(what)
        for place, part in self.unpacked:
            text = text.replace(str(place), str(part))
        return text


def find(folder: Path, *names: str) -> Found:
    """Every record.json below a folder, or every file of these names, in order; FileRefused if there are too many files.

    A folder that could not be searched, or whose name cannot be shown, is among `refused`; links to folders are counted,
    and not followed.
    """
    found = safe_files.find(folder, *(names or (RECORD,)))
    if found.links:
        many = "a link to a folder was" if found.links == 1 else f"{found.links} links to folders were"
        print(terminal(f"{many} not followed in {folder}; put the folders themselves there"), file=sys.stderr)
    odd = {path for path in found.paths if not _can_be_shown(path.relative_to(folder))}
    found.refused += [(path.parent, "its name has characters that cannot be seen; give it another") for path in odd]
    found.paths = [path for path in found.paths if path not in odd]
    return found


def _can_be_shown(path: Path) -> bool:
    return visible(str(path), None) == str(path)


def is_folder(folder: Path) -> bool:
    """Whether runs can stand there: a folder, or a path that leads on into a part of a packed submission."""
    return folder.is_dir() or _part_above(folder) is not None


def _part_above(path: Path) -> Path | None:
    """The part of a packed submission that a path which is not there leads into."""
    there = next((place for place in path.parents if place.is_dir()), None)
    return there if there is not None and not os.path.lexists(path) and (there / LINES).is_file() else None


@contextmanager
def opened(folder: Path) -> Iterator[Opened]:
    """All finished runs of a folder, `folder` itself included, packed or not.

    Args:
        folder: of runs or of packed submissions, or inside a packed one where a run would stand.

    Raises:
        BadValue: it is no folder.
        FileRefused: it has too many files.
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
    """Note the runs that are not packed, and what was not read; the parts of each packed submission."""
    found = find(folder, RECORD, LINES)
    made.refused = found.refused
    made.runs = [Place(path.parent, folder, path.parent) for path in found.paths if path.name == RECORD]
    submissions: dict[Path, list[Path]] = {}
    for part in (path.parent for path in found.paths if path.name == LINES):
        submissions.setdefault(part.absolute().parent.parent, []).append(part)
    return submissions


def _open_submission(parts: list[Path], scratch: Path, made: Opened, only: str = "") -> None:
    """Unpack the parts of one submission; each that is not as it should be is refused by itself."""
    try:
        left = Allowance(parts)
    except BanelError as error:
        made.refused += [(part, str(error)) for part in parts]
        return
    for part in parts:
        place = scratch / f"{len(made.unpacked):08}"
        try:
            unpack_part(part, place, left, only)
        except Exception as error:  # also a full disk, or what no check expected: the other runs are read all the same
            said = "" if isinstance(error, BanelError) else f"unpacking it raised {type(error).__name__}: "
            made.refused.append((part, f"{said}{error}".replace(str(place), str(part))))
            rmtree(place, ignore_errors=True)
            continue
        made.unpacked.append((place, part))
        paths = [path.parent for path in safe_files.find(place, RECORD).paths]
        made.runs += [Place(path, place, part / path.relative_to(place)) for path in paths]


@contextmanager
def finished_runs(folder: Path) -> Iterator[Opened]:
    """All finished runs of a folder, packed or not; what is passed over is said on stderr.

    Raises:
        BanelError: there is none.
    """
    with opened(folder) as found:
        for path, reason in found.refused:
            print(terminal(f"refused {path}: {reason}"), file=sys.stderr)
        if not found.runs:
            raise BanelError(f"{folder} holds no finished run; a run is finished once its {RECORD} is there")
        yield found


@contextmanager
def opened_run(folder: Path) -> Iterator[Path]:
    """The folder of one run: itself, or a temporary one where it stands in a packed submission.

    Raises:
        BanelError: the part of the submission is not what `banel pack` writes; or what the body raised, with the run's name.
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
    """The records below a folder that are valid, packed or not; ledgers are not read, and nothing is proved."""
    for path in safe_files.find(folder, RECORD, LINES).paths:
        try:
            if path.name == RECORD:
                yield RunRecord.load(path)
            else:
                yield from packed.records(path.parent)
        except BanelError:
            continue  # it is named when the board or the sweep reads it
