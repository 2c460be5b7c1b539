"""Records and ledgers that somebody typed: whatever they say, the board refuses them by name or shows them whole."""

from __future__ import annotations

import base64
import itertools
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from banel_agents import AGENTS, make_agent
from banel_envs import TASKS, Oracle
from banel_envs.errors import BadValue, BanelError, LedgerCorrupt
from banel_envs.meter import ledger_format
from banel_envs.meter.ledger import Ledger
from banel_envs.meter.oracle import Task
from banel_envs.policies import Uniform
from banel_envs.problem import Problem
from banel_leaderboard.board.write import write_markdown, write_page
from banel_leaderboard.proving.load import load_runs
from banel_leaderboard.proving.standing import read_attestations
from banel_leaderboard.records import field_limits
from banel_leaderboard.records.field_limits import Reported, check_run
from banel_leaderboard.records.packed import read_lines
from banel_leaderboard.records.record import RecordError, RunRecord
from banel_leaderboard.records.run_folder import device_of, load_policy, read_status
from banel_leaderboard.running.evaluator import as_json
from tests.shared.hostile import changed, within
from tests.shared.runs import HIT_AT_5, make_run

SUBMISSIONS = Path(__file__).parents[2] / "leaderboard" / "submissions"


@pytest.fixture(scope="module")
def honest(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, Any], bytes]:
    """A record and its ledger."""
    out = tmp_path_factory.mktemp("honest")
    make_run(out, ask=HIT_AT_5)
    (path,) = out.rglob("record.json")
    return json.loads(path.read_text()), path.with_name("ledger.jsonl").read_bytes()


def shown(out: Path) -> str:
    """The page of a folder; its Markdown is written, too."""
    loaded = load_runs(out)
    write_page(loaded, out / "page.html")
    write_markdown(loaded, out / "page.md")
    return (out / "page.html").read_text()


def put(out: Path, record: Any, ledger: bytes) -> Path:
    folder = out / "run"
    folder.mkdir(exist_ok=True)
    (folder / "ledger.jsonl").write_bytes(ledger)
    (folder / "record.json").write_bytes(record if isinstance(record, bytes) else json.dumps(record).encode())
    return folder


def resealed(
    ledger: bytes, record: dict[str, Any], change: Callable[[dict[str, Any]], None]
) -> tuple[dict[str, Any], bytes]:
    """The same run with something else bound: header and record agree, every hash is right."""
    record = json.loads(json.dumps(record))
    change(record)
    head, out = "", b""
    for k, line in enumerate(ledger.splitlines()):
        body = line[: -len(b',"sha":"' + b"0" * 64 + b'"}')].decode()
        if k == 0:
            header = json.loads(body + "}")
            del header["ledger"]
            body = ledger_format.header_body({name: record.get(name, value) for name, value in header.items()})
        head, sealed = ledger_format.seal(head, body)
        out += sealed
    record["ledger"]["head"] = head
    return record, out


def test_every_committed_record_is_read() -> None:
    parts = sorted(path.parent for path in SUBMISSIONS.rglob("records.jsonl"))
    lines = [(part, line) for part in parts for line in read_lines(part)]
    assert len(lines) >= 376  # those of the addition board; whoever submits adds more
    for part, line in lines[::7]:
        record = RunRecord.parse(line.record(), part / line.run)
        check_run(record.task, record.digest, record.agent, record.config, record.seed)


def test_what_is_shipped_can_be_recorded() -> None:
    for agent in AGENTS:
        check_run("banel/X-v0", "", agent, as_json(make_agent(agent).config), 0)
    for task in TASKS:
        check_run(task, "0" * 64, "base", {}, field_limits.MOST_SEED)


LONG = "x" * 1_000_000
HOSTILE_NAMES = [
    LONG,
    "",
    "..",
    "a/b",
    "a b",
    "\u202eesab",
    "base\u200b",
    "ba\x1b[2Jse",
    "b`a",
    "<b>",
    "a|b",
    "ваse",
    "base\n",
    "-rf",
]


@pytest.mark.parametrize("name", HOSTILE_NAMES, ids=lambda n: ascii(n)[:20])
@pytest.mark.parametrize("field", ["agent", "task"])
def test_a_name_that_is_none_is_refused_even_where_the_ledger_binds_it(
    field: str, name: str, honest: tuple[dict[str, Any], bytes], tmp_path: Path
) -> None:
    """The same name stands in both, and every hash is right."""
    value = name if field == "agent" else f"test/{name}"
    record, ledger = resealed(honest[1], honest[0], lambda r: r.update({field: value}))
    put(tmp_path, record, ledger)
    page = shown(tmp_path)
    (refused,) = load_runs(tmp_path).refused
    assert f"{field}: String should match pattern" in refused.reason and len(refused.reason) <= 501
    assert len(page) < 60_000 and not {"\u202e", "\u200b", "\x1b"} & set(page)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (lambda r: r.update(digest="d" * 129), "digest: String should match"),
        (lambda r: r.update(digest="<script>"), "digest: String should match"),
        (lambda r: r.update(policy_sha256="0" * 63), "policy_sha256: String should match"),
        (lambda r: r.update(policy_sha256="G" * 64), "policy_sha256: String should match"),
        (lambda r: r.update(inherits="x"), "inherits: String should match"),
        (lambda r: r["ledger"].update(head="0" * 65), "ledger.head: String should match"),
        (lambda r: r.update(seed=-1), "seed: Input should be greater"),
        (lambda r: r.update(seed=2**63), "seed: "),
        (lambda r: r.update(seed=10**4_000), "seed: "),
        (lambda r: r.update(budget=0), "budget: Input should be greater"),
        (lambda r: r.update(budget=10**9 + 1), "budget: Input should be less"),
        (lambda r: r.update(first_success=-1), "first_success: "),
        (lambda r: r["work"].update(sampled=-1), "work.sampled: "),
        (lambda r: r["execution"].update(wall_s=-1.0), "execution.wall_s: "),
        (lambda r: r["execution"].update(wall_s=1e300), "execution.wall_s: "),
        (lambda r: r["execution"].update(processor="x" * 201), "at most 200 characters"),
        (lambda r: r["execution"].update(processor="\u202eletnI"), "at most 200 characters"),
        (lambda r: r["execution"].update(versions={"a b": "1"}), "String should match"),
        (lambda r: r["execution"].update(versions={"a": "\x1b[2J"}), "at most 200 characters"),
        (lambda r: r["execution"].update(versions={f"p{k}": "1" for k in range(101)}), "at most 100 items"),
        (lambda r: r["points"][0]["success"].update(log10=-1e7), "points.0.success.log10: "),
        (lambda r: r["points"][0]["success"].update(high=1e300), "points.0.success.high: "),
        (lambda r: r["points"][0]["success"].update(effective=1e300), "points.0.success.effective: "),
        (lambda r: r["points"][0].update(invalid=1.5), "points.0.invalid: "),
        (lambda r: r.update(points=r["points"] * 100), "points: List should have at most 256 items"),
        (lambda r: r.update(config={"a": LONG}), "the settings have 1,000,0"),
        (lambda r: r.update(config={LONG: 1}), "the settings have 1,000,0"),
        (lambda r: r.update(config={"<b>": 1}), "a setting is called '<b>'"),
        (lambda r: r.update(config={"a": "x" * 5_000}), "the setting a has 5,000 characters"),
        (lambda r: r.update(reported={"\u202e": []}), "String should match"),
        (lambda r: r.update(reported={f"s{k}": [] for k in range(65)}), "reported: Dictionary should have at most 64"),
        (lambda r: r.update(reported={"s": [[0, 0.0]] * 2_001}), "reported.s: List should have at most 2000"),
        (lambda r: r.update({LONG: 1}), "x…: Extra inputs"),
    ],
)  # fmt: skip
def test_what_is_too_long_or_too_large_is_refused_by_name(
    change: Callable[[dict[str, Any]], None], says: str, honest: tuple[dict[str, Any], bytes], tmp_path: Path
) -> None:
    record = json.loads(json.dumps(honest[0]))
    change(record)
    with within(10), pytest.raises(RecordError) as raised:
        RunRecord.load(put(tmp_path, record, honest[1]) / "record.json")
    assert says in str(raised.value) and len(str(raised.value)) < 1_000


@pytest.mark.parametrize(
    ("old", "new", "says"),
    [
        ('"seed": 0', '"seed": 0, "seed": 1', "the key 'seed' stands there twice"),
        ('"log10"', '"log10": -1.0, "log10"', "the key 'log10' stands there twice"),
        ('"batch": ', '"batch": 1, "batch": ', "the key 'batch' stands there twice"),
        ('"batch": ', '"lr": NaN, "batch": ', "NaN is not a number"),
        ('"batch": ', '"lr": 1e999, "batch": ', "'1e999' is too large"),
        ('"batch": ', '"lr": ' + "[" * 100_000 + ', "batch": ', "nested more than 64"),
        ('"batch": ', '"lr": ' + "9" * 5_000 + ', "batch": ', "too many digits"),
        ('"batch": ', '"lr": "\\ud800", "batch": ', "half of a surrogate pair"),
        ("}", "}" + " " * 8 * 2**20, "at most 8,388,608 bytes"),
    ],
)
def test_a_record_of_two_meanings_is_refused(
    old: str, new: str, says: str, honest: tuple[dict[str, Any], bytes], tmp_path: Path
) -> None:
    text = json.dumps(honest[0])
    assert old in text
    put(tmp_path, text.replace(old, new, 1).encode(), honest[1])
    with within(10):
        (refused,) = load_runs(tmp_path).refused
    assert says in refused.reason


@pytest.mark.parametrize("version", ["", "1" * 101, "\u202e0.1", "<b>", 7, None, ["0.1.0"]])
def test_a_version_that_no_package_has_is_refused(
    version: Any, honest: tuple[dict[str, Any], bytes], tmp_path: Path
) -> None:
    record, ledger = resealed(honest[1], {**honest[0], "version": version}, lambda r: None)
    del record["version"]
    put(tmp_path, record, ledger)
    (refused,) = load_runs(tmp_path).refused
    assert "which no package has" in refused.reason and "\u202e" not in refused.reason


@settings(max_examples=40, deadline=None)
@given(data=st.data())
def test_a_changed_record_is_refused_or_shown(data: Any, honest: tuple[dict[str, Any], bytes]) -> None:
    record = changed(data, honest[0])
    with tempfile.TemporaryDirectory() as folder, within(30):
        put(Path(folder), record, honest[1])
        page = shown(Path(folder))
    assert len(page) < 300_000 and not {"\u202e", "\x1b", "\x00"} & set(page)


@settings(max_examples=30, deadline=None)
@given(data=st.data())
def test_a_changed_record_whose_ledger_agrees_is_refused_or_shown(
    data: Any, honest: tuple[dict[str, Any], bytes]
) -> None:
    def change(record: dict[str, Any]) -> None:
        new = changed(data, record)
        record.clear()
        record.update(new if isinstance(new, dict) else {})
        record.setdefault("ledger", {})
        if not isinstance(record["ledger"], dict):
            record["ledger"] = {}

    try:
        record, ledger = resealed(honest[1], honest[0], change)
    except (ValueError, TypeError):
        return
    with tempfile.TemporaryDirectory() as folder, within(30):
        put(Path(folder), record, ledger)
        page = shown(Path(folder))
    assert len(page) < 300_000 and not {"\u202e", "\x1b", "\x00"} & set(page)


@settings(max_examples=150, deadline=None)
@given(at=st.floats(0, 1), put_in=st.binary(max_size=4), cut=st.integers(0, 5), whose=st.booleans())
def test_changed_bytes_are_refused_or_shown(
    at: float, put_in: bytes, cut: int, whose: bool, honest: tuple[dict[str, Any], bytes]
) -> None:
    record, ledger = json.dumps(honest[0]).encode(), honest[1]
    content = record if whose else ledger
    place = int(at * len(content))
    content = content[:place] + put_in + content[place + cut :]
    with tempfile.TemporaryDirectory() as folder, within(30):
        put(Path(folder), content if whose else record, ledger if whose else content)
        loaded = load_runs(Path(folder))
    assert len(loaded.runs) + len(loaded.refused) == 1


# Ledgers


def sealed(*bodies: str) -> bytes:
    head, out = "", b""
    for body in bodies:
        head, line = ledger_format.seal(head, body)
        out += line
    return out


HEADER = {"vocabulary": 4, "horizon": 3}
ASK, ANSWER = '{"ask":0,"n":1,"tokens":"AA=="', '{"answer":0,"rows":[0,1],"rewards":"AA=="'
FORGED = {
    "header of 64 KB": (ledger_format.header_body({**HEADER, "x": "x" * 70_000}),),
    "vocabulary of 2^40": (ledger_format.header_body({**HEADER, "vocabulary": 2**40}),),
    "vocabulary of 10^4000": ('{"ledger":1,"vocabulary":1' + "0" * 4_000 + ',"horizon":3',),
    "horizon of 2^40": (ledger_format.header_body({**HEADER, "horizon": 2**40}),),
    "vocabulary true": (ledger_format.header_body({**HEADER, "vocabulary": True}),),
    "a key twice": ('{"ledger":1,"vocabulary":4,"vocabulary":4,"horizon":3',),
    "NaN": ('{"ledger":1,"vocabulary":4,"horizon":3,"lr":NaN',),
    "infinity": ('{"ledger":1,"vocabulary":4,"horizon":3,"lr":1e999',),
    "a deep header": ('{"ledger":1,"vocabulary":4,"horizon":3,"x":' + "[" * 30_000 + "]" * 30_000,),
    "a list": ("[1",),
    "10^9 rows": (ledger_format.header_body(HEADER), '{"ask":0,"n":1000000000,"tokens":"AA=="'),
    "10^17 rows": (ledger_format.header_body(HEADER), '{"ask":0,"n":100000000000000000,"tokens":""'),
    "10^30 rows": (ledger_format.header_body(HEADER), '{"ask":0,"n":1' + "0" * 30 + ',"tokens":""'),
    "10^5000 rows": (ledger_format.header_body(HEADER), '{"ask":0,"n":1' + "0" * 5_000 + ',"tokens":""'),
    "a number with a zero before it": (ledger_format.header_body(HEADER), '{"ask":00,"n":1,"tokens":"AA=="'),
    "unused bits": (ledger_format.header_body(HEADER), '{"ask":0,"n":1,"tokens":"AQ=="'),
    "unused bits of base64": (ledger_format.header_body(HEADER), '{"ask":0,"n":1,"tokens":"AB=="'),
    "a line break in base64": (ledger_format.header_body(HEADER), '{"ask":0,"n":1,"tokens":"A\\nA="'),
    "escaped text": (ledger_format.header_body(HEADER), '{"ask":0,"n":1,"tokens":"\\u0041A=="'),
    "no padding": (ledger_format.header_body(HEADER), '{"ask":0,"n":1,"tokens":"AA"'),
    "an unused bit of rewards": (ledger_format.header_body(HEADER), ASK, '{"answer":0,"rows":[0,1],"rewards":"gg=="'),
    "10^17 answers": (ledger_format.header_body(HEADER), ASK, '{"answer":0,"rows":[0,100000000000000000],"rewards":"AA=="'),
    "an answer twice": (ledger_format.header_body(HEADER), ASK, ANSWER, ANSWER),
    "an answer to none": (ledger_format.header_body(HEADER), ANSWER),
    "another header": (ledger_format.header_body(HEADER), ledger_format.header_body(HEADER)),
    "half a value": (ledger_format.header_body(HEADER), ASK, '{"answer":0,"rows":[0,1],"rewards":"AA==","values":"AAAA"'),
}  # fmt: skip


@pytest.mark.parametrize("kind", FORGED)
def test_a_forged_line_is_refused_before_anything_is_made_of_it(kind: str, tmp_path: Path) -> None:
    bodies = FORGED[kind]
    (tmp_path / "l").write_bytes(sealed(*bodies))
    says = rf"line {len(bodies)} is not a ledger event"
    with within(10, megabytes=5), pytest.raises(LedgerCorrupt, match=says) as raised:
        Ledger.read(tmp_path / "l")
    assert len(str(raised.value)) < 500 + len(str(tmp_path))


def test_what_the_forgeries_are_made_from_is_read(tmp_path: Path) -> None:
    (tmp_path / "l").write_bytes(sealed(ledger_format.header_body(HEADER), ASK, ANSWER))
    assert Ledger.read(tmp_path / "l").count == 1


def test_rows_of_all_questions_are_bounded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ledger_format, "MOST_BUDGET", 1)
    again = [body.replace(":0,", ":1,", 1) for body in (ASK, ANSWER)]
    (tmp_path / "l").write_bytes(sealed(ledger_format.header_body(HEADER), ASK, ANSWER, *again))
    with pytest.raises(LedgerCorrupt, match="2 sequences are asked; no budget is above 1"):
        Ledger.read(tmp_path / "l")


def test_a_ledger_takes_memory_in_proportion_to_its_file(tmp_path: Path) -> None:
    """The worst there is: tokens of one bit, one to a sequence, with real values for a single row."""
    n = 4_000_000
    header = {"vocabulary": 2, "horizon": 1}
    packed = base64.b64encode(bytes(n // 8)).decode()
    value = base64.b64encode(np.zeros(1).tobytes()).decode()
    content = sealed(
        ledger_format.header_body(header),
        f'{{"ask":0,"n":{n},"tokens":"{packed}"',
        f'{{"answer":0,"rows":[0,1],"rewards":"AA==","values":"{value}"',
    )
    (tmp_path / "l").write_bytes(content)
    with within(10, megabytes=80 * len(content) / 1e6):
        assert Ledger.read(tmp_path / "l").count == n


@pytest.mark.parametrize("value", [float("nan"), float("inf"), "\ud800", object(), "x" * 70_000])
def test_what_could_not_be_read_again_is_never_bound(value: Any, tmp_path: Path) -> None:
    problem = Problem("me/X-v0", ("a", "b"), 2, 10, base=lambda: Uniform(2, 2, None))
    asked: list[Any] = []
    task = Task(problem, lambda tokens: asked.append(tokens) or np.zeros(len(tokens)))
    for path in (None, tmp_path / "l"):
        with pytest.raises(BadValue, match=r"a ledger cannot bind this: .* nothing was evaluated"):
            Oracle(task, ledger=path, binding={"lr": value})(np.zeros((1, 2), int))
    assert not asked


# run.json


@pytest.mark.parametrize(
    "content",
    [b"", b"[]", b"{", b'{"task": 5, "agent": [], "device": {}, "resumed": "x", "error": 1, "oracle": 3, "inherit": [2]}',
     b'{"task": "a", "task": "b"}', b"[" * 50_000, b'{"x": "' + b"x" * 70_000 + b'"}', b"\xff"],
    ids=lambda c: ascii(c)[:30],
)  # fmt: skip
def test_a_strange_status_says_nothing(content: bytes, honest: tuple[dict[str, Any], bytes], tmp_path: Path) -> None:
    folder = put(tmp_path, *honest)
    (folder / "run.json").write_bytes(content)
    with within(5):
        assert read_status(folder) == {}
        assert device_of(folder) == "cpu"


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (b'{"record": 1, "record": 2}', "line 1: the key 'record' stands there twice"),
        (b"\n\n" + b"[" * 100_000, "line 3: it is nested more than 64"),
        (b"\xff", "utf-8"),
        (None, "is a pipe"),
    ],
)
def test_a_strange_attestation_is_named(content: bytes | None, says: str, tmp_path: Path) -> None:
    path = tmp_path / "a.jsonl"
    if content is None:
        os.mkfifo(path)
    else:
        path.write_bytes(content)
    with within(5), pytest.raises(BadValue, match=says):
        read_attestations(path)


# What a run may be called, and what its agent may say


@pytest.mark.parametrize(
    "arguments",
    [
        ("banel/X", "", "base", {}, 0), ("X-v0", "", "base", {}, 0), ("a/" + "x" * 101 + "-v0", "", "base", {}, 0),
        ("a/ü-v0", "", "base", {}, 0), ("a/X-v0", "d" * 129, "base", {}, 0), ("a/X-v0", "a b", "base", {}, 0),
        ("a/X-v0", "", "..", {}, 0), ("a/X-v0", "", "x" * 101, {}, 0), ("a/X-v0", "", "base", {"a": float("inf")}, 0),
        ("a/X-v0", "", "base", {"a": object()}, 0), ("a/X-v0", "", "base", {"a": "x" * 20_000}, 0),
        ("a/X-v0", "", "base", {}, 2**63),
    ],
)  # fmt: skip
def test_a_run_that_no_record_holds_does_not_begin(arguments: tuple[Any, ...]) -> None:
    with pytest.raises(BadValue) as raised:
        check_run(*arguments)
    assert len(str(raised.value)) < 400


def test_a_long_series_is_thinned_evenly() -> None:
    told = Reported()
    for nre in range(20_001):
        told.note("me", nre, {"loss": nre / 2, "rare": 1})
    kept = told.series["loss"]
    assert 1_000 <= len(kept) <= field_limits.MOST_REPORTED
    assert {b - a for (a, _), (b, _) in itertools.pairwise(kept)} == {16} and kept[0] == (0, 0.0)
    assert all(value == nre / 2 for nre, value in kept)


def test_a_short_series_is_kept_whole() -> None:
    told = Reported()
    for nre in range(field_limits.MOST_REPORTED):
        told.note("me", nre, {"loss": nre})
    assert told.series == {"loss": [(nre, float(nre)) for nre in range(field_limits.MOST_REPORTED)]}


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"loss": float("nan")}, "me reports loss = nan at NRE 7"),
        ({"loss": float("-inf")}, "me reports loss = -inf at NRE 7"),
        ({"a\nb": 1}, r"me reports 'a\\nb'; a name is of"),
        ({7: 1}, "me reports 7; a name is of"),
        ({"x" * 101: 1}, "101 characters"),
        ({f"s{k}": 0 for k in range(65)}, "more than 64 names, the last is 's64'"),
    ],
)
def test_what_no_record_holds_is_said_when_it_is_told(values: dict[Any, Any], says: str) -> None:
    with pytest.raises(BadValue, match=says):
        Reported().note("me", 7, values)


def test_the_longest_record_is_read(honest: tuple[dict[str, Any], bytes], tmp_path: Path) -> None:
    """Every bound reached at once stays within the bytes that are read."""
    record = json.loads(json.dumps(honest[0]))
    record["points"] = [{**record["points"][0], "nre": 10**9}] * 256
    record["config"] = {"a" * 100: "x" * 4_000, "b": ["x" * 4_000] * 2}
    record["reported"] = {f"{k:02}" + "s" * 98: [[10**9, -1.2345678901234567e-308]] * 2_000 for k in range(32)}
    put(tmp_path, record, honest[1])
    made = RunRecord.load(tmp_path / "run" / "record.json")
    made.write(tmp_path / "again.json")
    assert RunRecord.load(tmp_path / "again.json") == made


def test_a_status_or_a_policy_of_no_run(tmp_path: Path) -> None:
    assert read_status(tmp_path) == {}
    with pytest.raises(BanelError, match="holds no final"):
        load_policy(tmp_path)
