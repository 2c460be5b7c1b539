"""The benchmarks of bad and of mutated submissions, a few of each; all of them are slow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from banel_leaderboard.submission.check import check_submission
from banel_leaderboard.sweeping.suites import SUITES
from benchmarks.forged_submissions import fuzz
from benchmarks.forged_submissions.__main__ import attempt
from benchmarks.forged_submissions.bad_submissions import BAD, Bad
from benchmarks.forged_submissions.handed_in import SUITE, make_submission

FEW = [bad for k, bad in enumerate(BAD) if k % 17 == 0]


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    yield make_submission(tmp_path_factory.mktemp("honest"))
    SUITES.pop("forged")


def test_the_list_is_long_and_names_differ() -> None:
    assert len({bad.name for bad in BAD}) == len(BAD) >= 100


def test_the_honest_one_is_recomputed(honest: Path) -> None:
    report, _ = check_submission(honest)
    assert report.passed and set(report.rates) == {"recomputed"}


@pytest.mark.parametrize("bad", FEW, ids=lambda bad: bad.name)
def test_a_bad_submission_is_refused_by_file_and_field(honest: Path, bad: Bad) -> None:
    assert attempt(bad, honest)[0] == "refused"


@pytest.mark.slow
@pytest.mark.parametrize("bad", [bad for bad in BAD if bad not in FEW], ids=lambda bad: bad.name)
def test_every_other_one_too(honest: Path, bad: Bad) -> None:
    assert attempt(bad, honest)[0] == "refused"


def test_mutations_crash_nothing_and_change_no_number(tmp_path: Path) -> None:
    try:
        outcomes = fuzz.fuzz(tmp_path, 60, 600, seed="1")
    finally:
        SUITES["forged"] = SUITE  # of the other tests here
    assert outcomes.total() == 60 and not any(what.isupper() for what in outcomes), outcomes


def test_a_changed_number_would_be_seen(honest: Path) -> None:
    """What compares the numbers can fail."""
    _, loaded = check_submission(honest)
    numbers = fuzz.proved(loaded)
    assert fuzz.same(numbers, fuzz.proved(loaded))
    other = fuzz.proved(loaded)
    other[0][-1][0]["log10"] -= 1e-4
    assert not fuzz.same(numbers, other) and not fuzz.same(numbers, other[1:])
