"""The board: who is compared with whom, who has a rank, and who has none."""

from __future__ import annotations

import dataclasses
import html
import math
from pathlib import Path

import pytest

from banel_agents import AGENTS, make_agent
from banel_leaderboard.board.glossary import board_note
from banel_leaderboard.board.write import write_markdown, write_page
from banel_leaderboard.ranking.marks import marks
from tests.shared.boards import boards, rows
from tests.shared.runs import HIT_AT_5, MISS, make_run, tiny


def test_one_id_with_other_assets_is_another_problem(tmp_path: Path) -> None:
    """Never ranked together, and each table says whose it is."""
    for k, agent in enumerate(("base", "tempered")):
        make_run(tmp_path / agent, agent, 0, task=dataclasses.replace(tiny(), digest=f"{k}" * 64))
    tables = boards(tmp_path)["fixed", "failures"].tables
    assert [(t.task, [r.rank for r in t.rows]) for t in tables] == [
        ("test/Tiny-v0 (00000000)", [1]),
        ("test/Tiny-v0 (11111111)", [1]),
    ]


# Who is compared with whom


def test_failures_rank_by_success_and_full_by_distinct_successes(tmp_path: Path) -> None:
    for feedback in ("failures", "full"):
        make_run(tmp_path, "repeats", feedback=feedback, good=1.0, ask=[[3, 3, 3]])  # knows what it repeats
        make_run(tmp_path, "searches", feedback=feedback, good=0.2, ask=[*MISS, [3, 3, 2], [3, 3, 3]])
    made = boards(tmp_path)
    ranks = {key: {a: r.rank for a, r in rows(board).items()} for key, board in made.items()}
    assert ranks == {
        ("fixed", "failures"): {"repeats": 1, "searches": 2},
        ("fixed", "full"): {"searches": 1, "repeats": 2},
    }
    full = rows(made["fixed", "full"])["repeats"]
    assert full.ranks == {"first": 1, "distinct": 2, "worth": 1}
    assert full.final.value == pytest.approx(math.log10(0.5 / 64))  # half uniform, its success asked already
    assert full.other.value == pytest.approx(math.log10(0.5 / 32 + 0.5))


def test_equal_rows_share_a_rank_and_zero_comes_last(tmp_path: Path) -> None:
    for agent, good in (("a", 1.0), ("b", 1.0), ("c", 0.0), ("d", 0.5)):
        make_run(tmp_path, agent, good=good)
    made = rows(boards(tmp_path)["fixed", "failures"])
    assert {agent: row.rank for agent, row in made.items()} == {"a": 1, "b": 1, "d": 3, "c": 4}
    assert list(made) == ["a", "b", "d", "c"]
    assert made["c"].final.value == -math.inf and made["c"].best.value == pytest.approx(math.log10(1 / 32))
    assert made["c"].effective is None


def test_a_run_without_success_serves_both_boards_once(tmp_path: Path) -> None:
    make_run(tmp_path, seed=0, feedback="failures", ask=MISS)
    make_run(tmp_path, seed=0, feedback="full", ask=MISS)
    make_run(tmp_path, seed=1, feedback="full", ask=MISS)
    made = boards(tmp_path)
    for regime in ("failures", "full"):
        row = rows(made["fixed", regime])["base"]
        assert [r.record.seed for r in row.runs] == [0, 1] and row.rank == 1 and row.missing == ()
        assert row.runs[0].record.feedback == regime
        assert row.gain is not None and (row.gain.value, row.gain.n) == (0, 2)  # its own twin


def test_a_selection_of_seeds_is_shown_and_not_ranked(tmp_path: Path) -> None:
    make_run(tmp_path, "lucky", seed=0, ask=MISS)
    make_run(tmp_path, "lucky", seed=1, ask=HIT_AT_5)
    make_run(tmp_path, "lucky", seed=2, feedback="full", good=0.1)
    row = rows(boards(tmp_path)["fixed", "full"])["lucky"]
    assert (len(row.runs), row.rank, row.missing) == (2, None, (1,))
    assert any("seed 1 met a success elsewhere" in mark for mark in marks(row))


def test_an_agent_that_never_ran_under_a_regime_has_no_selected_row_there(tmp_path: Path) -> None:
    make_run(tmp_path, "here", seed=0, ask=MISS)
    make_run(tmp_path, "here", seed=1, ask=HIT_AT_5)
    make_run(tmp_path, "there", seed=0, feedback="full")
    made = boards(tmp_path)
    assert set(rows(made["fixed", "full"])) == {"there"} and len(rows(made["fixed", "failures"])["here"].runs) == 2


def test_a_run_that_reads_no_answer_serves_every_board(tmp_path: Path) -> None:
    make_run(tmp_path, "base", seed=0, feedback="full", ask=HIT_AT_5)
    make_run(tmp_path, "mine", seed=0, feedback="full", ask=HIT_AT_5)  # not shipped, so it is not taken at its word
    make_run(tmp_path, "other", seed=0, ask=HIT_AT_5)
    made = boards(tmp_path)
    assert set(rows(made["fixed", "full"])) == {"base", "mine"}
    row = rows(made["fixed", "failures"])["base"]
    assert set(rows(made["fixed", "failures"])) == {"base", "other"} and row.missing == ()
    assert row.gain is not None and (row.gain.value, row.gain.n) == (0, 1)  # its own twin


def test_a_seed_that_was_not_asked_for_makes_no_selection(tmp_path: Path) -> None:
    for seed in (0, 1):
        make_run(tmp_path, "memorise", seed=seed, feedback="full", ask=HIT_AT_5)
    make_run(tmp_path, "memorise", seed=0, feedback="failures", ask=HIT_AT_5)
    row = rows(boards(tmp_path)["fixed", "failures"])["memorise"]
    assert (len(row.runs), row.rank, row.missing) == (1, 1, ())


def test_a_board_that_nobody_ran_is_not_announced(tmp_path: Path) -> None:
    """As after `banel bench --suite smoke`: failures only, and a run without success could stand under full as well."""
    make_run(tmp_path, "memorise", seed=0, ask=MISS)
    make_run(tmp_path, "memorise", seed=1, ask=HIT_AT_5)
    made = boards(tmp_path)
    assert set(made) == {("fixed", "failures")}
    assert len(rows(made["fixed", "failures"])["memorise"].runs) == 2
    make_run(
        tmp_path, "tuned", feedback="full", ask=HIT_AT_5, tuned=True
    )  # which asks for a tuned board, not for a fixed one
    assert set(boards(tmp_path)) == {("fixed", "failures"), ("tuned", "full")}


@pytest.mark.parametrize(("ran", "other"), [("failures", "full"), ("full", "failures")])
def test_where_no_run_met_a_success_one_board_says_so_for_both(tmp_path: Path, ran: str, other: str) -> None:
    for agent in ("base", "tempered"):
        make_run(tmp_path, agent, feedback=ran, ask=MISS)
    made = boards(tmp_path)
    assert set(made) == {("fixed", ran)}
    said = f"No run met a success, so feedback “{other}” would have given the same runs."
    assert said in board_note(made["fixed", ran])
    make_run(tmp_path, "banel", feedback=ran, ask=HIT_AT_5)
    assert said not in board_note(boards(tmp_path)["fixed", ran])


def test_a_task_that_no_run_was_told_of_stands_on_no_full_board(tmp_path: Path) -> None:
    """Full runs first, where both are asked for: failures may be served whole by it, full never by failures."""
    make_run(tmp_path / "a", "memorise", seed=0, feedback="full", task=tiny("test/One-v0"), ask=HIT_AT_5)
    make_run(tmp_path / "b", "memorise", seed=0, feedback="failures", task=tiny("test/Two-v0"), ask=MISS)
    make_run(tmp_path / "c", "memorise", seed=0, feedback="full", task=tiny("test/Three-v0"), ask=MISS)
    tables = {regime: [t.task for t in board.tables] for (_, regime), board in boards(tmp_path).items()}
    assert tables == {"full": ["test/One-v0", "test/Three-v0"], "failures": ["test/Three-v0", "test/Two-v0"]}


def test_a_row_of_fewer_seeds_than_its_table_has_is_marked(tmp_path: Path) -> None:
    for seed in range(3):
        make_run(tmp_path, seed=seed, ask=MISS)
    make_run(tmp_path, "one", ask=HIT_AT_5)
    for seed in range(2):
        make_run(tmp_path, "two", seed=seed, ask=HIT_AT_5)
    (table,) = boards(tmp_path)["fixed", "failures"].tables
    assert {row.first.agent: marks(row, table.rows) for row in table.rows} == {
        "base": [],
        "one": ["1 seed, where others here have 3"],
        "two": ["2 seeds, where others here have 3"],
    }
    for write, name in ((write_page, "board.html"), (write_markdown, "board.md")):
        write(tmp_path, tmp_path / name)
        assert "1 seed, where others here have 3" in (tmp_path / name).read_text()


def test_every_agent_is_explained_in_words(tmp_path: Path) -> None:
    assert all(shipped.about.endswith(".") for shipped in AGENTS.values())
    count = AGENTS["count"].about
    assert "hash" in count and "last 3 tokens" in count and "no pseudo-count" in count
    assert make_agent("count").config.context == make_agent("rnd").config.context == 3
    make_run(tmp_path)
    write_page(tmp_path, tmp_path / "board.html")
    write_markdown(tmp_path, tmp_path / "board.md")
    for name in ("board.html", "board.md"):
        assert count in html.unescape((tmp_path / name).read_text())


def test_twins_stand_apart_and_give_the_gain_paired_by_seed(tmp_path: Path) -> None:
    for seed in (0, 1):
        run = make_run(tmp_path, seed=seed, good=1.0, ask=HIT_AT_5)
        twin = make_run(tmp_path, seed=seed, good=0.2, twin=True)
    for seed in (2, 3, 4):
        make_run(tmp_path, seed=seed, good=1.0, ask=MISS)
    made = boards(tmp_path)
    row = rows(made["fixed", "failures"])["base"]
    gain = run.final() - twin.final()
    assert gain > 0.3
    assert len(row.runs) == 5 and row.gain is not None and row.gain.n == 5
    assert row.gain.value == 0 and (row.gain.low, row.gain.high) == (
        0,
        pytest.approx(gain),
    )  # three are their own twins
    twins = rows(made["fixed", "blind"])["base"]
    assert [r.record.twin for r in twins.runs] == [True, True, False, False, False]
    assert twins.gain is None and set(made) == {("fixed", "failures"), ("fixed", "blind")}  # nobody ran full


def test_no_gain_where_a_run_that_met_a_success_has_no_twin(tmp_path: Path) -> None:
    make_run(tmp_path, "memorise", seed=0, ask=HIT_AT_5)
    make_run(tmp_path, "memorise", seed=1, ask=MISS)
    assert rows(boards(tmp_path)["fixed", "failures"])["memorise"].gain is None


def test_gain_where_both_are_zero_is_zero_and_over_a_zero_twin_infinite(tmp_path: Path) -> None:
    for agent, good in (("zero", 0.0), ("good", 1.0)):
        make_run(tmp_path, agent, good=good, ask=HIT_AT_5)
        make_run(tmp_path, agent, good=0.0, twin=True)
    made = rows(boards(tmp_path)["fixed", "failures"])
    assert [made[a].gain.value for a in ("zero", "good")] == [0.0, math.inf]  # type: ignore[union-attr]


def test_tuned_and_other_budgets_never_reach_the_fixed_board(tmp_path: Path) -> None:
    make_run(tmp_path, good=0.5, ask=HIT_AT_5)
    make_run(tmp_path, good=1.0, ask=HIT_AT_5, tuned=True, config={"batch": 6})
    make_run(tmp_path, good=1.0, ask=HIT_AT_5, budget=120)
    made = boards(tmp_path)
    assert set(made) == {("fixed", "failures"), ("tuned", "failures"), ("off", "failures")}
    assert [len(rows(b)["base"].runs) for b in made.values()] == [1, 1, 1]
    assert rows(made["off", "failures"])["base"].rank is None
    assert marks(rows(made["off", "failures"])["base"]) == ["budget 120"]
    assert marks(rows(made["tuned", "failures"])["base"]) == ["tuned: batch=6"]


def test_configs_of_one_agent_are_rows_of_their_own(tmp_path: Path) -> None:
    make_run(tmp_path / "a", config={"batch": 12})
    make_run(tmp_path / "b", config={"batch": 24})
    (table,) = boards(tmp_path)["fixed", "failures"].tables
    assert sorted(marks(row, table.rows)[0] for row in table.rows) == ["batch=12", "batch=24"]
