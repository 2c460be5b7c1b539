"""submission.json: what it may say, and what the errors name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from banel_leaderboard.submission.metadata import NAME, Submission, SubmissionError, Tuning, load_submission

GOOD: dict[str, Any] = {
    "submission": 1,
    "name": "Zählen & raten",
    "authors": ["Ada", "李雷"],
    "link": "https://example.org/paper?x=1#top",
    "licence": "Apache-2.0 OR MIT",
    "commit": "0123abc",
    "date": "2026-02-28",
    "suite": "quick",
    "feedbacks": ["full", "failures"],
    "tuning": {"configurations": 12, "nre": 90_000},
    "attempts": 2,
    "kind": "tuned",
    "note": "",
}


def write(folder: Path, value: Any) -> Path:
    (folder / NAME).write_text(value if isinstance(value, str) else json.dumps(value))
    return folder


def test_what_was_written_is_read_again(tmp_path: Path) -> None:
    said = load_submission(write(tmp_path, GOOD))
    assert said.authors == ("Ada", "李雷") and said.tuning == Tuning(configurations=12, nre=90_000)
    said.write(tmp_path)
    assert load_submission(tmp_path) == said
    assert json.loads((tmp_path / NAME).read_text()) == GOOD


def test_what_need_not_be_said_has_a_default(tmp_path: Path) -> None:
    short = {k: GOOD[k] for k in ("name", "authors", "date", "suite", "feedbacks", "kind")}
    said = load_submission(write(tmp_path, short))
    assert (said.link, said.licence, said.commit, said.note, said.attempts) == ("", "", "", "", 1)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("submission", 2),
        ("name", ""),
        ("name", "a" * 81),
        ("name", " x"),
        ("name", "gpj\u202eexe"),
        ("name", "a\u200bb"),
        ("name", "a\nb"),
        ("name", 7),
        ("authors", []),
        ("authors", ["x"] * 33),
        ("authors", "Ada"),
        ("authors", [""]),
        ("link", "http://example.org"),
        ("link", "javascript:alert(1)"),
        ("link", "https://example.org/\u202e"),
        ("link", "https://example.org/ x"),
        ("link", "https://user:pw@example.org/"),
        ("link", "https://example.org/" + "a" * 200),
        ("licence", "<b>"),
        ("commit", "HEAD"),
        ("commit", "abc"),
        ("date", "2026-02-30"),
        ("date", "20260228"),
        ("date", "tomorrow"),
        ("suite", "../quick"),
        ("feedbacks", []),
        ("feedbacks", ["both"]),
        ("feedbacks", ["full", "full"]),
        ("tuning", {"configurations": -1, "nre": 0}),
        ("tuning", {"configurations": 1.5, "nre": 0}),
        ("tuning", {"configurations": 1, "nre": 0, "more": 1}),
        ("tuning", None),
        ("attempts", 0),
        ("attempts", True),
        ("attempts", 10**40),
        ("kind", "off"),
        ("note", "x" * 2_001),
        ("note", "\x1b[31m"),
    ],
)
def test_a_wrong_field_is_named_with_its_file(tmp_path: Path, field: str, value: Any) -> None:
    with pytest.raises(SubmissionError, match=rf"{NAME}.*: {field}") as caught:
        load_submission(write(tmp_path, GOOD | {field: value}))
    assert str(caught.value).isprintable() and len(str(caught.value)) < 600


@pytest.mark.parametrize("field", ["name", "authors", "date", "suite", "feedbacks", "kind"])
def test_a_missing_field_is_named(tmp_path: Path, field: str) -> None:
    with pytest.raises(SubmissionError, match=rf"{field}: Field required"):
        load_submission(write(tmp_path, {k: v for k, v in GOOD.items() if k != field}))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "not a submission's description"),
        ("[]", "not a submission's description"),
        (json.dumps(GOOD).replace('"attempts": 2', '"attempts": 9, "attempts": 2'), "'attempts' stands there twice"),
        (json.dumps(GOOD).replace('"attempts": 2', '"attempts": NaN'), "NaN is not a number"),
        ('{"a":' * 10_000, "levels"),
        (json.dumps(GOOD | {"odd": 1}), "odd: Extra inputs"),
        (" " * 70_000 + json.dumps(GOOD), "at most 65,536 bytes"),
    ],
)
def test_a_text_of_two_meanings_is_refused(tmp_path: Path, text: str, said: str) -> None:
    with pytest.raises(SubmissionError, match=said):
        load_submission(write(tmp_path, text))


def test_a_link_is_no_description(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text(json.dumps(GOOD))
    (tmp_path / NAME).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(SubmissionError, match="a link"):
        load_submission(tmp_path)
    with pytest.raises(SubmissionError, match="cannot be read"):
        load_submission(tmp_path / "nowhere")


def test_the_committed_board_is_described() -> None:
    folder = Path(__file__).parents[2] / "leaderboard" / "submissions" / "addition"
    said = load_submission(folder)
    assert isinstance(said, Submission) and (said.suite, said.kind) == ("addition", "fixed")
