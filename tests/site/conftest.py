"""Two submissions of true runs, and their site, made once for all tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from banel_leaderboard.site.gather import gather
from banel_leaderboard.site.write import write_site
from banel_leaderboard.submission.metadata import Submission
from tests.shared.runs import HIT_AT_5, MISS, make_run, tiny

SECOND = "test/Other-v0"


def describe(folder: Path, name: str, **told: object) -> None:
    """Write a submission.json."""
    said = {
        "authors": ("A. Author",),
        "date": "2026-11-30",
        "suite": "own",
        "feedbacks": ("failures",),
        "kind": "fixed",
    }
    Submission(name=name, **(said | told)).write(folder)  # type: ignore[arg-type]


def submissions(folder: Path) -> Path:
    """`mine`: banel, base and rnd on two tasks, with full feedback for base, and a tuned banel; `theirs`: banel on one."""
    for task in (tiny(), tiny(SECOND)):
        for agent, good, ask in (("base", 0.01, MISS), ("banel", 1.0, HIT_AT_5), ("rnd", 0.0, None)):
            for seed in range(5):
                make_run(folder / "mine", agent, seed, good=good, ask=ask, task=task)
    for seed in range(5):
        make_run(folder / "mine", "base", seed, good=0.02, ask=HIT_AT_5, feedback="full")
        make_run(folder / "mine", "banel", seed, good=0.5, ask=HIT_AT_5, tuned=True, config={"batch": 6})
        make_run(folder / "theirs", "banel", seed, good=0.3, ask=HIT_AT_5)
    make_run(folder / "mine", "banel", 0, good=1.0, budget=120)
    describe(folder / "mine", "A method of ours", link="https://example.org/paper", licence="MIT")
    return folder


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return submissions(tmp_path_factory.mktemp("submissions"))


@pytest.fixture(scope="session")
def index(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The overview of their site."""
    out = tmp_path_factory.mktemp("built") / "site"
    write_site(gather(folder), out)
    return out / "index.html"
