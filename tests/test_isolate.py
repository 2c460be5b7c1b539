"""`--isolate`: the agent in a process of its own gives the same run, and finds no reward there."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from banel_envs import Ledger
from banel_envs.errors import AnswersPending
from banel_leaderboard.harness import RunFailed, execute
from banel_leaderboard.isolate import AgentFailed
from banel_leaderboard.spec import Spec
from tests import harness_tasks as own
from tests.harness_tasks import BUDGET, HERE, SUCCESSES

NETWORK = HERE + "network"


def files(out):
    ledgers, finals = (sorted(Path(out).rglob(name)) for name in ("ledger.jsonl", "final.safetensors"))
    assert len(ledgers) == len(finals) == 1
    return ledgers[0].read_bytes(), finals[0].read_bytes()


def both(tmp_path, spec):
    """The same run twice, with and without a process of the agent's own."""
    return [execute(spec, tmp_path / str(isolate), isolate=isolate) for isolate in (False, True)]


def same(tmp_path, spec):
    inside, apart = both(tmp_path, spec)
    assert inside.canonical() == apart.canonical()
    assert files(tmp_path / "False") == files(tmp_path / "True")
    return inside, apart


@pytest.mark.parametrize(
    ("agent", "settings"),
    [("base", {"batch": 16}), ("without_replacement", {"batch": 16}), ("banel", own.BANEL)],
)
def test_the_run_is_the_same(tmp_path, agent, settings):
    inside, apart = same(tmp_path, Spec(NETWORK, agent, settings=settings))
    asked = 24 if agent == "without_replacement" else 64  # hardly a sequence is left that was not asked
    assert inside.ledger.count == asked and inside.work.sampled > 0
    assert apart.execution.wall_s > 0 and apart.execution.cpu_s > 0 and apart.execution.peak_memory_mb > 10
    assert len({p.success.log10 for p in inside.points}) > 1 or agent == "base"


@pytest.mark.parametrize("feedback", ["full", "failures"])
def test_feedback_reports_and_masks_cross(tmp_path, feedback):
    inside, _ = same(tmp_path, Spec(HERE + "masked", HERE + "Masks", feedback=feedback))
    assert [value for _, value in inside.reported["allowed"]] == [3.0, 4.0]
    assert [value for _, value in inside.reported["withheld"]] == [0.0, 2.0 * (feedback == "failures")]


@pytest.mark.parametrize("agent", ["Prints", "Twice", "Overdraws"])
def test_what_an_agent_does_beside_asking_changes_nothing(tmp_path, agent):
    same(tmp_path, Spec(HERE + "no_set", HERE + agent))


def test_errors_cross_as_themselves(tmp_path):
    inside, _ = same(tmp_path, Spec(HERE + "build", HERE + "Catches"))
    met = {name: values[-1][1] for name, values in inside.reported.items()}
    assert set(met) == {"shape", "range", "float", "nothing", "asked", "left", "budget", "count"}
    assert (met["nothing"], met["count"], met["asked"]) == (0, len(SUCCESSES), BUDGET)
    assert (met["left"], met["budget"]) == (BUDGET - len(SUCCESSES), BUDGET)


def test_the_agents_process_holds_no_task_and_no_reward(tmp_path):
    inside, apart = both(tmp_path, Spec(HERE + "build", "tests.harness_snoop:Snoops"))
    seen, found = ({name: values[-1][1] for name, values in r.reported.items()} for r in (inside, apart))
    assert all(seen[name] >= 1 for name in ("tasks", "oracles", "rewards", "modules")), "the search finds nothing"
    assert found == {"tasks": 0, "oracles": 0, "rewards": 0, "modules": 0}


def test_an_agent_that_dies_is_told_and_its_answers_kept(tmp_path):
    with pytest.raises(AgentFailed, match="process ended before the run did"):
        execute(Spec(HERE + "build", HERE + "Dies"), tmp_path, isolate=True)
    folder = next(tmp_path.rglob("run.json")).parent
    assert json.loads((folder / "run.json").read_text())["status"] == "failed"
    assert Ledger.read(folder / "ledger.jsonl").count == len(SUCCESSES) and not (folder / "record.json").exists()


def test_an_agent_that_raises_names_its_error(tmp_path):
    with pytest.raises(AgentFailed, match="KeyError: 'lost'"):
        execute(Spec(HERE + "build", HERE + "Loses"), tmp_path, isolate=True)


def test_an_agent_without_a_policy_is_told_so(tmp_path):
    with pytest.raises(RunFailed, match="yield the base policy before the first question"):
        execute(Spec(HERE + "build", HERE + "Silent"), tmp_path, isolate=True)


def test_a_reward_that_raises_fails_the_run_here(tmp_path):
    with pytest.raises(RunFailed, match="OSError: the laboratory is closed"):
        execute(Spec(HERE + "closed", HERE + "Steps"), tmp_path, isolate=True)


def test_answers_that_are_not_there_yet_wait(tmp_path):
    spec = Spec(HERE + "build", HERE + "Steps", oracle=f"file:{tmp_path / 'lab'}")
    with pytest.raises(AnswersPending):
        execute(spec, tmp_path / "out", isolate=True)
    status = json.loads(next((tmp_path / "out").rglob("run.json")).read_text())
    assert status["status"] == "waiting" and list((tmp_path / "lab").glob("question-*.json"))


def test_an_agent_that_reads_its_input_takes_no_frame(tmp_path):
    code = f"""
from pathlib import Path
from banel_leaderboard.harness import execute
from banel_leaderboard.spec import Spec
print(execute(Spec("{HERE}build", "{HERE}Reads"), Path({str(tmp_path)!r}), isolate=True).ledger.count)
"""
    done = subprocess.run([sys.executable, "-c", code], input="typed\n", capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == str(BUDGET), done.stderr
