"""`--isolate`: the agent in a process of its own gives the same run, and finds no reward there."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from banel_envs import Ledger
from banel_envs.errors import AnswersPending
from banel_leaderboard.command.cli import main
from banel_leaderboard.records.spec import Spec
from banel_leaderboard.running import isolation_wall
from banel_leaderboard.running.harness import RunFailed, execute
from banel_leaderboard.running.isolation_server import AgentFailed, hidden
from tests.shared import harness_peek
from tests.shared import harness_tasks as own
from tests.shared.harness_tasks import BUDGET, HERE, SUCCESSES

NETWORK = HERE + "network"
WALLED = pytest.mark.skipif(not isolation_wall.version(), reason="this system has no Landlock")


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
    ("agent", "options"),
    [("base", {"batch": 16}), ("without_replacement", {"batch": 16}), ("banel", own.BANEL)],
)
def test_the_run_is_the_same(tmp_path, agent, options):
    inside, apart = same(tmp_path, Spec(task=NETWORK, agent=agent, settings=options))
    asked = 19 if agent == "without_replacement" else 64  # hardly a sequence is left that was not asked
    assert inside.ledger.count == asked and inside.work.sampled > 0
    assert apart.execution.wall_s > 0 and apart.execution.cpu_s > 0 and apart.execution.peak_memory_mb > 10
    assert len({p.success.log10 for p in inside.points}) > 1 or agent == "base"


@pytest.mark.parametrize("feedback", ["full", "failures"])
def test_feedback_reports_and_masks_cross(tmp_path, feedback):
    inside, _ = same(tmp_path, Spec(task=HERE + "masked", agent=HERE + "Masks", feedback=feedback))
    assert [value for _, value in inside.reported["allowed"]] == [3.0, 4.0]
    assert [value for _, value in inside.reported["withheld"]] == [0.0, 2.0 * (feedback == "failures")]


def test_types_of_failure_and_their_table_cross(tmp_path):
    """What is asked after the first answer depends on both."""
    settings = {"batch": 40, "pool": 200, "least": 1}
    same(tmp_path, Spec(task="banel/Proof-v0", agent="typed_banel", feedback="typed", budget=120, settings=settings))
    ledger = Ledger.read(next((tmp_path / "True").rglob("ledger.jsonl")))
    assert all(ask.types is not None and ask.types.max() > 1 for ask in ledger.asks)


@pytest.mark.parametrize(
    "task", ["AdditionAttack-v0", "Countdown-v0"]
)  # an automaton, and a function that comes with one
def test_a_grammar_with_few_states_crosses(tmp_path, task):
    inside, _ = same(tmp_path, Spec(task=f"banel/{task}", agent="uniform_grammar", budget=40, settings={"batch": 20}))
    assert inside.ledger.count == 40 and inside.points[-1].invalid == 0


@pytest.mark.parametrize("agent", ["Prints", "Twice", "Overdraws"])
def test_what_an_agent_does_beside_asking_changes_nothing(tmp_path, agent):
    same(tmp_path, Spec(task=HERE + "no_set", agent=HERE + agent))


def test_errors_cross_as_themselves(tmp_path):
    inside, _ = same(tmp_path, Spec(task=HERE + "build", agent=HERE + "Catches"))
    met = {name: values[-1][1] for name, values in inside.reported.items()}
    assert set(met) == {"shape", "range", "float", "nothing", "asked", "left", "budget", "count"}
    assert (met["nothing"], met["count"], met["asked"]) == (0, len(SUCCESSES), BUDGET)
    assert (met["left"], met["budget"]) == (BUDGET - len(SUCCESSES), BUDGET)


def test_the_agents_process_holds_no_task_and_no_reward(tmp_path):
    inside, apart = both(tmp_path, Spec(task=HERE + "build", agent="tests.shared.harness_snoop:Snoops"))
    seen, found = ({name: values[-1][1] for name, values in r.reported.items()} for r in (inside, apart))
    assert all(seen[name] >= 1 for name in ("tasks", "oracles", "rewards", "modules")), "the search finds nothing"
    assert found == {"tasks": 0, "oracles": 0, "rewards": 0, "modules": 0}


@pytest.fixture
def peek(tmp_path, monkeypatch):
    """Another run of the task, and a Peeks run beside it: what each way found, and how often it tried."""

    def run(isolate, **options):
        out = tmp_path / "runs"
        monkeypatch.setenv(harness_peek.OUT, str(out))
        (tmp_path / "notes").mkdir(exist_ok=True)
        execute(Spec(task=HERE + "build", agent=HERE + "Scripted", seed=1), out)
        record = execute(
            Spec(task=HERE + "build", agent="tests.shared.harness_peek:Peeks", **options), out, isolate=isolate
        )
        return {name: values[-1][1] for name, values in record.reported.items()}

    monkeypatch.setattr(own, "SCRIPT", [SUCCESSES])
    return run


SANE = dict.fromkeys((f"sane_{name}" for name in harness_peek.SANE), 1.0)


@pytest.mark.filterwarnings("ignore:this system has no Landlock")
def test_without_the_wall_a_process_of_its_own_hides_no_file(peek, monkeypatch):
    monkeypatch.setattr(isolation_wall, "version", lambda: 0)
    """What the wall is there for, and what tells that the search below would find something."""
    found = peek(True)
    ways = {name for name in harness_peek.WAYS if found[name]}
    assert found["ledgers"] == 2
    assert ways >= {"by_path", "by_copy", "by_link", "by_moving", "by_other_process", "by_writing", "by_making"}
    assert {name: found[name] for name in SANE} == SANE


@WALLED
def test_behind_the_wall_no_way_leads_to_an_answer(peek, tmp_path):
    found = peek(True)
    assert found["ledgers"] == 2  # names can be seen
    assert {name: found[name] for name in harness_peek.WAYS} == dict.fromkeys(harness_peek.WAYS, 0.0)
    assert {name: found[name] for name in SANE} == SANE
    for path in tmp_path.rglob("ledger.jsonl"):
        assert b'{"answer"' in path.read_bytes()  # and the answers are there


@WALLED
def test_the_files_that_answer_and_the_run_that_is_inherited_are_hidden_too(tmp_path):
    lab, old = tmp_path / "lab", tmp_path / "old" / "seed-0"
    spec = Spec(task=HERE + "build", agent="base", oracle=f"file:{lab}", inherit=str(old))
    walls = hidden(spec, tmp_path / "out/own/Tiny-v0/base/full/seed-0")
    assert walls == [tmp_path / "out/own/Tiny-v0", lab, old]
    for folder in (*walls, tmp_path / "open"):
        folder.mkdir(parents=True)
        (folder / "file").write_text("x")
    code = "import sys; print(*[open(path).read() for path in sys.argv[1:]])"
    for folder in (*walls, tmp_path / "open"):
        command = isolation_wall.behind(walls, [], [sys.executable, "-c", code, str(folder / "file")])
        done = subprocess.run(command, capture_output=True, text=True)
        assert (done.stdout == "x\n") == (folder.name == "open"), done.stderr
        assert folder.name == "open" or "PermissionError" in done.stderr


@WALLED
def test_what_is_kept_open_may_lie_in_what_is_hidden(tmp_path):
    (tmp_path / "hidden" / "kept").mkdir(parents=True)
    (tmp_path / "link").symlink_to(tmp_path / "hidden")
    code = "import sys; open(sys.argv[1], 'w').close()"
    for place, works in (("hidden/kept/a", True), ("hidden/b", False), ("link/c", False), ("link/kept/d", True)):
        program = [sys.executable, "-c", code, str(tmp_path / place)]
        for folder in ("hidden", "link"):  # a link to what is hidden hides the same
            command = isolation_wall.behind([tmp_path / folder], [tmp_path / folder / "kept"], program)
            assert (subprocess.run(command, capture_output=True).returncode == 0) == works, place


def test_where_there_is_no_wall_the_run_is_the_same_and_says_so(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(isolation_wall, "version", lambda: 0)
    with pytest.warns(RuntimeWarning, match="could open the ledger by its path"):
        same(tmp_path, Spec(task=HERE + "build", agent=HERE + "Prints"))
    options = ["--task", HERE + "build", "--agent", HERE + "Prints", "--jobs", "1", "--out", str(tmp_path / "cli")]
    assert main(["run", *options, "--isolate"]) == 0
    assert "--isolate: this system has no Landlock" in capsys.readouterr().err


@settings(max_examples=100, deadline=None)
@given(st.sets(st.lists(st.sampled_from("abc"), min_size=1, max_size=4).map("/".join), max_size=4))
def test_what_is_allowed_is_everything_but_what_is_hidden(names):
    with tempfile.TemporaryDirectory() as folder:
        root = os.path.realpath(folder)
        for name in ("a/b/c", "a/b/a", "b/a", "b/c/a/b", "c"):
            Path(root, name).mkdir(parents=True)
        every = {path for path, _, _ in os.walk(root)}
        walls = frozenset(f"{root}/{name}" for name in names)
        opened = set(isolation_wall.allowed(walls, root))
        for path in every:
            shut = any(path == w or path.startswith(w + "/") for w in walls)
            above = any(w.startswith(path + "/") for w in walls)
            is_open = any(path == o or path.startswith(o + "/") for o in opened)
            assert is_open == (not shut and not above), path


def test_an_agent_that_dies_is_told_and_its_answers_kept(tmp_path):
    with pytest.raises(AgentFailed, match="process ended before the run did"):
        execute(Spec(task=HERE + "build", agent=HERE + "Dies"), tmp_path, isolate=True)
    folder = next(tmp_path.rglob("run.json")).parent
    assert json.loads((folder / "run.json").read_text())["status"] == "failed"
    assert Ledger.read(folder / "ledger.jsonl").count == len(SUCCESSES) and not (folder / "record.json").exists()


def test_an_agent_that_raises_names_its_error(tmp_path):
    with pytest.raises(AgentFailed, match="KeyError: 'lost'"):
        execute(Spec(task=HERE + "build", agent=HERE + "Loses"), tmp_path, isolate=True)


def test_an_agent_without_a_policy_is_told_so(tmp_path):
    with pytest.raises(RunFailed, match="yield the base policy before the first question"):
        execute(Spec(task=HERE + "build", agent=HERE + "Silent"), tmp_path, isolate=True)


def test_a_reward_that_raises_fails_the_run_here(tmp_path):
    with pytest.raises(RunFailed, match="OSError: the laboratory is closed"):
        execute(Spec(task=HERE + "closed", agent=HERE + "Steps"), tmp_path, isolate=True)


def test_answers_that_are_not_there_yet_wait(tmp_path):
    spec = Spec(task=HERE + "build", agent=HERE + "Steps", oracle=f"file:{tmp_path / 'lab'}")
    with pytest.raises(AnswersPending):
        execute(spec, tmp_path / "out", isolate=True)
    status = json.loads(next((tmp_path / "out").rglob("run.json")).read_text())
    assert status["status"] == "waiting" and list((tmp_path / "lab").glob("question-*.json"))


def test_an_agent_that_reads_its_input_takes_no_frame(tmp_path):
    code = f"""
from pathlib import Path
from banel_leaderboard.command.cli import main
from banel_leaderboard.running.harness import execute
from banel_leaderboard.records.spec import Spec
print(execute(Spec(task="{HERE}build", agent="{HERE}Reads"), Path({str(tmp_path)!r}), isolate=True).ledger.count)
"""
    done = subprocess.run([sys.executable, "-c", code], input="typed\n", capture_output=True, text=True, timeout=60)
    assert done.stdout.strip() == str(BUDGET), done.stderr
