"""Sweeps on this machine: a finished run is verified once, and again where a file of it has changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from banel_envs.errors import BanelError
from banel_leaderboard.records.spec import Spec
from banel_leaderboard.running import resolve
from banel_leaderboard.sweeping.sweep import check, records_of, sweep
from tests.shared.small import only_run

LANES = [(Spec(task="tests.shared.small:task", agent="tests.shared.small:Small", feedback="full"),)]


@pytest.fixture
def verified(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The runs whose ledger was verified, in order."""
    found: list[str] = []
    record = resolve.ResolvedRun.record
    monkeypatch.setattr(
        resolve.ResolvedRun, "record", lambda run, oracle: found.append(run.name) or record(run, oracle)
    )
    return found


def again(out: Path) -> None:
    """What `banel bench` does with a folder that is finished."""
    check(LANES, out)
    assert [outcome.status for outcome in sweep(LANES, out)] == ["kept"]
    assert len(records_of(LANES, out)) == 1


def test_a_finished_run_is_verified_once(tmp_path: Path, verified: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    assert [outcome.status for outcome in sweep(LANES, tmp_path)] == ["done"]
    monkeypatch.setattr(resolve, "SETTLED", 1e6)
    verified.clear()
    again(tmp_path)
    assert len(verified) == 3  # its files have only just been written
    monkeypatch.setattr(resolve, "SETTLED", -1.0)
    verified.clear()
    again(tmp_path)
    again(tmp_path)
    assert len(verified) == 1
    with pytest.raises(BanelError, match=r"settings|config"):  # what was asked for is part of what was verified
        resolve.finished_record(Spec(**{**vars(LANES[0][0]), "settings": {"batch": 7}}), tmp_path)


def test_where_no_bar_can_be_drawn_lines_say_how_far_a_sweep_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lanes = [(Spec(**{**vars(LANES[0][0]), "seed": seed}),) for seed in range(3)]
    sweep(lanes, tmp_path)
    assert "have ended" not in capsys.readouterr().err  # it took less than SAID_EVERY
    monkeypatch.setattr("banel_leaderboard.sweeping.sweep.SAID_EVERY", 0.0)
    sweep(lanes, tmp_path)
    assert capsys.readouterr().err.splitlines() == [f"{n} of 3 runs have ended" for n in (1, 2, 3)]


@pytest.mark.parametrize("name", ["ledger.jsonl", "record.json"])
def test_a_changed_file_is_found_though_its_size_and_time_are_the_same(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweep(LANES, tmp_path)
    monkeypatch.setattr(resolve, "SETTLED", -1.0)
    again(tmp_path)
    path = only_run(tmp_path) / name
    before, content = path.stat(), path.read_bytes()
    head = content.rindex(b"head") if name == "record.json" else len(content) - 40
    place = next(k for k in range(head + 6, len(content)) if content[k : k + 1].isdigit())
    path.write_bytes(content[:place] + (b"1" if content[place : place + 1] != b"1" else b"2") + content[place + 1 :])
    os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert path.stat().st_size == before.st_size and path.stat().st_mtime_ns == before.st_mtime_ns
    with pytest.raises(BanelError):
        check(LANES, tmp_path)
