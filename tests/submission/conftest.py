"""A suite that takes seconds, the runs of an outsider's agent on it, and the submission that they make."""

from __future__ import annotations

import shutil
import sys
from pathlib import Path

import pytest

pytest.importorskip("onnx")
pytest.importorskip("onnxruntime")

from banel_leaderboard.proving import cache
from banel_leaderboard.records.pack import pack
from banel_leaderboard.running.harness import execute
from banel_leaderboard.submission.submit import Given, describe
from banel_leaderboard.sweeping.suites import SUITES, Suite
from banel_leaderboard.sweeping.sweep import lanes_of

EXAMPLES = Path(__file__).parents[2] / "examples"
TINY = Suite(
    "one short task", ("banel/Gaussian1D-v0",), ("base", "count"), (0, 1), ("full", "failures"), twins=("count",)
)
AGENT = "onnx_policy:TableAgent"
GIVEN = Given(name="Token table", authors=("An outsider",), date="2026-11-30", suite="tiny", licence="MIT")


@pytest.fixture(autouse=True)
def tiny_suite(monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> None:
    monkeypatch.setitem(SUITES, "tiny", TINY)
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path_factory.mktemp("cache")))
    monkeypatch.syspath_prepend(str(EXAMPLES))


@pytest.fixture(scope="session")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What `banel bench --suite tiny --agent onnx_policy:TableAgent --set batch=500` leaves; nobody writes into it."""
    out = tmp_path_factory.mktemp("bench") / "runs"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "path", [*sys.path, str(EXAMPLES)])
        records = [execute(spec, out) for lane in lanes_of(TINY, AGENT, {"batch": 500}) for spec in lane]
    assert all(record.successes_asked or record.twin for record in records)  # no run serves another
    return out


@pytest.fixture(scope="session")
def packed(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The submission, written by hand so that the tests of `submit` are others; nobody writes into it."""
    folder = tmp_path_factory.mktemp("packed") / "2026-11-30-token-table"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(SUITES, "tiny", TINY)
        pack(runs, folder)
        describe(runs, GIVEN).write(folder)
    return folder


@pytest.fixture
def submission(packed: Path, tmp_path: Path) -> Path:
    """A copy that a test may change."""
    return Path(shutil.copytree(packed, tmp_path / "submissions" / packed.name))
