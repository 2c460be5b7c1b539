"""`banel check`: an honest submission passes with its rates recomputed, and each lie is refused by file and field."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from banel_leaderboard.command.cli import main
from banel_leaderboard.records.pack import pack
from banel_leaderboard.records.record import RunRecord
from banel_leaderboard.records.unpack import unpack
from banel_leaderboard.submission.check import check_submission, submissions_in
from banel_leaderboard.submission.metadata import NAME
from banel_leaderboard.submission.steps.copies import WINDOW, Sketch, shared_by, sketches, windows_of
from benchmarks.forgeries.forging import Forged, edit_lines
from tests.shared.runs import make_run

TASK = "banel/Gaussian1D-v0"
RUN = "table/full/seed-0"
FIRST = "table/failures/seed-0"  # the first line of the packed records


def findings(folder: Path) -> list[str]:
    report, _ = check_submission(folder)
    return [f"{f.step} {f.file} {f.field}" for f in report.refused]


def resealed(submission: Path, tmp_path: Path, run: str, change: Callable[[Forged], Any]) -> None:
    """Change a run of a submission, and pack it again with every hash in order."""
    unpack(submission, tmp_path / "back")
    forged = Forged.read(tmp_path / "back" / TASK / run)
    change(forged)
    forged.write(tmp_path / "back" / TASK / run)
    said = (submission / NAME).read_bytes()
    shutil.rmtree(submission)
    pack(tmp_path / "back", submission, check=False)
    (submission / NAME).write_bytes(said)


def test_an_honest_submission_passes(submission: Path) -> None:
    report, loaded = check_submission(submission)
    assert report.passed and not report.flagged
    assert (report.runs, report.different) == (6, 6)  # full, failures and the twin, each of two seeds
    assert report.answers == {"recomputed": 6} and report.rates == {"recomputed": 6}
    assert {run.record.agent for run in loaded.runs} == {"table"}
    assert "no agent here says which policy" in "\n".join(report.lines())  # (g): what is left out is said


def test_without_policies_its_rates_are_reported(runs: Path, submission: Path) -> None:
    said = (submission / NAME).read_bytes()
    shutil.rmtree(submission)
    pack(runs, submission, policies=False)
    (submission / NAME).write_bytes(said)
    report, _ = check_submission(submission)
    assert report.passed and report.rates == {"reported": 6} and report.answers == {"recomputed": 6}


def put(name: str, content: bytes = b"x") -> Callable[[Path], Any]:
    def change(folder: Path) -> None:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)

    return change


def says(**fields: Any) -> Callable[[Path], Any]:
    def change(folder: Path) -> None:
        (folder / NAME).write_text(json.dumps(json.loads((folder / NAME).read_text()) | fields))

    return change


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda f: (f / NAME).unlink(), f"a {NAME} file"),
        (put("attestations.jsonl"), "a attestations.jsonl name"),
        (put("attestations/x.json"), "a attestations/x.json name"),
        (put(f"{TASK}/evil.py"), f"a {TASK}/evil.py name"),
        (put(f"{TASK}/policy.onnx"), f"a {TASK}/policy.onnx name"),
        (put(f"{TASK}/deep/er/x"), f"a {TASK}/deep name"),
        (put(f"{TASK}/ledgers-001.xz", bytes(10_000_001)), f"a {TASK}/ledgers-001.xz size"),
        (lambda f: (f / "link").symlink_to("/etc/passwd"), "a link kind"),
        (lambda f: (f / TASK / "records.jsonl").chmod(0o755), f"a {TASK}/records.jsonl kind"),
        (says(name="\u202e"), f"a {NAME} name"),
        (says(suite="nothing"), f"b {NAME} suite"),
        (says(suite="quick"), "b banel/Gaussian1D-v0/table/full/seed-2 seed"),
        (says(feedbacks=["full"]), f"b {NAME} feedbacks"),
        (says(kind="fixed"), f"b {NAME} kind"),
    ],
)
def test_files_and_descriptions(submission: Path, change: Callable[[Path], Any], found: str) -> None:
    change(submission)
    assert found in findings(submission)


@pytest.mark.parametrize("change", [lambda f: (f / NAME).unlink(), put(f"{TASK}/records.jsonl", b"{")])
def test_what_was_not_checked_is_not_ok(submission: Path, change: Callable[[Path], Any]) -> None:
    change(submission)
    report, loaded = check_submission(submission)
    assert len(report.refused) == 1 and report.refused[0].step == "a" and not loaded.runs
    first, *others = (line for line in report.lines() if line.startswith("("))
    assert "REFUSED (1)" in first and len(others) == 7
    assert all(line.endswith("not checked: a file is not what it must be") for line in others)


def test_a_missing_seed_is_named(submission: Path, tmp_path: Path) -> None:
    unpack(submission, tmp_path / "back")
    shutil.rmtree(tmp_path / "back" / TASK / "table" / "failures" / "seed-1")
    said = (submission / NAME).read_bytes()
    shutil.rmtree(submission)
    pack(tmp_path / "back", submission, check=False)
    (submission / NAME).write_bytes(said)
    assert findings(submission) == [f"b {TASK}/table/failures/seed-1 seed"]


def test_another_seed_is_too_much(submission: Path, tmp_path: Path) -> None:
    resealed(submission, tmp_path, RUN, lambda f: f.bind(seed=7))
    found = findings(submission)
    assert f"b {TASK}/table/full/seed-0 seed" in found and f"b {TASK}/table/full/seed-7 seed" in found


@pytest.mark.parametrize(
    ("change", "found"),
    [
        (lambda f: f.answer(0, 0, 1 - int(f.asks[0][1][0])), "c {} rewards|c {} ledger"),
        (lambda f: f.claim(-0.5), "d {} points"),  # more fresh success than mass that was not asked
        (lambda f: f.claim(-9.0), "e {} points"),
        (lambda f: f.claim(-9.0, "fresh"), "e {} points"),
        (lambda f: f.record.update(unasked=-0.2), "e {} points|e {} policy_sha256|d {} points"),
        (lambda f: f.record["points"][5].update(repeated=0.9), "d {} points.5.repeated"),
        (lambda f: f.record["points"][5].update(repeated=None), "d {} points.5.repeated"),
        (lambda f: f.record.update(policy_sha256="a" * 64), "e {} policy_sha256"),
        (lambda f: f.bind(budget=4_000), "b {} off_board|d {} points"),
    ],
)
def test_numbers(submission: Path, tmp_path: Path, change: Callable[[Forged], Any], found: str) -> None:
    resealed(submission, tmp_path, RUN, change)
    wanted = {part.format(f"{TASK}/{RUN}") for part in found.split("|")}
    assert wanted & set(findings(submission)), findings(submission)


def test_a_changed_line_is_refused_without_a_traceback(submission: Path) -> None:
    edit_lines(submission / TASK, lambda line: line["record"].update(first_success=3))
    assert any(found.startswith(f"d {TASK}/") and found.endswith(" first_success") for found in findings(submission))


def test_the_command_says_the_same(submission: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", str(submission), "--report", str(tmp_path / "report.json")]) == 0
    said = capsys.readouterr().out
    assert said.endswith("passed\n") and "final rates: 6 recomputed" in said
    assert json.loads((tmp_path / "report.json").read_text())["passed"] is True
    says(kind="fixed")(submission)
    assert main(["check", str(submission)]) == 1
    assert f"(b) {NAME}: kind:" in capsys.readouterr().out
    assert main(["check", str(submission), "--report", str(submission / "r.json")]) == 2
    assert main(["check", str(submission / "nowhere")]) == 2


# Near-copies


def test_windows_by_hand() -> None:
    """Ten rows have three windows of eight; the same rows behind two others keep them all."""
    rng = np.random.default_rng(0)
    rows = rng.integers(5, size=(500, 3))
    assert len(windows_of(rows[: WINDOW - 1])) == 0
    own = windows_of(rows)
    assert 0.15 * 493 < len(own) < 0.35 * 493  # one in four is kept
    moved = windows_of(np.concatenate((rng.integers(5, size=(2, 3)), rows)))
    assert len(np.intersect1d(own, moved)) == len(own)
    assert len(np.intersect1d(own, windows_of(rng.integers(5, size=(500, 3))))) == 0


def test_a_copy_under_another_name_is_flagged(submission: Path, tmp_path: Path) -> None:
    """The same questions by an agent of another name; those of the same agent and settings are the same experiment."""
    other = Path(shutil.copytree(submission, submission.parent / "2026-11-29-original"))
    report, _ = check_submission(submission, submissions_in(submission.parent))
    assert not report.flagged
    unpack(submission, tmp_path / "back")
    for folder in sorted((tmp_path / "back" / TASK / "table").glob("*/seed-*")):
        forged = Forged.read(folder)
        forged.bind(agent="mine")
        forged.asks[0] = (forged.asks[0][0][::-1].copy(), forged.asks[0][1][::-1].copy())  # one question reordered
        forged.write(folder)
    said = (submission / NAME).read_bytes()
    shutil.rmtree(submission)
    pack(tmp_path / "back", submission, check=False)
    (submission / NAME).write_bytes(said)
    report, _ = check_submission(submission, submissions_in(submission.parent))
    flagged = [f for f in report.flagged if f.step == "h"]
    assert {f.file for f in flagged} == {
        f"{TASK}/mine/{regime}/seed-{k}" for regime in ("full", "failures") for k in (0, 1)
    }
    assert all(other.name in f.said for f in flagged)


def sketch(agent: str, tokens: np.ndarray, first: int, record: RunRecord) -> Sketch:
    changed = record.model_copy(update={"agent": agent})
    return Sketch(changed, agent, windows_of(tokens), windows_of(tokens[first:]))


def test_what_is_alike_before_the_first_success_only_is_no_copy(tmp_path: Path) -> None:
    """An honest agent that starts at the base policy asks what another such agent asks, until something is told."""
    record = make_run(tmp_path)
    rng = np.random.default_rng(0)
    same, one, two = (rng.integers(20, size=(5_000, 4)) for _ in range(3))
    first = sketch("one", np.concatenate((same, one)), 5_000, record)
    second = sketch("two", np.concatenate((same, two)), 5_000, record)
    assert shared_by(first, second) == shared_by(second, first) == 0
    copied = sketch("three", np.concatenate((one[2_500:], one[:2_500], two)), 0, record)  # moved, and more behind it
    assert shared_by(first, copied) == shared_by(copied, first) > 0.95


def test_a_ledger_that_contradicts_its_record_is_passed_over(submission: Path, tmp_path: Path) -> None:
    """Near-copies are looked for before anybody has verified the other submission."""
    other = Path(shutil.copytree(submission, submission.parent / "2026-11-29-liar"))

    def no_success(forged: Forged) -> None:
        forged.asks = [(rows, np.zeros_like(answers)) for rows, answers in forged.asks]

    def claims(line: dict[str, Any]) -> None:
        assert line["run"] == FIRST
        line["record"] = json.dumps(json.loads(line["record"]) | {"successes_asked": 5})  # as text: so it was written

    resealed(other, tmp_path, FIRST, no_success)
    edit_lines(other / TASK, claims)
    assert len(list(sketches(other))) == 3  # the twin's runs are left out too
    report, _ = check_submission(submission, [other])
    assert report.passed and not report.flagged


def test_a_control_that_reads_no_answer_is_never_copied(submission: Path, tmp_path: Path) -> None:
    shutil.copytree(submission, submission.parent / "2026-11-29-original")
    other = submission.parent / "2026-11-29-original"
    assert len(list(sketches(other))) == 4  # the twin's runs are left out
    unpack(other, tmp_path / "back")
    for folder in sorted((tmp_path / "back" / TASK / "table").glob("*/seed-*")):
        forged = Forged.read(folder)
        forged.bind(agent="base")
        forged.write(folder)
    shutil.rmtree(other)
    pack(tmp_path / "back", other)
    assert list(sketches(other)) == []


# Nothing of the submitter is executed


def test_no_name_in_a_submission_is_imported(submission: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "evil.py").write_text("raise SystemExit('imported')")
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(str(tmp_path))
    edit_lines(submission / TASK, lambda line: line["status"].update(agent="evil:Agent", task="evil:task"))
    report, _ = check_submission(submission)
    assert report.passed  # run.json is not read


def test_two_settings_cannot_both_be_the_defaults(submission: Path, tmp_path: Path) -> None:
    """An agent whose code nobody has here was tuned task by task, and says that it was not."""
    for number, batch in enumerate((250, 500)):
        (tmp_path / str(number)).mkdir()
        change = lambda f, batch=batch: (f.bind(config={"batch": batch}), f.record.update(tuned=False))  # noqa: E731
        resealed(submission, tmp_path / str(number), f"table/full/seed-{number}", change)
    assert any(f.startswith("b ") and f.endswith(" config") for f in findings(submission)), findings(submission)


def test_nothing_beside_it_is_not_checked_for_copies(submission: Path) -> None:
    report, _ = check_submission(submission)
    assert "not checked: no other submission lies beside it" in "\n".join(report.lines())


def test_places_that_cannot_be_written_or_read_are_named(
    submission: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for option, value, said in (
        ("--report", tmp_path / "none" / "x.json", "name a file in a folder that is there"),
        ("--against", tmp_path / "none", "which is no folder"),
    ):
        assert main(["check", str(submission), option, str(value)]) == 2
        assert said in capsys.readouterr().err
    (tmp_path / "file").write_text("")
    for place in (tmp_path / "file" / "x.jsonl", tmp_path):
        assert main(["replay", str(submission), "--attest", str(place)]) == 2
        assert "is no file that can be written" in capsys.readouterr().err
