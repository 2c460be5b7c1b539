"""Which runs count on a board: what the harness leaves does, and what was changed is refused by name."""

from __future__ import annotations

import html
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from banel_envs.errors import BadValue
from banel_envs.meter import ledger_format
from banel_envs.meter.ledger import Ledger
from banel_leaderboard.board.write import write_markdown, write_page
from banel_leaderboard.proving.load import load_runs
from tests.shared.boards import cut
from tests.shared.runs import BUDGET, HIT_AT_5, make_run, tiny

Record = dict[str, Any]


def only_folder(out: Path) -> Path:
    (record,) = out.rglob("record.json")
    return record.parent


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
        (_set(unasked=0.5), "10^0.5 of the final policy's probability is said to be unasked"),
        (_set(unasked=-2.5), "at least fresh success"),
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
        (cut, "ledger.lines is 11 in the record and 10 in its ledger"),
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
    cut(sorted(tmp_path.rglob("ledger.jsonl"))[1])
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
