"""A fresh instance: what has one, and that agent and controls meet on it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from banel_envs import TASKS
from banel_envs.build.__main__ import NAMES
from banel_envs.errors import BadValue
from banel_leaderboard.command.cli import main
from banel_leaderboard.proving.load import load_runs
from banel_leaderboard.running import isolation_wall
from banel_leaderboard.submission import instance
from banel_leaderboard.submission.attestation import digest_of_submission
from banel_leaderboard.submission.rerun import Again
from tests.submission.conftest import AGENT, EXAMPLES

walled = pytest.mark.skipif(not isolation_wall.version(), reason="rerun needs Landlock")


def test_the_families_are_real() -> None:
    assert set(instance.FAMILIES.values()) <= set(NAMES)
    assert all(task in TASKS for task in instance.FAMILIES)


@walled
def test_a_task_without_instances_is_named(submission: Path, tmp_path: Path) -> None:
    with pytest.raises(BadValue, match=r"none of the tasks has instances; those that have are banel/EhrlichEasy-v0"):
        instance.on_instance(submission, Again(AGENT, EXAMPLES), tmp_path)
    assert not (tmp_path / "number.txt").exists()


@walled
@pytest.mark.slow
def test_agent_and_controls_meet_on_the_instance(
    submission: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On another base policy of Gaussian1D, which is built in seconds: the records name its digest, not the package's."""
    monkeypatch.setitem(instance.FAMILIES, "banel/Gaussian1D-v0", "gaussian1d")  # type: ignore[misc]
    arguments = ["rerun", str(submission), "--agent", AGENT, "--agent-from", str(EXAMPLES), "--instance"]
    arguments += ["--out", str(tmp_path / "again"), "--attestations", str(tmp_path / "attestations")]
    assert main(arguments) == 0
    found = json.loads((tmp_path / "attestations" / f"{submission.name}.instance.json").read_text())
    assert found["sha256"] == digest_of_submission(submission) and found["agent"] == "table"
    assert [beside["control"] for beside in found["beside"]] == list(instance.CONTROLS)
    assert found["number"] == int((tmp_path / "again" / "number.txt").read_text())
    runs = load_runs(tmp_path / "again" / "runs").runs
    here = TASKS["banel/Gaussian1D-v0"].digest
    assert {run.record.seed for run in runs} == set(found["seeds"])
    assert len({run.record.digest for run in runs}) == 1 and here not in {run.record.digest for run in runs}
    assert {run.record.agent for run in runs} == {"table", *instance.CONTROLS}
