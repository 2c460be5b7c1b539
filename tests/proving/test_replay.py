"""Proving by running again: what it disproves, what it cannot tell, samples, and agents that end their process."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from banel_leaderboard import RunRecord, run
from banel_leaderboard.command.cli import main
from banel_leaderboard.proving.parallel import Proving, draw, prove_all
from banel_leaderboard.proving.recompute import Disproved
from banel_leaderboard.proving.replay import prove
from banel_leaderboard.proving.standing import digest_of, read_attestations
from banel_leaderboard.running.lookup import CannotTell, Known, own_code
from benchmarks.forgeries.forging import Forged
from tests.proving.forged import NETWORK, SMALL, forged, one_answer
from tests.shared.small import only_run


def test_a_run_that_comes_out_different_is_disproved_only_where_it_was_made_on_such_a_machine(
    mine: Path, known: Known, tmp_path: Path
) -> None:
    def lie(f: Forged) -> None:
        f.claim(-0.01, points=slice(3, 4))

    with pytest.raises(Disproved, match=r"points\[3\]"):
        prove(forged(mine, tmp_path / "here", lie), known)
    for name in ("instructions", "numpy", "torch"):
        folder = forged(
            mine, tmp_path / name, lambda f, n=name: (lie(f), f.record["execution"]["versions"].update({n: "x"}))
        )
        with pytest.raises(CannotTell, match=rf"computed with {name} x \(here "):
            prove(folder, known)
    same = forged(mine, tmp_path / "same", lambda f: f.record["execution"]["versions"].update(instructions="AVX9"))
    prove(same, known)  # what comes out the same is proved, wherever it was made


def test_a_full_run_bound_as_failures_is_found(tmp_path: Path) -> None:
    known = own_code([NETWORK], ["tests.shared.small:Heeds"])
    run(NETWORK, "tests.shared.small:Heeds", 0, out=tmp_path / "out", feedback="full")
    folder = forged(only_run(tmp_path / "out"), tmp_path / "run", lambda f: f.bind(feedback="failures"))
    with pytest.raises(Disproved):
        prove(folder, known)


def test_exit_statuses_samples_and_attestations(
    shipped: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out, notes = tmp_path / "out", tmp_path / "notes.jsonl"
    for k in range(3):
        shutil.copytree(shipped, out / f"honest-{k}")
    assert main(["replay", str(out), "--jobs", "2", "--attest", str(notes)]) == 0
    (line,) = read_attestations(notes)  # three copies are one run
    assert line.record == digest_of(RunRecord.load(shipped / "record.json"))
    forged(shipped, out / "x-strange", lambda f: f.bind(agent="stranger"))
    assert main(["replay", str(out), "--jobs", "1"]) == 3
    forged(shipped, out / "y-liar", one_answer)
    assert main(["replay", str(out), "--jobs", "1"]) == 1
    said = capsys.readouterr()
    assert "3 of 5 proved" in said.out and "1 disproved, 1 not proved here" in said.out
    assert "disproved " in said.err and "the reward of" in said.err
    main(["replay", str(out), "--sample", "2", "--sample-seed", "5", "--jobs", "1"])
    assert "of 2 proved" in (told := capsys.readouterr().out) and "(2 of 5 drawn by seed 5)" in told
    assert main(["replay", str(out), "--attest", str(out / "inside.jsonl")]) == 2
    assert main(["replay", str(out), "--sample", "0"]) == 2


def test_a_sample_is_drawn_by_its_seed() -> None:
    folders = [Path(str(k)) for k in range(50)]
    drawn = draw(folders, 10, 3)
    assert drawn == draw(folders, 10, 3) != draw(folders, 10, 4)
    assert len(set(drawn)) == 10 and draw(folders, 99, 0) == folders


def test_an_agent_that_ends_its_process_takes_no_other_replay_with_it(mine: Path, tmp_path: Path) -> None:
    def dies(f: Forged) -> None:
        f.bind(agent="exits")

    folders = [mine, forged(mine, tmp_path / "dies", dies), mine.parent / mine.name]
    verdicts = prove_all(folders[:2], Proving((NETWORK,), (SMALL, "tests.shared.small:Exits")), jobs=2)
    assert [v.status for v in verdicts] == ["proved", "not proved here"]
    assert "its process ended" in verdicts[1].reason
