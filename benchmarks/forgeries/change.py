"""A forgery: what is changed in one run, and the ways of changing it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.forgeries.forging import Forged

TASK = "banel/AdditionAttack-v0"
Change = Callable[[Forged, Path], None]
Harm = Callable[[Path, Path], None]


@dataclass(frozen=True)
class Forgery:
    """One lie."""

    name: str
    apply: Harm  # (the run's folder, a place of its own)
    agent: str = "base"
    regime: str = "failures"
    seed: int = 0
    process: bool = False  # try the commands in processes of their own first
    packed: Harm | None = None  # then the run is packed, and this is done to (its part, a place of its own)
    harmless: bool = False  # what was changed is not read at all: the run still counts as what it is


def sealed(change: Change) -> Harm:
    """Change a run and seal it again."""

    def apply(folder: Path, place: Path) -> None:
        forged = Forged.read(folder)
        change(forged, place)
        forged.write(folder)

    return apply


def plant_code(place: Path, name: str) -> None:
    """A module that leaves a canary when it is imported, in the working folder and beside the run."""
    text = f"open({str(place / 'canary')!r}, 'w').close()\nclass Agent: pass\ndef task(): pass\n"
    for folder in (place / "cwd", place / "board"):
        (folder / f"{name}.py").write_text(text)


def set_fields(**changes: Any) -> Harm:
    """Fields of the record, whatever the ledger says."""
    return sealed(lambda f, _: f.record.update(changes))


def bind(**changes: Any) -> Harm:
    """Fields of the record and of the ledger's first line alike."""
    return sealed(lambda f, _: f.bind(**changes))


def edit_text(edit: Callable[[str], str], name: str = "record.json") -> Harm:
    """The file's text."""

    def apply(folder: Path, _: Path) -> None:
        (folder / name).write_text(edit((folder / name).read_text()))

    return apply


def put_bytes(content: bytes, name: str) -> Harm:
    """The file's bytes; of a policy, with its hash in the record."""

    def apply(folder: Path, _: Path) -> None:
        forged = Forged.read(folder)
        if name == "final.safetensors":
            forged.store(content)
        forged.write(folder)
        (folder / name).write_bytes(content)

    return apply


def instead(make: Callable[[Path, Path], None], name: str) -> Harm:
    """Something else than a regular file."""

    def apply(folder: Path, place: Path) -> None:
        (folder / name).unlink()
        make(folder / name, place)

    return apply
