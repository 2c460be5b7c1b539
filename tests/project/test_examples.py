"""The files under examples/ do what they say, on small budgets; the notebooks run from the first cell to the last."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import numpy as np
import pytest

from banel_agents.testing import check_agent
from banel_envs import TASKS, GenerationVectorEnv, success_rate
from banel_envs.errors import BadValue
from banel_envs.meter.ledger import Ledger
from banel_envs.testing import check_policy, check_task
from banel_leaderboard import run

EXAMPLES = Path(__file__).parents[2] / "examples"
EASY = "banel/EhrlichEasy-v0"


@pytest.fixture(autouse=True)
def importable(monkeypatch):
    """Examples are imported as a user's own modules are."""
    monkeypatch.syspath_prepend(str(EXAMPLES))


@pytest.mark.parametrize("name", ["genetic_algorithm", "numpy_policy"])
def test_agents_in_numpy_learn(name):
    base = success_rate(TASKS[EASY], TASKS[EASY].problem.base_policy()).log10
    assert importlib.import_module(name).main(budget=1_500) > base + 0.5


@pytest.mark.parametrize(
    "where", [("genetic_algorithm", "Genetic"), ("numpy_policy", "ChainAgent"), ("my_agent", "MyAgent")]
)
@pytest.mark.parametrize("task", ["banel/Gaussian1D-v0", "banel/AdditionAttack-v0"])  # without and with an end token
def test_agents_keep_the_contract(where, task):
    module, name = where
    check_agent(getattr(importlib.import_module(module), name), TASKS[task])


@pytest.mark.parametrize("batch", [0, -3])
@pytest.mark.parametrize(
    "where",
    [
        ("genetic_algorithm", "Genetic"),
        ("numpy_policy", "ChainAgent"),
        ("my_agent", "MyAgent"),
        ("onnx_policy", "TableAgent"),
    ],
)
def test_agents_refuse_a_batch_of_nothing_by_name(where, batch):
    """An agent that asks empty batches spends nothing and never ends."""
    module, name = where
    if module == "onnx_policy":
        pytest.importorskip("onnx")
    config = getattr(importlib.import_module(module), name).Config
    field = "children" if name == "Genetic" else "batch"
    with pytest.raises(BadValue, match=f"{field} is {batch}; it must be a whole number"):
        config(**{field: batch})


@pytest.mark.parametrize("task", ["banel/Gaussian1D-v0", "banel/AdditionAttack-v0"])
def test_an_agent_whose_policy_is_stored_as_onnx_keeps_the_contract(task):
    pytest.importorskip("onnx")
    pytest.importorskip("onnxruntime")
    module = importlib.import_module("onnx_policy")
    check_agent(module.TableAgent, TASKS[task])
    problem = TASKS[task].problem
    check_policy(module.Table(np.log(np.full((problem.T, problem.V), 1 / problem.V)), problem.end), problem)


@pytest.mark.parametrize("task", [EASY, "banel/AdditionAttack-v0", "banel/Gaussian1D-v0"])
def test_policies_keep_the_contract(task):
    problem = TASKS[task].problem
    tokens = problem.base_policy().sample(30, np.random.default_rng(0))
    population = importlib.import_module("genetic_algorithm").Population(tokens, 0.2, problem)
    chain = importlib.import_module("numpy_policy").Chain.fitted(tokens, problem, 0.1)
    for policy in (population, chain):
        check_policy(policy, problem)


def test_the_task_of_the_guide_keeps_the_contract():
    task = importlib.import_module("my_task").build()
    check_task(task)
    assert len(task.successes()) == 56  # of 4**5: as many as strings with a sum of at most 3


def test_the_task_over_a_language_model_is_measured_and_proved(tmp_path, monkeypatch, capsys):
    """What the guide promises of it: rates from few samples, and a replay that proves them."""
    pytest.importorskip("peft")
    from banel_leaderboard.command.cli import main
    from tests.shared.language import saved, tokenizer

    monkeypatch.setenv("BANEL_MODEL", str(saved(tmp_path / "model", words=tokenizer())))
    module = importlib.import_module("my_language_task")
    module.model.cache_clear()
    task = module.build()
    assert module.build().problem.base_policy().base is task.problem.base_policy().base  # it is loaded once
    check_task(task, samples=200)
    name = "my_language_task:build"
    rate = run(name, "base", 0, out=tmp_path / "out", settings={"batch": 4}, budget=8).points[-1].success
    assert rate.method == "certified" and rate.high < np.log10(0.05)
    assert main(["replay", str(tmp_path / "out"), "--task", name, "--jobs", "1"]) == 0
    assert "1 of 1 proved" in capsys.readouterr().out


def test_the_lab_is_asked_nothing_twice(capsys):
    found = importlib.import_module("oracle_by_files").main()
    said = capsys.readouterr().out
    assert said.count("the lab measures 32 sequences") == 3  # 96 evaluations, each measured once
    assert all(text.count("K") >= 3 for text in found)


def test_ppo_spends_its_budget(capsys):
    importlib.import_module("ppo_sb3").main(budget=300, copies=10)
    assert "300 evaluations" in capsys.readouterr().out


@pytest.mark.slow
def test_ppo_learns():
    assert importlib.import_module("ppo_sb3").main(budget=4_000) > 0.3  # 0.024 by chance


@pytest.mark.skipif(not hasattr(GenerationVectorEnv, "action_masks"), reason="the vector environment has no masks")
def test_masks_keep_every_query_well_formed(capsys):
    pytest.importorskip("sb3_contrib")
    importlib.import_module("maskable_ppo").main(budget=300, copies=10)
    assert "300 evaluations, 100% of them well-formed" in capsys.readouterr().out


@pytest.mark.slow
def test_the_sweep_on_ray():
    pytest.importorskip("ray")
    medians = importlib.import_module("ray_sweep").main(temperatures=(1.0, 2.0), seeds=2, budget=100)
    assert medians[1.0] == pytest.approx(-2.98, abs=0.01)  # temperature 1 is the base policy
    assert medians[2.0] > medians[1.0] + 0.5


def test_reasoning_gym_both_ways(capsys):
    pytest.importorskip("reasoning_gym")
    module = importlib.import_module("reasoning_gym_task")
    asked, answer, told = module.main()
    task = module.build()
    assert answer == task.problem.decode(task.witness()[None])[0] and 0 < asked < task.problem.budget
    assert told == [0.0, 0.0, 1.0]
    assert task.problem.prompt in capsys.readouterr().out


@pytest.mark.slow
def test_a_real_grpo_run_ends_at_the_budget(tmp_path):
    """A Qwen2 of 2 layers, made from a config, writes digits: 6 steps of 8 completions spend the 48 evaluations."""
    pytest.importorskip("trl")
    train = importlib.import_module("trl_grpo").train
    ledger = tmp_path / "ledger.jsonl"
    count, steps, moved = train(48, tmp_path / "run", ledger)
    assert (count, steps) == (48, 6)
    assert 0 < moved < 10  # the weights were trained
    asked = Ledger.read(ledger)
    assert asked.count == 48 and len(asked.asks) == 6
    # The same run from the start: the same completions under the same keys, and nothing more is charged.
    count, steps, _ = train(48, tmp_path / "again", ledger)
    assert (count, steps) == (48, 6)
    assert Ledger.read(ledger).head == asked.head


def test_rollouts_of_verifiers_end_at_the_budget(capsys):
    pytest.importorskip("verifiers")
    assert importlib.import_module("verifiers_rollouts").main(budget=12, at_once=5)[:2] == (12, 12)  # of 15 rollouts
    assert "BudgetExhausted" in capsys.readouterr().out


def test_sessions_of_openenv_share_a_budget():
    pytest.importorskip("openenv")
    judged, _, said = importlib.import_module("openenv_server").main(budget=12)
    assert judged == 12 and "0 of 12 evaluations left" in said


@pytest.mark.slow
@pytest.mark.parametrize("path", sorted((EXAMPLES / "notebooks").glob("*.ipynb")), ids=lambda path: path.stem)
def test_notebooks_run(path, tmp_path):
    nbformat = pytest.importorskip("nbformat")
    client = pytest.importorskip("nbclient").NotebookClient
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    assert not any(cell.get("outputs") for cell in notebook.cells), "outputs are not committed: they would go stale"
    client(notebook, timeout=600, kernel_name="python3", resources={"metadata": {"path": str(tmp_path)}}).execute()
    assert any(cell.get("outputs") for cell in notebook.cells)


def test_every_example_is_tested():
    tested = Path(__file__).read_text()
    missing = [path.stem for path in EXAMPLES.glob("*.py") if f'"{path.stem}"' not in tested]
    assert missing == []
    assert len(list((EXAMPLES / "notebooks").glob("*.ipynb"))) == 3
    assert "examples" not in sys.modules  # the folder is no package
