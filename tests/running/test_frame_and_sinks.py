"""Runs as a table, and runs that are watched while they go on."""

from __future__ import annotations

import json
import math
import sys
import types

import numpy as np
import pytest

from banel_envs.errors import BadValue, MissingExtra
from banel_leaderboard import read
from banel_leaderboard.command.cli import main
from banel_leaderboard.dataframe import COLUMNS
from banel_leaderboard.running.sinks import VARIABLE, parse, watching
from tests.shared.runs import make_run

TINY = "tests.shared.harness_tasks:build"


def test_one_row_a_point(tmp_path):
    record = make_run(tmp_path, "base", 0)
    make_run(tmp_path, "base", 1)
    make_run(tmp_path, "other", 0, feedback="full", tuned=True, config={"lr": 0.5, "batch": 3})
    frame = read(tmp_path)
    assert list(frame.columns) == list(COLUMNS)
    assert len(frame) == 3 * len(record.points)
    own = frame[(frame["agent"] == "base") & (frame["seed"] == 0)]
    assert own["nre"].tolist() == [p.nre for p in record.points]
    assert own["log10_success"].tolist() == [p.success.log10 for p in record.points]
    assert own["log10_fresh"].tolist()[0] == record.points[0].fresh.log10
    assert own["final"].tolist() == [False] * (len(own) - 1) + [True]
    assert (own["run"] == "test/Tiny-v0/base/failures/seed-0").all()
    other = frame[frame["agent"] == "other"].iloc[0]
    assert json.loads(other["config"]) == {"lr": 0.5, "batch": 3} and other["tuned"] and other["feedback"] == "full"


def test_a_rate_of_zero_is_minus_infinity(tmp_path):
    make_run(tmp_path, good=0.0)
    final = read(tmp_path).query("final").iloc[0]
    assert final["log10_success"] == -math.inf and final["success_low"] == -math.inf
    assert final.drop(["run", "task", "agent", "config", "feedback", "method"]).map(np.isscalar).all()


def test_a_changed_ledger_is_left_out(tmp_path, capsys):
    make_run(tmp_path, seed=0)
    make_run(tmp_path, seed=1)
    path = next(tmp_path.rglob("seed-1/ledger.jsonl"))
    path.write_bytes(path.read_bytes().replace(b"0", b"1", 1))
    assert set(read(tmp_path)["seed"]) == {0}
    assert "seed-1" in capsys.readouterr().err


def test_a_folder_without_runs_is_refused(tmp_path):
    with pytest.raises(BadValue, match="no record"):
        read(tmp_path)


@pytest.mark.parametrize("text", ["nothing", "tensorboard", "tensorboard:", "csv:x", "wandb:", "tensorboard:a,b"])
def test_other_sinks_are_refused(text):
    with pytest.raises(BadValue, match="tensorboard:DIR or wandb:PROJECT"):
        parse(text)


def test_a_missing_package_is_named(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(MissingExtra, match=r"pip install 'banel-envs\[tensorboard\]'"):
        parse("tensorboard:x")


class Fake:
    """In place of wandb: it notes what it is told."""

    def __init__(self, fails_at=None):
        self.told, self.ended, self.fails_at = [], 0, fails_at

    def init(self, **options):
        self.options = options
        return self

    def log(self, values, step):
        if step == self.fails_at:
            raise OSError("no space left")
        self.told.append((step, values))

    def finish(self):
        self.ended += 1


@pytest.fixture
def wandb(monkeypatch):
    """A wandb that notes what it is told."""
    fake = Fake()
    module = types.ModuleType("wandb")
    module.__spec__ = types.SimpleNamespace(name="wandb")
    module.init = fake.init
    monkeypatch.setitem(sys.modules, "wandb", module)
    monkeypatch.setenv(VARIABLE, "wandb:my-project")
    monkeypatch.delenv("WANDB_MODE", raising=False)
    return fake


def run(tmp_path, **settings):
    from banel_leaderboard import run

    return run("banel/Gaussian1D-v0", "tempered", budget=30, out=tmp_path, **settings)


def test_points_are_shown_as_they_stand_in_the_record(wandb, tmp_path):
    record = run(tmp_path)
    assert [step for step, _ in wandb.told] == [p.nre for p in record.points]
    assert [values["success/log10"] for _, values in wandb.told] == [p.success.log10 for p in record.points]
    assert wandb.options["project"] == "my-project" and wandb.options["mode"] == "offline"
    assert wandb.options["name"] == "banel/Gaussian1D-v0/tempered/failures/seed-0"
    assert wandb.options["config"]["temperature"] == 2.0
    assert wandb.ended == 1


def test_watching_changes_nothing_in_the_run(wandb, tmp_path, monkeypatch):
    watched = run(tmp_path / "a")
    monkeypatch.delenv(VARIABLE)
    assert run(tmp_path / "b").canonical() == watched.canonical()


def test_a_sink_that_fails_does_not_stop_the_run(wandb, tmp_path):
    wandb.fails_at = 4
    with pytest.warns(UserWarning, match="wandb:my-project: OSError: no space left"):
        record = run(tmp_path)
    assert record.points[-1].nre == 30
    assert [step for step, _ in wandb.told] == [0, 2]


def test_a_rate_of_zero_is_not_shown(wandb):
    from banel_leaderboard.records.record import Rate

    zero = Rate(log10=None, low=None, high=None, method="exact", samples=0, effective=None, zero=True)
    with watching("x", {}) as watchers:
        watchers[0](5, zero, zero)
    assert wandb.told == [(5, {})]


def test_tensorboard_gets_the_curve(tmp_path, monkeypatch):
    pytest.importorskip("tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    monkeypatch.delenv(VARIABLE, raising=False)
    logs, out = tmp_path / "logs", tmp_path / "out"
    command = ["run", "--task", "banel/Gaussian1D-v0", "--agent", "base", "--budget", "30", "--out", str(out)]
    try:
        assert main([*command, "--log", f"tensorboard:{logs}"]) == 0  # through the processes of a sweep
    finally:
        monkeypatch.delenv(VARIABLE, raising=False)
    frame = read(out)
    events = EventAccumulator(str(logs / "banel/Gaussian1D-v0/base/failures/seed-0"))
    events.Reload()
    shown = events.Scalars("success/log10")
    assert [event.step for event in shown] == frame["nre"].tolist()
    assert [event.value for event in shown] == pytest.approx(frame["log10_success"].tolist(), rel=1e-6)


def test_a_bad_sink_is_bad_input(tmp_path, capsys, monkeypatch):
    monkeypatch.delenv(VARIABLE, raising=False)
    command = ["run", "--task", "banel/Gaussian1D-v0", "--agent", "base", "--out", str(tmp_path / "out")]
    assert main([*command, "--log", "csv:x"]) == 2
    assert "tensorboard:DIR" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
