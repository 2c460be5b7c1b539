"""`banel rerun`: honest runs are confirmed, chosen ones contradicted, and the agent's code stays in its own process."""

from __future__ import annotations

import json
import shutil
import sys
from pathlib import Path

import numpy as np
import pytest

from banel_envs.errors import BadValue
from banel_leaderboard.command.cli import main
from banel_leaderboard.proving.load import Run, load_runs
from banel_leaderboard.running import isolation_wall
from banel_leaderboard.submission.attestation import (
    LEVEL,
    Rerun,
    digest_of_submission,
    load_rerun,
    verdict_of,
)
from banel_leaderboard.submission.metadata import SubmissionError
from banel_leaderboard.submission.rerun import Again, compare, rerun, strata
from tests.submission.conftest import EXAMPLES

walled = pytest.mark.skipif(not isolation_wall.version(), reason="rerun needs Landlock")


@walled
def test_an_honest_submission_is_not_contradicted(
    submission: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Its code is copied elsewhere under another name, so that this process could not import it by accident."""
    (tmp_path / "code").mkdir()
    shutil.copy(EXAMPLES / "onnx_policy.py", tmp_path / "code" / "theirs.py")
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p != str(EXAMPLES)])
    arguments = ["rerun", str(submission), "--agent", "theirs:TableAgent", "--agent-from", str(tmp_path / "code")]
    arguments += ["--out", str(tmp_path / "again"), "--attestations", str(tmp_path / "attestations")]
    assert main(arguments) == 0
    assert "theirs" not in sys.modules
    found = load_rerun(tmp_path / "attestations", submission)
    assert found is not None and found.agent == "table" and len(found.seeds) == 2
    # 2 and 2 seeds of one task can be divided in 6 ways, so no p is below 1/6.
    assert found.verdict == "undecided" and found.least == pytest.approx(1 / 6)
    assert [(s.regime, s.submitted, s.fresh) for s in found.strata] == [("failures", 2, 2), ("full", 2, 2)]
    fresh = load_runs(tmp_path / "again").runs
    assert {run.record.seed for run in fresh} == set(found.seeds)
    assert {json.dumps(run.record.config, sort_keys=True) for run in fresh} == {
        json.dumps(run.record.config, sort_keys=True) for run in load_runs(submission).runs
    }
    capsys.readouterr()
    assert main(arguments) == 0  # nothing is run twice: the same seeds, the same verdict
    assert load_rerun(tmp_path / "attestations", submission) == found


class Answered:
    """A run as far as the comparison looks at it."""

    def __init__(self, seed: int, first: int | None, distinct: int, final: float) -> None:
        self.record = type("R", (), {"seed": seed, "first_success": first, "final": lambda _, rate: final})()
        self.asked = type("A", (), {"found": np.zeros(distinct)})()


def runs_of(rng: np.random.Generator, seeds: range, lift: float = 0.0) -> list[Run]:
    found = []
    for seed in seeds:
        quality = rng.normal() + lift
        found.append(Answered(seed, int(1e6 * np.exp(-quality)), int(100 * np.exp(quality)), quality))
    return found  # type: ignore[return-value]


def test_one_seed_under_two_regimes_counts_once() -> None:
    """Were both counted, p of one task with 5 seeds each would be below 1/252."""
    rng = np.random.default_rng(0)
    old, new = runs_of(rng, range(5), 5.0), runs_of(rng, range(10, 15))
    keys = [("banel/Needle-v0", "failures"), ("banel/Needle-v0", "full")]
    found = compare(dict.fromkeys(keys, old), dict.fromkeys(keys, new), keys)  # type: ignore[arg-type]
    assert (found.p, found.strata, found.statistic) == (pytest.approx(1 / 252), 1, pytest.approx(0.5))


def test_false_alarms_of_the_whole_comparison() -> None:
    """600 honest submissions of 4 tasks under two regimes with the same runs: 1% of them is 6; 16 has a probability of 0.0005."""
    rng = np.random.default_rng(1)
    keys = [(f"me/T-v{k}", regime) for k in range(4) for regime in ("failures", "full")]
    alarms = 0
    for _ in range(600):
        old, new = ({k: runs_of(rng, seeds) for k in range(4)} for seeds in (range(5), range(10, 15)))
        before, after = ({key: found[int(key[0][-1])] for key in keys} for found in (old, new))
        alarms += compare(before, after, keys).p <= LEVEL  # type: ignore[arg-type]
    assert alarms < 16


@pytest.mark.parametrize(
    ("p", "least", "verdict"),
    [(0.5, 0.001, "confirmed"), (0.0101, 0.001, "confirmed"), (0.01, 0.001, "contradicted"), (0.02, 0.02, "undecided")],
)
def test_verdicts(p: float, least: float, verdict: str) -> None:
    assert verdict_of(p, least) == verdict


def test_served_runs_count_under_both_regimes(submission: Path) -> None:
    found = strata([run for run in load_runs(submission).runs if not run.record.twin])
    assert {key: len(runs) for key, runs in found.items()} == {
        ("banel/Gaussian1D-v0", "full"): 2,
        ("banel/Gaussian1D-v0", "failures"): 2,
    }


def test_a_verdict_speaks_of_the_bytes_that_it_saw(submission: Path, tmp_path: Path) -> None:
    verdict = Rerun(
        submission=submission.name,
        sha256=digest_of_submission(submission),
        agent="table",
        seeds=(1,),
        strata=(),
        statistic=0.0,
        p=0.5,
        least=0.001,
        verdict="confirmed",
        package="0",
        processor="x",
    )
    path = verdict.write(tmp_path / "attestations")
    assert load_rerun(tmp_path / "attestations", submission) == verdict
    (submission / "submission.json").write_text((submission / "submission.json").read_text() + " ")
    assert load_rerun(tmp_path / "attestations", submission) is None
    path.write_text(path.read_text().replace('"confirmed"', '"perfect"'))
    with pytest.raises(SubmissionError, match="verdict: "):
        load_rerun(tmp_path / "attestations", submission)
    with pytest.raises(BadValue, match="lies inside"):
        load_rerun(submission / "attestations", submission)


@pytest.mark.parametrize(
    ("again", "said"),
    [
        (Again("x:Y", None, name="other"), "--as is 'other'; the submission has table"),
        (Again("x:Y", None, tasks=("banel/Needle-v0",)), "--task is 'banel/Needle-v0'"),
    ],
)
@walled
def test_what_the_submission_does_not_have(submission: Path, tmp_path: Path, again: Again, said: str) -> None:
    with pytest.raises(BadValue, match=said):
        rerun(submission, again, tmp_path / "again")


def test_nothing_is_written_into_a_submission(submission: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["rerun", str(submission), "--agent", "x:Y", "--out", str(submission / "again")]
    assert main(arguments) == 2
    assert "name a folder outside" in capsys.readouterr().err


@walled
def test_the_agent_cannot_open_the_weights_of_the_package(submission: Path, tmp_path: Path) -> None:
    """Nor the ledgers: it says in its own folder what it could open."""
    code = tmp_path / "code"
    code.mkdir()
    (code / "spy.py").write_text(
        "import glob, os, sys\n"
        f"sys.path.insert(0, {str(EXAMPLES)!r})\n"
        "import banel_envs.assets as a\n"
        "from onnx_policy import TableAgent\n"
        "seen = []\n"
        f"ledgers = glob.glob({str(tmp_path)!r} + '/again/**/ledger.jsonl', recursive=True)\n"
        "for p in glob.glob(os.path.join(a.FOLDER, '*.npz')) + ledgers:\n"
        "    try:\n"
        "        open(p, 'rb').close(); seen.append(p)\n"
        "    except OSError:\n"
        "        seen.append('closed')\n"
        f"open({str(code / 'seen')!r}, 'w').write('\\n'.join(seen))\n"
    )
    rerun(submission, Again("spy:TableAgent", code, runs=1), tmp_path / "again")
    seen = (code / "seen").read_text().split()
    assert len(seen) > 5 and set(seen) == {"closed"}
