"""The board: what counts, what is refused and by what name, who is compared with whom, and how it is written."""

from __future__ import annotations

import dataclasses
import html
import json
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from banel_agents import AGENTS, make_agent
from banel_envs.errors import BadValue
from banel_envs.meter import ledger_format
from banel_envs.meter.ledger import Ledger
from banel_leaderboard.board.chart import figure_png, panel_of, rate_ticks, styles_of
from banel_leaderboard.board.columns import columns, count_text, log10_text, nre_text, power_text
from banel_leaderboard.board.glossary import board_note
from banel_leaderboard.board.markdown import markdown
from banel_leaderboard.board.ranking import Board, Row, make_boards, marks
from banel_leaderboard.board.write import write_figure, write_markdown, write_page
from banel_leaderboard.command.commands import _ends
from banel_leaderboard.proving.load import load_runs
from banel_leaderboard.records.record import Rate
from tests.shared.runs import BUDGET, HIT_AT_5, MISS, make_run, tiny

Record = dict[str, Any]


def boards(out: Path) -> dict[tuple[str, str], Board]:
    loaded = load_runs(out)
    assert not loaded.refused
    return {(b.kind, b.regime): b for b in make_boards(loaded.runs)}


def rows(board: Board) -> dict[str, Row]:
    (table,) = board.tables
    return {row.first.agent: row for row in table.rows}


def only_folder(out: Path) -> Path:
    (record,) = out.rglob("record.json")
    return record.parent


def test_one_id_with_other_assets_is_another_problem(tmp_path: Path) -> None:
    """Never ranked together, and each table says whose it is."""
    for k, agent in enumerate(("base", "tempered")):
        make_run(tmp_path / agent, agent, 0, task=dataclasses.replace(tiny(), digest=f"{k}" * 64))
    tables = boards(tmp_path)["fixed", "failures"].tables
    assert [(t.task, [r.rank for r in t.rows]) for t in tables] == [
        ("test/Tiny-v0 (00000000)", [1]),
        ("test/Tiny-v0 (11111111)", [1]),
    ]


# What is verified


def test_runs_as_the_harness_leaves_them_count(tmp_path: Path) -> None:
    made = [make_run(tmp_path, agent, seed) for agent in ("base", "banel") for seed in (0, 1)]
    loaded = load_runs(tmp_path)
    assert loaded.refused == ()
    assert sorted(r.record.canonical() for r in loaded.runs) == sorted(r.canonical() for r in made)


def _set(**changes: Any) -> Callable[[Record], None]:
    return lambda record: record.update(changes)


def _rate(**changes: Any) -> Callable[[Record], None]:
    return lambda record: record["points"][2]["fresh"].update(changes)


@pytest.mark.parametrize(
    ("edit", "reason"),
    [
        (_set(schema_number=2), "not a record of schema 1: schema_number"),
        (_set(score=1.0), "not a record of schema 1: score"),
        (_set(seed="0"), "not a record of schema 1: seed"),
        (_set(task="test/Easy-v0"), "task is 'test/Easy-v0' in the record and 'test/Tiny-v0' in its ledger"),
        (_set(digest="e" * 64), "digest is"),
        (_set(agent="banel"), "agent is 'banel' in the record and 'base' in its ledger"),
        (_set(config={"batch": 1}), "config is"),
        (_set(seed=3), "seed is 3 in the record and 0 in its ledger"),
        (_set(feedback="full"), "feedback is 'full'"),
        (_set(budget=BUDGET + 1), f"budget is {BUDGET + 1}"),
        (_set(twin=True), "twin is True"),
        (_set(successes_asked=99), "successes_asked is 99"),
        (_set(first_success=1), "first_success is 1"),
        (_set(first_success=None), "first_success is None"),
        (lambda r: r["ledger"].update(head="0" * 64), "ledger.head is"),
        (lambda r: r["ledger"].update(lines=3), "ledger.lines is 3"),
        (lambda r: r["ledger"].update(count=3), "ledger.count is 3"),
        (_rate(log10=0.5), "at most 1"),
        (_rate(log10=None, low=0.5, high=0.7), "at most 1"),
        (_rate(log10=None, low=-0.5, high=None), "no upper end"),
        (_rate(log10=None, low=-0.1, high=-0.2), "outside its interval"),
        (_rate(log10=None, low=None), "zero=False"),
        (_rate(log10=-0.0001), "10^-0.0001, outside its interval"),
        (_rate(low=-0.1), "outside its interval -0.1 to"),
        (_rate(zero=True), "zero=True"),
        (_set(points=[]), "the curve's NREs are []"),
        (lambda r: r["points"].reverse(), "must rise from 0"),
    ],
)
def test_an_edited_record_is_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], edit: Callable[[Record], None], reason: str
) -> None:
    make_run(tmp_path, ask=HIT_AT_5)
    path = only_folder(tmp_path) / "record.json"
    record = json.loads(path.read_text())
    edit(record)
    path.write_text(json.dumps(record))
    _refused(tmp_path, capsys, reason)


def _cut(path: Path) -> None:
    path.write_bytes(b"".join(path.read_bytes().splitlines(True)[:-1]))


def _tear(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-1])


def _flip(path: Path) -> None:
    path.write_bytes(path.read_bytes().replace(b'"rewards":"', b'"rewards":"/', 1))


def _forge(path: Path) -> None:
    """Another answer, every hash computed again."""
    ledger = Ledger.read(path)
    ledger.asks[0].rewards[:] = 0
    head, lines = ledger_format.seal("", ledger_format.header_body(ledger.header))
    for i, ask in enumerate(ledger.asks):
        head, question = ledger_format.seal(head, ledger_format.ask_body(i, ask))
        head, answer = ledger_format.seal(head, ledger_format.answer_body(i, 0, ask.rewards, None))
        lines += question + answer
    path.write_bytes(lines)


@pytest.mark.parametrize(
    ("harm", "reason"),
    [
        (_cut, "ledger.lines is 11 in the record and 10 in its ledger"),
        (_tear, "the last line is torn"),
        (_flip, "its hash does not follow from the line before"),
        (_forge, "ledger.head is"),
        (Path.unlink, "ledger.jsonl cannot be read: No such file"),
    ],
)
def test_a_harmed_ledger_is_refused_by_name(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], harm: Callable[[Path], None], reason: str
) -> None:
    make_run(tmp_path, ask=HIT_AT_5)
    harm(only_folder(tmp_path) / "ledger.jsonl")
    _refused(tmp_path, capsys, reason)


def test_a_record_that_is_no_text_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    make_run(tmp_path)
    (only_folder(tmp_path) / "record.json").write_bytes(b"\xff\xfe\x00")
    _refused(tmp_path, capsys, "utf-8")


def test_a_twin_that_was_told_a_success_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    task = tiny()
    object.__setattr__(task, "blind", lambda: task)
    make_run(tmp_path, twin=True, task=task, ask=HIT_AT_5)
    _refused(tmp_path, capsys, "an oracle-free twin was told 10 successes")


def _refused(out: Path, capsys: pytest.CaptureFixture[str], reason: str) -> None:
    """The run is left out; folder, stderr, page and Markdown name it and say why, without the machine's paths."""
    loaded = load_runs(out)
    assert loaded.runs == ()
    (refused,) = loaded.refused
    assert refused.path == only_folder(out).relative_to(out).as_posix()
    assert reason in refused.reason and str(out) not in refused.reason
    told = capsys.readouterr().err
    assert refused.path in told and reason in told
    write_page(loaded, out / "page.html")
    write_markdown(loaded, out / "page.md")
    for name in ("page.html", "page.md"):
        text = (out / name).read_text()
        assert "Refused" in text and refused.path in text and reason[:20] in html.unescape(text)


def test_swapped_ledgers_are_refused(tmp_path: Path) -> None:
    for seed in (0, 1):
        make_run(tmp_path, seed=seed)
    one, two = sorted(tmp_path.rglob("ledger.jsonl"))
    a, b = one.read_bytes(), two.read_bytes()
    one.write_bytes(b)
    two.write_bytes(a)
    assert [r.reason for r in load_runs(tmp_path).refused] == [
        "seed is 0 in the record and 1 in its ledger",
        "seed is 1 in the record and 0 in its ledger",
    ]


def test_a_bad_run_does_not_take_the_good_ones_with_it(tmp_path: Path) -> None:
    for seed in range(3):
        make_run(tmp_path, seed=seed)
    _cut(sorted(tmp_path.rglob("ledger.jsonl"))[1])
    assert [r.record.seed for r in load_runs(tmp_path).runs] == [0, 2]


def test_the_same_run_counts_once(tmp_path: Path) -> None:
    make_run(tmp_path / "a")
    make_run(tmp_path / "b")
    loaded = load_runs(tmp_path)
    assert len(loaded.runs) == 1
    (refused,) = loaded.refused
    assert refused.path.startswith("b/") and "the same run stands in a/" in refused.reason


@pytest.mark.parametrize(("folder", "message"), [("none", "is not a folder"), ("", "holds no record.json")])
def test_a_folder_without_runs_says_what_to_do(tmp_path: Path, folder: str, message: str) -> None:
    with pytest.raises(BadValue, match=message):
        load_runs(tmp_path / folder)


# Who is compared with whom


def test_failures_rank_by_success_and_full_by_fresh(tmp_path: Path) -> None:
    for feedback in ("failures", "full"):
        make_run(tmp_path, "repeats", feedback=feedback, good=1.0, ask=[[3, 3, 3]])  # knows what it repeats
        make_run(tmp_path, "searches", feedback=feedback, good=0.2, ask=[*MISS, [3, 3, 2]])
    made = boards(tmp_path)
    ranks = {key: {a: r.rank for a, r in rows(board).items()} for key, board in made.items()}
    assert ranks == {
        ("fixed", "failures"): {"repeats": 1, "searches": 2},
        ("fixed", "full"): {"searches": 1, "repeats": 2},
    }
    full = rows(made["fixed", "full"])["repeats"]
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
    make_run(tmp_path, seed=0, ask=MISS)
    make_run(tmp_path, seed=1, ask=HIT_AT_5)
    make_run(tmp_path, "whole", seed=0, feedback="full", good=0.1)
    row = rows(boards(tmp_path)["fixed", "full"])["base"]
    assert (len(row.runs), row.rank, row.missing) == (1, None, (1,))
    assert any("seed 1 met a success elsewhere" in mark for mark in marks(row))


def test_a_seed_that_was_not_asked_for_makes_no_selection(tmp_path: Path) -> None:
    for seed in (0, 1):
        make_run(tmp_path, seed=seed, feedback="full", ask=HIT_AT_5)
    make_run(tmp_path, seed=0, feedback="failures", ask=HIT_AT_5)
    row = rows(boards(tmp_path)["fixed", "failures"])["base"]
    assert (len(row.runs), row.rank, row.missing) == (1, 1, ())


def test_a_board_that_nobody_ran_is_not_announced(tmp_path: Path) -> None:
    """As after `banel bench --suite smoke`: failures only, and a run without success could stand under full as well."""
    make_run(tmp_path, seed=0, ask=MISS)
    make_run(tmp_path, seed=1, ask=HIT_AT_5)
    made = boards(tmp_path)
    assert set(made) == {("fixed", "failures")}
    assert len(rows(made["fixed", "failures"])["base"].runs) == 2
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
    make_run(tmp_path / "a", seed=0, feedback="full", task=tiny("test/One-v0"), ask=HIT_AT_5)
    make_run(tmp_path / "b", seed=0, feedback="failures", task=tiny("test/Two-v0"), ask=MISS)
    make_run(tmp_path / "c", seed=0, feedback="full", task=tiny("test/Three-v0"), ask=MISS)
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
    twins = rows(made["fixed", "twin"])["base"]
    assert [r.record.twin for r in twins.runs] == [True, True, False, False, False]
    assert twins.gain is None and set(made) == {("fixed", "failures"), ("fixed", "twin")}  # nobody ran full


def test_no_gain_where_a_run_that_met_a_success_has_no_twin(tmp_path: Path) -> None:
    make_run(tmp_path, seed=0, ask=HIT_AT_5)
    make_run(tmp_path, seed=1, ask=MISS)
    assert rows(boards(tmp_path)["fixed", "failures"])["base"].gain is None


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


# How it is written


def _cells(out: Path, regime: str = "failures") -> dict[str, tuple[str, str]]:
    board = boards(out)["fixed", regime]
    (row,) = rows(board).values()
    return _shown(board, row)


def _shown(board: Board, row: Row) -> dict[str, tuple[str, str]]:
    cells = {c.heading: c.cell(row) for c in columns(board)}
    return {name: (cell.text, cell.detail) for name, cell in cells.items()}


def test_one_seed_shows_no_interval(tmp_path: Path) -> None:
    make_run(tmp_path, ask=HIT_AT_5)
    cells = _cells(tmp_path)
    assert cells["final success"] == ("−0.29", "n=1")
    assert cells["NRE to first success"] == ("5", "1 of 1 met one")
    assert cells["gain over twin"] == ("–", "")


def test_seeds_zero_and_censored_as_a_reader_sees_them(tmp_path: Path) -> None:
    for seed, (good, ask) in enumerate([(0.0, MISS), (0.0, MISS), (1.0, HIT_AT_5), (0.0, MISS), (1.0, MISS)]):
        make_run(tmp_path, seed=seed, good=good, ask=ask, wall_s=seed + 1)
    cells = _cells(tmp_path)
    assert cells["seeds"] == ("5", "")
    assert cells["final success"] == ("−∞", "[−∞, −0.29]")
    assert cells["NRE to first success"] == (f"> {BUDGET}", "1 of 5 met one")
    assert cells["wall s"] == ("3.00", "") and cells["CPU s"] == ("6.00", "")
    assert cells["tokens"] == ("1.75 k", "")


@pytest.mark.parametrize("n", [2, 3, 4, 5])
def test_no_interval_below_five_seeds(tmp_path: Path, n: int) -> None:
    for seed in range(n):
        make_run(tmp_path, seed=seed, good=[1.0, 0.5][seed % 2], ask=MISS)
    detail = _cells(tmp_path)["final success"][1]
    assert detail == (f"n={n}" if n < 5 else "[−0.45, −0.29]")
    text = markdown(load_runs(tmp_path))
    assert ("n=" in text.partition("## Words")[0]) == (n < 5)


def _certify(out: Path, agent: str, low: float | None, high: float, **run: Any) -> None:
    """A run whose rates are known only as an interval."""
    made = make_run(out, agent, ask=MISS, **run)
    rate = Rate(log10=None, low=low, high=high, method="certified", samples=10, effective=None, zero=low is None)
    first = rate.model_copy(update={"low": -5.0, "zero": False})
    points = [p.model_copy(update={"success": rate if i else first, "fresh": rate}) for i, p in enumerate(made.points)]
    regime = "twin" if made.twin else "failures"
    (path,) = (out / made.task / agent / regime).glob(f"seed-{made.seed}/record.json")
    made.model_copy(update={"points": points}).write(path)


def test_certified_rates_are_shown_as_intervals_and_rank_by_their_lower_end(tmp_path: Path) -> None:
    for seed, (low, high) in enumerate([(-4.8, -3.4), (-4.0, -3.5), (-4.4, -3.1)]):
        _certify(tmp_path, "sure", low, high, seed=seed)
        _certify(tmp_path, "wide", -6.0, -1.0, seed=seed)
        _certify(tmp_path, "open", None, -0.5, seed=seed)
        make_run(tmp_path, "zero", seed=seed, good=0.0, ask=MISS)
    assert load_runs(tmp_path).refused == ()
    (table,) = boards(tmp_path)["fixed", "failures"].tables
    assert [row.first.agent for row in table.rows] == ["sure", "wide", "open", "zero"]
    assert [row.rank for row in table.rows] == [1, 2, 3, 3]  # of the last two nothing is sure
    shown = {row.first.agent: _shown(boards(tmp_path)["fixed", "failures"], row) for row in table.rows}
    assert shown["sure"]["final success"] == ("[−4.40, −3.40]", "n=3")  # medians of the ends
    assert shown["sure"]["best (hindsight)"][0] == "[−4.40, −3.40]" and shown["sure"]["mixture"][0].startswith("[−4.4")
    assert shown["open"]["final success"][0] == "[−∞, −0.50]" and shown["zero"]["final success"][0] == "−∞"
    assert shown["sure"]["gain over twin"][0] == "0.00"  # told no success: its own twin
    assert any("rates by certified" in mark for mark in marks(table.rows[0]))


def test_the_gain_of_intervals_is_an_interval(tmp_path: Path) -> None:
    _certify(tmp_path, "a", -4.0, -3.0)
    _certify(tmp_path, "a", -4.5, -3.6, twin=True)
    _certify(tmp_path, "b", None, -3.0)
    _certify(tmp_path, "b", None, -3.6, twin=True)
    made = boards(tmp_path)["fixed", "failures"]
    found = {agent: _shown(made, row)["gain over twin"][0] for agent, row in rows(made).items()}
    assert found == {"a": "[−0.40, +1.50]", "b": "[−∞, +∞]"}


def test_the_curves_of_intervals_follow_the_lower_end_and_reach_the_upper(tmp_path: Path) -> None:
    _certify(tmp_path, "base", -4.5, -3.5)
    board = boards(tmp_path)["fixed", "failures"]
    panel = panel_of(board, board.tables[0])
    (curve,) = panel.curves
    assert panel.base == -5.0 and curve.middle.tolist() == [-5.0, *[-4.5] * 15] == curve.low.tolist()
    assert curve.high.tolist() == [-3.5] * 16 and curve.bests == ((4, -4.5),) and curve.upper == -3.5
    page = tmp_path / "page.html"
    write_page(tmp_path, page)
    text = page.read_text()
    assert "base from 10^-4.50 to 10^-3.50" in text and "[−4.50, −3.50]" in text and "no number: a rate from" in text
    assert figure_png([panel]).startswith(b"\x89PNG")


def test_what_the_terminal_says_of_an_interval() -> None:
    assert _ends(lambda end: -4.5 if end == "low" else -3.5) == "[-4.500, -3.500]"
    assert _ends(lambda end: -math.inf if end == "low" else -3.5) == "[zero, -3.500]"
    assert _ends(lambda end: -math.inf) == "zero" and _ends(lambda end: -2.0) == "-2.000"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (log10_text(-3.456), "−3.46"),
        (log10_text(-0.001), "0.00"),
        (log10_text(0.25, sign=True), "+0.25"),
        (log10_text(-0.001, sign=True), "0.00"),
        (log10_text(-math.inf), "−∞"),
        (nre_text(math.inf, 7500), "> 7,500"),
        (nre_text(1234.5, 7500), "1,234"),
        (count_text(1_234_567), "1.23 M"),
        (count_text(12), "12"),
        (power_text(-3), "1.0·10^-3"),
        (power_text(0), "1.0"),
        (power_text(-math.inf), "0"),
    ],
)
def test_numbers_as_text(text: str, expected: str) -> None:
    assert text == expected


def test_rate_ticks_are_decades_or_their_parts() -> None:
    assert list(rate_ticks(-6.2, -1.5).values()) == ["10⁻⁶", "10⁻⁵", "10⁻⁴", "10⁻³", "10⁻²"]
    assert list(rate_ticks(-3.8, -2.9).values()) == ["2·10⁻⁴", "5·10⁻⁴", "10⁻³"]
    assert list(rate_ticks(-21.0, 0.0)) == [-21, -18, -15, -12, -9, -6, -3, 0]


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two tasks, both feedbacks, a twin, a tuned run, an agent of one's own, and a refused run."""
    out = tmp_path_factory.mktemp("gallery")
    for task in (tiny(), tiny("test/Other-v0")):
        for feedback in ("failures", "full"):
            for agent, good in (("base", 0.01), ("banel", 1.0), ("rnd", 0.0), ("my-b.x_", 0.5)):
                make_run(out, agent, feedback=feedback, task=task, good=good, ask=HIT_AT_5)
    make_run(out, "banel", twin=True, good=0.3)
    make_run(out, "banel", tuned=True, config={"batch": 6})
    make_run(out, "banel", seed=9)
    _cut(next(out.rglob("seed-9/ledger.jsonl")))
    return out


def test_page_is_self_contained_and_the_same_each_time(gallery: Path, tmp_path: Path) -> None:
    loaded = load_runs(gallery)
    pages = [tmp_path / name for name in ("one.html", "two.html")]
    for path in pages:
        assert write_page(loaded, path) == loaded
    text = pages[0].read_text()
    assert text == pages[1].read_text()
    assert "://" not in text and "@import" not in text
    assert str(gallery) not in text
    assert sorted(p.name for p in tmp_path.iterdir()) == ["one.html", "two.html"]


def test_page_ids_are_unique_and_references_resolve(gallery: Path, tmp_path: Path) -> None:
    write_page(gallery, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    ids = re.findall(r'\bid="([^"]+)"', text)
    assert len(ids) == len(set(ids))
    used = re.findall(r'(?:url\(#|href="#)([^")]+)', text)
    used += [i for names in re.findall(r'aria-labelledby="([^"]+)"', text) for i in names.split()]
    assert used and set(used) <= set(ids)


def test_page_has_a_panel_for_each_task_and_feedback_and_its_words(gallery: Path, tmp_path: Path) -> None:
    write_page(gallery, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    wide = re.findall(r'<div class="wide">(<svg.*?</svg>)', text, re.DOTALL)
    titles = [re.search(r"<title[^>]*>(.*?)</title>", svg).group(1) for svg in wide]  # type: ignore[union-attr]
    assert titles == [
        f"{rate} rate against NRE: test/{task}-v0, feedback {feedback}"
        for feedback, rate in (("failures", "success"), ("full", "fresh"))
        for task in ("Other", "Tiny")
    ]
    assert all("<desc" in svg and "rnd zero" in svg and ">zero<" in svg for svg in wide)
    assert text.count("my-b.x_") > 8


def test_an_agent_has_one_colour_everywhere(gallery: Path, tmp_path: Path) -> None:
    write_page(gallery, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    for index in range(4):
        lines = re.findall(rf'class="a{index} line">\s*<path[^>]*stroke: ([^;]+);', text)
        assert lines == [f"var(--c{index})"] * 8  # 2 tasks x 2 feedbacks, wide and narrow


def test_more_agents_than_colours_differ_in_marker() -> None:
    styles = styles_of(f"agent{i}" for i in range(110))
    assert len({(s.colour, s.marker) for s in styles.values()}) == 110


def test_styles_follow_the_registry_then_the_name() -> None:
    assert list(styles_of(["zz", "banel", "aa", "base"])) == ["base", "banel", "aa", "zz"]


def test_markdown_has_a_table_a_board_and_names_what_is_refused(gallery: Path, tmp_path: Path) -> None:
    write_markdown(gallery, tmp_path / "board.md")
    text = (tmp_path / "board.md").read_text()
    assert re.findall(r"^## (.*)$", text, re.MULTILINE) == [
        "Default settings, feedback “failures”",
        "Default settings, feedback “full”",
        "Default settings, oracle-free twins",
        "Tuned settings, feedback “failures”",
        "Words",
        "Refused",
    ]
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert {line.count("|") for line in table} == {16, 14}  # twins have neither a first success nor a gain
    assert re.search(r"\| test/Tiny-v0 \| 1 \| `banel` \| reported \| 1 \| −0.29 n=1 \|", text)
    assert "seed-9`: ledger.lines is" in text


def test_figure_is_a_png(gallery: Path, tmp_path: Path) -> None:
    write_figure(gallery, tmp_path / "curves.png")
    assert (tmp_path / "curves.png").read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"


def test_a_figure_of_nothing_says_so(tmp_path: Path) -> None:
    make_run(tmp_path, budget=120)
    with pytest.raises(BadValue, match="none of 1 runs"):
        write_figure(tmp_path, tmp_path / "curves.png")


def test_a_place_that_cannot_be_written_says_so(gallery: Path, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(BadValue, match="cannot be written"):
        write_markdown(gallery, tmp_path / "file" / "board.md")
