"""What the board asks of every run: how soon, how many, what it is worth; and of every agent, across tasks."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from banel_agents import AGENTS
from banel_envs import TASKS, Oracle
from banel_leaderboard.board import overall as table_of
from banel_leaderboard.board.chart import panel_of
from banel_leaderboard.board.write import write_figure, write_markdown, write_page
from banel_leaderboard.proving.asked import Asked
from banel_leaderboard.proving.load import Proved, Run, load_runs
from banel_leaderboard.proving.standing import Standing
from banel_leaderboard.ranking.across import FLOOR, overall
from banel_leaderboard.ranking.answers import at_first, mean_distinct
from banel_leaderboard.ranking.boards import make_boards
from banel_leaderboard.ranking.marks import marks
from benchmarks.pairs import COMMITTED, Pair, gains, pairs
from tests.shared.boards import boards, rows
from tests.shared.runs import FAILURE, HIT_AT_5, MISS, make_run, tiny

A, B = [3, 3, 3], [3, 3, 2]  # the two successes
ORDER = [*MISS, A, MISS[0], A, B, B]  # the first success at NRE 4, the second one at 7


# From the ledger


@settings(max_examples=30)
@given(st.lists(st.lists(st.lists(st.integers(0, 3), min_size=3, max_size=3), min_size=1, max_size=6), max_size=8))
def test_a_ledger_says_where_each_success_was_first_asked(asked: list[list[list[int]]]) -> None:
    oracle = Oracle(tiny(), feedback="failures")
    for tokens in asked:
        oracle(np.array(tokens))
    flat = [tuple(row) for tokens in asked for row in tokens]
    expected = sorted(flat.index(s) + 1 for s in (tuple(A), tuple(B)) if s in flat)
    assert Asked.of(oracle.ledger).found.tolist() == expected


def test_rows_with_one_hash_are_told_apart(monkeypatch: pytest.MonkeyPatch) -> None:
    class Even:
        def integers(self, *_: object, size: int, dtype: type) -> np.ndarray:
            return np.zeros(size, dtype)  # the hash of a row is then the sum of its tokens

    monkeypatch.setattr("banel_leaderboard.proving.asked.np.random.default_rng", lambda _: Even())
    oracle = Oracle(TASKS["banel/AdditionAttack-v0"], budget=40)
    successes = TASKS["banel/AdditionAttack-v0"].successes()
    assert successes is not None
    oracle(np.concatenate([successes[:20], successes[:20]]))
    assert len({int(row.sum()) for row in successes[:20]}) < 20
    assert Asked.of(oracle.ledger).found.tolist() == list(range(1, 21))


def test_the_digest_does_not_depend_on_how_sequences_were_divided() -> None:
    whole, parts = Oracle(tiny()), Oracle(tiny())
    whole(np.array([*MISS, A]))
    parts(np.array(MISS))
    parts(np.array([A]))
    assert Asked.of(whole.ledger) == Asked.of(parts.ledger)


# How soon, how many


def test_distinct_successes_and_their_mean_over_the_budget(tmp_path: Path) -> None:
    make_run(tmp_path, ask=ORDER)
    row = rows(boards(tmp_path)["fixed", "failures"])["base"]
    (run,) = row.runs
    assert run.asked.found.tolist() == [4, 7]
    assert mean_distinct(run) == pytest.approx((57 + 54) / 60)  # held at NRE 4 to 60, and at 7 to 60
    assert row.distinct is not None and row.first_success is not None
    assert (row.distinct.total.value, row.first_success.nre.value) == (2, 4)


def test_the_rate_by_then_is_measured_before_the_first_success(tmp_path: Path) -> None:
    """Points are 4 evaluations apart, and the policy changes at 12, 24, ...; that of 24 may have learnt from question 24."""
    never = make_run(tmp_path, "met", ask=MISS)
    rates = {point.nre: point.success.at() for point in never.points}
    assert rates[0] < rates[20] < rates[24]
    for first, place in ((1, 0), (4, 0), (5, 4), (24, 20), (25, 24), (60, 56)):
        assert at_first(never.model_copy(update={"first_success": first})) == (rates[place],) * 2
    assert at_first(never) == (never.final(),) * 2
    make_run(tmp_path, "base", ask=MISS, good=0.5)
    row = rows(boards(tmp_path)["fixed", "failures"])["met"]
    assert row.first_success is not None and row.first_success.gain is not None
    assert row.first_success.gain.value == pytest.approx(never.final() - math.log10(1 / 32))


def test_the_next_question_is_fresh_success_over_what_is_left(tmp_path: Path) -> None:
    run = make_run(tmp_path, ask=ORDER)
    fresh = run.final("fresh")
    assert run.next_question() is None  # a record of before
    assert run.model_copy(update={"unasked": -0.3}).next_question() == pytest.approx(fresh + 0.3)
    assert run.model_copy(update={"unasked": -3.1}).next_question() == -math.inf
    assert rows(boards(tmp_path)["fixed", "failures"])["base"].distinct.next is None  # type: ignore[union-attr]
    (path,) = tmp_path.rglob("record.json")
    run.model_copy(update={"unasked": -0.3}).write(path)
    estimate = rows(boards(tmp_path)["fixed", "failures"])["base"].distinct.next  # type: ignore[union-attr]
    assert estimate is not None and estimate.value == pytest.approx(fresh + 0.3)


def test_without_a_base_policy_there_is_no_gain(tmp_path: Path) -> None:
    make_run(tmp_path, "met", ask=HIT_AT_5)
    row = rows(boards(tmp_path)["fixed", "failures"])["met"]
    assert row.first_success is not None and row.first_success.gain is None


def test_each_question_has_its_own_order(tmp_path: Path) -> None:
    make_run(tmp_path, "soon", good=0.1, ask=[A, *MISS])
    make_run(tmp_path, "many", good=0.2, ask=[*MISS, A, B])
    make_run(tmp_path, "good", good=1.0, ask=[*MISS, *MISS, A])
    board = boards(tmp_path)["fixed", "failures"]
    assert board.questions == ("first", "distinct", "worth")
    (table,) = board.tables
    assert {q: [row.first.agent for row in table.by(q)] for q in board.questions} == {
        "first": ["soon", "many", "good"],
        "distinct": ["many", "good", "soon"],
        "worth": ["good", "many", "soon"],
    }
    assert rows(board)["good"].ranks == {"first": 3, "distinct": 2, "worth": 1}


def test_twins_are_asked_the_third_question_only(tmp_path: Path) -> None:
    make_run(tmp_path, ask=HIT_AT_5)
    make_run(tmp_path, twin=True, ask=HIT_AT_5)
    board = boards(tmp_path)["fixed", "blind"]
    row = rows(board)["base"]
    assert board.questions == ("worth",) and row.first_success is None and row.distinct is None


def test_an_agent_that_breaks_the_rule_is_shown_without_a_rank(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(AGENTS, "rnd", AGENTS["rnd"]._replace(ranked=False))
    for agent, good in (("base", 0.1), ("rnd", 1.0), ("count", 0.5)):
        make_run(tmp_path, agent, good=good, ask=HIT_AT_5)
    board = boards(tmp_path)["fixed", "failures"]
    assert {agent: row.rank for agent, row in rows(board).items()} == {"count": 1, "base": 2, "rnd": None}
    assert "not ranked: it breaks the rule" in "".join(marks(rows(board)["rnd"]))
    made = overall(board)
    assert made is not None and [line.scores["worth"].rank for line in made.lines] == [1, 2, None]


# The curves


def test_the_line_is_dotted_after_withheld_successes(tmp_path: Path) -> None:
    for feedback in ("failures", "full"):
        make_run(tmp_path, "met", feedback=feedback, ask=HIT_AT_5)
        make_run(tmp_path, "never", feedback=feedback, ask=MISS)
    made = boards(tmp_path)
    firsts = {c.agent: c.first for c in panel_of(made["fixed", "failures"], made["fixed", "failures"].tables[0]).curves}
    assert firsts == {"met": 5, "never": None}
    write_page(tmp_path, tmp_path / "page.html")
    failures, full = (tmp_path / "page.html").read_text().split('id="b1"', 1)
    assert failures.count(' after"') == 2 and failures.count(' mark"') == 2  # drawn wide and narrow
    assert full.count(' after"') == 0 and full.count(' mark"') == 2
    write_figure(tmp_path, tmp_path / "curves.png")


# Across tasks


def fill(out: Path, tasks: int = 2, seeds: int = 5) -> None:
    """`finds` asks both successes, `base` one, `without_replacement` none."""
    asked = {"finds": [A, B, *MISS], "base": [*MISS, A], "without_replacement": MISS}
    for k in range(tasks):
        for seed in range(seeds):
            for agent, ask in asked.items():
                make_run(
                    out, agent, seed, task=tiny(f"test/Task{k}-v0"), good=0.0 if agent == "finds" else 0.5, ask=ask
                )


def test_one_line_an_agent_across_tasks(tmp_path: Path) -> None:
    fill(tmp_path)
    made = overall(boards(tmp_path)["fixed", "failures"])
    assert made is not None and made.tasks == ("test/Task0-v0", "test/Task1-v0") and not made.left_out
    lines = {line.agent: line.scores for line in made.lines}
    # 1 of 60 evaluations, 4 of 60, none
    assert [lines[a]["first"].value for a in ("finds", "base", "without_replacement")] == pytest.approx(
        [1 / 60, 4 / 60, 1]
    )
    assert lines["finds"]["distinct"].value == pytest.approx(math.log10(3))
    assert lines["base"]["distinct"].value == pytest.approx(math.log10(2))
    assert lines["finds"]["worth"].value == pytest.approx(FLOOR - math.log10(1 / 32))  # its final rate is zero
    assert {a: [s.rank for s in scores.values()] for a, scores in lines.items()} == {
        "finds": [1, 1, 3],
        "base": [2, 2, 1],
        "without_replacement": [3, 3, 1],
    }
    assert lines["base"]["first"].ranks == (2, 2) and lines["base"]["worth"].group == 1
    assert lines["base"]["first"].low == pytest.approx(4 / 60)  # every seed met it there
    write_markdown(tmp_path, tmp_path / "board.md")
    assert (
        "| `finds` | 2% [2%, 2%] | 1 a [1–1] | 100% / 100% | +0.48 [+0.48, +0.48] |"
        in (tmp_path / "board.md").read_text()
    )


def test_who_is_not_on_every_task_is_left_out_by_name(tmp_path: Path) -> None:
    fill(tmp_path)
    make_run(tmp_path, "part", task=tiny("test/Task0-v0"), ask=HIT_AT_5)
    make_run(tmp_path, "seeds", 3, task=tiny("test/Task0-v0"), ask=HIT_AT_5)
    make_run(tmp_path, "seeds", 3, task=tiny("test/Task1-v0"), ask=HIT_AT_5)
    made = overall(boards(tmp_path)["fixed", "failures"])
    assert made is not None
    assert made.left_out == {"part": "on 1 of 2 tasks", "seeds": "no rank on 2 of 2 tasks"}
    assert "part (on 1 of 2 tasks)" in table_of.note(made)


def certified(run: Run) -> Run:
    """The run, its final rates known as an interval only."""
    *before, last = run.record.points
    ends = {"log10": None, "low": -4.0, "high": -0.5, "method": "certified", "samples": 1_000, "effective": None}
    rate = last.success.model_copy(update=ends)
    points = [*before, last.model_copy(update={"success": rate, "fresh": rate})]
    return dataclasses.replace(run, record=run.record.model_copy(update={"points": points}))


def test_a_task_whose_rates_are_intervals_is_left_out_of_the_third_question(tmp_path: Path) -> None:
    fill(tmp_path)
    runs = load_runs(tmp_path).runs
    exact = overall(make_boards([run for run in runs if run.record.task == "test/Task0-v0"])[0])
    some = [certified(r) if (r.record.task, r.record.agent) == ("test/Task1-v0", "finds") else r for r in runs]
    (board,) = make_boards(some)
    made = overall(board)
    assert exact is not None and made is not None and made.unscored == ("test/Task1-v0",)
    worth = [{line.agent: line.scores["worth"].value for line in table.lines} for table in (exact, made)]
    assert worth[0] == worth[1] and len(worth[0]) == 3
    assert all(line.scores["first"].high is not None for line in made.lines)  # of both tasks
    assert "The final rate is scored over the other 1: on test/Task1-v0 a rate is known" in table_of.note(made)

    (board,) = make_boards([certified(run) for run in runs])
    made = overall(board)
    assert made is not None and [list(line.scores) for line in made.lines] == [["first", "distinct"]] * 3
    assert "The final rate has no score" in table_of.note(made)


def test_a_row_that_is_only_reported_has_ranks_in_the_first_two_questions(tmp_path: Path) -> None:
    fill(tmp_path)
    made = load_runs(tmp_path)
    proved = Proved(Standing.RECOMPUTED, Standing.RECOMPUTED)
    short = Proved(Standing.RECOMPUTED, Standing.REPORTED)
    runs = [dataclasses.replace(r, proved=short if r.record.agent == "finds" else proved) for r in made.runs]
    (board,) = make_boards(runs)
    found = overall(board)
    assert found is not None and not found.left_out
    ranks = {line.agent: [score.rank for score in line.scores.values()] for line in found.lines}
    assert ranks == {"finds": [1, 1, None], "base": [2, 2, 1], "without_replacement": [3, 3, 1]}


def test_few_seeds_give_no_intervals(tmp_path: Path) -> None:
    fill(tmp_path, seeds=3)
    made = overall(boards(tmp_path)["fixed", "failures"])
    assert made is not None
    for line in made.lines:
        assert all((s.low, s.high, s.ranks, s.group) == (None,) * 4 and s.rank for s in line.scores.values())


def test_without_the_bar_and_the_base_their_questions_are_left_out(tmp_path: Path) -> None:
    make_run(tmp_path, "one", ask=HIT_AT_5)
    make_run(tmp_path, "two", ask=[FAILURE])
    made = overall(boards(tmp_path)["fixed", "failures"])
    assert made is not None and [list(line.scores) for line in made.lines] == [["first"]] * 2
    assert len(table_of.heads(made)) == len(table_of.cells(made, made.lines[0])) == 3


# Agents and their twins before the first success


def test_pairs_are_compared_up_to_the_first_success(tmp_path: Path) -> None:
    make_run(tmp_path, ask=HIT_AT_5)
    make_run(tmp_path, twin=True, ask=HIT_AT_5)
    make_run(tmp_path, "other", ask=HIT_AT_5)
    make_run(tmp_path, "other", twin=True, ask=[HIT_AT_5[1], *HIT_AT_5[1:]])
    make_run(tmp_path, "alone", ask=HIT_AT_5)
    found = {pair.agent: (pair.to_first, pair.to_question, pair.to_end) for pair in pairs(tmp_path)}
    assert found == {"base": (True, True, True), "other": (False, False, False)}


def test_pairs_have_no_gain_where_a_rate_is_an_interval() -> None:
    pair = Pair("a", "b", "failures", 0, True, True, False, 1.5)
    assert gains([pair, dataclasses.replace(pair, gain=0.5)]).startswith("+1.00")
    assert gains([pair, dataclasses.replace(pair, gain=None)]) == "-"


def test_pairs_of_reasoning_have_no_gain() -> None:
    folder = COMMITTED.parent / "2026-12-01-six-word-problems"
    assert {pair.gain for pair in pairs(folder)} == {None}


@pytest.mark.slow
def test_every_committed_pair_asked_the_same_up_to_the_first_success() -> None:
    found = list(pairs(COMMITTED))
    assert len(found) == 120 and all(pair.to_first and pair.to_question and not pair.to_end for pair in found)


def test_an_agent_without_a_rank_takes_no_task_from_the_others(tmp_path: Path) -> None:
    """Who states an interval, and shows no policy, would else decide where everybody else is scored."""
    fill(tmp_path)
    runs = load_runs(tmp_path).runs
    before = overall(make_boards(runs)[0])
    proved = Proved(Standing.RECOMPUTED, Standing.RECOMPUTED, ())
    unproved = Proved(Standing.RECOMPUTED, Standing.REPORTED, ("its final policy is not in the folder",))
    some = [
        dataclasses.replace(certified(r), proved=unproved)
        if (r.record.task, r.record.agent) == ("test/Task1-v0", "finds")
        else dataclasses.replace(r, proved=proved)
        for r in runs
    ]
    (board,) = make_boards(some)
    made = overall(board)
    assert before is not None and made is not None and not made.unscored
    assert "no number" in made.left_out["finds"]
    worth = [{line.agent: line.scores["worth"].value for line in table.lines} for table in (before, made)]
    assert worth[1] == {agent: value for agent, value in worth[0].items() if agent != "finds"}
