"""`banel submit`, and the suites that it finds: a folder is written whole or not at all, and never over another."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from banel_envs.errors import BadValue, BanelError
from banel_leaderboard.command.cli import main
from banel_leaderboard.proving.load import Run, load_runs
from banel_leaderboard.records.find_runs import valid_records
from banel_leaderboard.submission.metadata import load_submission
from banel_leaderboard.submission.steps.completeness import suite_of
from banel_leaderboard.submission.submit import Given, git_lines, row_lines, slug, submit
from banel_leaderboard.sweeping.suites import SUITES, Suite
from banel_leaderboard.sweeping.sweep import lanes_of
from tests.submission.conftest import AGENT, GIVEN, TINY


def test_the_command_writes_a_submission_that_passes(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ["submit", str(runs), "--name", "Token table", "--author", "Ada", "--licence", "MIT"]
    arguments += ["--date", "2026-11-30", "--submissions", str(tmp_path), "--tuning-nre", "90000", "--attempts", "2"]
    assert main(arguments) == 0
    said, folder = capsys.readouterr().out, tmp_path / "2026-11-30-token-table"
    described = load_submission(folder)
    assert (described.suite, described.kind, described.feedbacks) == ("tiny", "tuned", ("full", "failures"))
    assert (described.attempts, described.tuning.nre, described.authors) == (2, 90_000, ("Ada",))
    assert "final rates: 6 recomputed" in said and said.count("table full, tuned: 2 of 2 runs met a success") == 1
    assert "git checkout -b submission/2026-11-30-token-table" in said
    assert [path.name for path in tmp_path.iterdir()] == [folder.name]  # no draft is left
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert main(arguments) == 2  # it is there already
    assert "is there already" in capsys.readouterr().err
    assert before == {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    assert main(["check", str(folder)]) == 0


def test_open_shows_the_site_with_the_submission_in_it(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[str] = []
    monkeypatch.setattr("webbrowser.open", opened.append)
    arguments = ["submit", str(runs), "--name", "Token table", "--author", "Ada", "--date", "2026-11-30", "--open"]
    assert main([*arguments, "--submissions", str(tmp_path)]) == 0
    (address,) = opened
    index = Path(address.removeprefix("file://"))
    assert index.name == "index.html" and (index.parent / "submissions" / "2026-11-30-token-table.html").is_file()


def test_what_check_refuses_is_not_written(runs: Path, tmp_path: Path) -> None:
    broken = Path(shutil.copytree(runs, tmp_path / "runs"))
    shutil.rmtree(next(broken.glob("*/*/table/failures/seed-1")))
    with pytest.raises(BanelError, match=r"refused: \(b\) banel/Gaussian1D-v0/table/failures/seed-1: seed: 1 runs"):
        submit(broken, tmp_path / "subs", GIVEN)
    assert not any((tmp_path / "subs").iterdir())


def test_a_rate_that_is_known_as_an_interval_is_shown_as_one(runs: Path) -> None:
    def certified(run: Run) -> Run:
        *before, last = run.record.points
        rate = last.fresh.model_copy(update={"log10": None, "low": None, "high": -3.5})
        points = [*before, last.model_copy(update={"fresh": rate, "success": rate})]
        return replace(run, record=run.record.model_copy(update={"points": points}))

    loaded = load_runs(runs).runs
    assert not any("[zero, " in line for line in row_lines(loaded, ()))
    lines = row_lines(tuple(map(certified, loaded)), ())[2:]
    assert lines and all("log10 final " in line and " [zero, -3.500]; ranks" in line for line in lines)


def test_a_suite_is_found_by_its_runs(runs: Path, tmp_path: Path) -> None:
    records = list(valid_records(runs))
    assert suite_of(records, ("full", "failures")) == "tiny"
    with pytest.raises(BadValue, match=r"the runs are those of no suite; of tiny: \(b\) .*seed-1"):
        suite_of([r for r in records if r.seed != 1], ("full", "failures"))


@pytest.mark.parametrize(
    ("field", "value", "said"),
    [
        ("name", "\u202e", "^--name: .*seen.*--name$"),
        ("link", "http://x", "^--link: (?!Value).*https"),
        ("date", "today", "^--date: "),
        ("attempts", 0, "^--attempts: "),
        ("nre", -5, "^--tuning-nre: .*, not -5; give another --tuning-nre$"),
        ("configurations", -5, "give another --tuning-configurations$"),
        ("authors", ("A", ""), "give another --author$"),
        ("suite", "none", "--suite is 'none'"),
    ],
)
def test_bad_words_are_named_by_their_option(runs: Path, tmp_path: Path, field: str, value: object, said: str) -> None:
    given = Given(**{**vars(GIVEN), field: value})
    with pytest.raises(BadValue, match=said):
        submit(runs, tmp_path / "subs", given)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("Token table", "token-table"),
        ("  ../../etc/passwd ", "etc-passwd"),
        ("李雷", "submission"),
        ("a" * 100, "a" * 40),
        ("x" * 39 + " y", "x" * 39),
    ],
)
def test_names_of_folders(name: str, expected: str) -> None:
    assert slug(name) == expected


def test_the_lines_for_git_are_quoted() -> None:
    lines = git_lines(Path("subs/2026-11-30-x"), "it's; rm -rf /")
    assert lines[1] == "git add subs/2026-11-30-x && git commit -m 'Submission: it'\"'\"'s; rm -rf /'"


# Suites of another agent


def test_a_suite_takes_any_agent_and_its_twin() -> None:
    lanes = lanes_of(TINY, AGENT, {"batch": 500})
    assert [(s.seed, s.feedback, s.twin) for lane in lanes for s in lane] == [
        (seed, *regime) for seed in (0, 1) for regime in (("full", False), ("failures", False), ("failures", True))
    ]
    assert {(s.agent, s.settings["batch"]) for lane in lanes for s in lane} == {(AGENT, 500)}


@pytest.mark.parametrize(
    ("agent", "twin"), [("count", True), ("base", False), ("banel", True), ("reinforce", False), (AGENT, True)]
)
def test_which_agents_have_a_twin(agent: str, twin: bool) -> None:
    """The suite's own ones as the suite says; others unless they learn from successes alone."""
    assert any(spec.twin for lane in lanes_of(TINY, agent) for spec in lane) is twin
    without = Suite("", TINY.tasks, ("base",), (0,), ("full",))
    assert not any(spec.twin for lane in lanes_of(without, agent) for spec in lane)


def test_an_agent_of_a_suite_runs_the_parts_that_name_it() -> None:
    """And any other agent the suite without its further runs."""
    further = Suite("more", ("banel/Needle-v0",), ("count",), (0, 1, 2), ("full",))
    suite = replace(TINY, twins=(), also=(further, replace(further, agents=("banel",), twins=("banel",))))
    runs_of = {
        name: [(s.task.split("/")[1][:4], s.seed, s.feedback, s.twin) for lane in lanes_of(suite, name) for s in lane]
        for name in ("count", "banel", AGENT)
    }
    both = [("Gaus", 0, "full", False), ("Gaus", 0, "failures", False)]
    assert runs_of["count"][:3] == [*both, ("Need", 0, "full", False)] and len(runs_of["count"]) == 7
    assert runs_of["banel"][:2] == [("Need", 0, "full", False), ("Need", 0, "failures", True)]
    assert runs_of[AGENT][:3] == [*both, ("Gaus", 0, "failures", True)] and len(runs_of[AGENT]) == 6


def test_an_agent_that_learns_from_successes_runs_one_seed_without_them() -> None:
    lanes = lanes_of(TINY, "reinforce")
    assert [(s.seed, s.feedback) for lane in lanes for s in lane] == [(0, "full"), (0, "failures"), (1, "full")]


def test_settings_need_an_agent(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["bench", "--suite", "tiny", "--set", "lr=1", "--out", str(tmp_path)]) == 2
    assert "name the agent whose setting it is" in capsys.readouterr().err


def test_the_plan_repeats_the_agent_and_its_settings(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["bench", "--suite", "tiny", "--agent", AGENT, "--set", "batch=500", "--out", str(tmp_path / "out")]
    assert main([*arguments, "--plan"]) == 0
    assert "--agent onnx_policy:TableAgent --set batch=500" in capsys.readouterr().out
    assert "tiny" in SUITES
