"""(a) The files of a submission: submission.json, and for each task what `banel pack` writes; nothing else, and no links."""

from __future__ import annotations

import os
import re
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from banel_envs.files.visible import shown
from banel_leaderboard.records import packed
from banel_leaderboard.records.run_folder import LINES
from banel_leaderboard.submission.metadata import MOST_FILE, NAME
from banel_leaderboard.submission.steps.findings import Finding

SPACE = r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,99}"
TASK = r"[A-Za-z0-9_][A-Za-z0-9_.]{0,99}-v[0-9]{1,9}"
PACKED = r"ledgers-[0-9]{3}\.xz|policies-[0-9]{3}\.safetensors"
FILE = rf"{re.escape(NAME)}|{SPACE}/{TASK}/(?:{re.escape(LINES)}|{PACKED})"
FOLDER = rf"{SPACE}|{SPACE}/{TASK}"
MOST_ENTRIES = 1_000  # files and folders that are looked at


def check_layout(folder: Path) -> list[Finding]:
    """What is wrong with the names, kinds and sizes of the files below a folder; nothing is opened."""
    found: list[Finding] = []
    sizes: dict[str, int] = {}  # of regular files, by name
    for number, (name, status) in enumerate(_entries(folder)):
        if number >= MOST_ENTRIES:
            return [*found, Finding("a", ".", "files", f"the folder has more than {MOST_ENTRIES:,} entries")]
        wrong = _wrong(name, status)
        if wrong is not None:
            found.append(Finding("a", name, *wrong))
        if stat.S_ISREG(status.st_mode):
            sizes[name] = status.st_size
    if sizes.pop(NAME, None) is None:
        found.append(Finding("a", NAME, "file", "it is missing; `banel submit` writes it"))
    return [*found, *_totals(sizes)]


def _totals(sizes: Mapping[str, int]) -> list[Finding]:
    """Findings about all packed files together."""
    found = []
    if not any(name.endswith(f"/{LINES}") for name in sizes):
        found.append(Finding("a", LINES, "file", "no task has one; `banel submit` packs runs into it"))
    if len(sizes) > packed.MOST_FILES:
        found.append(
            Finding("a", ".", "files", f"it has {len(sizes)} files; a submission has at most {packed.MOST_FILES}")
        )
    if (size := sum(sizes.values())) > packed.MOST_BYTES:
        found.append(
            Finding("a", ".", "size", f"it has {size:,} bytes; a submission has at most {packed.MOST_BYTES:,}")
        )
    return found


def _wrong(name: str, status: os.stat_result) -> tuple[str, str] | None:
    """The field and what is wrong with one entry."""
    if stat.S_ISDIR(status.st_mode):
        return None if re.fullmatch(FOLDER, name) else ("name", f"the folder {shown(name)} is none of a submission")
    if not stat.S_ISREG(status.st_mode):
        return "kind", "it is no regular file: a link, a pipe, a device or a socket"
    if not re.fullmatch(FILE, name):
        return "name", f"the file {shown(name)} is none of a submission; attestations and code are not taken along"
    if status.st_mode & 0o111:
        return "kind", "it can be executed; a submission holds data: chmod -x"
    most = MOST_FILE if name == NAME else packed.MOST_FILE
    if status.st_size > most:
        return "size", f"it has {status.st_size:,} bytes; such a file has at most {most:,}"
    return None


def _entries(folder: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Every file and folder below, three levels deep, with its status; no link is followed."""
    waiting = [(folder, "")]
    while waiting:
        place, above = waiting.pop()
        with os.scandir(place) as inside:
            for entry in inside:
                status = entry.stat(follow_symlinks=False)
                name = f"{above}{entry.name}"
                yield name, status
                if stat.S_ISDIR(status.st_mode) and name.count("/") < 3:
                    waiting.append((Path(entry.path), f"{name}/"))
