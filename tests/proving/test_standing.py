"""What a board believes: reported, recomputed and replayed runs, attestations, seeds that were chosen, runs that were copied."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from banel_envs.errors import BadValue
from banel_leaderboard.proving.load import load_runs
from banel_leaderboard.proving.replay import prove
from banel_leaderboard.proving.standing import Standing, attest, read_attestations, write_attestations
from banel_leaderboard.ranking.boards import make_boards
from banel_leaderboard.ranking.marks import marks
from banel_leaderboard.ranking.seed_sets import incomplete, seeds_text
from banel_leaderboard.running.lookup import Known
from benchmarks.forgeries.forging import Forged
from tests.proving.forged import forged
from tests.shared.runs import HIT_AT_5, make_run


def standing(out: Path, **how: Any) -> dict[str, Any]:
    boards = make_boards(load_runs(out, **how).runs)
    return {row.first.agent: row for board in boards for table in board.tables for row in table.rows}


def test_the_ladder(mine: Path, known: Known, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(mine, out / "run")
    assert standing(out)["small"].rates == Standing.REPORTED  # nobody here knows the task
    row = standing(out, known=known)["small"]
    assert (row.answers, row.rates, row.rank) == (Standing.RECOMPUTED, Standing.RECOMPUTED, 1)
    note = attest(prove(mine, known).record)
    assert standing(out, known=known, attestations=[note])["small"].rates == Standing.REPLAYED
    other = note.model_copy(update={"record": "0" * 64})
    assert standing(out, known=known, attestations=[other])["small"].rates == Standing.RECOMPUTED
    (out / "run" / "final.safetensors").unlink()
    row = standing(out, known=known)["small"]
    assert (row.answers, row.rates) == (Standing.RECOMPUTED, Standing.REPORTED)


def test_a_typed_rate_has_no_rank_beside_a_recomputed_one(mine: Path, known: Known, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(mine, out / "honest")

    def typed(f: Forged) -> None:
        f.bind(agent="liar")
        f.claim(-0.001, points=slice(1, None))
        f.policy, f.record["policy_sha256"], f.record["unasked"] = None, None, None

    forged(mine, out / "liar", typed)
    rows = standing(out, known=known)
    assert rows["small"].rank == 1 and rows["liar"].rank is None
    assert any("not ranked: its rates are only reported" in mark for mark in marks(rows["liar"]))


def test_attestations_inside_the_folder_are_not_believed(mine: Path, known: Known, tmp_path: Path) -> None:
    out = tmp_path / "out"
    shutil.copytree(mine, out / "run")
    write_attestations(out / "a.jsonl", [attest(prove(mine, known).record)])
    assert standing(out, known=known)["small"].rates == Standing.RECOMPUTED
    with pytest.raises(BadValue, match="attestations are kept outside what they speak of"):
        read_attestations(out / "a.jsonl", outside=out)
    (tmp_path / "bad.jsonl").write_text('{"attestation": 1}\n')
    with pytest.raises(BadValue, match=r"bad\.jsonl, line 1: record: Field required"):
        read_attestations(tmp_path / "bad.jsonl")


@pytest.mark.parametrize(
    ("task", "seeds", "wrong"),
    [
        ("banel/AdditionAttack-v0", range(10), None),
        ("banel/AdditionAttack-v0", (1, 0), None),
        ("banel/AdditionAttack-v0", (0,), "its seeds are 0; a complete set is 0-1 or 0-4 or 0-9"),
        ("banel/AdditionAttack-v0", (0, 3, 7), "its seeds are 0, 3, 7"),
        ("banel/AdditionAttack-v0", range(1, 6), "its seeds are 1-5"),
        ("banel/Proof-v0", range(5), None),
        ("banel/Proof-v0", (0, 1), "a complete set is 0-4"),
        ("me/Sum-v0", range(3), None),
        ("me/Sum-v0", (0, 2), "its seeds are 0, 2; they must be 0, 1, ... without a gap"),
    ],
)
def test_seeds_are_those_of_a_suite(task: str, seeds: Any, wrong: str | None) -> None:
    said = incomplete(task, list(seeds))
    assert said is None if wrong is None else said is not None and wrong in said


def test_seeds_as_text() -> None:
    assert [seeds_text(s) for s in ((3,), (0, 1, 2), (0, 2))] == ["3", "0-2", "0, 2"]


def test_a_copied_seed_counts_once_and_says_so(tmp_path: Path) -> None:
    make_run(tmp_path / "a", seed=0, ask=HIT_AT_5)
    make_run(tmp_path / "b", seed=1, ask=HIT_AT_5)
    for seed in (2, 3):
        forged(next((tmp_path / "a").rglob("seed-0")), tmp_path / f"copy-{seed}", lambda f, s=seed: f.bind(seed=s))
    row = standing(tmp_path)["base"]
    assert len(row.runs) == 2 and row.copies == {2: 0, 3: 0}
    assert marks(row) == ["seeds 2-3 asked the same questions as seed 0: counted as one run"]


def test_a_copy_in_other_batches_is_a_copy(tmp_path: Path) -> None:
    def split_first_question(copy: Forged) -> None:
        copy.bind(seed=1)
        tokens, rewards = copy.asks[0]
        copy.asks[:1] = [(tokens[:1], rewards[:1]), (tokens[1:], rewards[1:])]

    make_run(tmp_path / "a", seed=0, ask=HIT_AT_5)
    forged(next((tmp_path / "a").rglob("seed-0")), tmp_path / "copy", split_first_question)
    assert standing(tmp_path)["base"].copies == {1: 0}
