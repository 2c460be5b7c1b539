"""Standing: how far the numbers of a run are proved; and attestations, which say which runs were replayed.

There are three standings, in rising order. *reported*: the record says so, and its ledger does not contradict it.
*recomputed*: every answer was computed again from the task's reward, and the final rates were computed again from the
stored policy. *replayed*: the agent was run again over the ledger; it asked the same questions and gave the same record.

An attestation says that one run was replayed. Whoever replays writes it (`banel replay FOLDER --attest FILE`), as one line
of JSON in a file outside every run folder and submission. A board believes the attestations that it is given with
`--attestations`. It believes none that lies inside the folder that it reads, since whoever made that folder may have
written it.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable
from enum import IntEnum
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from banel_envs.errors import BadJson, BadValue, FileRefused
from banel_envs.files import safe_files, strict_json
from banel_leaderboard.records.record import RunRecord

Hex = Field(pattern=r"^[0-9a-f]{64}$")
LONGEST = 200  # characters of a text in an attestation


class Standing(IntEnum):
    """The three standings. A run of a higher standing has the lower ones too."""

    REPORTED = 0
    RECOMPUTED = 1
    REPLAYED = 2

    @property
    def word(self) -> str:
        """The word that the board shows."""
        return self.name.lower()


class Attestation(BaseModel):
    """One run was replayed: which run it was, and what replayed it."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    attestation: Literal[1] = 1
    record: str = Hex  # SHA-256 of the record without its `execution` block, see digest_of
    head: str = Hex  # the head of the run's ledger
    run: str = Field(max_length=LONGEST)  # task, agent, regime and seed, for people who read the file
    package: str = Field(max_length=LONGEST)  # the version of the package that replayed the run
    kernel: str = Field(max_length=LONGEST)
    processor: str = Field(max_length=LONGEST)
    instructions: str = Field(max_length=LONGEST)  # of the processor, as PyTorch names them


def digest_of(record: RunRecord) -> str:
    """SHA-256 of everything in a record except its `execution` block."""
    return hashlib.sha256(record.canonical().encode()).hexdigest()


def attest(record: RunRecord) -> Attestation:
    """The attestation of a record that was just replayed in this process."""
    from banel_leaderboard.running.machine import instructions, processor, versions

    found = versions()
    regime = "twin" if record.twin else record.feedback
    return Attestation(
        record=digest_of(record),
        head=record.ledger.head,
        run=f"{record.task} {record.agent} {regime} seed {record.seed}"[:LONGEST],
        package=found.get("banel-envs", "unknown"),
        kernel=found["kernel"],
        processor=processor()[:LONGEST],
        instructions=instructions(),
    )


def prepare_attestations(path: Path, outside: Path) -> None:
    """Make the folder of a file of attestations, before the work that it is to hold.

    Raises:
        BadValue: it lies inside the folder `outside`, whose runs are proved, or cannot be written.
    """
    # Whoever submits a folder could write attestations into it. So none inside a folder is believed, and none is written there.
    if path.resolve().is_relative_to(outside.resolve()):
        raise BadValue(f"--attest is {path}; name a file outside {outside}, whose runs are proved")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        fits = not path.is_dir() and path.name not in ("", "..") and os.access(path.parent, os.W_OK)
    except OSError:
        fits = False
    if not fits:
        raise BadValue(f"{path} is no file that can be written; name one in a folder, such as attestations/mine.jsonl")
    if path.exists():
        read_attestations(path)


def write_attestations(path: Path, attestations: Iterable[Attestation]) -> None:
    """Add to a file of attestations. A new attestation of a run replaces the old one."""
    held = {a.record: a for a in read_attestations(path)} if path.exists() else {}
    held |= {a.record: a for a in attestations}
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = "".join(a.model_dump_json() + "\n" for a in sorted(held.values(), key=lambda a: a.run))
    safe_files.write(path, lines.encode(), path.with_suffix(".tmp"))


def read_attestations(path: Path, outside: Path | None = None) -> list[Attestation]:
    """The attestations in a file, or in every .jsonl file of a folder.

    Raises:
        BadValue: the file does not exist or lies inside the folder `outside`, or a line is no attestation.
    """
    # resolve() follows links, so that a link from outside into the folder is found too.
    if outside is not None and path.resolve().is_relative_to(outside.resolve()):
        raise BadValue(f"{path} lies inside {outside}; attestations are kept outside what they speak of")
    files = sorted(path.glob("*.jsonl")) if path.is_dir() else [path]
    return [_line(file, number, line) for file in files for number, line in enumerate(_lines(file), 1) if line.strip()]


def _lines(path: Path) -> list[str]:
    try:
        return safe_files.read(path, safe_files.ATTESTATIONS, links=True).decode().splitlines()
    except (FileRefused, UnicodeDecodeError) as error:
        raise BadValue(f"{path} cannot be read as attestations: {error}") from error


def _line(path: Path, number: int, line: str) -> Attestation:
    try:
        # pydantic takes a key that stands twice. strict_json refuses it, because people and programs may read it differently.
        strict_json.loads(line)
        return Attestation.model_validate_json(line)
    except BadJson as error:
        raise BadValue(f"{path}, line {number}: {error}; `banel replay --attest` writes such lines") from error
    except ValidationError as error:
        first: Any = error.errors()[0]
        where = ".".join(map(str, first["loc"])) or "the line"
        raise BadValue(
            f"{path}, line {number}: {where}: {first['msg']}; `banel replay --attest` writes such lines"
        ) from error
