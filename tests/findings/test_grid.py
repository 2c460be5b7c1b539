"""The grids of `benchmarks.findings`: twins are made where they differ, the table has medians, the drawing every run."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

from banel_agents import make_agent
from benchmarks import agents
from benchmarks.findings import ablation, grid, novelty
from benchmarks.findings.grid import Variant
from benchmarks.findings.plot import Dots, dot_plot

LINE = "banel/Gaussian1D-v0"
VARIANTS = {"cold": Variant("tempered", {"temperature": 1.0}), "hot": Variant("tempered", {"temperature": 2.0})}


def invented(key):
    """Runs of even seeds meet a success and end a decade above their twins; the others meet none. Hot ones are a decade up."""
    first = 100 if key["seed"] % 2 == 0 else None
    up = (key["settings"]["temperature"] == 2.0) + (first is not None and not key["twin"])
    rates = {"final": -6.0 + up - key["seed"] / 100, "best": -5.0, "mixture": None}
    return {"first": first, "distinct": 3, "effective": 2.0, "cpu": 1.0, "took": 2.0, **rates}


def command(monkeypatch, capsys, *words):
    monkeypatch.setattr("sys.argv", ["grid", "--tasks", LINE, *map(str, words)])
    grid.main("grid", "About.", VARIANTS, "Title")
    return capsys.readouterr().out


def test_a_run_without_a_success_is_its_own_twin(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(agents, "measure", invented)
    out = tmp_path / "runs.jsonl"
    printed = command(monkeypatch, capsys, "--seeds", "0-2", "--out", out)
    keys = [json.loads(line)["key"] for line in out.read_text().splitlines()]
    assert sorted(key["seed"] for key in keys if key["twin"]) == [0, 0, 2, 2]
    assert len(keys) == 6 + 4 and {key["feedback"] for key in keys} == {"failures"}
    cold, hot = (next(line for line in printed.splitlines() if f" {name} " in line) for name in VARIANTS)
    # cold: -5.00, -6.01, -5.02, so -5.02; over the twins +1, 0, +1; the mixture succeeds never
    cells = ["Gaussian1D-v0", "cold", "3", "2", "-5.02 [-6.01, -5.00]", "+1.00 [+0.00, +1.00]"]
    assert re.split(r" {2,}", cold) == [*cells, "-5.00", "-12.00", "3", "2", "1.0"]
    assert "-4.02 [-5.01, -4.00]" in hot
    assert "6 runs, 5 of them missing: about 0.2 core-minutes" in printed


def test_a_plan_makes_one_run_of_each_task(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(agents, "measure", invented)
    out = tmp_path / "runs.jsonl"
    printed = command(monkeypatch, capsys, "--seeds", "0-9", "--out", out, "--plan", "--only", "hot")
    assert "10 runs, 9 of them missing: about 0.3 core-minutes" in printed and "final" not in printed
    assert len(out.read_text().splitlines()) == 1


def test_the_command_whole(tmp_path, monkeypatch, capsys):
    out, plot = tmp_path / "runs.jsonl", tmp_path / "dots.svg"
    words = ["--seeds", "0-1", "--out", out, "--plot", plot]
    table, drawn = command(monkeypatch, capsys, *words), plot.read_bytes()
    again = command(monkeypatch, capsys, *words)
    assert again.splitlines()[-3:] == table.splitlines()[-3:] and plot.read_bytes() == drawn
    # A temperature learns nothing: nothing is gained over the twin, and the best is the final rate.
    assert table.count("+0.00 [+0.00, +0.00]") == 2


def test_the_drawing_has_every_task_variant_and_run():
    rng = np.random.default_rng(0)
    dots = {name: Dots(rng.normal(-3, 1, 7), np.full(7, -4.0)) for name in ("one", "two")}
    svg = dot_plot({"banel/A-v0": dots, "banel/B-v0": dots}, {"banel/A-v0": -3.0, "banel/B-v0": -12.0}, "Title")
    text = svg.decode()
    for word in ("A-v0", "B-v0", "one", "two", "Title", "base policy"):
        assert f">{word}<" in text
    assert svg == dot_plot({"banel/A-v0": dots, "banel/B-v0": dots}, {"banel/A-v0": -3.0, "banel/B-v0": -12.0}, "Title")
    dots["two"].agent[0] -= 0.5
    assert svg != dot_plot({"banel/A-v0": dots, "banel/B-v0": dots}, {"banel/A-v0": -3.0, "banel/B-v0": -12.0}, "Title")


@pytest.mark.parametrize("variants", [ablation.VARIANTS, novelty.VARIANTS])
def test_variants_are_distinct_and_can_be_made(variants):
    made = {name: make_agent(v.agent, v.settings) for name, v in variants.items()}
    assert len({(agent.name, repr(agent.config)) for agent in made.values()}) == len(made) <= 9


def test_novelty_crosses_gate_and_penalty_and_has_the_defaults():
    for agent in ("count", "rnd"):
        default = make_agent(agent).config
        four = [make_agent(v.agent, v.settings).config for v in novelty.VARIANTS.values() if v.agent == agent]
        assert len(four) == 4 and default in four
        assert {(c.gated, c.kl) for c in four} == {(g, k) for g in (True, False) for k in (0.0, 0.03)}


def test_what_agents_reach_is_kept_and_the_rates_are_of_the_run(tmp_path, monkeypatch, capsys):
    out = tmp_path / "runs.jsonl"
    monkeypatch.setattr("sys.argv", ["agents", "--agents", "base", "--tasks", LINE, "--seeds", "0", "--out", str(out)])
    agents.main()
    table = capsys.readouterr().out
    (line,) = (json.loads(line) for line in out.read_text().splitlines())
    assert line["key"]["feedback"] == "full" and line["key"]["twin"] is False
    assert line["found"]["final"] == line["found"]["best"] == pytest.approx(line["found"]["mixture"])
    agents.main()
    assert capsys.readouterr().out == table and len(out.read_text().splitlines()) == 1


def test_a_mixture_is_the_mean_of_the_rates():
    assert agents.mixture([-1.0, None, -2.0, None]) == pytest.approx(np.log10(0.11 / 4))
    assert agents.mixture([None]) is None
