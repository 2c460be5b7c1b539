"""A small honest submission, and ways to change it: what `benchmarks.forged_submissions` and `.fuzz` begin with."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from banel_leaderboard.records.pack import pack
from banel_leaderboard.records.unpack import unpack
from banel_leaderboard.running.harness import execute
from banel_leaderboard.submission.metadata import NAME
from banel_leaderboard.submission.submit import Given, submit
from banel_leaderboard.sweeping.suites import SUITES, Suite
from banel_leaderboard.sweeping.sweep import lanes_of
from benchmarks.forgeries.forging import Forged

TASK, AGENT = "banel/Gaussian1D-v0", "onnx_policy:TableAgent"
RUN = "table/full/seed-0"
SUITE = Suite("one short task", (TASK,), ("base",), (0, 1), ("full", "failures"))
EXAMPLES = Path(__file__).parents[2] / "examples"
Harm = Callable[[Path, Path], Any]
"""Changes (a submission, with a place of its own)."""


def make_submission(place: Path, suite: Suite = SUITE) -> Path:
    """An outsider's runs of the example agent, handed in; the folder of the submission."""
    SUITES["forged"] = suite
    if str(EXAMPLES) not in sys.path:
        sys.path.append(str(EXAMPLES))
    for lane in lanes_of(suite, AGENT, {"batch": 500}):
        for spec in lane:
            execute(spec, place / "runs")
    given = Given(name="Token table", authors=("An outsider",), date="2026-11-30", suite="forged", licence="MIT")
    return submit(place / "runs", place / "submissions", given).folder


def says(**fields: Any) -> Harm:
    """Other fields in submission.json."""

    def harm(folder: Path, _: Path) -> None:
        (folder / NAME).write_text(json.dumps(json.loads((folder / NAME).read_text()) | fields))

    return harm


def edit(change: Callable[[str], str], name: str = NAME) -> Harm:
    """The text of a file."""

    def harm(folder: Path, _: Path) -> None:
        (folder / name).write_text(change((folder / name).read_text()))

    return harm


def put(name: str, content: bytes = b"x") -> Harm:
    """A file of these bytes."""

    def harm(folder: Path, _: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)

    return harm


def instead(name: str, make: Callable[[Path], Any]) -> Harm:
    """Something else in the place of a file."""

    def harm(folder: Path, _: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        make(folder / name)

    return harm


def runs(change: Callable[[Path], Any]) -> Harm:
    """Change the run folders of a submission, and pack them again."""

    def harm(folder: Path, place: Path) -> None:
        unpack(folder, place / "back")
        change(place / "back" / TASK)
        said = (folder / NAME).read_bytes()
        shutil.rmtree(folder)
        pack(place / "back", folder, check=False)
        (folder / NAME).write_bytes(said)

    return harm


def sealed(change: Callable[[Forged], Any], run: str = RUN) -> Harm:
    """Change one run, every hash in order again."""

    def in_part(part: Path) -> None:
        forged = Forged.read(part / run)
        change(forged)
        forged.write(part / run)

    return runs(in_part)
