"""Packed submissions: the same bytes come back, every command reads them, and what cannot be packed is named."""

from __future__ import annotations

import contextlib
import hashlib
import json
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import load_file

from banel_envs.errors import BadValue, BanelError
from banel_leaderboard.command.cli import main
from banel_leaderboard.proving.load import load_runs
from banel_leaderboard.proving.standing import Standing, read_attestations
from banel_leaderboard.records import packed
from banel_leaderboard.records.pack import pack
from banel_leaderboard.records.packed import laid_out, record_value, status_value, with_hashes, without_hashes
from banel_leaderboard.records.run_folder import LINES
from banel_leaderboard.records.unpack import unpack
from banel_leaderboard.sweeping.plan import _medians
from tests.records.packed import NETWORK, OWN, SMALL, STATUS, tree
from tests.shared.runs import make_run, tiny

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
        pack(out, Path(place) / "packed", check=False)
        unpack(Path(place) / "packed", Path(place) / "back")
        assert tree(Path(place) / "back") == tree(out)
        pack(Path(place) / "back", Path(place) / "again", check=False)
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
    pack(out, tmp_path / "packed", check=False)
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


def _edited(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new, 1))


@pytest.mark.parametrize(
    ("harm", "says"),
    [
        (lambda run: _edited(run / "record.json", '"seed": 0', '"seed": 5'), "seed is 5 in the record and 0"),
        (lambda run: _edited(run / "ledger.jsonl", '"answer":0', '"answer":1'), "ledger.jsonl"),
        (lambda run: (run / "final.safetensors").write_bytes(b"cut"), "policy_sha256 is"),
    ],
    ids=["another seed", "an edited ledger", "a cut policy"],
)
def test_runs_whose_files_contradict_each_other_are_not_packed(
    harm: Callable[[Path], Any], says: str, runs: Path, tmp_path: Path
) -> None:
    out = Path(shutil.copytree(runs, tmp_path / "runs"))
    run = out / "test/Network-v0/small/failures/seed-0"
    harm(run)
    with pytest.raises(BadValue, match=f"(?s){says}.*nothing was packed.*remove"):
        pack(out, tmp_path / "packed")
    assert not (tmp_path / "packed").exists()


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
