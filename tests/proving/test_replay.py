"""Proving by running again: what it disproves, what it cannot tell, samples, and agents that end their process."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from banel_agents import AGENTS
from banel_leaderboard import RunRecord, run
from banel_leaderboard.command.cli import main
from banel_leaderboard.proving.parallel import Proving, draw, prove_all
from banel_leaderboard.proving.rates import Disproved
from banel_leaderboard.proving.replay import prove
from banel_leaderboard.proving.standing import digest_of, read_attestations
from banel_leaderboard.running.lookup import CannotTell, Known, own_code
from benchmarks.forgeries.forging import Forged
from tests.proving.forged import NETWORK, SMALL, TASK, forged, one_answer, parts
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


def shifted(by: float) -> Callable[[Forged], None]:
    """A change of one point's rate, and of the ends of its interval, by so much of the larger of it and 1."""

    def change(f: Forged) -> None:
        rate = f.record["points"][3]["success"]
        step = by * max(1.0, abs(rate["log10"]))
        rate |= {name: rate[name] + step for name in ("log10", "low", "high")}

    return change


@pytest.mark.parametrize("by", [5e-10, -5e-10])
def test_a_rate_that_rounding_moved_is_proved(by: float, mine: Path, known: Known, tmp_path: Path) -> None:
    folder = forged(mine, tmp_path / "run", shifted(by))
    assert parts(folder)[0].points[3] != parts(mine)[0].points[3]
    prove(folder, known)


@pytest.mark.parametrize("by", [2e-9, -2e-9])
def test_a_rate_that_rounding_cannot_have_moved_is_disproved(
    by: float, mine: Path, known: Known, tmp_path: Path
) -> None:
    with pytest.raises(Disproved, match=r"the record's points\[3\].success.log10 is"):
        prove(forged(mine, tmp_path / "run", shifted(by)), known)


@pytest.fixture(scope="module")
def bound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of an agent that PyTorch trains, so that its bits are the processor's."""
    out = tmp_path_factory.mktemp("bound")
    run(TASK, "rnd", 0, out=out, budget=60)
    return only_run(out)


def elsewhere(f: Forged) -> None:
    """Made on another kind of processor."""
    f.record["execution"]["versions"]["instructions"] = "AVX9"


def test_a_bound_run_of_another_processor_cannot_be_told_and_a_portable_one_is_disproved(
    shipped: Path, bound: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def lie(f: Forged) -> None:
        elsewhere(f)
        shifted(2e-9)(f)

    assert AGENTS["base"].portable and not AGENTS["rnd"].portable
    for run_, status in ((shipped, 1), (bound, 3)):
        honest = forged(run_, tmp_path / str(status) / "honest", elsewhere)
        assert main(["replay", str(honest), "--jobs", "1"]) == 0
        assert main(["replay", str(forged(run_, tmp_path / str(status) / "lie", lie)), "--jobs", "1"]) == status
    said = capsys.readouterr().err
    assert "computed with instructions AVX9 (here " in said and said.count("points[3].success.log10") == 2
    # A portable agent's run is the processor's too where PyTorch computed its networks.
    torchs = forged(
        shipped, tmp_path / "torch", lambda f: (lie(f), f.record["execution"]["versions"].update(networks="torch"))
    )
    assert main(["replay", str(torchs), "--jobs", "1"]) == 3


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


@given(st.integers(1, 60), st.integers(0, 10**6))
def test_each_agent_and_regime_is_drawn_first(k: int, seed: int) -> None:
    rows = [("a", "full"), ("a", "failures"), ("b", "full")]
    counts = (40, 3, 1)
    folders = [Path(f"t/{a}/{regime}/seed-{i}") for (a, regime), n in zip(rows, counts, strict=True) for i in range(n)]
    drawn = draw(folders, k, seed)
    assert len(set(drawn)) == len(drawn) == min(k, 44)
    found = {folder.parts[-3:-1] for folder in drawn}
    assert len(found) == min(k, 3)


def test_an_agent_that_ends_its_process_takes_no_other_replay_with_it(mine: Path, tmp_path: Path) -> None:
    def dies(f: Forged) -> None:
        f.bind(agent="exits")

    folders = [mine, forged(mine, tmp_path / "dies", dies), mine.parent / mine.name]
    verdicts = prove_all(folders[:2], Proving((NETWORK,), (SMALL, "tests.shared.small:Exits")), jobs=2)
    assert [v.status for v in verdicts] == ["proved", "not proved here"]
    assert "its process ended" in verdicts[1].reason
