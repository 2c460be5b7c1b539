"""The overview in a real browser, from file://: a person sorts, filters, moves the slider, compares, downloads and comes back."""

from __future__ import annotations

import csv
import importlib.util
import json
import time
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from banel_leaderboard.ranking.across import overall
from banel_leaderboard.ranking.boards import make_boards
from banel_leaderboard.site.gather import gather
from banel_leaderboard.site.write import write_site
from tests.shared.browser import BROWSER, MISSING, Tab, browser
from tests.shared.runs import HIT_AT_5, MISS, make_run
from tests.site import hostile

pytestmark = pytest.mark.skipif(BROWSER is None, reason=MISSING)
FIGURES = ("curve", "first", "profile", "compute", "found")


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tab]:
    with browser(tmp_path_factory.mktemp("profile")) as tab:
        yield tab


@pytest.fixture
def tab(window: Tab, index: Path) -> Tab:
    window.view(1280)
    window.open(index)
    return window


def agents(tab: Tab, table: str = "overall") -> list[str]:
    """The agents of a table in the order shown, with their submission."""
    code = f"""[...document.querySelectorAll('#{table} tbody .name')].map(
        c => c.querySelector('a').textContent + ' ' + (c.querySelector('.from')?.textContent ?? ''))"""
    known = (" A method of ours", " unnamed (theirs)")
    return [line.removesuffix(known[0]).removesuffix(known[1]) for line in tab.js(code)]


def column(tab: Tab, key: str) -> list[str]:
    """The main texts of a column of the overview."""
    return tab.js(
        f"""(() => {{ const heads = [...document.querySelectorAll('#overall thead tr:last-child button')];
        const at = heads.findIndex(b => b.dataset.k === 'overall-{key}') + 1;
        return [...document.querySelectorAll('#overall tbody tr')].map(r => r.cells[at].firstChild.textContent); }})()"""
    )


def fragment(tab: Tab) -> dict[str, str]:
    return dict(tab.js("[...new URLSearchParams(location.hash.slice(1))]"))


def test_it_is_drawn_and_nothing_is_loaded(tab: Tab) -> None:
    assert (tab.requests, tab.alerts, tab.errors) == ([], [], [])
    assert tab.js("performance.getEntriesByType('resource').length") == 0
    assert agents(tab) == ["banel", "base", "rnd"] and column(tab, "rank") == ["1", "2", "3"]
    assert tab.js("document.querySelectorAll('#figure .multiple svg.chart').length") == 2
    assert tab.js("document.querySelectorAll('#figure .series .line').length") > 0


def test_a_click_on_a_heading_sorts_and_the_keyboard_does_it_again(tab: Tab) -> None:
    heading = "[data-k='overall-worth']"
    tab.click(heading)
    assert agents(tab) == ["banel", "base", "rnd"]
    assert tab.js(f"document.querySelector(\"{heading}\").parentElement.getAttribute('aria-sort')") == "descending"
    assert tab.js(f'document.activeElement === document.querySelector("{heading}")')  # drawn anew, and found again
    tab.press("Enter")
    assert agents(tab) == ["rnd", "base", "banel"]
    assert fragment(tab) == {"sort": "worth"}  # ascending is the usual direction


def test_filters_hide_rows_and_change_no_rank(tab: Tab) -> None:
    tab.choose("#kind", "controls")
    assert (agents(tab), column(tab, "rank")) == (["base"], ["2"])
    tab.choose("#kind", "")
    tab.choose("#find", "RN")
    assert (agents(tab), column(tab, "rank")) == (["rnd"], ["3"])
    assert "1 of 3 lines pass the filters" in tab.js("document.getElementById('notes').textContent")
    tab.choose("#find", "no such agent")
    assert "No line passes the filters." in tab.js("document.getElementById('overview-table').textContent")
    tab.click("#reset")
    assert len(agents(tab)) == 3 and fragment(tab) == {}


def test_the_tiers_are_a_filter(tab: Tab) -> None:
    tiers = column(tab, "tier")
    tab.choose("#tier", tiers[-1])
    assert column(tab, "tier") == [tier for tier in tiers if tier == tiers[-1]]


def test_one_task_shows_its_own_table_with_the_other_submission(tab: Tab) -> None:
    tab.choose("#tasks", "task:test/Tiny-v0")
    assert sorted(agents(tab)) == ["banel", "banel", "base", "rnd"]
    assert column(tab, "rank") == ["1", "2", "3", "4"]
    assert fragment(tab)["tasks"] == "task:test/Tiny-v0"


def test_another_feedback_and_tuned_settings(tab: Tab) -> None:
    tab.choose("#regime", "full")
    assert agents(tab) == ["base"]
    tab.choose("#regime", "failures")
    tab.choose("#settings", "tuned")
    assert agents(tab) == ["banel"] and "batch=6" in tab.js(
        "document.querySelector('#overall .name').textContent + document.querySelector('#overall tbody .name').textContent"
    )
    tab.choose("#settings", "both")
    assert sorted(column(tab, "settings")) in (["default"] * 3 + ["tuned"], ["tuned"])


def test_the_slider_ranks_again_as_the_board_of_shorter_runs_does(tab: Tab, folder: Path) -> None:
    runs = [run for handed in gather(folder).handed for run in handed.runs]
    (board,) = [b for b in make_boards(runs) if (b.name, b.regime) == ("fixed", "failures")]
    for step in (1, 4, 10):
        tab.choose("#step", str(step))
        tab.wait(f"document.getElementById('share').textContent === '{round(100 * step / 15)}%'")
        part = overall(board, step, resamples=0)
        assert part is not None
        expected = {line.agent: line.scores for line in part.lines}
        ranks = [expected[agent]["worth"].rank for agent in agents(tab)]
        assert len(ranks) == 3 and ranks == sorted(r for r in ranks if r is not None)
        assert dict(zip(agents(tab), column(tab, "rank"), strict=True)) == {
            a: str(s["worth"].rank) for a, s in expected.items()
        }
        found = dict(zip(agents(tab), column(tab, "first"), strict=True))
        assert found == {a: f"{s['first'].value * 100:.0f}%" for a, s in expected.items()}
    tab.choose("#step", "15")
    assert column(tab, "rank") == ["1", "2", "3"]


def test_rows_side_by_side(tab: Tab) -> None:
    assert tab.js("document.getElementById('compare').hidden")
    for number in (1, 2):
        tab.click(f"#overall tbody tr:nth-child({number}) input")
    assert len(fragment(tab)["pick"].split(".")) == 2
    heads = tab.js("[...document.querySelectorAll('#compared thead th[scope=col] > .foreign')].map(e => e.textContent)")
    assert heads == ["banel", "base"]
    rows = tab.js(
        "[...document.querySelectorAll('#compared tbody tr')].map(r => [...r.cells].map(c => c.firstChild?.textContent ?? ''))"
    )
    assert ["rank", "1", "2"] in rows and any(row[0].startswith("test/Other-v0: final") for row in rows)
    assert tab.js("document.querySelectorAll('#compared td.main').length") >= 3  # the better numbers
    tab.choose("#tasks", "task:test/Tiny-v0")
    for _ in range(2):
        tab.click("#overall tbody tr:not(.picked) input")
    assert len(fragment(tab)["pick"].split(".")) == 4
    tab.click("[data-k='clear']")
    assert tab.js("document.getElementById('compare').hidden") and "pick" not in fragment(tab)


def test_the_address_brings_the_view_back(tab: Tab, index: Path) -> None:
    tab.choose("#step", "7")
    tab.choose("#rank", "distinct")
    tab.click("#overall tbody tr:nth-child(2) input")
    tab.click("[data-k='tab-first']")
    tab.click("[data-k='open-test/Tiny-v0']")
    tab.click("[data-k='overall-tokens']")
    tab.wait("document.querySelector('#task-list table')")
    shown, address = tab.js("document.querySelector('main').innerText"), tab.js("location.hash")
    tab.open(index, address)
    assert tab.js("document.querySelector('main').innerText") == shown
    assert tab.js("document.getElementById('step').value") == "7"
    tab.open(index, "#regime=nonsense&step=-3&pick=zzz.__proto__&tasks=constructor&sort=__proto__&open=x&toString=1")
    assert tab.errors == [] and tab.js("document.getElementById('step').value") == "1"


def test_back_undoes_a_step(tab: Tab) -> None:
    tab.choose("#kind", "controls")
    assert agents(tab) == ["base"]
    tab.js("history.back()")
    tab.wait("document.querySelectorAll('#overall tbody tr').length === 3")


def test_values_at_the_pointer_and_by_the_arrow_keys(tab: Tab) -> None:
    plot = "document.querySelector('#figure .plot')"
    tab.js(f"{plot}.scrollIntoView({{block: 'center', behavior: 'instant'}})")
    x, y, w, h = tab.js(f"(b => [b.x, b.y, b.width, b.height])({plot}.getBoundingClientRect())")
    tab.point(x + w - 14, y + h / 2)
    said = tab.js(f"{plot}.querySelector('.values').textContent")
    assert "NRE 60" in said and "quartiles" in said and not tab.js(f"{plot}.querySelector('.values').hidden")
    tab.point(1, 1)
    assert tab.js(f"{plot}.querySelector('.values').hidden")
    tab.js(f"{plot}.focus()")
    tab.press("ArrowRight", "ArrowRight")
    assert "NRE 4" in tab.js(f"{plot}.querySelector('.values').textContent")
    before = tab.js(f"{plot}.querySelector('.values strong').textContent")
    tab.press("ArrowDown")
    assert tab.js(f"{plot}.querySelector('.values strong').textContent") != before
    tab.press("Escape")
    assert tab.js(f"{plot}.querySelector('.values').hidden")


def downloaded(tab: Tab, folder: Path, key: str, ending: str) -> str:
    tab.downloads_to(folder)
    tab.click(f"[data-k='{key}']")
    end = time.monotonic() + 30
    while not (found := [p for p in folder.glob(f"*.{ending}") if p.stat().st_size]):
        assert time.monotonic() < end, f"no {ending} came within 30 s"
        time.sleep(0.05)
    return found[0].read_text(encoding="utf-8")


def test_downloads_of_what_is_shown(tab: Tab, tmp_path: Path) -> None:
    tab.choose("#find", "ban")
    rows = list(csv.DictReader(downloaded(tab, tmp_path, "overview-csv", "csv").splitlines()))
    assert [row["agent"] for row in rows] == ["banel"] and rows[0]["rank"] == "1" and float(rows[0]["worth"]) > 0
    told = json.loads(downloaded(tab, tmp_path, "overview-json", "json"))
    assert told["view"]["budget_share"] == 1 and told["rows"][0]["agent"] == "banel"
    assert told["rows"][0]["worth"] == pytest.approx(float(rows[0]["worth"]))
    drawing = ET.fromstring(downloaded(tab, tmp_path, "test/Tiny-v0-svg", "svg"))
    paths = [e for e in drawing.iter("{http://www.w3.org/2000/svg}path") if e.get("stroke", "none").startswith("rgb")]
    assert paths and all("var(" not in str(e.attrib) for e in drawing.iter())


@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("dark", [False, True])
def test_no_view_scrolls_sideways(tab: Tab, index: Path, width: int, dark: bool) -> None:
    tab.view(width, dark=dark, calm=True)
    for figure in FIGURES:
        tab.open(index, f"#figure={figure}&open=test/Tiny-v0")
        assert tab.js("document.documentElement.scrollWidth") == width and tab.errors == []
    for page in sorted((index.parent / "submissions").glob("*.html")):
        tab.open(page)
        assert tab.js("document.documentElement.scrollWidth") == width, page
    assert tab.js("getComputedStyle(document.body).backgroundColor") == (
        "rgb(17, 20, 24)" if dark else "rgb(251, 251, 250)"
    )


def test_motion_is_reduced_on_request(tab: Tab) -> None:
    series = "getComputedStyle(document.querySelector('.series')).transitionDuration"
    assert tab.js(series) == "0.12s"
    tab.view(1280, calm=True)
    assert tab.js(series) == "0s"
    assert tab.js("getComputedStyle(document.documentElement).scrollBehavior") == "auto"


def axe() -> str:
    """The source of axe-core, from a package that carries it."""
    found = importlib.util.find_spec("axe_core_python")
    if found is None or found.origin is None:
        pytest.skip("no axe-core; pip install axe-core-python")
    return (Path(found.origin).parent / "axe.min.js").read_text(encoding="utf-8")


def violations(tab: Tab) -> list[Any]:
    tab.js(axe() + "; 0")
    return tab.js(
        "axe.run({runOnly: ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'best-practice']}).then(r => "
        "r.violations.map(v => [v.id, v.help, v.nodes.slice(0, 3).map(n => n.html.slice(0, 200))]))"
    )


@pytest.mark.parametrize(("width", "dark"), [(1280, False), (1280, True), (390, False)])
def test_axe_finds_nothing(tab: Tab, index: Path, width: int, dark: bool) -> None:
    tab.view(width, dark=dark, calm=True)
    picked = tab.js(
        "[...document.querySelectorAll('#overall tbody tr')].slice(0, 2).map(r => r.dataset.entry).join('.')"
    )
    for view in (
        f"#pick={picked}&open=test/Tiny-v0",
        "#figure=profile&tasks=task:test/Tiny-v0&step=5",
        "#regime=full&find=nobody",
    ):
        tab.open(index, view)
        assert violations(tab) == [], view
    for name in ("index", "mine", "theirs"):
        tab.open(index.parent / "submissions" / f"{name}.html")
        assert violations(tab) == [], name


@pytest.mark.parametrize(("ask", "good"), [(MISS, 0.0), (HIT_AT_5, 1.0)], ids=["no success", "successes"])
def test_one_submission_of_one_agent_fills_every_figure(window: Tab, tmp_path: Path, ask: Any, good: float) -> None:
    for seed in range(3):
        make_run(tmp_path / "in" / "one", "base", seed, ask=ask, good=good)
    write_site(gather(tmp_path / "in"), tmp_path / "out")
    window.view(1280)
    for figure in FIGURES:
        for tasks in ("all", "task:test/Tiny-v0"):
            window.open(tmp_path / "out" / "index.html", f"#figure={figure}&tasks={tasks}&open=test/Tiny-v0")
            assert window.errors == []
            drawn = window.js("[...document.querySelectorAll('svg.chart')].map(e => e.outerHTML).join('')")
            assert drawn and "NaN" not in drawn and "Infinity" not in drawn and "undefined" not in drawn
            assert window.js("document.querySelectorAll('#figure .series').length") == 1
            assert "undefined" not in window.js("document.querySelector('main').innerText")
    assert window.js("document.querySelectorAll('#figure .dot').length") > 0


def test_hostile_texts_stay_texts(window: Tab, folder: Path, tmp_path: Path) -> None:
    """No alert, no request, no break of the layout, and every payload is there to be read."""
    runs = tuple(r for r in gather(folder).handed[0].runs if not r.record.tuned and not r.record.off_board)
    few = tuple(r for r in runs if r.record.agent == "banel" and r.record.seed < 2)
    files = write_site(hostile.gathered(few), tmp_path / "site")
    index = tmp_path / "site" / "index.html"
    for width in (390, 1280):
        window.view(width)
        for view in (
            "",
            "#settings=both&rows=all",
            "#settings=tuned&figure=compute",
            "#regime=failures&tasks=task:test/Tiny-v0&rows=all",
        ):
            window.open(index, view)
            window.js("document.querySelectorAll('#task-list button').forEach(b => b.click())")
            check_calm(window, width)
        for number, file in enumerate(files):
            if file != index and (width == 390 or number % 4 == 0):  # narrow is where a layout breaks first
                window.open(file)
                window.js("document.querySelectorAll('details').forEach(d => { d.open = true; })")
                check_calm(window, width)
    window.open(index, "#settings=both&tasks=task:test/Tiny-v0&rows=all")
    text = window.js("document.body.textContent")
    for payload in ("<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "</script><script>alert(1)</script>"):
        assert payload in text
    hrefs = window.js("[...document.querySelectorAll('a')].map(a => a.getAttribute('href'))")
    assert all(h.startswith(("#", "submissions/", "https://")) for h in hrefs)


def check_calm(window: Tab, width: int) -> None:
    window.js("new Promise(done => requestAnimationFrame(() => setTimeout(done)))")
    assert (window.alerts, window.errors) == ([], [])
    assert [url for url in window.requests if not url.startswith("file:")] == []
    assert window.js("document.documentElement.scrollWidth") == width
    assert window.js("document.querySelectorAll('script').length") <= 2
    foreign = "iframe, object, embed, base, form:not(#controls), main style, main link, img"
    assert window.js(f"document.querySelectorAll('{foreign}').length") == 0


def test_a_spreadsheet_runs_nothing_of_a_download(window: Tab, folder: Path, tmp_path: Path) -> None:
    few = tuple(
        r
        for r in gather(folder).handed[0].runs
        if r.record.agent == "banel" and r.record.seed < 2 and not r.record.tuned
    )
    write_site(hostile.gathered(few), tmp_path / "site")
    window.view(1280)
    window.open(tmp_path / "site" / "index.html", "#settings=both&tasks=task:test/Tiny-v0&rows=all")
    text = downloaded(window, tmp_path, "overview-csv", "csv")
    rows = list(csv.reader(text.splitlines()))
    assert any("HYPERLINK" in cell for row in rows for cell in row)
    assert not any(cell[:1] in "=+@\t" and cell for row in rows for cell in row)
