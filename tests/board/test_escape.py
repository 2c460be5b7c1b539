"""What is shown of somebody else's text, on a page, in Markdown, in a figure and on a terminal: every mark as it is written."""

from __future__ import annotations

import dataclasses
import html
import json
import re
import unicodedata
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from banel_envs.files.visible import shown, terminal, visible
from banel_leaderboard.board import escape
from banel_leaderboard.board.chart import rate_ticks
from banel_leaderboard.board.write import write_figure, write_markdown, write_page
from banel_leaderboard.command.cli import main
from banel_leaderboard.proving.load import Loaded, Refused, load_runs
from tests.shared.runs import HIT_AT_5, make_run

HOSTILE = [
    "\u202egnp.exe", "\u2066a\u2069", "zero\u200bwidth", "\ufeffbom", "\x1b[31mred\x1b[0m", "\x1b]0;title\x07",
    "a\x00b", "a\rb", "a\nb",
    "\x9b2J", "soft\u00adhyphen", "filler\u3164", "\u115f\u1160", "braille\u2800blank", "star\ufe0f", "tag\U000e0041", "a\u2028b",
    "half\ud800", "no\u00a0break", "\U000f0000private", "\u0600arabic sign",
]  # fmt: skip


@pytest.mark.parametrize("text", HOSTILE, ids=ascii)
def test_what_cannot_be_seen_is_shown_as_an_escape(text: str) -> None:
    made = visible(text)
    made.encode()
    assert "\\" in made and all(c.isprintable() for c in made) and made != text


@pytest.mark.parametrize(
    "text", ["", "plain", "größe", "−∞ log₁₀ 10⁻⁵", "“quoted” – ‘text’", "日本語", "שלום", "😀", "C:\\temp"]
)
def test_what_can_be_seen_stays(text: str) -> None:
    assert visible(text) == text


@given(st.text())
def test_nothing_invisible_is_left(text: str) -> None:
    made = visible(text, None)
    assert not any(unicodedata.category(c) in {"Cc", "Cf", "Cs", "Co", "Cn", "Zl", "Zp"} for c in made)
    assert visible(made, None) == made


def test_long_texts_are_cut() -> None:
    assert visible("x" * 1_000_000) == "x" * 500 + "…"
    assert len(visible("\x00" * 1_000_000)) == 500 * 4 + 1
    assert shown("x" * 1_000) == repr("x" * 100) + "… (1,000 characters)"
    assert shown([1] * 1_000_000) == "[" + "1, " * 33 + "…"
    assert shown(10**5_000) == "a int too large to show"
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert shown(deep) == "a list too large to show"
    assert shown("\u202e") == "'\\u202e'" and shown(None) == "None"


def test_a_terminal_gets_one_line() -> None:
    assert terminal("a\n b\t\x1b[2J\u202ec") == "a b \\x1b[2J\\u202ec"


def test_an_error_of_the_command_moves_no_cursor(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["board", "no\x1b[2J\u202efolder", "--out", "x.md"]) == 2
    assert main(["show", "no\x1b[2J\u202efolder"]) == 2
    with pytest.raises(SystemExit):
        main(["--no\x1b[2Jsuch"])
    told = capsys.readouterr().err
    assert told.count("\\x1b[2J") == 3 and "\x1b" not in told and "\u202e" not in told


# Markdown

MARKS = [
    "`code`", "``", "a|b", "[text](http://evil.example)", "![image](x)", "<script>alert(1)</script>", 
    "<http://evil.example>",
    "https://evil.example/x", "HTTP://EVIL.EXAMPLE", "www.evil.example", "a@evil.example", "@everyone", "**bold**", "_it_",
    "~~cut~~",
    "&lt;b&gt;", "$x^2$", "\\`", "\\", "[ref]", "a_b_c", "_a", "a__b", "xmpp:a@b.c", "ftp://x", "mailto:a@b.c",
]  # fmt: skip


def rendered(text: str) -> str:
    """What a reader of Markdown sees of a text in which every mark is escaped."""
    return re.sub(r"\\([!-/:-@\[-`{-~])", r"\1", text)


@pytest.mark.parametrize("text", [*MARKS, *HOSTILE], ids=ascii)
def test_markdown_reads_as_it_is_written(text: str) -> None:
    made = escape.markdown(text)
    plain = re.sub(r"\\[!-/:-@\[-`{-~]", "", made)  # what is left to be taken as markup
    assert not re.search(r"[`*\[\]<|~&$]", plain)
    assert not re.search(r"\b_|_\b", plain) or re.fullmatch(r"[a-z_]*", text)
    assert not re.search(r"://|www\.|\S@|@\S", made)
    assert re.sub(r"\\u00(2e|3a|40)", lambda found: chr(int(found[1], 16)), rendered(made)) == visible(text)


@given(st.text(alphabet="`|[]()<>*_~$&\\@:/.wa1 \n", max_size=40))
@example("www" + "." * 3)
def test_markdown_of_any_text_has_no_markup(text: str) -> None:
    made = escape.markdown(text)
    plain = re.sub(r"\\[!-/:-@\[-`{-~]", "", made)
    assert not re.search(r"[`*\[\]<|~&$\n]", plain)
    assert not re.search(r"(?i)[a-z]://|www\.|\S@|@\S", made)


@given(st.text(max_size=40))
@example("`")
@example("``|``")
@example("")
def test_a_code_span_ends_where_it_should(text: str) -> None:
    made = escape.code(text)
    assert made[0] == made[-1] == "`" and not {"`", "|", "\n"} & set(made[1:-1]) and len(made) > 2


# Pages and figures, from records that no reader let in: each line of defence by itself

NAME = "a\u202eb`|<i>$x$[l](http://e.example)\x1b@c"


@pytest.fixture(scope="module")
def loaded(tmp_path_factory: pytest.TempPathFactory) -> Loaded:
    """Honest runs whose names are exchanged after they were read."""
    out = tmp_path_factory.mktemp("runs")
    for agent, tuned in (("base", False), ("banel", False), ("banel", True)):
        make_run(out, agent, tuned=tuned, config={"batch": 6 + tuned}, ask=HIT_AT_5)
    honest = load_runs(out)
    runs = tuple(
        dataclasses.replace(
            run,
            path=NAME,
            version=NAME,
            record=run.record.model_copy(
                update={
                    "agent": NAME + run.record.agent,
                    "task": "test/" + NAME,
                    "config": {NAME: NAME * 200},
                    "execution": run.record.execution.model_copy(update={"processor": NAME}),
                }
            ),
        )
        for run in honest.runs
    )
    return Loaded(runs, (Refused(NAME * 100, NAME * 100),))


def test_a_page_shows_every_mark_as_text(loaded: Loaded, tmp_path: Path) -> None:
    write_page(loaded, tmp_path / "page.html")
    text = (tmp_path / "page.html").read_text()
    assert not {"\u202e", "\x1b"} & set(text) and "<i>" not in text
    assert "a\\u202eb`|<i>$x$[l](http://e.example)\\x1b@c" in html.unescape(text)
    assert len(text) < 200_000
    assert not re.findall(r"<(?:a|img|script)[^>]*e\.example", text)


def test_markdown_shows_every_mark_as_text(loaded: Loaded, tmp_path: Path) -> None:
    write_markdown(loaded, tmp_path / "board.md")
    text = (tmp_path / "board.md").read_text()
    assert not {"\u202e", "\x1b"} & set(text) and len(text) < 30_000
    outside = re.sub(r"`[^`\n]*`", "", re.sub(r"\\[`|]", "", text))
    assert not re.search(r"(?<!\\)<i>|(?<!\\)\]\(|://|\S@|`", outside)
    table = [line for line in text.splitlines() if line.startswith("|")]
    assert (
        len({len(re.findall(r"(?<!\\)\|", line)) for line in table if "NRE to first" in line or " 1 of 1 " in line})
        == 1
    )


def test_a_figure_of_odd_names_is_drawn(loaded: Loaded, tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    write_figure(loaded, tmp_path / "page.png")
    assert (tmp_path / "page.png").read_bytes()[:4] == b"\x89PNG"
    assert not [w for w in recwarn if "Glyph" in str(w.message) and "202" in str(w.message)]


def test_a_curve_of_a_million_decades_is_drawn_at_once(tmp_path: Path) -> None:
    """The lowest rate that a record may hold."""
    make_run(tmp_path, ask=HIT_AT_5)
    (path,) = tmp_path.rglob("record.json")
    record = json.loads(path.read_text())
    for point in record["points"]:
        for rate in ("success", "fresh"):
            point[rate].update(log10=-1e6, low=-1e6, high=-1e6)
    path.write_text(json.dumps(record))
    write_page(tmp_path, tmp_path / "page.html")
    assert len(rate_ticks(-1e6, 0)) < 10
    assert list(rate_ticks(-21.0, 0.0)) == [-21, -18, -15, -12, -9, -6, -3, 0]
