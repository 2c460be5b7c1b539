"""Read submissions: each folder below leaderboard/submissions, what it says of itself and its runs, verified."""

from __future__ import annotations

import dataclasses
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from tqdm import tqdm

from banel_envs.errors import BadValue, BanelError
from banel_envs.files.visible import visible
from banel_leaderboard.proving.load import Loaded, Run, load_runs
from banel_leaderboard.proving.standing import Attestation
from banel_leaderboard.records.run_folder import LINES
from banel_leaderboard.running.lookup import Known
from banel_leaderboard.submission import metadata
from banel_leaderboard.submission.attestation import Rerun, load_rerun
from banel_leaderboard.submission.metadata import Submission, SubmissionError, load_submission

PLAIN = r"[A-Za-z0-9][A-Za-z0-9._-]{0,79}"  # a folder whose name can be the name of its page


@dataclass(frozen=True)
class Handed:
    """One submission: what it says of itself, and its runs."""

    id: str  # the name of its folder
    page: str  # the name of its page, without .html
    said: Submission | None
    unnamed: str  # why it has no name; empty where it has one
    loaded: Loaded
    rerun: Rerun | None = None  # what running its agent again found

    @property
    def runs(self) -> tuple[Run, ...]:
        """Its runs that count."""
        return self.loaded.runs


@dataclass(frozen=True)
class Gathered:
    """All submissions of a folder, and those that could not be read at all, with the reason."""

    handed: tuple[Handed, ...]
    unread: tuple[tuple[str, str], ...] = ()


def gather(
    folder: Path, known: Known | None = None, attestations: Iterable[Attestation] = (), reruns: Path | None = None
) -> Gathered:
    """Read every submission below a folder, or the folder itself where it is one.

    Args:
        folder: its folders are the submissions. A folder that holds submission.json, or the parts of a packed submission, is one.
        known: tasks and agents of your own, see lookup.own_code.
        attestations: which runs were replayed, see proving/standing.py.
        reruns: the folder of the verdicts of reruns, see submission/attestation.py.

    Raises:
        BadValue: it is no folder, no submission in it can be read, or the verdicts lie inside one.
        SubmissionError: a verdict is not what it must be.
    """
    if not folder.is_dir():
        raise BadValue(f"{folder} is not a folder; --submissions names one whose folders are submissions")
    folders = [folder] if _is_one(folder) else sorted(p for p in folder.iterdir() if p.is_dir() and not p.is_symlink())
    attestations = list(attestations)
    handed: list[Handed] = []
    unread: list[tuple[str, str]] = []
    for place in tqdm(folders, "submissions", disable=None):
        name = place.resolve().name
        try:
            loaded = load_runs(place, known, attestations)
        except BanelError as error:
            unread.append((visible(name), visible(str(error))))
            continue
        rerun = None if reruns is None else load_rerun(reruns, place)
        handed.append(_handed(place, name, loaded, {other.page.lower() for other in handed}, rerun))
    if not handed:
        why = "; ".join(f"{name}: {reason}" for name, reason in unread) or "it holds no folder"
        raise BadValue(f"{folder} holds no submission that can be read ({why}); `banel pack` makes one")
    return Gathered(tuple(handed), tuple(unread))


def _is_one(folder: Path) -> bool:
    return (folder / metadata.NAME).exists() or any(folder.glob(f"*/*/{LINES}"))


def _handed(folder: Path, name: str, loaded: Loaded, taken: set[str], rerun: Rerun | None) -> Handed:
    said, unnamed = None, ""
    try:
        said = load_submission(folder)
    except SubmissionError as error:
        unnamed = visible(str(error).replace(f"{folder}/", ""))
    own = tuple(dataclasses.replace(run, submission=name) for run in loaded.runs)
    page = name if re.fullmatch(PLAIN, name) else ""
    # Some file systems take names for the same that differ in upper and lower case only.
    if not page or page.lower() in taken:
        page = "submission-" + hashlib.sha256(name.encode(errors="surrogateescape")).hexdigest()[:12]
    return Handed(visible(name), page, said, unnamed, Loaded(own, loaded.refused), rerun)
