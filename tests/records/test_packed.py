"""Packed submissions: the same bytes come back, every command reads them, and what was typed into one is refused by name."""

from __future__ import annotations

import contextlib
import hashlib
import json
import lzma
import os
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from banel_envs.errors import BadValue, BanelError, FileRefused
from banel_leaderboard.command.cli import main
from banel_leaderboard.proving.load import load_runs
from banel_leaderboard.proving.standing import Standing, read_attestations
from banel_leaderboard.records import packed
from banel_leaderboard.records.pack import pack
from banel_leaderboard.records.packed import laid_out, record_value, status_value, with_hashes, without_hashes
from banel_leaderboard.records.record import RecordError
from banel_leaderboard.records.run_folder import LINES
from banel_leaderboard.records.unpack import unpack
from banel_leaderboard.sweeping.plan import _medians
from tests.shared.hostile import ODD, changed, put, within
from tests.shared.runs import make_run, tiny

NETWORK, SMALL = "tests.shared.small:network", "tests.shared.small:Small"
OWN = ("--task", NETWORK, "--agent", SMALL)
STATUS = {"status": "finished", "resumed": 0, "error": "", "kernel": "torch", "device": "cpu", "inherit": None}


def tree(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in sorted(folder.rglob("*")) if p.is_file()}


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two runs of a network with their policies, and six of a tiny task; only what is packed."""
    out = tmp_path_factory.mktemp("runs")
    for seeds in ("0", "1"):
        assert (
            main(["run", "--task", NETWORK, "--agent", SMALL, "--seeds", seeds, "--out", str(out), "--jobs", "1"]) == 0
        )
    for path in [*out.rglob("log.txt"), *out.rglob("grid")]:
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    for agent in ("base", "count", "rnd"):
        for seed in (0, 1):
            make_run(out, agent, seed)
    return out


@pytest.fixture(scope="module")
def whole(runs: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("packed") / "whole"
    pack(runs, out)
    return out


@pytest.fixture
def forged(whole: Path, tmp_path: Path) -> Path:
    """A copy to be harmed."""
    return Path(shutil.copytree(whole, tmp_path / "forged"))


# There and back


def test_the_same_bytes_come_back(runs: Path, whole: Path, tmp_path: Path) -> None:
    assert unpack(whole, tmp_path / "back") == 8
    assert tree(tmp_path / "back") == tree(runs)
    assert len(list(runs.rglob("final.safetensors"))) == 2


def test_the_same_runs_give_the_same_packed_bytes(runs: Path, whole: Path, tmp_path: Path) -> None:
    pack(runs, tmp_path / "again")
    unpack(whole, tmp_path / "back")
    pack(tmp_path / "back", tmp_path / "third")
    assert tree(tmp_path / "again") == tree(whole) == tree(tmp_path / "third")


def test_few_files_that_are_what_they_say(runs: Path, whole: Path) -> None:
    assert sorted(tree(whole)) == [
        "test/Network-v0/ledgers-000.xz",
        "test/Network-v0/policies-000.safetensors",
        "test/Network-v0/records.jsonl",
        "test/Tiny-v0/ledgers-000.xz",
        "test/Tiny-v0/records.jsonl",
    ]
    for line in (whole / "test/Tiny-v0" / LINES).read_text().splitlines():
        fields = json.loads(line)
        record = runs / "test/Tiny-v0" / fields["run"] / "record.json"
        assert fields["record"] == json.loads(record.read_text())
    tensors = load_file(whole / "test/Network-v0/policies-000.safetensors")
    finals = {hashlib.sha256(p.read_bytes()).hexdigest(): p.read_bytes() for p in runs.rglob("final.safetensors")}
    assert {name: tensor.tobytes() for name, tensor in tensors.items()} == finals


RUN = st.fixed_dictionaries(
    {
        "agent": st.sampled_from(["base", "count", "a-b", "a"]),
        "seed": st.integers(0, 3),
        "feedback": st.sampled_from(["full", "failures"]),
        "good": st.sampled_from([0.0, 1.0]),
        "budget": st.sampled_from([None, 24]),
        "task": st.sampled_from(["test/Tiny-v0", "test/Other-v1"]).map(tiny),
    }
)
STATUSES = st.one_of(
    st.none(),
    st.just(json.dumps(STATUS, indent=1) + "\n"),
    st.sampled_from(
        ["", "{", "[]", "{}", '{\n "a": 1e-7\n}\n', '{\n "a": "\u202eé"\n}\n', '{"a": 1, "a": 2}', "null", '"x"']
    ),
).map(lambda text: None if text is None else text.encode())
POLICIES = st.one_of(st.none(), st.binary(max_size=40), st.just(b"the same"))


@settings(max_examples=25, deadline=None)
@given(made=st.lists(st.tuples(RUN, STATUSES, POLICIES, st.integers(0, 5)), min_size=1, max_size=4))
def test_any_runs_come_back_to_the_byte(made: list[tuple[dict[str, Any], bytes | None, bytes | None, int]]) -> None:
    """Also where a ledger is torn, a record is laid out in another way or run.json is damaged: checking is for others."""
    with tempfile.TemporaryDirectory() as place:
        out = Path(place) / "runs"
        for how, status, policy, odd in made:
            with contextlib.suppress(BanelError):  # the same folder twice
                before = set(out.rglob("record.json"))
                make_run(out, **how)
                for record in set(out.rglob("record.json")) - before:
                    _vary(record, status, policy, odd)
        pack(out, Path(place) / "packed")
        unpack(Path(place) / "packed", Path(place) / "back")
        assert tree(Path(place) / "back") == tree(out)
        pack(Path(place) / "back", Path(place) / "again")
        assert tree(Path(place) / "again") == tree(Path(place) / "packed")


def _vary(record: Path, status: bytes | None, policy: bytes | None, odd: int) -> None:
    for name, content in (("run.json", status), ("final.safetensors", policy)):
        if content is not None:
            record.with_name(name).write_bytes(content)
    ledger = record.with_name("ledger.jsonl")
    if odd == 1:
        record.write_text(json.dumps(json.loads(record.read_text())))
    if odd == 2:
        ledger.write_bytes(ledger.read_bytes()[:-7])
    if odd == 3:
        ledger.write_bytes(b"\n\n\xff")


JSONS = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(allow_nan=False, allow_infinity=False), st.text()),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=12,
)


@settings(max_examples=200, deadline=None)
@given(value=st.dictionaries(st.text(max_size=4), JSONS, max_size=4), ascii=st.booleans())
def test_json_laid_out_as_the_harness_does_is_kept_as_json(value: dict[str, Any], ascii: bool) -> None:
    try:
        content = (json.dumps(value, indent=1, ensure_ascii=ascii) + "\n").encode()
    except UnicodeEncodeError:
        return
    try:
        kept = record_value(content)
    except BanelError:
        return  # half a surrogate pair
    assert kept.startswith("{") and laid_out(kept, 10**6) == content
    assert json.loads(kept) == value
    text = status_value(content)
    assert (json.loads(text) if text[0] == '"' else laid_out(text, 10**6).decode()) == content.decode()


@settings(max_examples=200, deadline=None)
@given(content=st.binary(max_size=300) | st.lists(st.binary(max_size=90)).map(b"\n".join), step=st.integers(1, 50))
def test_any_ledger_comes_back(content: bytes, step: int) -> None:
    bare = without_hashes(content)
    pieces = (bare[k : k + step] for k in range(0, len(bare), step))
    assert (b"".join(with_hashes(pieces)) if len(bare) != len(content) else bare) == content


# The commands


def test_the_commands_pack_and_unpack(runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["pack", str(runs), "--out", str(tmp_path / "p")]) == 0
    assert "packed 8 runs into" in (said := capsys.readouterr().out) and "5 files of" in said
    assert main(["unpack", str(tmp_path / "p"), "--out", str(tmp_path / "back")]) == 0
    assert "unpacked 8 runs into" in capsys.readouterr().out
    assert main(["pack", str(runs), "--out", str(tmp_path / "p")]) == 2
    assert "is there already" in capsys.readouterr().err
    assert main(["pack", str(runs), "--out", str(tmp_path / "q"), "--without-policies"]) == 0
    assert not list((tmp_path / "q").rglob("policies-*"))
    assert sorted(p.name for p in tmp_path.iterdir()) == ["back", "p", "q"]


def test_a_board_of_packed_runs_is_the_board_of_the_runs(runs: Path, whole: Path, tmp_path: Path) -> None:
    pages = []
    for k, folder in enumerate((runs, whole)):
        assert main(["board", str(folder), "--out", str(tmp_path / f"{k}.html"), *OWN]) == 0
        pages.append((tmp_path / f"{k}.html").read_text())
    assert pages[0] == pages[1]
    assert load_runs(runs) == load_runs(whole)
    assert [run.path for run in load_runs(whole.parent).runs] == [f"whole/{run.path}" for run in load_runs(runs).runs]
    assert len(load_runs(whole / "test/Tiny-v0/base").runs) == 2


def test_packed_runs_replay_and_are_attested(whole: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    notes = tmp_path / "notes.jsonl"
    assert main(["replay", str(whole / "test/Network-v0"), "--jobs", "2", "--attest", str(notes), *OWN]) == 0
    assert "2 of 2 proved" in capsys.readouterr().out and len(read_attestations(notes)) == 2
    run = whole / "test/Network-v0/small/failures/seed-1"
    assert main(["replay", str(run), "--jobs", "1", *OWN]) == 0
    said = capsys.readouterr()
    assert "1 of 1 proved" in said.out and str(run) in said.err + said.out and "banel-" not in said.err
    assert main(["replay", str(whole / "test/Tiny-v0"), "--jobs", "1"]) == 3
    assert str(whole / "test/Tiny-v0/base/failures/seed-0") in capsys.readouterr().err
    assert main(["board", str(whole), "--out", str(tmp_path / "b.md"), "--attestations", str(notes), *OWN]) == 0
    assert Standing.REPLAYED.word in (tmp_path / "b.md").read_text()


def test_a_packed_run_is_shown(runs: Path, whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    said = []
    for folder in (runs, whole):
        assert main(["show", str(folder / "test/Network-v0/small/failures/seed-1"), "--task", NETWORK]) == 0
        said.append(capsys.readouterr().out)
    assert said[0] == said[1]
    assert main(["show", str(whole / "test/Network-v0/small/failures/seed-7"), "--task", NETWORK]) == 2
    assert "is not in the packed submission" in capsys.readouterr().err
    assert main(["show", str(whole / "test/Tiny-v0/base/failures/seed-0")]) == 2
    assert "the policy has no stored form" in capsys.readouterr().err.replace("its policy has", "the policy has")


def test_a_damaged_policy_is_named_where_it_stands(
    runs: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = Path(shutil.copytree(runs, tmp_path / "runs"))
    for path in out.rglob("final.safetensors"):
        path.write_bytes(b"no policy")
    pack(out, tmp_path / "packed")
    run = tmp_path / "packed/test/Network-v0/small/failures/seed-1"
    assert main(["show", str(run), "--task", NETWORK]) == 2
    assert str(run / "final.safetensors") in (said := capsys.readouterr().err) and "/banel-" not in said


def test_a_plan_reads_packed_records(runs: Path, whole: Path) -> None:
    assert _medians([whole]) == _medians([runs]) != {}


def test_a_bench_does_not_go_on_in_a_packed_folder(whole: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = tree(whole)
    assert main(["run", "--task", NETWORK, "--agent", SMALL, "--out", str(whole)]) == 2
    assert "to go on with its runs, unpack it first" in capsys.readouterr().err and tree(whole) == before


# What is not packed


def _in_another_folder(out: Path) -> None:
    (out / "test").rename(out / "elsewhere")


def _a_space(out: Path) -> None:
    (out / "test/Tiny-v0/base").rename(out / "test/Tiny-v0/b ase")


def _a_link(out: Path) -> None:
    path = next(out.rglob("ledger.jsonl"))
    path.rename(out / "target")
    path.symlink_to(out / "target")


def _in_a_run(out: Path) -> None:
    shutil.copytree(out / "test/Tiny-v0/count/failures/seed-0", out / "test/Tiny-v0/base/failures/seed-0/x")


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda out: shutil.rmtree(out / "test"), "holds no finished run"),
        (_in_another_folder, "is a run of test/Tiny-v0, not of elsewhere/Tiny-v0"),
        (_a_space, "is not in a folder <task>/<agent>"),
        (_a_link, "is a link"),
        (_in_a_run, "stands in the folder of another run"),
        (lambda out: next(out.rglob("ledger.jsonl")).unlink(), "cannot be read"),
        (lambda out: next(out.rglob("record.json")).write_text("{}"), "is not a record"),
        (
            lambda out: next(out.rglob("record.json")).with_name("run.json").write_bytes(b"\xff"),
            "run.json: it is not UTF-8",
        ),
    ],
)
def test_what_cannot_be_packed_is_named(harm: Callable[[Path], Any], says: str, tmp_path: Path) -> None:
    out = tmp_path / "runs"
    for agent in ("base", "count"):
        make_run(out, agent)
    harm(out)
    with pytest.raises(BanelError, match=says):
        pack(out, tmp_path / "packed")
    assert [p.name for p in tmp_path.iterdir()] == ["runs"]


@pytest.mark.parametrize(
    ("limit", "value", "says"),
    [
        ("MOST_BYTES", 4_000, "has at most 4,000: hand in fewer tasks at once, or leave the policies out"),
        ("MOST_FILES", 3, "has 4 files; a submission has at most 3"),
        ("MOST_RUNS", 3, "has 6 runs; at most 3 are packed"),
        ("MOST_UNPACKED", 9_000, "a submission is made of at most 9,000"),
    ],
)
def test_a_limit_is_named_with_the_run_that_passes_it(
    limit: str, value: int, says: str, runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed, limit, value)
    with pytest.raises(BadValue, match=says) as raised:
        pack(runs, tmp_path / "packed")
    assert "test/" in str(raised.value) and not list(tmp_path.iterdir())


def test_streams_and_policies_are_split_and_come_back(
    runs: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from banel_leaderboard.records import pack as packing

    made = tmp_path / "packed"
    monkeypatch.setattr(packing, "TOGETHER", 1_500)
    monkeypatch.setattr(packing._Policies, "_size", lambda self: packing.MOST_FILE)
    pack(runs, made)
    assert len(list(made.rglob("ledgers-*"))) > 2 and len(list(made.rglob("policies-*"))) == 2
    unpack(made, tmp_path / "back")
    assert tree(tmp_path / "back") == tree(runs)


# Hostile forms


PART = "test/Tiny-v0"


def lines(out: Path, part: str = PART) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (out / part / LINES).read_text().splitlines()]


def write(out: Path, made: list[dict[str, Any]], part: str = PART) -> None:
    text = "".join(json.dumps(line, separators=(",", ":")) + "\n" for line in made)
    (out / part / LINES).write_text(text)


def edited(change: Callable[[list[dict[str, Any]]], Any], part: str = PART) -> Callable[[Path], None]:
    def harm(out: Path) -> None:
        made = lines(out, part)
        change(made)
        write(out, made, part)

    return harm


def text(old: str, new: str, part: str = PART) -> Callable[[Path], None]:
    def harm(out: Path) -> None:
        path = out / part / LINES
        assert old in path.read_text()
        path.write_text(path.read_text().replace(old, new, 1))

    return harm


def stream(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def harm(out: Path) -> None:
        path = out / PART / "ledgers-000.xz"
        path.write_bytes(change(path.read_bytes()))

    return harm


def _run(name: str) -> Callable[[Path], None]:
    return edited(lambda made: made[0].update(run=name))


def _ledger(**fields: Any) -> Callable[[Path], None]:
    return edited(lambda made: made[0]["ledger"].update(fields))


def _bomb(out: Path) -> None:
    """500 MB of zeros in 75 KB, as the lines state them."""
    size = 499_000_000
    packer = lzma.LZMACompressor(check=lzma.CHECK_NONE, preset=0)
    digest = hashlib.sha256()
    with (out / PART / "ledgers-000.xz").open("wb") as file:
        for k in range(0, size, 1_000_000):
            zeros = bytes(min(1_000_000, size - k))
            digest.update(zeros)
            file.write(packer.compress(zeros))
        file.write(packer.flush())
    made = lines(out)
    for line in made:
        line["ledger"].update(packed=0, bytes=0, sha256=hashlib.sha256(b"").hexdigest())
    made[-1]["ledger"].update(packed=size, bytes=size, sha256="0" * 64)
    write(out, made)


def _silent_bomb(out: Path) -> None:
    (out / PART / "ledgers-000.xz").write_bytes(lzma.compress(bytes(300_000_000), preset=0))


def _many_policies(out: Path) -> None:
    """One policy of 5 MB that a hundred and one runs name."""
    content = bytes(5_000_000)
    name = hashlib.sha256(content).hexdigest()
    made = lines(out)
    policy = {"file": "policies-000.safetensors", "bytes": len(content), "sha256": name}
    write(out, [{**made[0], "run": f"x/seed-{k:03}", "policy": policy} for k in range(101)])
    header = packed.policies_header([(name, len(content))])
    (out / PART / "policies-000.safetensors").write_bytes(header + content)


def _heavy(out: Path) -> None:
    """A decompressor would take 1.5 GB for this."""
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 0, "dict_size": 2**27}]
    content = lzma.decompress((out / PART / "ledgers-000.xz").read_bytes())
    (out / PART / "ledgers-000.xz").write_bytes(lzma.compress(content, filters=filters))


def _policy(change: Callable[[bytes], bytes]) -> Callable[[Path], None]:
    def harm(out: Path) -> None:
        path = out / "test/Network-v0/policies-000.safetensors"
        path.write_bytes(change(path.read_bytes()))

    return harm


def _case(made: list[dict[str, Any]]) -> None:
    made[:] = sorted([{**made[0], "run": "A/x"}, *made[1:], {**made[0], "run": "a/x"}], key=lambda line: line["run"])


def _inside(made: list[dict[str, Any]]) -> None:
    made.append({**made[-1], "run": made[-1]["run"] + "/x"})


HOSTILE: dict[str, tuple[Callable[[Path], Any], str]] = {
    "a bomb that is stated": (_bomb, "are stated|has another|bytes of SHA-256"),
    "a bomb that is not stated": (_silent_bomb, "bytes of SHA-256|more than"),
    "a bomb of policies": (_many_policies, "states 505,.* bytes unpacked; a submission has at most 500,000,000"),
    "a length of 2^40": (_ledger(packed=2**40), "ledger.packed: Input should be less than or equal to 500000000"),
    "a ledger of 2^40": (_ledger(bytes=2**40), "ledger.bytes: Input should be less than or equal"),
    "a length of 10^30": (_ledger(bytes=10**30), "ledger.bytes: "),
    "a negative length": (_ledger(packed=-1), "ledger.packed: Input should be greater"),
    "a length that is a float": (_ledger(packed=1.0), "ledger.packed: Input should be a valid integer"),
    "lengths that together are too much": (
        edited(lambda made: [line["ledger"].update(bytes=400_000_000) for line in made]),
        "states 2,400,000,000 bytes unpacked",
    ),
    "a ledger that takes the next one's": (_ledger(packed=10**6), "has more than the .* bytes that are stated"),
    "a ledger that is not all there": (
        edited(lambda made: made[-1]["ledger"].update(packed=10**6, bytes=10**8)), "is cut: .* bytes are missing",
    ),
    "a ledger one byte shorter": (edited(lambda made: made[-1]["ledger"].update(packed=50)), "bytes of SHA-256"),
    "another hash": (_ledger(sha256="0" * 64), r"0{64} are stated"),
    "a hash of other letters": (_ledger(sha256="G" * 64), "ledger.sha256: String should match"),
    "a file that is a path": (_ledger(file="../ledgers-000.xz"), "ledger.file: String should match"),
    "a file of another number": (_ledger(file="ledgers-001.xz"), "out of order"),
    "a run above": (_run("../../evil"), "run: String should match"),
    "a run above, in between": (_run("a/../../../evil"), "run: String should match"),
    "an absolute run": (_run("/tmp/evil"), "run: String should match"),
    "a run of another drive": (_run("C:\\evil"), "run: String should match"),
    "a run of nothing": (_run(""), "run: String should match"),
    "a run with an end of line": (_run("base/seed-0\n"), "run: String should match"),
    "a run that cannot be seen": (_run("base/\u202eseed"), "run: String should match"),
    "a run too deep": (_run("a/" * 30 + "b"), "run: String should match"),
    "a run too long": (_run("a" * 10_000), "run: String should match"),
    "a run twice": (edited(lambda made: made.insert(0, made[0])), "stands twice"),
    "runs out of order": (edited(lambda made: made.reverse()), "lines are in order"),
    "runs that differ in case": (edited(_case), "large and small letters"),
    "a run in another": (edited(_inside), "in the folder of another run"),
    "a key twice": (text('"run":', '"run":"x","run":'), "the key 'run' stands there twice"),
    "a key of the record twice": (text('"seed":0', '"seed":5,"seed":0'), "the key 'seed' stands there twice"),
    "a key more": (edited(lambda made: made[0].update(more=1)), "more: Extra inputs"),
    "a key less": (edited(lambda made: made[0].pop("policy")), "policy: Field required"),
    "keys in another order": (edited(lambda made: made[0].update(packed=made[0].pop("packed"))), "not written as"),
    "spaces": (text('"run":', '"run": '), "not written as"),
    "another form": (text('"packed":1,', '"packed":2,'), "packed: Input should be 1"),
    "NaN": (text('"seed":0', '"seed":NaN'), "NaN is not a number"),
    "a deep record": (text('"seed":0', '"seed":' + "[" * 100_000), "nested more than 64"),
    "a record that grows": (
        text('"seed":0', '"seed":' + "[" * 60 + "1" + ",1" * 1_000_000 + "]" * 60),
        "a file of a run has more than 4,194,304 bytes",
    ),
    "a line of 5 MB": (text('"seed":0', '"seed":"' + "x" * 5_000_000 + '"'), "at most .* of a line are read"),
    "records of 11 MB": (lambda out: (out / PART / LINES).write_bytes(b"\n" * 11_000_000), "at most 10,000,000 bytes"),
    "a million lines": (lambda out: (out / PART / LINES).write_bytes(b"{}\n" * 1_000_000), "at most 10,000 are read"),
    "no lines": (lambda out: (out / PART / LINES).write_bytes(b""), "is empty or cut"),
    "cut lines": (lambda out: os.truncate(out / PART / LINES, 5_000), "is empty or cut"),
    "no UTF-8": (lambda out: (out / PART / LINES).write_bytes(b"\xff\n"), "utf-8"),
    "a stream that is cut": (stream(lambda c: c[:-30]), "is cut"),
    "a stream that is cut early": (stream(lambda c: c[:100]), "is cut"),
    "an empty stream": (stream(lambda c: b""), "is cut"),
    "something behind a stream": (stream(lambda c: c + b"x"), "goes on behind its end"),
    "a stream twice": (stream(lambda c: c + c), "goes on behind its end"),
    "no stream": (stream(lambda c: b"hello" * 9), "is no xz stream"),
    "a changed stream": (stream(lambda c: c[:200] + bytes(20) + c[220:]), "is no xz stream|SHA-256"),
    "a stream that takes much memory": (_heavy, "is no xz stream that is read here: Memory usage limit"),
    "a stream of 11 MB": (stream(lambda c: c + bytes(11_000_000)), "at most 10,000,000 bytes"),
    "a file more": (lambda out: (out / PART / "evil.py").write_text(""), "evil.py is no file of a packed submission"),
    "a folder more": (lambda out: (out / PART / "base").mkdir(), "base is no file of a packed submission"),
    "a thousand files more": (
        lambda out: [(out / PART / f"ledgers-{k:03}.xz").touch() for k in range(1_000)],
        "holds more than 64 files",
    ),
    "a policy's hash": (_policy(lambda c: c[:-1] + bytes([c[-1] ^ 1])), "has another SHA-256"),
    "a policy that is cut": (_policy(lambda c: c[:-1]), "does not hold the policies"),
    "another header of policies": (_policy(lambda c: c[:20] + b"x" + c[21:]), "does not hold the policies"),
    "a header of 2^63 bytes": (_policy(lambda c: b"\xff" * 8 + c[8:]), "does not hold the policies"),
    "a policy of two sizes": (
        edited(lambda made: made[1].update(policy={**made[0]["policy"], "bytes": 5}), "test/Network-v0"),
        "states two sizes",
    ),
    "a policy that is not there": (
        edited(lambda made: made[0].update(policy={"file": "policies-000.safetensors", "bytes": 5, "sha256": "0" * 64})),
        "policies-000.safetensors cannot be read",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_form_is_refused_by_name_and_the_rest_is_read(kind: str, forged: Path, tmp_path: Path) -> None:
    harm, says = HOSTILE[kind]
    harm(forged)
    with within(60, megabytes=150), pytest.raises((FileRefused, RecordError, BadValue), match=says) as raised:
        unpack(forged, tmp_path / "back")
    assert len(str(raised.value)) < 1_000
    assert [p.name for p in tmp_path.iterdir()] == ["forged"]
    loaded = load_runs(forged)
    refused = {run.path: run.reason for run in loaded.refused}
    assert refused.keys() <= {PART, "test/Network-v0"} and "/tmp/banel-" not in str(refused)
    assert len(loaded.runs) in (2, 6) if len(refused) == 1 else kind == "a thousand files more"


@pytest.mark.parametrize("odd", ODD)
@pytest.mark.parametrize("name", [LINES, "ledgers-000.xz"])
def test_what_is_no_file_is_refused(name: str, odd: str, forged: Path, tmp_path: Path) -> None:
    says = put(forged / PART / name, odd)
    for path in (forged / PART).glob("target"):
        path.rename(tmp_path / "target")
        (forged / PART / name).unlink()
        (forged / PART / name).symlink_to(tmp_path / "target")
    with within(20, megabytes=50), pytest.raises((FileRefused, BadValue), match=f"{says}|has at most 50,000,000"):
        unpack(forged, tmp_path / "back")
    with within(20):
        assert [run.record.task for run in load_runs(forged).runs] in ([], ["test/Network-v0"] * 2)


def test_a_linked_part_is_not_read(forged: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (forged / PART).rename(tmp_path / "elsewhere")
    (forged / PART).symlink_to(tmp_path / "elsewhere")
    assert len(load_runs(forged).runs) == 2
    assert "a link to a folder was not followed" in capsys.readouterr().err


def test_a_submission_of_too_many_bytes_is_refused(
    whole: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(packed, "MOST_BYTES", 4_000)
    with pytest.raises(BadValue, match="has at most 4,000"):
        unpack(whole, tmp_path / "back")
    assert len(load_runs(whole).refused) == 2


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_changed_lines_are_refused_or_read(data: Any, whole: Path) -> None:
    with tempfile.TemporaryDirectory() as place, within(30):
        out = Path(shutil.copytree(whole, Path(place) / "p"))
        made = lines(out)
        made[data.draw(st.integers(0, 5))] = changed(data, made[0])
        try:
            write(out, made)
        except UnicodeEncodeError:
            return
        with contextlib.suppress(BanelError):
            unpack(out, Path(place) / "deep" / "back")
        assert {p.name for p in Path(place).iterdir()} <= {"p", "deep"}
        loaded = load_runs(out)
        assert len(loaded.runs) + len(loaded.refused) >= 3


@settings(max_examples=60, deadline=None)
@given(at=st.floats(0, 1), put_in=st.binary(max_size=4), cut=st.integers(0, 5), which=st.integers(0, 4))
def test_changed_bytes_are_refused_or_the_same(at: float, put_in: bytes, cut: int, which: int, whole: Path) -> None:
    with tempfile.TemporaryDirectory() as place, within(30):
        out = Path(shutil.copytree(whole, Path(place) / "p"))
        path = sorted(p for p in out.rglob("*") if p.is_file())[which]
        content = path.read_bytes()
        start = int(at * len(content))
        path.write_bytes(content[:start] + put_in + content[start + cut :])
        try:
            unpack(out, Path(place) / "back")
        except BanelError:
            assert not (Path(place) / "back").exists()
        loaded = load_runs(out)
        assert len(loaded.runs) + len(loaded.refused) >= 3
