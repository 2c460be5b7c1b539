"""Files that somebody else made: what is no regular file is refused at once, by whichever door it comes in."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from banel_envs import Oracle
from banel_envs.errors import AssetError, BadReward, BadValue, BanelError, FileMissing, FileRefused, LedgerWriteError
from banel_envs.files import safe_files
from banel_envs.meter.file_reward import answered_by_files
from banel_envs.meter.ledger import Ledger
from banel_envs.policies import Uniform, load_policy_file, save_policy
from banel_leaderboard.board.write import write_markdown, write_page
from banel_leaderboard.command.cli import main
from banel_leaderboard.command.settings import read_settings
from banel_leaderboard.proving.load import load_runs
from banel_leaderboard.records.find_runs import find, finished_runs
from banel_leaderboard.records.record import RunRecord
from banel_leaderboard.records.run_folder import file_sha256, load_policy, read_status
from banel_leaderboard.sweeping.plan import _medians
from tests.shared.hostile import ODD, put, within
from tests.shared.runs import make_run, tiny

every_oddity = pytest.mark.parametrize("odd", ODD)


def only_folder(out: Path) -> Path:
    (record,) = out.rglob("record.json")
    return record.parent


READERS: dict[str, Callable[[Path], Any]] = {
    "read": lambda path: safe_files.read(path, 1_000),
    "read below": lambda path: safe_files.read(path, 1_000, below=path.parent.parent),
    "sha256": lambda path: safe_files.sha256(path, 1_000),
    "record": RunRecord.load,
    "ledger": Ledger.read,
    "policy": load_policy_file,
    "digest of a policy": file_sha256,
}


@every_oddity
@pytest.mark.parametrize("reader", READERS)
def test_what_is_no_file_is_refused_at_once_and_named(reader: str, odd: str, tmp_path: Path) -> None:
    path = tmp_path / "folder" / "file"
    path.parent.mkdir()
    says = put(path, odd)
    with within(5, megabytes=3), pytest.raises(BanelError, match=rf"folder/file.* {says}"):
        READERS[reader](path)


@every_oddity
def test_a_status_that_is_no_file_says_nothing(odd: str, tmp_path: Path) -> None:
    put(tmp_path / "run.json", odd)
    with within(5, megabytes=3):
        assert read_status(tmp_path) == {}


@every_oddity
@pytest.mark.parametrize("name", ["record.json", "ledger.jsonl"])
def test_the_board_refuses_the_run_and_counts_the_others(
    name: str, odd: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path, seed=0)
    bad = only_folder(tmp_path)
    make_run(tmp_path, seed=1)
    says = put(bad / name, odd)
    with within():
        loaded = load_runs(tmp_path)
        write_page(loaded, tmp_path / "page.html")
        write_markdown(loaded, tmp_path / "page.md")
    assert [run.record.seed for run in loaded.runs] == [1]
    (refused,) = loaded.refused
    assert refused.path == bad.relative_to(tmp_path).as_posix() and says in refused.reason
    assert says in capsys.readouterr().err
    with within():
        assert main(["replay", str(bad)]) != 0


@every_oddity
def test_a_policy_that_is_no_file_is_not_shown(odd: str, tmp_path: Path) -> None:
    save_policy(tmp_path / "final.safetensors", Uniform(4, 3, None))
    load_policy(tmp_path)
    says = put(tmp_path / "final.safetensors", odd)
    with within(5), pytest.raises(AssetError, match=says):
        load_policy(tmp_path)


@every_oddity
def test_a_run_does_not_begin_where_its_ledger_is_no_file(odd: str, tmp_path: Path) -> None:
    if odd == "5 GB":
        pytest.skip("a ledger of one's own may be long")
    put(tmp_path / "ledger.jsonl", odd)
    asked = []
    task = tiny()
    object.__setattr__(task, "reward", lambda tokens: asked.append(tokens))
    with within(5), pytest.raises(LedgerWriteError, match="nothing was evaluated"):
        Oracle(task, ledger=tmp_path / "ledger.jsonl")(np.zeros((1, 3), int))
    assert not asked and not (tmp_path / "nowhere").exists()
    if odd == "link":
        assert (tmp_path / "target").read_bytes() == b"{}"


@pytest.mark.parametrize("odd", ["pipe", "folder", "socket", "5 GB"])
def test_an_answer_that_is_no_file_ends_the_wait(odd: str, tmp_path: Path) -> None:
    task = answered_by_files(tiny(), tmp_path, poll=0.01, timeout=5)
    parts = task.reward(np.zeros((1, 3), int))
    with within(10), pytest.raises(BanelError, match=r"awaited"):
        answered_by_files(tiny(), tmp_path, poll=0.01, timeout=0).reward(np.zeros((1, 3), int)).__next__()  # type: ignore[union-attr]
    (question,) = tmp_path.glob("question-*.json")
    says = put(tmp_path / question.name.replace("question", "answer"), odd)
    with within(10), pytest.raises(BadReward, match=says):
        next(iter(parts))  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("answer", "says"),
    [
        ('{"0": 1' + "0" * 5_000 + "}", "cannot be read"),
        ("[" * 100_000, "cannot be read"),
        ('{"' + "1" * 5_000 + '": 1}', "is not a row number"),
        ('{"²": 1}', "is not a row number"),
        ('{"0": [[1]]}', "it must be 0 or 1"),
        ('{"0": 1' + "0" * 400 + "}", "it must be 0 or 1"),
    ],
)
def test_a_strange_answer_is_named(answer: str, says: str, tmp_path: Path) -> None:
    parts = iter(answered_by_files(tiny(), tmp_path, poll=0.01, timeout=5).reward(np.zeros((1, 3), int)))  # type: ignore[arg-type]
    with pytest.raises(BanelError, match="awaited"):
        next(iter(answered_by_files(tiny(), tmp_path, timeout=0).reward(np.zeros((1, 3), int))))  # type: ignore[arg-type]
    (question,) = tmp_path.glob("question-*.json")
    (tmp_path / question.name.replace("question", "answer")).write_text(answer)
    with within(), pytest.raises(BadReward, match=says) as raised:
        next(parts)
    assert len(str(raised.value)) < 700


def test_a_file_is_read_to_its_limit_and_no_further(tmp_path: Path) -> None:
    path = tmp_path / "file"
    for size in (0, 1, 9_999, 10_000):
        path.write_bytes(b"x" * size)
        assert safe_files.read(path, 10_000) == safe_files.read_named(path, 10_000) == b"x" * size
    path.write_bytes(b"x" * 10_001)
    for read in (safe_files.read, safe_files.read_named):
        with pytest.raises(FileRefused, match=r"file has .*; at most 10,000 bytes"):
            read(path, 10_000)


def test_a_file_that_grows_while_it_is_read_ends_at_its_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, more = tmp_path / "file", os.read
    path.write_bytes(b"x")

    def growing(fd: int, n: int) -> bytes:
        with path.open("ab") as file:
            file.write(b"x" * 100)
        return more(fd, n)

    monkeypatch.setattr(os, "read", growing)
    with within(5), pytest.raises(FileRefused, match="has more; at most 10,000 bytes"):
        safe_files.read(path, 10_000)


def test_two_names_of_one_file_are_fine(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x")
    (tmp_path / "b").hardlink_to(tmp_path / "a")
    assert safe_files.read(tmp_path / "b", 1, below=tmp_path) == b"x"


@pytest.mark.parametrize("name", ["no\0body", "x" * 300])
def test_a_name_that_no_file_has(name: str, tmp_path: Path) -> None:
    with pytest.raises(FileRefused, match="cannot be read"):
        safe_files.read(tmp_path / name, 1)


def test_a_missing_file_is_told_from_a_refused_one(tmp_path: Path) -> None:
    with pytest.raises(FileMissing):
        safe_files.read(tmp_path / "nothing", 1)
    assert file_sha256(tmp_path / "nothing") is None


@pytest.mark.parametrize("openat", [True, False], ids=["folder by folder", "a look at each"])
def test_no_link_is_followed_below_a_folder(openat: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The folder itself may be one: a person named it."""
    if not openat:
        monkeypatch.setattr(os, "supports_dir_fd", set())
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    for folder in (outside / "run", inside / "deep"):
        folder.mkdir(parents=True)
        (folder / "file").write_bytes(b"x")
    (inside / "linked").symlink_to(outside)
    (inside / "deep" / "run").symlink_to(outside / "run")
    (tmp_path / "alias").symlink_to(inside)
    assert safe_files.read(tmp_path / "alias" / "deep" / "file", 1, below=tmp_path / "alias") == b"x"
    for path in (inside / "linked" / "run" / "file", inside / "deep" / "run" / "file"):
        assert safe_files.read(path, 1) == b"x"
        with pytest.raises(FileRefused, match="is a link, not a folder; no link is followed on the way"):
            safe_files.read(path, 1, below=inside)
    for path in (inside / ".." / "outside" / "run" / "file", outside / "run" / "file", inside):
        with pytest.raises(FileRefused):
            safe_files.read(path, 1, below=inside)
    with pytest.raises(FileRefused, match="deep/file is a file, not a folder"):
        safe_files.read(inside / "deep" / "file" / "file", 1, below=inside)


def test_what_a_reader_opens_it_closes(tmp_path: Path) -> None:
    (tmp_path / "a" / "b").mkdir(parents=True)
    (tmp_path / "a" / "b" / "file").write_bytes(b"xy")
    before = len(os.listdir("/proc/self/fd"))  # noqa: PTH208
    for most, name in ((2, "file"), (1, "file"), (1, "none"), (1, "."), (1, "c/file")):
        try:
            safe_files.read(tmp_path / "a" / "b" / name, most, below=tmp_path)
        except FileRefused:
            continue
    assert len(os.listdir("/proc/self/fd")) == before  # noqa: PTH208


# The search


def test_the_search_finds_what_a_walk_finds(tmp_path: Path) -> None:
    for seed in range(3):
        make_run(tmp_path / f"s{seed}", seed=seed)
    found = find(tmp_path)
    assert found.paths == sorted(tmp_path.rglob("record.json")) and not found.refused
    with finished_runs(tmp_path) as runs:
        assert [place.folder for place in runs.runs] == [path.parent for path in found.paths]


def test_linked_folders_are_not_searched_and_that_is_said(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    outside, inside = tmp_path / "outside", tmp_path / "inside"
    make_run(outside, seed=0)
    make_run(inside, seed=1)
    (inside / "linked").symlink_to(outside)
    (inside / "again").symlink_to(inside)
    loaded = load_runs(inside)
    assert [run.record.seed for run in loaded.runs] == [1] and not loaded.refused
    assert "2 links to folders were not followed" in capsys.readouterr().err
    with finished_runs(inside) as found:
        assert len(found.runs) == 1
    assert len(_medians([inside])) == 1


def test_folders_too_deep_and_unreadable_are_refused_by_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(tmp_path)
    deep = tmp_path.joinpath(*["d"] * 40)
    deep.mkdir(parents=True)
    (deep / "record.json").touch()
    scan = os.scandir

    def refusing(place: Path) -> Any:
        if place.name == "closed":
            raise PermissionError(13, "Permission denied")
        return scan(place)

    (tmp_path / "closed").mkdir()
    monkeypatch.setattr(os, "scandir", refusing)
    loaded = load_runs(tmp_path)
    assert len(loaded.runs) == 1
    assert [(r.path, r.reason) for r in loaded.refused] == [
        ("closed", "it cannot be searched: Permission denied"),
        ("/".join(["d"] * 17), "it is more than 16 folders deep; runs stand higher"),
    ]


def test_a_folder_of_too_many_files_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_run(tmp_path)
    monkeypatch.setattr(safe_files, "MOST_ENTRIES", 5)
    with pytest.raises(BanelError, match="holds more than 5 files; name a folder inside it"):
        load_runs(tmp_path)


def test_a_name_that_cannot_be_shown_reaches_no_page_and_no_terminal(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    make_run(tmp_path, seed=0)
    make_run(tmp_path / os.fsdecode(b"\xff\x1b[2J") / "\u202egpj", seed=1)
    loaded = load_runs(tmp_path)
    assert len(loaded.runs) == 1 and "its name has characters that cannot be seen" in loaded.refused[0].reason
    write_page(loaded, tmp_path / "page.html")
    write_markdown(loaded, tmp_path / "page.md")
    told = capsys.readouterr().err
    main(["replay", str(tmp_path)])
    told_too = capsys.readouterr().err
    for text in ((tmp_path / "page.html").read_text(), (tmp_path / "page.md").read_text(), told, told_too):
        assert "\\udcff\\x1b[2J/\\u202egpj" in text
        assert not {"\x1b", "\u202e"} & set(text)


# Files that a person names


def test_a_file_of_settings_may_be_a_link_or_a_pipe(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_text('{"batch": 3}')
    (tmp_path / "b.json").symlink_to("a.json")
    assert read_settings(tmp_path / "b.json", []) == {"batch": 3}
    end, other = os.pipe()
    os.write(other, b'{"batch": 4}')
    os.close(other)
    assert read_settings(Path(f"/proc/self/fd/{end}"), []) == {"batch": 4}
    os.close(end)


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("a.json", '{"a": 1, "a": 2}', "the key 'a' stands there twice"),
        ("a.json", '{"a": NaN}', "NaN is not a number"),
        ("a.json", '{"a": 1e999}', "is too large"),
        ("a.json", "[" * 100_000, "nested more than 64 levels"),
        ("a.json", '{"a": ' + "1" * 10_000 + "}", "too many digits"),
        ("a.json", '{"a": "\\ud800"}', "half of a surrogate pair"),
        ("a.json", '{"a": "\xff"}'.encode("latin-1"), "utf-8"),
        ("a.json", " " * (2**20 + 1), "at most 1,048,576 bytes"),
        ("a.json", "[]", "holds a list"),
        ("a.toml", "a = nan", "not JSON compliant|not a number"),
        ("a.toml", "a = " + "[" * 100_000, "recursion|nested"),
        ("a.toml", "a = 1979-05-27", "not JSON serializable"),
        ("a.toml", "a = 1\na = 2", "Cannot overwrite"),
        ("a.toml", b"a = '\xff'", "utf-8"),
        ("a.toml", "a = " + "1" * 10_000, "Invalid value|digits"),
    ],
)
def test_a_strange_file_of_settings_is_named(name: str, content: str | bytes, says: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with within(), pytest.raises(BadValue, match=rf"(?s)--config .*{name}.*({says})"):
        read_settings(tmp_path / name, [])


def test_a_file_of_settings_without_an_end_is_refused() -> None:
    with within(), pytest.raises(BadValue, match="at most 1,048,576 bytes"):
        read_settings(Path("/dev/zero"), [])


def test_a_setting_is_json_or_text() -> None:
    assert read_settings(None, ["a=1", "b=x", 'c={"d": [1]}']) == {"a": 1, "b": "x", "c": {"d": [1]}}
    for pair in ("a=NaN", "a=" + "[" * 100_000, 'a={"x": 1, "x": 2}', "a=1e999"):
        with within(), pytest.raises(BadValue, match="--set 'a=") as raised:
            read_settings(None, [pair])
        assert len(str(raised.value)) < 300


def test_writing_goes_through_no_link(tmp_path: Path) -> None:
    victim = tmp_path / "victim"
    victim.write_text("mine")
    (tmp_path / "draft").symlink_to(victim)
    (tmp_path / "log").symlink_to(victim)
    safe_files.write(tmp_path / "new", b"content", tmp_path / "draft")
    assert (tmp_path / "new").read_bytes() == b"content" and not (tmp_path / "draft").is_symlink()
    with pytest.raises(FileRefused):
        safe_files.append(tmp_path / "log", "x")
    os.mkfifo(tmp_path / "pipe")
    with within(5), pytest.raises(FileRefused):
        safe_files.append(tmp_path / "pipe", "x")
    assert victim.read_text() == "mine"
    safe_files.append(tmp_path / "plain", "a")
    safe_files.append(tmp_path / "plain", "b")
    assert (tmp_path / "plain").read_text() == "ab"
