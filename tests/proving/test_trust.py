"""What a liar may try, and what becomes of it: names that reach code, invented answers, typed rates, chosen seeds."""

from __future__ import annotations

import dataclasses
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from banel_envs import TASKS, Ledger
from banel_envs.errors import BadValue
from banel_envs.policies import Mixture, load_policy_file
from banel_envs.policies.filtered import Filtered
from banel_leaderboard import RunRecord, run
from banel_leaderboard.board.ranking import make_boards, marks
from banel_leaderboard.board.seed_sets import incomplete, seeds_text
from banel_leaderboard.command.cli import main
from banel_leaderboard.proving import cache
from banel_leaderboard.proving.load import load_runs
from banel_leaderboard.proving.parallel import Proving, draw, prove_all
from banel_leaderboard.proving.recompute import (
    Disproved,
    check_answers,
    check_package_facts,
    check_rates,
    recorded_task,
)
from banel_leaderboard.proving.replay import prove
from banel_leaderboard.proving.standing import Standing, attest, digest_of, read_attestations, write_attestations
from banel_leaderboard.records.record import RecordError
from banel_leaderboard.running.lookup import CannotTell, Known, own_code
from benchmarks.forging import Forged
from tests.shared.runs import HIT_AT_5, make_run
from tests.shared.small import only_run

TASK = "banel/Gaussian1D-v0"
NETWORK, SMALL = "tests.shared.small:network", "tests.shared.small:Small"


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.VARIABLE, str(tmp_path_factory.mktemp("cache")))


@pytest.fixture(scope="module")
def shipped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a shipped task and agent; nobody writes into it."""
    out = tmp_path_factory.mktemp("shipped")
    run(TASK, "base", 0, out=out, budget=60)
    return only_run(out)


@pytest.fixture(scope="module")
def mine(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run of a task and an agent of one's own; nobody writes into it."""
    out = tmp_path_factory.mktemp("mine")
    run(NETWORK, SMALL, 0, out=out)
    return only_run(out)


@pytest.fixture(scope="module")
def known() -> Known:
    return own_code([NETWORK], [SMALL])


def parts(folder: Path) -> tuple[RunRecord, Ledger]:
    return RunRecord.load(folder / "record.json"), Ledger.read(folder / "ledger.jsonl")


def forged(folder: Path, copy: Path, change: Callable[[Forged], object]) -> Path:
    """A copy of a run with a change in it, sealed again."""
    shutil.copytree(folder, copy)
    run = Forged.read(folder)
    change(run)
    run.write(copy)
    return copy


# Names in files


@pytest.mark.parametrize("name", ["evil_module:thing", "os:abort", "evil_module", "tests.shared.small:network"])
@pytest.mark.parametrize("field", ["task", "agent"])
@pytest.mark.parametrize("bound", [False, True])
def test_a_name_in_a_file_never_reaches_code(
    shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, field: str, name: str, bound: bool
) -> None:
    """Whether run.json says it, which is not read, or the record and the ledger do."""
    (tmp_path / "evil_module.py").write_text("raise SystemExit('imported')")
    monkeypatch.chdir(tmp_path)
    change: Any = (lambda f: f.bind(**{field: name})) if bound else (lambda f: f.status.update({field: name}))
    folder = forged(shipped, tmp_path / "run", change)
    codes = [main(a) for a in (["replay", "run"], ["show", "run", "-n", "1"], ["board", "run", "--out", "page.md"])]
    a_name = field == "agent" and name == "evil_module"  # the others are no names that a record may hold
    shown = 2 if bound and not a_name else 0
    assert codes == [0 if not bound else 3 if a_name else 1, shown, 0]
    assert "evil_module" not in sys.modules
    if bound:
        with pytest.raises(CannotTell if a_name else RecordError, match=r"--agent module:Class|should match pattern"):
            prove(folder)
    else:
        prove(folder)


def test_code_of_ones_own_is_named_on_the_command_line_and_stands_for_its_own_name_only(
    mine: Path, known: Known
) -> None:
    with pytest.raises(CannotTell, match="'test/Network-v0' is not registered here; name its code with --task"):
        prove(mine)
    assert prove(mine, known).answers is None
    with pytest.raises(CannotTell, match="the agent 'small' does not ship here"):
        prove(mine, own_code([NETWORK]))
    with pytest.raises(BadValue, match="agent 'base' ships with the package"):
        own_code(agents=["banel_agents.controls:Base"])


def test_no_module_of_the_working_folder_stands_in_for_an_installed_one(shipped: Path, tmp_path: Path) -> None:
    """In the command, in its workers, in an isolated agent's process and in a pool of replays."""
    for name in ("pydantic", "numpy", "json", "multiprocessing", "banel_agents", "torch"):
        (tmp_path / f"{name}.py").write_text(f"open('{name}.imported', 'w')")
    runs = tmp_path / "runs"
    for k in range(2):
        shutil.copytree(shipped, runs / str(k))
    program = Path(sys.executable).with_name("banel")
    for arguments in (
        ["replay", "runs", "--jobs", "2"],
        ["run", "--task", TASK, "--agent", "base", "--budget", "20", "--isolate", "--out", "out"],
    ):
        done = subprocess.run([program, *arguments], cwd=tmp_path, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
    assert not list(tmp_path.glob("*.imported"))


# Answers


def _invent(f: Forged) -> None:
    for _, rewards in f.asks:
        rewards[:] = np.arange(len(rewards)) % 7 == 0


def _one(f: Forged) -> None:
    f.asks[-1][1][-1] ^= 1


@pytest.mark.parametrize("lie", [_invent, _one])
def test_answers_that_are_not_the_tasks_are_disproved(
    shipped: Path, tmp_path: Path, lie: Callable[[Forged], None]
) -> None:
    folder = forged(shipped, tmp_path / "run", lie)
    with pytest.raises(
        Disproved, match=r"the answer at NRE \d+ \(question \d+\) is \d in the ledger; the reward of '.*' is"
    ):
        prove(folder)
    (refused,) = load_runs(tmp_path).refused
    assert "in the ledger; the reward of" in refused.reason


def test_a_twin_was_told_failure_and_nothing_else(tmp_path: Path) -> None:
    run(NETWORK, SMALL, 0, out=tmp_path, twin=True)
    record, ledger = parts(only_run(tmp_path))
    known = own_code([NETWORK], [SMALL])
    task = recorded_task(record, ledger, known)
    check_answers(record, ledger, task)
    with pytest.raises(Disproved, match="is 0 in the ledger"):
        check_answers(record.model_copy(update={"twin": False}), ledger, task)


def test_real_valued_answers_are_compared_as_they_are(tmp_path: Path) -> None:
    run("tests.shared.small:graded", SMALL, 0, out=tmp_path)
    known = own_code(["tests.shared.small:graded"], [SMALL])
    record, ledger = parts(only_run(tmp_path))
    check_answers(record, ledger, recorded_task(record, ledger, known))
    values = ledger.asks[0].values
    assert values is not None
    values[0] += 1e-9
    with pytest.raises(Disproved, match="1 answers are wrong"):
        check_answers(record, ledger, recorded_task(record, ledger, known))


def test_where_other_versions_judged_nothing_is_disproved(mine: Path, known: Known) -> None:
    record, ledger = parts(mine)
    task = dataclasses.replace(recorded_task(record, ledger, known), judges=("numpy",))
    with pytest.raises(CannotTell, match="libraries of unknown versions; here is numpy"):
        check_answers(record, ledger, task)
    ledger.header["judges"] = {"numpy": "0.1"}
    with pytest.raises(CannotTell, match=r"judged with numpy 0\.1; here is numpy"):
        check_answers(record, ledger, task)
    ledger.header["judges"] = {"numpy": np.__version__}
    check_answers(record, ledger, task)


def test_checked_answers_are_kept_by_the_files_bytes(
    shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    task = TASKS[TASK]
    counting = dataclasses.replace(task, reward=lambda tokens: asked.append(len(tokens)) or task.reward(tokens))
    monkeypatch.setitem(TASKS._built, TASK, counting)
    for _ in range(2):
        record, ledger = parts(shipped)
        check_answers(record, ledger, recorded_task(record, ledger, Known()))
    assert asked == [60]
    folder = forged(shipped, tmp_path / "run", _one)  # another line, so other bytes
    record, ledger = parts(folder)
    for _ in range(2):  # a failed check is never kept
        with pytest.raises(Disproved):
            check_answers(record, ledger, recorded_task(record, ledger, Known()))
    assert asked == [60, 60, 60]
    monkeypatch.setenv(cache.VARIABLE, "off")
    record, ledger = parts(shipped)
    check_answers(record, ledger, recorded_task(record, ledger, Known()))
    assert asked == [60] * 4


@pytest.mark.parametrize("harm", ["a file", "no database"])
def test_a_cache_that_cannot_be_used_costs_nothing_but_time(
    harm: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = tmp_path / "place"
    if harm == "a file":
        place.write_text("")
    else:
        place.mkdir()
        (place / "verified.sqlite").write_bytes(b"not a database" * 100)
    monkeypatch.setenv(cache.VARIABLE, str(place))
    cache.note("a")
    assert not cache.passed("a")


# Rates, and the package's facts


def test_final_rates_are_recomputed_from_the_stored_policy(mine: Path, known: Known, tmp_path: Path) -> None:
    record, ledger = parts(mine)
    task = recorded_task(record, ledger, known)
    check_rates(record, ledger, task, mine)
    for lie, says in (
        (lambda f: f.claim(-0.01, "success"), r"final success is 10\^-0\.010000.* in the record, recomputed 10\^"),
        (lambda f: f.claim(-np.inf, "fresh"), "final fresh is zero"),
        (lambda f: f.record["points"][-1]["success"].update(effective=40.0), "on 40 successes in the record"),
        (lambda f: setattr(f, "policy", (f.policy or b"") + b" "), "policy_sha256 is"),
    ):
        folder = forged(mine, tmp_path / says[:9].replace("/", "") / str(len(list(tmp_path.iterdir()))), lie)
        record, ledger = parts(folder)
        with pytest.raises(Disproved, match=says):
            check_rates(record, ledger, task, folder)
    for lie, says in (
        (lambda f: f.record.update(policy_sha256=None), "has no stored form"),
        (lambda f: setattr(f, "policy", None), "is not in the folder"),
    ):
        folder = forged(mine, tmp_path / says[:5], lie)
        with pytest.raises(CannotTell, match=says):
            check_rates(*parts(folder), task, folder)


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"off_board": False}, "off_board is False in the record; the budget and the ledger make it True"),
        ({"tuned": True}, "tuned is True in the record"),
        ({"config": {"batch": 7}}, "tuned is False in the record; beside the agent's default settings it is True"),
        ({"config": {"batch": 500.0}}, "the agent writes these settings as {'batch': 500}|it must be a whole number"),
        ({"budget": 61}, "a budget of 61 is measured at"),
    ],
)
def test_what_the_package_decides_is_not_taken_from_the_record(
    shipped: Path, change: dict[str, Any], says: str
) -> None:
    record, _ = parts(shipped)
    check_package_facts(record, Known())
    with pytest.raises((Disproved, BadValue), match=says):
        check_package_facts(record.model_copy(update=change), Known())


def test_settings_that_are_none_of_the_agents_are_refused(shipped: Path) -> None:
    record, _ = parts(shipped)
    with pytest.raises(BadValue, match="no setting 'luck'"):
        check_package_facts(record.model_copy(update={"config": {"luck": 1}, "tuned": True}), Known())


@pytest.mark.parametrize(("name", "value"), [("vocabulary", 11), ("horizon", 4)])
def test_a_ledger_of_other_sequences_is_disproved(shipped: Path, name: str, value: int) -> None:
    record, ledger = parts(shipped)
    ledger.header[name] = value
    with pytest.raises(Disproved, match=f"{name} is {value} in the ledger"):
        recorded_task(record, ledger, Known())


# Replay


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
    forged(shipped, out / "y-liar", _one)
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


# The board


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
        f.policy, f.record["policy_sha256"] = None, None

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
        ("me/Sum-v0", (0, 2), "its seeds are 0, 2; a complete set is 0-1"),
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


# What an attacker of our own found


def test_tokens_that_no_oracle_takes_are_disproved_and_the_other_runs_stay(shipped: Path, tmp_path: Path) -> None:
    """Outside the vocabulary but within its bits, and after the end token."""

    def beyond(f: Forged) -> None:
        f.asks[0][0][0, 0] = 15  # Gaussian1D has 10 tokens, in 4 bits

    shutil.copytree(shipped, tmp_path / "honest")
    folder = forged(shipped, tmp_path / "forged", lambda f: (beyond(f), f.bind(seed=1)))
    loaded = load_runs(tmp_path)
    assert [r.path for r in loaded.runs] == ["honest"]
    assert "are no sequences of banel/Gaussian1D-v0: token 15" in loaded.refused[0].reason
    with pytest.raises(Disproved, match="token 15"):
        prove(folder)


@pytest.mark.parametrize("wrap", [False, True])
def test_a_filtered_policy_inside_another_is_no_probability(
    wrap: bool, mine: Path, known: Known, tmp_path: Path
) -> None:
    """Each level passes everything and claims a third: k levels would claim 3^k times the rate."""

    def nested(f: Forged) -> None:
        (tmp_path / "old").write_bytes(f.policy or b"")
        inner: Any = load_policy_file(tmp_path / "old")
        f.use(Mixture([Filtered(inner, [], [], 3, 1)]) if wrap else Filtered(inner, [], [], 3, 1), tmp_path / "new")

    folder = forged(mine, tmp_path / "run", nested)
    record, ledger = parts(folder)
    with pytest.raises(Disproved, match="stands inside a Mixture" if wrap else "rests on 3 proposals"):
        check_rates(record, ledger, recorded_task(record, ledger, known), folder)


def test_a_number_inside_a_typed_interval_is_compared_too(tmp_path: Path) -> None:
    run("tests.shared.small:unlisted", SMALL, 0, out=tmp_path / "out")
    honest, known = only_run(tmp_path / "out"), own_code(["tests.shared.small:unlisted"], [SMALL])
    record, ledger = parts(honest)
    check_rates(record, ledger, recorded_task(record, ledger, known), honest)

    def wide(f: Forged) -> None:
        for rate in ("success", "fresh"):
            f.record["points"][-1][rate].update(log10=-0.0001, low=-9.0, high=0.0)

    folder = forged(honest, tmp_path / "wide", wide)
    with pytest.raises(CannotTell, match="too far apart"):
        check_rates(*parts(folder), recorded_task(record, ledger, known), folder)


def test_a_policy_swapped_under_an_honest_record_is_found_by_replay_and_board(
    mine: Path, known: Known, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    shutil.copytree(mine, out / "run")
    note = attest(prove(mine, known).record)
    (out / "run" / "final.safetensors").write_bytes((mine / "final.safetensors").read_bytes() + b" ")
    with pytest.raises(Disproved, match="policy_sha256"):
        prove(out / "run", known)
    assert "policy_sha256" in load_runs(out, known, [note]).refused[0].reason


def test_a_copy_that_proves_less_does_not_take_a_runs_place(mine: Path, known: Known, tmp_path: Path) -> None:
    shutil.copytree(mine, tmp_path / "z-honest")

    def typed(f: Forged) -> None:
        f.policy, f.record["policy_sha256"] = None, None

    forged(mine, tmp_path / "a-copy", typed)
    loaded = load_runs(tmp_path, known)
    assert [r.path for r in loaded.runs] == ["z-honest"] and loaded.refused[0].path == "a-copy"


def test_inherited_answers_are_not_hidden(mine: Path, known: Known, tmp_path: Path) -> None:
    forged(mine, tmp_path / "run", lambda f: f.header.update(inherits="a" * 64))
    assert "inherits is None in the record" in load_runs(tmp_path, known).refused[0].reason
