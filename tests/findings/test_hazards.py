"""`python -m benchmarks.findings.hazards`: it goes on where it was, and its table has the numbers of the paths."""

from __future__ import annotations

import json
import math
import re

import pytest

from banel_envs.errors import BadValue
from benchmarks.findings import hazards, kept
from benchmarks.findings.kept import Kept, begin, each, key_of

LINE = "banel/Gaussian1D-v0"


def command(monkeypatch, capsys, *words):
    monkeypatch.setattr("sys.argv", ["hazards", "--tasks", LINE, "--seeds", "0-2", *map(str, words)])
    hazards.main()
    return capsys.readouterr().out


def test_it_goes_on_where_it_was(tmp_path, monkeypatch, capsys):
    out = tmp_path / "paths.jsonl"
    words = ["--agents", "base", "tempered_sft", "--out", out]
    assert "6 runs, 5 of them missing" in command(monkeypatch, capsys, *words, "--plan")
    assert len(out.read_text().splitlines()) == 1
    table = command(monkeypatch, capsys, *words)
    lines = out.read_text().splitlines(keepends=True)
    assert len(lines) == 6
    out.write_text("".join(lines[:4]) + lines[4][:30])  # killed while it wrote the fifth
    monkeypatch.setattr(hazards, "measure", counted := Counted(hazards.measure))
    again = command(monkeypatch, capsys, *words)
    assert counted.calls == 2
    assert again.splitlines()[1:] == table.splitlines()[1:]


class Counted:
    """A function, its calls counted."""

    def __init__(self, function):
        self.function, self.calls = function, 0

    def __call__(self, key):
        self.calls += 1
        return self.function(key)


def test_the_table_has_the_law_of_one_rate(tmp_path, monkeypatch, capsys):
    out = tmp_path / "paths.jsonl"
    rows = command(monkeypatch, capsys, "--agents", "base", "tempered_sft", "--out", out).splitlines()
    found = json.loads(out.read_text().splitlines()[0])["found"]
    (rate,) = found["hazards"]
    middle = math.ceil(math.log(0.5) / math.log1p(-rate))
    base = rows[2]
    assert f"{middle:,} [{middle:,}, {middle:,}]" in base
    assert re.search(rf"{(1 - rate) ** sum(found['rows']):.2g} \[", base)
    assert base.endswith("+0.00")
    assert re.split(r" {2,}", rows[3])[5] == "-"  # tempered_sft says nothing of its questions


def key(task, seed, agent="base"):
    return key_of(agent, {}, task, seed)


def test_time_is_guessed_from_the_same_agent_or_the_same_task(capsys):
    runs = Kept()
    runs.add(key("a", 0), {"took": 60.0})
    runs.add(key("a", 1), {"took": 120.0})
    runs.add(key("a", 2), {"took": 600.0})
    runs.add(key("a", 0, "tempered"), {"took": 6.0})
    assert runs.seconds([key("a", 3), *(key("a", k) for k in range(3))]) == 120
    wanted = [*(key("a", k) for k in range(4)), key("a", 0, "tempered"), key("a", 1, "tempered"), key("a", 0, "ladder")]
    assert runs.seconds(wanted) == 120 + 6 + 90  # of an agent without a run: the median of the task's, which is 90
    with pytest.raises(BadValue, match="no run on b"):
        runs.seconds([key("b", 0)])
    assert not begin(wanted, lambda key: {"took": 0.0}, runs, 1, plan=True)
    assert "7 runs, 3 of them missing: about 3.6 core-minutes" in capsys.readouterr().out


def test_a_key_with_other_defaults_is_another_run():
    runs = Kept()
    runs.add(key_of("base", {"batch": 100}, LINE, 0), {"took": 1.0})
    assert key_of("base", {"batch": 100}, LINE, 0) in runs
    assert key_of("base", {}, LINE, 0) not in runs and key_of("base", {"batch": 100}, LINE, 1) not in runs


@pytest.mark.slow
def test_several_at_once_make_the_same(tmp_path):
    from benchmarks.findings.paths import measure

    keys = [key_of("base", {}, LINE, seed) for seed in range(3)]
    one, two = Kept(), Kept(tmp_path / "two.jsonl")
    list(each(keys, measure, one)), list(each(keys, measure, two, jobs=2))
    for key in keys:
        assert {**one[key], "took": 0} == {**two[key], "took": 0}
    assert len(kept.lines(tmp_path / "two.jsonl")) == 3
