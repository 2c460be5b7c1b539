"""The harness on tiny tasks of its own: what a run leaves, measures, refuses and takes up again."""

from __future__ import annotations

import json
import math
import random
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

from banel_envs import Ledger, Oracle, success_rate
from banel_envs.errors import BadValue, BanelError, LedgerMismatch, UnknownName
from banel_envs.policies import COST, Mixture, Repeating, Uniform, load_policy_file
from banel_leaderboard import RunRecord, load_policy, run
from banel_leaderboard.running.evaluator import Questions, grid
from banel_leaderboard.running.harness import RunFailed
from tests.shared import harness_tasks as own
from tests.shared.harness_tasks import BUDGET, HERE, SUCCESSES, UNIFORM, T, V, rate_after

ROOT = Path(__file__).parents[2]
TASK, STEPS = HERE + "build", HERE + "Steps"


@pytest.fixture(autouse=True)
def _clean():
    for notes in (own.PAID, own.HEARD, own.SCRIPT):
        notes.clear()
    own.FAULT.update(at=None, error=None)


def steps(out, seed=0, task=TASK, agent=STEPS, **options):
    return run(task, agent, seed, out=out, **options)


def folder_of(out, record):
    regime = "twin" if record.twin else record.feedback
    return Path(out) / record.task / record.agent / regime / f"seed-{record.seed}"


def tree(folder):
    return {p.relative_to(folder): p.read_bytes() for p in sorted(Path(folder).rglob("*")) if p.is_file()}


def rates(record, rate="success"):
    return [10 ** (-math.inf if (r := getattr(p, rate)).zero else r.log10) for p in record.points]


# --- the same run is the same


def test_a_seed_fixes_ledger_record_and_policy(tmp_path):
    one, two, other = steps(tmp_path / "1"), steps(tmp_path / "2"), steps(tmp_path / "1", seed=1)
    first, second, third = (
        tree(folder_of(o, r)) for o, r in ((tmp_path / "1", one), (tmp_path / "2", two), (tmp_path / "1", other))
    )
    assert one.canonical() == two.canonical() != other.canonical()
    for name in ("ledger.jsonl", "final.safetensors"):
        assert first[Path(name)] == second[Path(name)]
    assert first[Path("ledger.jsonl")] != third[Path("ledger.jsonl")]
    assert one.ledger.head != other.ledger.head
    assert {p for p in first if p.parent.name == "grid"} == {Path(f"grid/{n:07d}.safetensors") for n in range(0, 61, 4)}


def test_running_again_repeats_nothing(tmp_path):
    record = steps(tmp_path)
    before, asked = tree(tmp_path), len(own.HEARD)
    again = steps(tmp_path)
    assert again == record and tree(tmp_path) == before and len(own.HEARD) == asked == 10


def test_load_policy_is_the_policy_at_the_budget(tmp_path):
    record = steps(tmp_path)
    policy = load_policy(folder_of(tmp_path, record))
    assert 10 ** success_rate(own.build(), policy).log10 == pytest.approx(rate_after(10))
    assert 10 ** record.final() == pytest.approx(rate_after(10))


# --- what is measured


def test_the_grid_is_sixteen_even_places():
    assert grid(60) == list(range(0, 61, 4)) and len(grid(7_500)) == 16
    assert grid(7_500) == list(range(0, 7_501, 500))
    assert grid(100)[:4] == [0, 7, 13, 20] and grid(100)[-1] == 100
    assert grid(3) == [0, 1, 2, 3]


def test_each_place_has_the_last_policy_yielded_at_or_before_it(tmp_path):
    record = steps(tmp_path)
    assert [p.nre for p in record.points] == grid(BUDGET)
    # Batches of 6: at NRE 12 the policy of the second batch stands, at NRE 16 still the second's, at 20 the third's.
    expected = [rate_after(nre // 6) for nre in grid(BUDGET)]
    np.testing.assert_allclose(rates(record), expected, rtol=1e-12)
    for nre, rate in zip(grid(BUDGET), expected, strict=True):
        policy = load_policy_file(folder_of(tmp_path, record) / "grid" / f"{nre:07d}.safetensors")
        assert 10 ** success_rate(own.build(), policy).log10 == pytest.approx(rate)


def test_an_agent_that_stops_early_keeps_its_last_policy_to_the_budget(tmp_path):
    own.SCRIPT.append([[0, 1, 2], [3, 3, 3]])
    record = steps(tmp_path, agent=HERE + "Scripted")
    assert record.ledger.count == 2 and len(record.points) == 16
    np.testing.assert_allclose(rates(record), UNIFORM)


def test_final_best_and_mixture(tmp_path):
    record = steps(tmp_path)
    curve = [rate_after(nre // 6) for nre in grid(BUDGET)]
    assert record.final() == pytest.approx(math.log10(curve[-1]))
    assert record.best() == pytest.approx(math.log10(max(curve)))
    assert record.mixture() == pytest.approx(math.log10(sum(curve) / 16))


def test_fresh_leaves_out_the_successes_already_asked(tmp_path):
    own.SCRIPT += [[[0, 1, 2]] * 7, [[3, 3, 3]], [[0, 0, 1]] * 7, [[3, 3, 2]]]  # hits at NRE 8 and 16
    record = steps(tmp_path, agent=HERE + "Scripted")
    known = [0 if p.nre < 8 else 1 if p.nre < 16 else 2 for p in record.points]
    np.testing.assert_allclose(rates(record, "fresh"), [(2 - k) / 64 for k in known])
    assert [p.fresh.zero for p in record.points] == [k == 2 for k in known]
    assert record.final("fresh") == -math.inf and record.best("fresh") == pytest.approx(math.log10(UNIFORM))
    assert record.first_success == 8 and record.successes_asked == 2


@pytest.mark.parametrize("name", ["build", "no_set", "paid"])
def test_fresh_is_never_above_success(tmp_path, name):
    record = steps(tmp_path, task=HERE + name)
    assert all(f <= s for f, s in zip(rates(record, "fresh"), rates(record), strict=True))
    assert record.successes_asked


def test_first_success_and_their_number_are_the_ledgers(tmp_path):
    for seed in range(4):
        record = steps(tmp_path, seed)
        ledger = Ledger.read(folder_of(tmp_path, record) / "ledger.jsonl")
        hits = np.flatnonzero(own.judge(np.concatenate([ledger.tokens(a) for a in ledger.asks])))
        assert record.successes_asked == len(hits)
        assert record.first_success == (hits[0] + 1 if len(hits) else None)


def test_shares_of_malformed_and_repeated_questions_by_hand(tmp_path):
    a, b, bad = [1, 1, 1], [2, 2, 2], [0, 1, 1]
    own.SCRIPT += [[a, a, bad, b], [b, bad], [bad, [1, 2, 3]], [a]]  # NRE 1-4, 5-6, 7-8, 9
    record = steps(tmp_path, task=HERE + "masked", agent=HERE + "Scripted")
    shares = [(p.nre, p.invalid, p.repeated) for p in record.points[:5]]
    assert shares == [(0, None, None), (4, 0.25, 0.25), (8, 0.5, 0.75), (12, 0.0, 1.0), (16, None, None)]


def test_without_a_grammar_nothing_is_malformed(tmp_path):
    assert {p.invalid for p in steps(tmp_path).points} == {None}


def test_questions_of_an_empty_ledger():
    oracle = Oracle(own.build())
    questions = Questions.of(oracle.problem, oracle.ledger)
    assert questions.tokens.shape == (0, T) and questions.first_success() is None
    assert questions.repeated(0, 4) is None and len(questions.successes(60)) == 0


def test_a_success_set_that_cannot_be_listed_is_sampled(tmp_path):
    record = steps(tmp_path, task=HERE + "no_set")
    for point in record.points:
        truth = math.log10(rate_after(point.nre // 6))
        assert point.success.method == "monte_carlo" and point.success.samples == 100_000
        assert point.success.log10 == pytest.approx(truth, abs=0.05)
    assert all(p.success.method == "exact" for p in steps(tmp_path).points)


def test_a_task_with_a_pool_has_certified_curves_and_more_samples_at_the_end(tmp_path):
    """What was asked is known: it raises the lower end of success, and is no part of fresh success."""
    own.SCRIPT[:] = [[[3, 3, 2], *[[0, 0, 0]] * 5], *[[[0, 0, 0]] * 6] * 9]
    record = steps(tmp_path, task=HERE + "pooled", agent=HERE + "Renews")
    first, early, *middle, last = record.points
    least = math.log10(UNIFORM / 2)  # of either success
    assert first.nre == 0 and early.nre == 4 and first.fresh == first.success
    assert [p.success.samples for p in record.points] == [20] * 15 + [2_000]
    assert {r.method for p in [first, *middle] for r in (p.success, p.fresh)} == {"certified"}
    assert all(p.success.log10 is None and not p.success.zero for p in [first, *middle])
    assert any(p.success.low == pytest.approx(least + math.log10(2)) for p in middle)  # both are known
    assert any(p.fresh.low == pytest.approx(least) for p in middle)  # what was asked is not fresh, the pool's is
    assert min(p.success.low for p in middle) >= least + math.log10(2) - 1e-9
    assert min(p.fresh.low for p in middle) >= least - 1e-9
    assert all(p.success.high >= math.log10(UNIFORM) for p in middle)
    assert last.success.low <= math.log10(UNIFORM) + 1e-9 and last.success.high - last.success.low < 0.4


def test_a_policy_yielded_again_is_measured_once(tmp_path):
    record = steps(tmp_path, task=HERE + "no_set", agent=HERE + "Twice")
    assert len({p.success.log10 for p in record.points}) == 1
    files = {p.stat().st_ino for p in (folder_of(tmp_path, record) / "grid").iterdir()}
    assert len(files) == 1


def test_a_record_states_how_rough_its_policies_say_they_are(tmp_path):
    plain, rough = steps(tmp_path), steps(tmp_path, agent=HERE + "Rough")
    assert (plain.tolerance, rough.tolerance) == (None, 0.3)
    assert '"tolerance"' not in plain.canonical()  # it is what it was before records had this field
    assert RunRecord.load(folder_of(tmp_path, rough) / "record.json").tolerance == 0.3


def test_a_paid_reward_is_asked_on_the_meter_only(tmp_path):
    record = steps(tmp_path, task=HERE + "paid")
    ledger = Ledger.read(folder_of(tmp_path, record) / "ledger.jsonl")
    asked = np.concatenate([ledger.tokens(a) for a in ledger.asks])
    assert list(map(tuple, asked.tolist())) == own.PAID and len(own.PAID) == BUDGET
    hits = own.judge(asked)
    for before, point in zip([0, *grid(BUDGET)], record.points, strict=False):
        window = hits[before : point.nre]
        assert point.success.method == "asked" and point.success.samples == len(window)
        assert point.success.zero == (not window.any())
        if window.any():
            assert 10**point.success.log10 == pytest.approx(window.mean())
    assert hits.any(), "the seed meets no success: the shares were not compared"


def test_evaluation_leaves_global_generators_and_counters_alone(tmp_path):
    random.seed(1), np.random.seed(1), torch.manual_seed(1)
    states = random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist()
    before = COST.sampled, COST.scored
    record = steps(tmp_path, task=HERE + "no_set")  # 16 places of 100,000 samples
    assert states == (random.getstate(), np.random.get_state()[1].tolist(), torch.get_rng_state().tolist())
    spent = COST.sampled - before[0], COST.scored - before[1]
    assert (record.work.sampled, record.work.scored) == spent and sum(spent) <= BUDGET * T


def test_what_an_agent_reports_is_kept_beside(tmp_path):
    record = steps(tmp_path)
    assert record.reported["members"] == [(6 * k, k + 1.0) for k in range(1, 11)]


# --- budget, settings, twins


def test_settings_make_it_tuned_and_a_budget_takes_it_off_the_board(tmp_path):
    plain, tuned, short = (
        steps(tmp_path / "a"),
        steps(tmp_path / "b", settings={"batch": 5}),
        steps(tmp_path / "c", budget=30),
    )
    assert (plain.tuned, plain.off_board, plain.config) == (False, False, {"batch": 6})
    assert (tuned.tuned, tuned.off_board, tuned.config) == (True, False, {"batch": 5})
    assert (short.tuned, short.off_board, short.budget) == (False, True, 30)
    assert steps(tmp_path / "d", settings={"batch": 6}).tuned is False


def test_running_out_of_budget_is_a_normal_end(tmp_path):
    record = steps(tmp_path, agent=HERE + "Overdraws")
    assert record.ledger.count == 56 and len(record.points) == 16  # 8 batches of 7; the ninth was refused whole
    assert json.loads((folder_of(tmp_path, record) / "run.json").read_text())["status"] == "finished"


def test_a_twin_never_calls_the_reward_and_hears_failure(tmp_path):
    record = steps(tmp_path, task=HERE + "paid", twin=True)
    assert own.PAID == [] and record.twin and record.successes_asked == 0
    assert len(own.HEARD) == 10 and all((answers == 0).all() for answers in own.HEARD)


def test_withheld_successes_are_nan_and_full_tells_them(tmp_path):
    steps(tmp_path, seed=0), steps(tmp_path, seed=0, feedback="full")
    withheld, told = np.concatenate(own.HEARD[:10]), np.concatenate(own.HEARD[10:])
    assert (told == 1).any() and np.array_equal(np.isnan(withheld), told == 1)


# --- failing and going on


def test_a_run_that_fails_keeps_its_answers_and_goes_on(tmp_path):
    straight = steps(tmp_path / "straight")
    own.HEARD.clear()
    own.FAULT.update(at=24, error=ZeroDivisionError("a slip"))
    with pytest.raises(RunFailed, match="ZeroDivisionError: a slip"):
        steps(tmp_path / "out", task=TASK)
    folder = folder_of(tmp_path / "out", straight)
    status = json.loads((folder / "run.json").read_text())
    assert status["status"] == "failed" and "a slip" in status["error"]
    assert not (folder / "record.json").exists() and Ledger.read(folder / "ledger.jsonl").count == 24
    own.FAULT["at"] = None
    record = steps(tmp_path / "out")
    assert record.execution.resumed == 1 and straight.execution.resumed == 0
    assert record.canonical() == straight.canonical()
    assert (
        tree(folder)[Path("ledger.jsonl")]
        == tree(tmp_path / "straight")[folder.relative_to(tmp_path / "out") / "ledger.jsonl"]
    )


def test_going_on_pays_for_nothing_twice(tmp_path):
    own.FAULT.update(at=24, error=ZeroDivisionError())
    with pytest.raises(RunFailed):
        steps(tmp_path, task=HERE + "paid")
    assert len(own.PAID) == 24
    own.FAULT["at"] = None
    steps(tmp_path, task=HERE + "paid")
    assert len(own.PAID) == BUDGET


def test_an_agent_that_yields_nothing_is_told_so(tmp_path):
    with pytest.raises(RunFailed, match="silent yielded no policy; yield the base policy before the first question"):
        steps(tmp_path, agent=HERE + "Silent")


def test_an_agent_that_asks_before_its_first_yield_is_told_so(tmp_path):
    with pytest.raises(
        RunFailed, match=r"early asked 2 sequences before its first yield.*yield the base policy before"
    ):
        steps(tmp_path, agent=HERE + "Early")


def test_a_run_that_failed_before_its_first_question_bars_no_folder(tmp_path):
    with pytest.raises(RunFailed, match="six at once"):
        steps(tmp_path, agent=HERE + "Unmade", settings={"batch": 5})
    record = steps(tmp_path, agent=HERE + "Unmade")
    assert record.config == {"batch": 6} and record.ledger.count == BUDGET


def test_a_finished_run_without_a_question_is_left_as_it_is(tmp_path):
    record = steps(tmp_path, agent=HERE + "Scripted")
    assert record.ledger.count == 0
    before = tree(tmp_path)
    with pytest.raises(LedgerMismatch, match="belongs to another run"):
        steps(tmp_path, agent=HERE + "Scripted", settings={"batch": 5})
    assert tree(tmp_path) == before
    assert steps(tmp_path, agent=HERE + "Scripted") == record


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("record.json", b"", "record.json is not a record"),
        ("record.json", b'{"schema_number": 1, "ta', "record.json is not a record"),
        ("final.safetensors", b"cut", "policy_sha256 is .* final.safetensors has"),
    ],
    ids=["an empty record", "a cut record", "a cut policy"],
)
def test_a_finished_run_that_was_damaged_is_not_kept_and_can_be_made_again(tmp_path, name, content, says):
    record = steps(tmp_path)
    folder = folder_of(tmp_path, record)
    (folder / "grid").rename(tmp_path / "grid")  # the final policy is a link to one of these
    (folder / name).unlink()
    (folder / name).write_bytes(content)
    with pytest.raises(BanelError, match=f"{says}.*restore the file, or remove .*record.json"):
        steps(tmp_path)
    (folder / "record.json").unlink()
    own.HEARD.clear()
    again = steps(tmp_path)
    assert again.canonical() == record.canonical() and steps(tmp_path) == again


def test_a_record_of_another_seed_is_not_kept(tmp_path):
    record = steps(tmp_path)
    path = folder_of(tmp_path, record) / "record.json"
    path.write_text(path.read_text().replace('"seed": 0', '"seed": 1'))
    with pytest.raises(LedgerMismatch, match="seed is 1 in the record and 0 in its ledger; restore"):
        steps(tmp_path)


@pytest.mark.parametrize(
    "change", [{"budget": 30}, {"settings": {"batch": 5}}], ids=["another budget", "other settings"]
)
@pytest.mark.parametrize("complete", [True, False])
def test_a_folder_with_another_run_is_left_as_it_is(tmp_path, change, complete):
    if not complete:
        own.FAULT.update(at=24, error=ZeroDivisionError())
        with pytest.raises(RunFailed):
            steps(tmp_path)
        own.FAULT["at"] = None
    else:
        steps(tmp_path)
    before = tree(tmp_path)
    with pytest.raises(LedgerMismatch):
        steps(tmp_path, **change)
    assert tree(tmp_path) == before


def test_a_record_without_its_ledger_is_left_as_it_is(tmp_path):
    record = steps(tmp_path)
    (folder_of(tmp_path, record) / "ledger.jsonl").unlink()
    before = tree(tmp_path)
    with pytest.raises(LedgerMismatch, match="without its ledger"):
        steps(tmp_path)
    assert tree(tmp_path) == before


def test_a_record_of_another_ledger_is_refused(tmp_path):
    record = steps(tmp_path)
    path = folder_of(tmp_path, record) / "record.json"
    path.write_text(path.read_text().replace(record.ledger.head, "0" * 64))
    with pytest.raises(LedgerMismatch, match="one of them was changed"):
        steps(tmp_path)


@pytest.mark.parametrize("below", ["", "deeper/still"])
def test_a_file_where_the_folder_should_be(tmp_path, below):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(BadValue, match="is a file"):
        steps(tmp_path / "file" / below)
    assert tree(tmp_path) == {Path("file"): b"mine"}


@pytest.mark.parametrize(
    ("change", "kind", "says"),
    [
        ({"seed": -1}, BadValue, "at least 0"),
        ({"seed": True}, BadValue, "whole number"),
        ({"budget": 0}, BadValue, "at least 1"),
        ({"budget": 1.5}, BadValue, "whole number"),
        ({"feedback": "loud"}, BadValue, "full, failures, typed"),
        ({"settings": {"batches": 5}}, BadValue, "batch"),
        ({"settings": {"batch": "x"}}, BadValue, "whole number"),
        ({"device": "abacus"}, BadValue, "cpu or cuda"),
        ({"task": "own/None-v0"}, UnknownName, "the tasks are"),
        ({"task": HERE + "nothing"}, BadValue, "module:function"),
        ({"task": "no.such.module:build"}, BadValue, "module:function"),
        ({"task": HERE + "not_a_task"}, BadValue, "banel_envs.Task"),
        ({"task": HERE + "raises"}, BadValue, "no reward machine"),
        ({"task": ":build"}, BadValue, "module:function"),
        ({"agent": "nobody"}, UnknownName, "the agents are"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(tmp_path, change, kind, says):
    with pytest.raises(kind, match=says) as raised:
        steps(tmp_path / "out", **change)
    assert isinstance(raised.value, BanelError) and not (tmp_path / "out").exists()


# --- the package


@pytest.mark.parametrize(
    "before", ["", "import banel_leaderboard.running.harness;", "import banel_leaderboard.command.cli;"]
)
def test_run_is_the_function_whatever_was_imported_before(before):
    code = f"{before}from banel_leaderboard import run, RunRecord, load_policy; print(callable(run), run.__module__)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.split() == ["True", "banel_leaderboard.running.harness"]


def test_the_package_names_what_it_exports():
    import banel_leaderboard

    assert set(banel_leaderboard.__all__) >= {"RunRecord", "load_policy", "run"}
    assert all(getattr(banel_leaderboard, name) is not None for name in banel_leaderboard.__all__)
    assert banel_leaderboard.RunRecord is RunRecord
    with pytest.raises(AttributeError, match="nothing"):
        _ = banel_leaderboard.nothing


def test_the_folders_around_the_packages_are_no_packages():
    assert not (ROOT / "agents" / "__init__.py").exists() and not (ROOT / "leaderboard" / "__init__.py").exists()


def test_importing_the_core_loads_nothing_heavy():
    code = "import sys, banel_envs; print(sorted({'torch', 'tqdm', 'pandas', 'gymnasium'} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert out.strip() == "['gymnasium']"


def test_the_tiny_task_is_what_it_says():
    task = own.build()
    assert 10 ** success_rate(task, Uniform(V, T, None)).log10 == pytest.approx(UNIFORM)
    mixed = Mixture([Uniform(V, T, None), Repeating(SUCCESSES[0], V)])
    assert 10 ** success_rate(task, mixed).log10 == pytest.approx(rate_after(1))
