"""How a board is written: cells, numbers, ticks, the page, the tables in Markdown and the figure."""

from __future__ import annotations

import math
import re
from pathlib import Path
from typing import Any

import pytest

from banel_envs.errors import BadValue
from banel_leaderboard.board.cells import count_text, log10_text, nre_text, power_text
from banel_leaderboard.board.chart import figure_png, panel_of, rate_ticks, styles_of
from banel_leaderboard.board.columns import columns
from banel_leaderboard.board.markdown import markdown
from banel_leaderboard.board.write import write_figure, write_markdown, write_page
from banel_leaderboard.command.commands import _ends
from banel_leaderboard.proving.load import load_runs
from banel_leaderboard.ranking.marks import marks
from banel_leaderboard.ranking.rows import Board, Row
from banel_leaderboard.records.record import Rate
from tests.shared.boards import boards, cut, rows
from tests.shared.runs import BUDGET, HIT_AT_5, MISS, make_run, tiny


def _cells(out: Path, regime: str = "failures") -> dict[str, tuple[str, str]]:
    board = boards(out)["fixed", regime]
    (row,) = rows(board).values()
    return _shown(board, row)


def _shown(board: Board, row: Row) -> dict[str, tuple[str, str]]:
    cells = {c.heading: c.cell(row) for q in board.questions for c in columns(board, q)}
    return {name: (cell.text, cell.detail) for name, cell in cells.items()}


def test_one_seed_shows_no_interval(tmp_path: Path) -> None:
    make_run(tmp_path, "memorise", ask=HIT_AT_5)
    cells = _cells(tmp_path)
    assert cells["final success"] == ("−0.29", "n=1")
    assert cells["NRE to first success"] == ("5", "n=1") and cells["runs that met one"] == ("1 of 1", "")
    assert cells["distinct successes"] == ("1", "n=1")
    assert cells["mean over the budget"] == ("0.93", "n=1")  # held from the 5th of 60 evaluations on: 56/60
    assert cells["success by then"] == ("−1.51", "n=1")  # 2 of 64, measured at NRE 4
    assert cells["gain over twin"] == ("–", "")


def test_seeds_zero_and_censored_as_a_reader_sees_them(tmp_path: Path) -> None:
    for seed, (good, ask) in enumerate([(0.0, MISS), (0.0, MISS), (1.0, HIT_AT_5), (0.0, MISS), (1.0, MISS)]):
        make_run(tmp_path, seed=seed, good=good, ask=ask, wall_s=seed + 1)
    cells = _cells(tmp_path)
    assert cells["seeds"] == ("5", "")
    assert cells["final success"] == ("−∞", "[−∞, −0.29]")
    assert cells["NRE to first success"] == (f"> {BUDGET}", f"[5, > {BUDGET}]")
    assert cells["runs that met one"] == ("1 of 5", "")
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
    cut(next(out.rglob("seed-9/ledger.jsonl")))
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
    across = [t for t in titles if t.startswith("runs")]
    assert across == [
        f"runs that met a success against the share of the budget, feedback {f}" for f in ("failures", "full")
    ]
    found = [t for t in titles if t.startswith("distinct")]
    assert found == [f"distinct successes against NRE: test/{task}-v0" for _ in range(2) for task in ("Other", "Tiny")]
    wide = [svg for svg, title in zip(wide, titles, strict=True) if title not in across + found]
    titles = [t for t in titles if t not in across + found]
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
        assert lines == [f"var(--c{index})"] * 12  # (2 tasks and all of them) x 2 feedbacks, wide and narrow


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
        "Default settings, told nothing (blind)",
        "Tuned settings, feedback “failures”",
        "Words",
        "Refused",
    ]
    table = [line for line in text.splitlines() if line.startswith("|")]
    # Across tasks, the three questions, and the third one of the twins, which have no gain.
    assert {line.count("|") for line in table} == {7, 9, 15, 14}
    assert re.search(r"\| test/Tiny-v0 \| 1 \| `banel` \| reported \| 1 \| −0.29 n=1 \|", text)
    assert re.findall(r"^### (.*)$", text, re.MULTILINE)[:4] == [
        "Across tasks",
        "1. How soon the first success?",
        "2. How many distinct successes for the budget?",
        "3. What is the final policy worth?",
    ]
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
