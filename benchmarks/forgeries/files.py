"""Files that are no honest files, in run folders and in packed submissions."""

from __future__ import annotations

import lzma
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.forgeries.change import Harm, edit_text
from benchmarks.forgeries.forging import Forged, edit_lines


def fifo(path: Path, _: Path) -> None:
    os.mkfifo(path)


def device(path: Path, _: Path) -> None:
    path.symlink_to("/dev/zero")


def directory(path: Path, _: Path) -> None:
    path.mkdir()


def link(path: Path, place: Path) -> None:
    """Out of the folder, to a file that would be right."""
    honest = path.parent.parent / "seed-1" / path.name
    shutil.copy(honest, place / path.name)
    path.symlink_to(place / path.name)


def linked_folder(folder: Path, place: Path) -> None:
    shutil.move(folder, place / "elsewhere")
    folder.symlink_to(place / "elsewhere")


def duplicate_key(text: str) -> str:
    return text.replace('"seed": 0', '"seed": 5, "seed": 0', 1)


def huge_ask(folder: Path, place: Path) -> None:
    from banel_envs.meter import ledger_format

    forged = Forged.read(folder)
    head, content = ledger_format.seal("", ledger_format.header_body(forged.header))
    _, line = ledger_format.seal(head, '{"ask":0,"n":1152921504606846976,"tokens":"AAAA"')
    (folder / "ledger.jsonl").write_bytes(content + line)


def untouched(_: Path, __: Path) -> None:
    pass


def edit_line(change: Callable[[dict[str, Any]], Any]) -> Harm:
    """Fields of the run's line."""
    return lambda part, _: edit_lines(part, change)


def edit_text_of_lines(edit: Callable[[str], str]) -> Harm:
    """The text of all lines."""
    return edit_text(edit, "records.jsonl")


def bomb(part: Path, _: Path) -> None:
    """A ledger of 499 MB of zeros, as its line states."""
    size = 499_000_000
    (part / "ledgers-000.xz").write_bytes(lzma.compress(bytes(size), preset=0))
    edit_lines(part, lambda line: line["ledger"].update(packed=size, bytes=size))


def run_twice(part: Path, _: Path) -> None:
    path = part / "records.jsonl"
    path.write_text(2 * path.read_text())
