"""What a pull request changes among submissions and attestations: python -m banel_leaderboard.submission.changed BASE HANDED.

BASE and HANDED are two checkouts: the branch that the request asks to change, and what it hands in. The program runs from
BASE; of HANDED it only reads files. Every submission that is new or changed is checked as by `banel check`, against those of
BASE. Whoever is not of the project (the variable AUTHOR_ASSOCIATION, as GitHub writes it) may add a submission of a new
name, and may neither change another one nor touch an attestation.
"""

from __future__ import annotations

import os
import re
import stat
import sys
from collections.abc import Mapping
from pathlib import Path

from banel_envs.errors import BanelError, FileRefused
from banel_envs.files import safe_files
from banel_envs.files.visible import shown, visible
from banel_leaderboard.records import packed
from banel_leaderboard.submission.check import check_submission, submissions_in
from banel_leaderboard.submission.metadata import load_submission

SUBMISSIONS, ATTESTATIONS = Path("leaderboard") / "submissions", Path("leaderboard") / "attestations"
INSIDE = ("OWNER", "MEMBER", "COLLABORATOR")
FOLDER = r"[0-9]{4}-[0-9]{2}-[0-9]{2}-[a-z0-9][a-z0-9-]{0,60}"
MOST_ENTRIES = 100_000


def contents(folder: Path) -> dict[str, str]:
    """What every entry below a folder is: SHA-256 of a file, another word for anything else. No link is followed."""
    found: dict[str, str] = {}
    for place, folders, files in os.walk(folder, followlinks=False):
        for name in (*folders, *files):
            path = Path(place) / name
            key = path.relative_to(folder).as_posix()
            mode = path.lstat().st_mode
            if stat.S_ISDIR(mode):
                continue
            try:
                found[key] = safe_files.sha256(path, packed.MOST_FILE) if stat.S_ISREG(mode) else "no regular file"
            except FileRefused:
                found[key] = "refused"
        if len(found) > MOST_ENTRIES:
            raise FileRefused(f"{folder} holds more than {MOST_ENTRIES:,} files")
    return found


def changed(before: Mapping[str, str], after: Mapping[str, str]) -> set[str]:
    """The names that were added, changed or removed."""
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def refused(base: Path, handed: Path, association: str) -> list[str]:
    """What nobody outside of the project may change; nothing for those inside."""
    if association in INSIDE:
        return []
    said = [
        f"{ATTESTATIONS / visible(name)}: only the project writes attestations; take the file out of the request"
        for name in sorted(changed(contents(base / ATTESTATIONS), contents(handed / ATTESTATIONS)))
    ]
    there = {path.name for path in submissions_in(base / SUBMISSIONS)}
    for name in touched(base, handed):
        if name in there:
            said.append(f"{SUBMISSIONS / name}: it is there already; hand in a new folder, whose name says the date")
        elif not re.fullmatch(FOLDER, name):
            said.append(f"{SUBMISSIONS}/{shown(name)}: its name is not <date>-<name>, as `banel submit` writes it")
    return said


def touched(base: Path, handed: Path) -> list[str]:
    """The folders of submissions that differ."""
    names = changed(contents(base / SUBMISSIONS), contents(handed / SUBMISSIONS))
    return sorted({name.partition("/")[0] for name in names if "/" in name})


def check(base: Path, handed: Path, name: str) -> bool:
    """Check one submission of the request, and print the report; whether it passes."""
    folder = handed / SUBMISSIONS / name
    if not folder.is_dir():
        print(f"{SUBMISSIONS / name} was removed")
        return True
    others = [other for other in submissions_in(base / SUBMISSIONS) if other.name != name]
    report, _ = check_submission(folder, others)
    print(f"{SUBMISSIONS / name}", *report.lines(), sep="\n")
    if report.passed and re.fullmatch(FOLDER, name) and not name.startswith(load_submission(folder).date):
        print(f"{SUBMISSIONS / name}: date: the folder's name has another date than submission.json")
        return False
    return report.passed


def main(arguments: list[str]) -> int:
    """0 if every submission of a request passes and nothing was touched that may not be."""
    if len(arguments) != 2:
        print("usage: python -m banel_leaderboard.submission.changed BASE HANDED", file=sys.stderr)
        return 2
    base, handed = map(Path, arguments)
    try:
        said = refused(base, handed, os.environ.get("AUTHOR_ASSOCIATION", "NONE"))
        print(*said, sep="\n", end="\n" if said else "")
        passed = [check(base, handed, name) for name in touched(base, handed)]
    except BanelError as error:
        print(f"refused: {visible(str(error))}")
        return 1
    return int(bool(said) or not all(passed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
