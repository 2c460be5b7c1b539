"""The page in a real browser, from file://: rows and curves are there, sorting works, nothing is loaded."""

from __future__ import annotations

import html
import os
import re
import subprocess
from pathlib import Path

import pytest

from banel_leaderboard.board.write import write_page
from tests.shared.browser import BROWSER, MISSING, QUIET
from tests.shared.runs import HIT_AT_5, make_run

pytestmark = pytest.mark.skipif(BROWSER is None, reason=MISSING)
FLAGS = (*QUIET, "--virtual-time-budget=3000")


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("page")
    for agent, good in (("base", 0.01), ("banel", 1.0), ("rnd", 0.0)):
        for seed in range(4):
            make_run(folder / "out", agent, seed, good=good, ask=HIT_AT_5)
    write_page(folder / "out", folder / "page.html")
    return folder / "page.html"


def dom(page: Path, profile: Path) -> str:
    """The document as it stands after its script ran."""
    root = ("--no-sandbox",) if os.geteuid() == 0 else ()
    command = [str(BROWSER), *FLAGS, *root, f"--user-data-dir={profile}", "--dump-dom", page.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def agents(text: str, question: str = "worth") -> list[str]:
    """Agents in the body of a question's table, in the order shown."""
    body = text.partition(f'<table id="b0t0{question}">')[2].partition("</table>")[0]
    return re.findall(r'<th scope="row"[^>]*data-sort="([^"]+)"', body)


def test_rows_and_curves_are_there_and_nothing_is_loaded(page: Path, tmp_path: Path) -> None:
    copy = tmp_path / "counted.html"
    count = "document.body.dataset.loads = performance.getEntriesByType('resource').length"
    copy.write_text(page.read_text().replace("</body>", f"<script>{count}</script></body>"))
    text = dom(copy, tmp_path / "profile")
    assert 'data-loads="0"' in text
    assert 'data-ready="1"' in text
    assert agents(text) == ["banel", "base", "rnd"]
    for index in range(3):
        # Of one task and of all, each for a wide and for a narrow screen; dotted after the first success.
        assert text.count(f'class="a{index} line"') == 4
        assert text.count(f'class="a{index} after"') == text.count(f'class="a{index} mark"') == 2
    loads = re.findall(r'(?:src|href|srcset)="([^"]*)"|url\(([^)]*)\)', text)
    targets = {a or b for a, b in loads}
    assert targets and all(t.startswith("#") or t == "data:," for t in targets)


@pytest.mark.parametrize(
    ("clicks", "order", "expected"),
    [(1, "descending", ["banel", "base", "rnd"]), (2, "ascending", ["rnd", "base", "banel"])],
)
def test_a_click_on_a_heading_sorts(page: Path, tmp_path: Path, clicks: int, order: str, expected: list[str]) -> None:
    click = "document.querySelectorAll('#b0t0worth thead button')[4].click();" * clicks
    copy = tmp_path / "clicked.html"
    copy.write_text(page.read_text().replace("</body>", f"<script>{click}</script></body>"))
    text = dom(copy, tmp_path / "profile")
    assert agents(text) == expected and agents(text, "first") == ["banel", "base", "rnd"]
    assert re.findall(r'<th [^>]*aria-sort="(\w+)"', text) == [order]


@pytest.mark.parametrize("width", [390, 1280])
def test_the_page_does_not_scroll_sideways(page: Path, tmp_path: Path, width: int) -> None:
    frame = tmp_path / "frame.html"
    show = "document.body.dataset.width = this.contentDocument.documentElement.scrollWidth"
    inner = html.escape(page.read_text())
    frame.write_text(f'<body><iframe style="width:{width}px;border:0" onload="{show}" srcdoc="{inner}"></iframe>')
    assert re.search(r'data-width="(\d+)"', dom(frame, tmp_path / "profile")).group(1) == str(width)  # type: ignore[union-attr]
