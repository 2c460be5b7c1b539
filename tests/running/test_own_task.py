"""Tasks of one's own: what tells their versions apart, how often they are built, and which names they may not take."""

from __future__ import annotations

import importlib
import sys

import pytest

from banel_envs import TASKS
from banel_envs.errors import BadValue, LedgerMismatch
from banel_leaderboard import run
from banel_leaderboard.records.spec import Spec, load_agent, load_task
from banel_leaderboard.running.resolve import finished_record
from tests.shared.harness_tasks import HERE

STEPS = HERE + "Steps"
SOURCE = """
import numpy as np
from banel_envs import Problem, Task
from banel_envs.policies import Repeating, Uniform

CALLS = []
LEAST = 5

def reward(tokens):
    return (tokens.sum(axis=1) >= LEAST).astype(np.int8)

def seeded(seed):
    return Task(PROBLEM, reward, free_evaluation=False)

PROBLEM = Problem("me/Own-v0", tuple("abcd"), 3, 30, base=lambda: Uniform(4, 3, None))

def build():
    CALLS.append(1)
    return Task(PROBLEM, reward, seeded=seeded)
"""


@pytest.fixture
def written(tmp_path, monkeypatch):
    """Writes the module of a task of one's own, as a new process would import it; the module."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)

    def write(old="", new="", name="own_module"):
        assert old in SOURCE
        (tmp_path / f"{name}.py").write_text(SOURCE.replace(old, new) if old else SOURCE)
        sys.modules.pop(name, None)
        importlib.invalidate_caches()
        return importlib.import_module(name)

    yield write
    for name in ("own_module", "taken_module"):
        sys.modules.pop(name, None)


def test_a_task_without_a_digest_gets_one_that_tells_its_versions_apart(written):
    written()
    first = load_task("own_module:build")
    assert len(first.digest) == 64 and first.of_seed(3).digest == first.digest
    written()
    assert load_task("own_module:build").digest == first.digest
    found = {first.digest}
    for old, new in (
        ("LEAST = 5", "LEAST = 6"),
        ("3, 30, base", "3, 31, base"),
        ("Uniform(4, 3, None))", "Uniform(4, 3, 0))"),
    ):
        written(old, new)
        found.add(load_task("own_module:build").digest)
    assert len(found) == 4
    written("seeded=seeded", "digest='mine'")
    assert load_task("own_module:build").digest == "mine"


def test_the_base_policy_and_the_prompt_are_part_of_the_digest(written, monkeypatch):
    """Where the file is the same, and what it makes is not."""
    import dataclasses

    from banel_envs.policies import Tempered, Uniform
    from banel_envs.task import with_digest

    module = written()
    task = module.build()
    problems = [
        task.problem,
        dataclasses.replace(task.problem, prompt="another"),
        dataclasses.replace(task.problem, base=lambda: Tempered(Uniform(4, 3, None), 2.0)),
    ]
    made = {with_digest(dataclasses.replace(task, problem=p), module.build).digest for p in problems}
    assert len(made) == 3 and "" not in made


def test_a_run_of_another_version_is_neither_kept_nor_gone_on_with(written, tmp_path):
    written()
    out = tmp_path / "out"
    record = run("own_module:build", STEPS, out=out)
    assert record.digest and run("own_module:build", STEPS, out=out) == record
    written("LEAST = 5", "LEAST = 6")
    with pytest.raises(LedgerMismatch, match=r"another version of the task 'me/Own-v0'.*restore.*another folder"):
        run("own_module:build", STEPS, out=out)


def test_the_function_is_called_once_for_many_runs(written, tmp_path, monkeypatch):
    module = written()
    for seed in (0, 1):
        run("own_module:build", STEPS, seed, out=tmp_path / "out")
        finished_record(Spec(task="own_module:build", agent=STEPS, seed=seed), tmp_path / "out")
    assert len(module.CALLS) == 1
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    load_task("own_module:build")
    assert len(module.CALLS) == 2
    module.LEAST = 6
    load_task("own_module:build")
    monkeypatch.setenv("OWN_LEAST", "6")
    load_task("own_module:build")
    assert len(module.CALLS) == 4


def test_a_file_that_was_changed_under_the_process_is_named(written, tmp_path):
    written()
    load_task("own_module:build")
    path = tmp_path / "own_module.py"
    path.write_text(path.read_text() + "# changed\n")
    with pytest.raises(BadValue, match=r"own_module.py was changed after this process imported it.*new process"):
        load_task("own_module:build")


def test_a_registered_name_stands_for_what_is_registered(written):
    written("me/Own-v0", "banel/Countdown-v0", name="taken_module")
    with pytest.raises(BadValue, match=r"banel/Countdown-v0.*registered.*another id"):
        load_task("taken_module:build")
    assert load_task("banel_envs.tasks.needle:build_v0").problem.id == "banel/Needle-v0"
    assert "banel/Needle-v0" in TASKS
    with pytest.raises(BadValue, match=r"its name is 'banel'.*ships.*another name"):
        load_agent(HERE + "Banel")
    assert load_agent("banel_agents.controls.sampling:Base").name == "base"


def test_a_seeded_task_that_states_a_digest_has_it_under_every_seed(written):
    written("seeded=seeded", "seeded=seeded, digest='mine-1'")
    task = load_task("own_module:build")
    assert (task.digest, task.of_seed(0).digest, task.of_seed(5).digest) == ("mine-1",) * 3


def test_two_functions_of_one_file_make_two_versions(written):
    two = "def other():\n    return Task(PROBLEM, lambda tokens: tokens[:, 0] == 1, free_evaluation=False)\n\ndef build"
    written("def build", two)
    assert load_task("own_module:build").digest != load_task("own_module:other").digest


def test_what_a_task_says_in_numbers_is_part_of_its_digest(written, monkeypatch):
    written("seeded=seeded", "threshold=LIMIT")
    found = set()
    for limit in (0.5, 0.75):
        monkeypatch.setattr(sys.modules["own_module"], "LIMIT", limit, raising=False)
        found.add(load_task("own_module:build").digest)
    assert len(found) == 2  # the file is the same


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [
        ("seeded=seeded", "digest=5", "digest is 5"),
        ("seeded=seeded", "threshold=float('nan')", "threshold is nan"),
        ('"me/Own-v0"', "7", "id is 7"),
        ("3, 30, base", "3.0, 30, base", "horizon is 3.0"),
        ("CALLS.append(1)", "raise SystemExit('bye')", "SystemExit: bye"),
    ],
)
def test_a_task_that_cannot_be_one_is_refused_by_name(written, old, new, said):
    if "PROBLEM" in SOURCE and old in ('"me/Own-v0"', "3, 30, base"):  # the problem is made when the module is imported
        with pytest.raises(BadValue, match=said):
            written(old, new)
        return
    written(old, new)
    with pytest.raises(BadValue, match=said):
        load_task("own_module:build")


@pytest.mark.parametrize(
    ("body", "said"), [("1 / 0", "seeded.3. raised ZeroDivisionError"), ("None", "returned a NoneType")]
)
def test_what_seeds_a_task_is_checked(written, body, said):
    written("    return Task(PROBLEM, reward, free_evaluation=False)", f"    return {body}")
    with pytest.raises(BadValue, match=said):
        load_task("own_module:build").of_seed(3)


def test_a_task_that_registers_itself_can_be_named_too(written, monkeypatch):
    from banel_leaderboard.running.lookup import own_code

    module = written("me/Own-v0", "me/Registered-v0")
    monkeypatch.setattr(TASKS, "_builders", dict(TASKS._builders))
    TASKS.register("me/Registered-v0", module.build)
    assert own_code(["own_module:build"]).task("me/Registered-v0").problem.id == "me/Registered-v0"
