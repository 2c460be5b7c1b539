"""`python -m benchmarks.tasks.controls`: its rates are the exact ones, and its table and the tasks' stand beside each other."""

from __future__ import annotations

import json
import math

import pytest

from banel_envs import TASKS, BanelError, success_rate
from banel_envs.policies import Tempered
from benchmarks.tasks import controls
from benchmarks.tasks import table as table_of_runs

LINE = "banel/Gaussian1D-v0"


@pytest.fixture(scope="module")
def line():
    """What the controls reach on the smallest task."""
    return controls.reached(TASKS[LINE])


def test_rates_are_the_exact_ones(line):
    base = TASKS[LINE].problem.base_policy()
    assert line.uniform == pytest.approx(math.log10(24 / 1_000))  # 24 successes among all 1,000 sequences
    assert line.base == success_rate(TASKS[LINE], base).log10
    assert line.tempered[3.0] == success_rate(TASKS[LINE], Tempered(base, 3.0)).log10
    assert line.masked == {}  # its grammar forbids nothing
    best, whose = line.best
    assert best == max(line.uniform, *line.tempered.values()) and whose in line.row


def test_what_is_out_of_reach_is_said_to_be():
    rates = {t: -3.1 for t in controls.TEMPERATURES}
    near = controls.Reached("banel/Needle-v0", -3.0, rates, {1.0: -2.51}, -3.2)
    assert near.row.split("|")[-3:-1] == [" +0.49 ", " none "]
    far = controls.Reached("banel/Needle-v0", -3.0, rates, {1.0: -2.49}, -3.2)
    assert far.row.split("|")[-3:-1] == [" +0.51 ", " T = 1 within the grammar "]


def test_estimated_rates_are_refused():
    with pytest.raises(BanelError, match="not exact"):
        controls.reached(TASKS["banel/MoleculeWindow-v0"])


def test_both_tables_keep_each_other(line, tmp_path, monkeypatch):
    page, figures = tmp_path / "docs" / "tasks.md", tmp_path / "measured.json"
    page.parent.mkdir()
    page.write_text(controls.PAGE.read_text())
    known = json.loads(controls.PATH.read_text())
    figures.write_text(json.dumps({LINE: {key: known[LINE][key] for key in ("digest", "base", "minutes")}}))
    monkeypatch.setattr(controls, "PATH", figures)
    monkeypatch.setattr(controls, "PAGE", page)
    monkeypatch.setattr(table_of_runs, "ROOT", tmp_path)
    monkeypatch.setattr(table_of_runs, "PATH", figures)
    runs = page.read_text().partition(controls.SECTION)[0]
    controls.keep([line])
    assert page.read_text().startswith(runs) and page.read_text().count(line.row) == 1
    both = page.read_text()
    table_of_runs.keep([])
    controls.keep([line])
    assert page.read_text() == both
    assert json.loads(figures.read_text())[LINE] == known[LINE]  # and its best control with it


def test_a_run_table_keeps_the_control_of_the_same_task_only(tmp_path, monkeypatch):
    page, figures = tmp_path / "docs" / "tasks.md", tmp_path / "measured.json"
    page.parent.mkdir()
    monkeypatch.setattr(table_of_runs, "ROOT", tmp_path)
    monkeypatch.setattr(table_of_runs, "PATH", figures)
    task = TASKS[LINE]
    runs = {name: [(-1.0, -1.0)] for name in table_of_runs.SHOWN}
    rate = success_rate(task, task.problem.base_policy())
    for digest, kept in ((task.digest, True), ("of another", False)):
        page.write_text(controls.PAGE.read_text())
        figures.write_text(json.dumps({LINE: {"digest": digest, "control": {"log10": -1.5, "whose": "T = 2"}}}))
        table_of_runs.keep([table_of_runs.Line(LINE, rate, 24, runs, 0.1)])
        assert ("control" in json.loads(figures.read_text())[LINE]) == kept
