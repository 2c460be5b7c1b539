"""The verdict of a rerun: one JSON file a submission, outside every submission, written by whoever ran its agent again.

`leaderboard/attestations/<submission>.json` binds the bytes of the submission that it speaks of. A submission that was
changed since then has no verdict.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Annotated, Literal, TypeAlias

from pydantic import Field

from banel_envs.errors import BadValue, FileRefused
from banel_envs.files import safe_files
from banel_envs.meter.oracle import Feedback
from banel_leaderboard.records import packed
from banel_leaderboard.records.field_limits import AgentName, Seed, Sha256, TaskName, Text
from banel_leaderboard.records.record import Strict, validated
from banel_leaderboard.submission.metadata import SubmissionError

Verdict: TypeAlias = Literal["confirmed", "contradicted", "undecided"]
LEVEL = 0.01  # the share of honest submissions that are contradicted
MOST_FILE = 2**20
Probability = Annotated[float, Field(ge=0, le=1)]


class Stratum(Strict):
    """The runs of one task under one regime."""

    task: TaskName
    regime: Feedback
    submitted: Annotated[int, Field(ge=1)]
    fresh: Annotated[int, Field(ge=1)]
    met_submitted: Annotated[int, Field(ge=0)]  # runs that met a success
    met_fresh: Annotated[int, Field(ge=0)]


class Rerun(Strict):
    """What a rerun found."""

    rerun: Literal[1] = 1
    submission: Text  # the name of its folder
    sha256: Sha256  # of its files, see digest_of_submission
    agent: AgentName
    seeds: tuple[Seed, ...]  # the fresh ones
    strata: tuple[Stratum, ...]
    statistic: Annotated[float, Field(ge=-1, le=1)]  # above 0: the submitted runs are better
    p: Probability
    least: Probability  # the smallest p that so many runs can give
    verdict: Verdict
    package: Text
    processor: Text

    def write(self, folder: Path) -> Path:
        """Write the verdict into the folder of attestations; an older one of this submission is replaced."""
        return write_attestation(self, folder / f"{self.submission}.json")


def write_attestation(attestation: Strict, path: Path) -> Path:
    """Write what a maintainer attests as JSON, whole or not at all; the path."""
    path.parent.mkdir(parents=True, exist_ok=True)
    safe_files.write(path, (attestation.model_dump_json(indent=1) + "\n").encode(), path.with_suffix(".tmp"))
    return path


def load_rerun(attestations: Path, submission: Path) -> Rerun | None:
    """The verdict on a submission; None if there is none, or only one on other bytes.

    Raises:
        SubmissionError: the file is no verdict; names the field.
        BadValue: the folder of attestations lies inside the submission, which nobody believes.
    """
    if attestations.resolve().is_relative_to(submission.resolve()):
        raise BadValue(f"{attestations} lies inside {submission}; attestations are kept outside what they speak of")
    path = attestations / f"{submission.name}.json"
    if not path.exists():
        return None
    try:
        content = safe_files.read(path, MOST_FILE)
    except FileRefused as error:
        raise SubmissionError(str(error)) from error
    found = validated(Rerun, content, path, "a rerun's verdict", SubmissionError)
    return found if found.sha256 == digest_of_submission(submission) else None


def digest_of_submission(folder: Path) -> str:
    """SHA-256 over the names and the SHA-256 of all files of a submission, in order."""
    total = hashlib.sha256()
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        digest = safe_files.sha256(path, packed.MOST_FILE, below=folder)
        total.update(f"{digest}  {path.relative_to(folder).as_posix()}\n".encode())
    return total.hexdigest()


def verdict_of(p: float, least: float) -> Verdict:
    """Contradicted at LEVEL; undecided where no outcome of so few runs could have contradicted."""
    if least > LEVEL:
        return "undecided"
    return "contradicted" if p <= LEVEL else "confirmed"
