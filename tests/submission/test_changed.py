"""What a pull request may change."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from banel_leaderboard.submission.changed import ATTESTATIONS, SUBMISSIONS, changed, contents, main, refused, touched


@pytest.fixture
def trees(packed: Path, tmp_path: Path) -> tuple[Path, Path]:
    """The base branch without submissions, and a request that adds one."""
    base, handed = tmp_path / "base", tmp_path / "handed"
    (base / SUBMISSIONS).mkdir(parents=True)
    (base / SUBMISSIONS / "README.md").write_text("x")
    (handed / SUBMISSIONS).mkdir(parents=True)
    (handed / SUBMISSIONS / "README.md").write_text("x")
    shutil.copytree(packed, handed / SUBMISSIONS / packed.name)
    return base, handed


def test_a_new_submission_is_checked(trees: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    base, handed = trees
    assert touched(base, handed) == ["2026-11-30-token-table"]
    assert main([str(base), str(handed)]) == 0
    assert "final rates: 6 recomputed" in capsys.readouterr().out
    (handed / SUBMISSIONS / "2026-11-30-token-table" / "evil.py").write_text("")
    assert main([str(base), str(handed)]) == 1


@pytest.mark.parametrize("inside", [True, False])
def test_attestations_are_written_by_the_project_alone(
    trees: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch, inside: bool
) -> None:
    base, handed = trees
    (handed / ATTESTATIONS).mkdir()
    (handed / ATTESTATIONS / "x.json").write_text("{}")
    monkeypatch.setenv("AUTHOR_ASSOCIATION", "MEMBER" if inside else "CONTRIBUTOR")
    assert main([str(base), str(handed)]) == (0 if inside else 1)


def test_attestations_are_not_removed_either(trees: tuple[Path, Path]) -> None:
    base, handed = trees
    (base / ATTESTATIONS).mkdir()
    (base / ATTESTATIONS / "x.json").write_text("{}")
    assert "x.json: only the project" in refused(base, handed, "NONE")[0]


def test_another_submission_is_not_touched(trees: tuple[Path, Path], packed: Path) -> None:
    base, handed = trees
    shutil.copytree(packed, base / SUBMISSIONS / packed.name)
    assert touched(base, handed) == [] and refused(base, handed, "NONE") == []
    (handed / SUBMISSIONS / packed.name / "submission.json").write_text("{}")
    assert "it is there already" in refused(base, handed, "NONE")[0]
    assert refused(base, handed, "OWNER") == []


def test_names_and_dates(trees: tuple[Path, Path], capsys: pytest.CaptureFixture[str]) -> None:
    base, handed = trees
    mine = handed / SUBMISSIONS / "2026-11-30-token-table"
    mine.rename(handed / SUBMISSIONS / "2020-01-01-token-table")
    assert main([str(base), str(handed)]) == 1 and "another date" in capsys.readouterr().out
    (handed / SUBMISSIONS / "2020-01-01-token-table").rename(handed / SUBMISSIONS / "best ever")
    assert "is not <date>-<name>" in refused(base, handed, "NONE")[0]


def test_links_are_seen_and_not_followed(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "x").write_text("1")
    (tmp_path / "a" / "up").symlink_to(tmp_path)
    found = contents(tmp_path / "a")
    assert found["up"] == "no regular file" and len(found) == 2
    assert changed(found, found | {"x": "other", "y": "new"}) == {"x", "y"}
    assert changed(found, {}) == {"up", "x"}
