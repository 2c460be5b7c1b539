"""Packed submissions that somebody typed: every hostile form is refused by name, and the rest is read."""

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

from banel_envs.errors import BadValue, BanelError, FileRefused
from banel_leaderboard.proving.load import load_runs
from banel_leaderboard.records import packed
from banel_leaderboard.records.record import RecordError
from banel_leaderboard.records.run_folder import LINES
from banel_leaderboard.records.unpack import unpack
from tests.shared.hostile import ODD, changed, put, within

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
        "a file of a run has more than 8,388,608 bytes",
    ),
    "a line of 9 MB": (text('"seed":0', '"seed":"' + "x" * 9_000_000 + '"'), "at most .* of a line are read"),
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
    with within(20, megabytes=50), pytest.raises((FileRefused, BadValue), match=f"{says}|has at most 64,000,000"):
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
