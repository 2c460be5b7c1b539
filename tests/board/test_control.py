"""The board of a negative control: it says that ranks are chance, and says so too when a row seems to stand above."""

from __future__ import annotations

import dataclasses

import pytest

from banel_agents import make_agent
from banel_envs import TASKS
from banel_leaderboard.board.write import write_markdown, write_page
from banel_leaderboard.running.evaluator import as_json
from tests.shared.runs import MISS, make_run, tiny

ID = "test/Control-v0"


@pytest.fixture
def task(monkeypatch):
    made = dataclasses.replace(tiny(ID), negative_control="no structure")
    monkeypatch.setitem(TASKS._builders, ID, lambda: made)
    yield made
    TASKS._built.pop(ID)


def board(tmp_path, task, seeds, bar, other):
    for seed in range(seeds):
        for agent, good in (("without_replacement", bar), ("banel", other)):
            config = as_json(make_agent(agent).config)
            make_run(tmp_path, agent, seed, task=task, good=good, feedback="full", ask=MISS, config=config)
    write_page(tmp_path, tmp_path / "page.html")
    write_markdown(tmp_path, tmp_path / "board.md")
    page, table = (tmp_path / "page.html").read_text(), (tmp_path / "board.md").read_text()
    (line,) = {
        line for line in table.splitlines() if "Negative control" in line
    }  # runs without a hit serve both boards
    assert line.removeprefix(f"{ID}: ").replace("'", "&#39;") in page
    assert 'id="leaders"' not in page  # to lead here is luck
    return line


@pytest.mark.parametrize(
    ("bar", "other", "says"),
    [
        (1.0, 1.0, "0 of 1 rows stand above without_replacement"),
        (1.0, 0.0, "0 of 1 rows stand above without_replacement"),
        (0.0, 1.0, "1 of 1 rows stand above without_replacement"),
    ],
)
def test_the_note_is_the_test(tmp_path, task, bar, other, says):
    line = board(tmp_path, task, 8, bar, other)
    assert says in line and "over 8 seeds, one-sided at 1%, Holm" in line
    assert ("banel: a leak" in line) == (other > bar)


def test_too_few_seeds_say_nothing_of_ranks(tmp_path, task):
    assert "3 seeds beside without_replacement's are too few" in board(tmp_path, task, 3, 0.0, 1.0)


def test_other_tasks_have_no_note(tmp_path):
    make_run(tmp_path)
    write_markdown(tmp_path, tmp_path / "board.md")
    assert "Negative control" not in (tmp_path / "board.md").read_text()
