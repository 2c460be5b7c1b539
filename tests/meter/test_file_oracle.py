"""Rewards from files: waiting, parts, resuming, and answers that are not right."""

from __future__ import annotations

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from banel_envs import FileReward, Oracle, Task
from banel_envs.errors import AnswersPending, BadReward, BadValue, BanelError
from banel_envs.meter.file_reward import answered_by_files
from banel_envs.meter.ledger import Ledger
from banel_envs.problem import Tokens
from banel_leaderboard import run
from banel_leaderboard.command.cli import main
from banel_leaderboard.proving.replay import prove
from banel_leaderboard.running.lookup import own_code
from tests.shared import small
from tests.shared.small import only_run

TASK, SMALL = "tests.shared.small:task", "tests.shared.small:Small"
ROWS = np.array([[3, 3, 3], [0, 1, 2], [3, 3, 2], [0, 1, 2]])  # two successes of `small.task`, and a repeat


def task(folder: Path, timeout: float | None = 0, **options: Any) -> Task:
    """The tiny problem, answered through a folder."""
    return Task(
        small.task().problem, FileReward(folder, small.task().problem, 0.01, timeout, **{"binary": True} | options)
    )


def questions(folder: Path) -> list[Path]:
    """The question files, oldest first."""
    return sorted(folder.glob("question-*.json"), key=lambda path: path.stat().st_mtime_ns)


def rows_of(path: Path) -> Tokens:
    """The sequences of a question."""
    return np.array([row["tokens"] for row in json.loads(path.read_text())["rows"]])


def answer(question: Path, rewards: list[Any]) -> Path:
    """Put an answer beside a question, as a lab would; None is not known yet."""
    path = question.with_name(question.name.replace("question", "answer"))
    path.write_text(json.dumps({str(row): reward for row, reward in enumerate(rewards) if reward is not None}))
    return path


def answer_all(folder: Path) -> int:
    """Answer what is not answered yet with the truth; how many questions that were."""
    waiting = [q for q in questions(folder) if not q.with_name(q.name.replace("question", "answer")).exists()]
    for question in waiting:
        answer(question, small.task().reward(rows_of(question)).tolist())  # type: ignore[union-attr]
    return len(waiting)


def test_a_question_is_written_whole_and_says_how_to_answer(tmp_path: Path) -> None:
    oracle = Oracle(task(tmp_path / "lab"), ledger=tmp_path / "l.jsonl")
    with pytest.raises(AnswersPending) as pending:
        oracle(ROWS)
    (question,) = questions(tmp_path / "lab")
    content = json.loads(question.read_text())
    assert content["task"] == "test/Tiny-v0" and content["question"] in question.name
    assert [(row["row"], row["text"]) for row in content["rows"]] == [(0, "ddd"), (1, "abc"), (2, "ddc")]
    np.testing.assert_array_equal(rows_of(question), ROWS[:3])
    answer_name = question.name.replace("question", "answer")
    assert answer_name in content["answer"] and str(tmp_path / "lab" / answer_name) in str(pending.value)
    assert "4 rewards are awaited" in str(pending.value) and "run again" in str(pending.value)
    assert sorted(path.name for path in (tmp_path / "lab").iterdir()) == [".lock", question.name]  # no draft is left
    assert oracle.count == 4


def test_it_waits_and_takes_parts_as_they_come(tmp_path: Path) -> None:
    def lab() -> None:
        while not questions(tmp_path):
            time.sleep(0.01)
        answer(questions(tmp_path)[0], [1, None, None])
        while len((tmp_path / "l.jsonl").read_text().splitlines()) < 3:  # until the part stands in the ledger
            time.sleep(0.01)
        answer(questions(tmp_path)[0], [1, 0, 1])

    thread = threading.Thread(target=lab)
    thread.start()
    oracle = Oracle(task(tmp_path, timeout=30), ledger=tmp_path / "l.jsonl")
    np.testing.assert_array_equal(oracle(ROWS), [1, 0, 1, 0])
    thread.join()
    oracle.close()
    spans = [json.loads(line)["rows"] for line in (tmp_path / "l.jsonl").read_text().splitlines() if '"answer"' in line]
    assert spans == [[0, 1], [1, 4]]
    assert Ledger.read(tmp_path / "l.jsonl").count == 4


def test_what_arrived_before_a_stop_is_not_asked_again(tmp_path: Path) -> None:
    lab, path = tmp_path / "lab", tmp_path / "l.jsonl"
    for given, still in (([None, None, None], 4), ([None, 0, None], 2)):
        oracle = Oracle(task(lab), ledger=path)
        if questions(lab):
            answer(questions(lab)[0], given)
        with pytest.raises(AnswersPending, match=f"{still if questions(lab) else 4} rewards are awaited"):
            oracle(ROWS)
        oracle.close()
    before = questions(lab)[0].read_bytes()
    answer(questions(lab)[0], [1, 0, 0])  # the lab has the last word on what it had not answered yet
    oracle = Oracle(task(lab), ledger=path)
    np.testing.assert_array_equal(oracle(ROWS), [1, 0, 0, 0])
    assert len(questions(lab)) == 1 and questions(lab)[0].read_bytes() == before
    assert oracle.count == 4 == oracle.ledger.count


def test_no_sequence_is_put_to_the_lab_twice(tmp_path: Path) -> None:
    first = Oracle(task(tmp_path), ledger=tmp_path / "1.jsonl")
    with pytest.raises(AnswersPending):
        first(ROWS)
    answer_all(tmp_path)
    assert first(ROWS).tolist() == [1, 0, 1, 0]
    assert first(ROWS[:1]).tolist() == [1] and first.count == 5  # the meter counts it, the lab is spared
    other = Oracle(task(tmp_path), ledger=tmp_path / "2.jsonl")
    assert other(ROWS[::-1]).tolist() == [0, 1, 0, 1]
    with pytest.raises(AnswersPending, match="1 rewards are awaited"):
        other(np.array([[0, 1, 2], [2, 2, 2]]))
    assert [len(rows_of(q)) for q in questions(tmp_path)] == [3, 1]


def test_a_table_is_an_answer_too(tmp_path: Path) -> None:
    oracle = Oracle(task(tmp_path), ledger=tmp_path / "l.jsonl")
    with pytest.raises(AnswersPending):
        oracle(ROWS)
    path = (
        questions(tmp_path)[0].with_name(questions(tmp_path)[0].name.replace("question", "answer")).with_suffix(".csv")
    )
    path.write_bytes("\ufeffRow, Reward\r\n2,1\r\n\r\n0,1.0\r\n1,\r\n".encode())  # as a spreadsheet may write it
    with pytest.raises(AnswersPending, match="2 rewards are awaited"):
        oracle(ROWS)
    path.write_text("row,reward\n2,1\n0,1\n1,0\n")
    assert oracle(ROWS).tolist() == [1, 0, 1, 0]


def test_an_answer_that_is_still_being_copied_is_left_alone(tmp_path: Path) -> None:
    problem = small.task().problem
    oracle = Oracle(Task(problem, FileReward(tmp_path, problem, poll=0.2, timeout=0)))
    with pytest.raises(AnswersPending):
        oracle(ROWS)
    path = answer(questions(tmp_path)[0], [1, 0, 1])
    whole = path.read_text()
    path.write_text(whole[:-2])

    def copy() -> None:
        time.sleep(0.1)  # between the first look and the second
        path.write_text(whole)

    thread = threading.Thread(target=copy)
    thread.start()
    assert oracle(ROWS).tolist() == [1, 0, 1, 0]
    thread.join()


def test_real_values_meet_the_tasks_threshold(tmp_path: Path) -> None:
    graded = dataclasses.replace(task(tmp_path, binary=False), threshold=0.5)
    oracle = Oracle(graded, ledger=tmp_path / "l.jsonl")
    with pytest.raises(AnswersPending):
        oracle(ROWS)
    answer(questions(tmp_path)[0], [0.75, -3.5, 0.5])
    assert oracle(ROWS).tolist() == [1, 0, 1, 0]
    values = oracle.ledger.asks[0].values
    assert values is not None and values.tolist() == [0.75, -3.5, 0.5, -3.5]


@pytest.mark.parametrize(
    ("name", "content", "says"),
    [
        ("json", "{", r"cannot be read: .*write \{\"0\": 0.91, \"2\": 0\}, rewards by row as far as they are known"),
        ("json", "[1, 0, 1]", "it is no table of rows; write"),
        ("json", "7", "it is no table of rows; write"),
        ("json", '{"rewards": [1, 0, 1]}', "row 'rewards' is not a row number; write"),
        ("json", '{"-1": 1}', "row '-1' is not a row number; write"),
        ("json", '{"3": 1}', "row 3 does not exist; its question has rows 0 to 2"),
        ("json", '{"1": 1, "1": 0}', "row 1 is answered twice"),
        ("json", '{"1": "yes"}', "row 1 has the reward 'yes'; it must be 0 or 1"),
        ("json", '{"1": true}', "row 1 has the reward True; it must be 0 or 1"),
        ("json", '{"2": 0.7}', r"row 2 has the reward 0.7; it must be 0 or 1 \(a Task with a threshold"),
        ("json", '{"0": NaN}', "row 0 has the reward nan"),
        ("json", '{"0": [1]}', r"row 0 has the reward \[1\]"),
        ("csv", "", "its first line is ''; it must be row,reward"),
        ("csv", "0,1\n1,0\n", "its first line is '0,1'; it must be row,reward"),
        ("csv", "row;reward\n0;1\n", "its first line is 'row;reward'"),
        ("csv", "row,reward\n0,1\n3,1\n", "row 3 does not exist; its question has rows 0 to 2"),
        ("csv", "row,reward\n0,1\n0,1\n", "row 0 is answered twice"),
        ("csv", "row,reward\n-1,1\n", "the line '-1,1' is not a row number"),
        ("csv", "row,reward\n0,1,2\n", "the line '0,1,2' is not a row number"),
        ("csv", "row,reward\n1,2\n", "row 1 has the reward '2'; it must be 0 or 1"),
    ],
)
def test_malformed_answers_are_named_and_can_be_put_right(name: str, content: str, says: str, tmp_path: Path) -> None:
    oracle = Oracle(task(tmp_path), ledger=tmp_path / "l.jsonl")
    with pytest.raises(AnswersPending):
        oracle(ROWS)
    path = answer(questions(tmp_path)[0], [])
    path.unlink()
    path = path.with_suffix(f".{name}")
    path.write_text(content)
    with pytest.raises(BadReward, match=says) as raised:
        oracle(ROWS)
    assert str(path) in str(raised.value)
    path.unlink()
    answer_all(tmp_path)
    assert oracle(ROWS).tolist() == [1, 0, 1, 0] and oracle.count == 4


def test_two_answers_to_a_question_are_refused(tmp_path: Path) -> None:
    oracle = Oracle(task(tmp_path))
    with pytest.raises(AnswersPending):
        oracle(ROWS)
    answer(questions(tmp_path)[0], [1, 0, 1]).with_suffix(".csv").write_text("row,reward\n")
    with pytest.raises(BadReward, match="answer the same question; keep one of them"):
        oracle(ROWS)


def test_folders_that_cannot_be_used_are_refused(tmp_path: Path) -> None:
    problem = small.task().problem
    (tmp_path / "file").touch()
    with pytest.raises(BadValue, match="is a file; name a folder"):
        FileReward(tmp_path / "file", problem)
    with pytest.raises(BadValue, match="above 0"):
        FileReward(tmp_path, problem, poll=0)
    with pytest.raises(BadValue, match="at least 0, or None"):
        FileReward(tmp_path, problem, timeout=float("nan"))
    with pytest.raises(AnswersPending):
        Oracle(task(tmp_path / "lab"))(ROWS)
    other = dataclasses.replace(problem, id="test/Other-v0")
    with pytest.raises(BadValue, match="is not what test/Other-v0 asked"):
        Oracle(Task(other, FileReward(tmp_path / "lab", other, timeout=0)))(ROWS)
    question = questions(tmp_path / "lab")[0]
    question.write_text(question.read_text().replace("[0, 1, 2]", "[0, 1, 1]"))
    with pytest.raises(BadValue, match="is not what test/Tiny-v0 asked; restore it"):
        Oracle(task(tmp_path / "lab"))(ROWS)


COMMAND = f"""
import sys
from banel_leaderboard.command.cli import main
sys.exit(main(["run", "--task", {TASK!r}, "--agent", {SMALL!r}, "--jobs", "1", *sys.argv[1:]]))
"""


def test_the_command_waits_by_exit_code_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(Path(__file__).parents[2])
    out, lab = tmp_path / "out", tmp_path / "lab"
    arguments = ["run", "--task", TASK, "--agent", SMALL, "--jobs", "1", "--out", str(out)]
    arguments += ["--set", "batch=30", "--oracle", f"file:{lab}"]
    for _ in range(2):
        assert main(arguments) == 75
        said = capsys.readouterr().err
        assert said.count("\n") == 1 and said.startswith("waiting: ") and "then run again to go on" in said
        assert json.loads((only_run(out) / "run.json").read_text())["status"] == "waiting"
        assert answer_all(lab) == 1
    assert main(arguments) == 0
    folder = only_run(out)
    asked = Ledger.read(folder / "ledger.jsonl")
    assert asked.count == 60 and len(asked.asks) == 2
    put = np.concatenate([rows_of(q) for q in questions(lab)])
    assert len(np.unique(put, axis=0)) == len(put)
    proof = prove(folder, own_code([TASK], [SMALL]))
    record = proof.record
    assert "its answers came by files" in str(proof.answers)
    truth = run(TASK, SMALL, out=tmp_path / "truth", settings={"batch": 30})
    assert record.first_success == truth.first_success and record.successes_asked == truth.successes_asked
    assert {p.success.method for p in record.points} == {"asked"}
    assert record.digest != truth.digest  # it can never be taken for a run of the task itself


def test_the_tasks_own_reward_and_successes_are_not_used(tmp_path: Path) -> None:
    plain = small.task()
    asked = answered_by_files(plain, tmp_path / "lab", timeout=0)
    assert asked.problem is plain.problem and not asked.free_evaluation
    assert asked.successes() is None and asked.witness() is None
    with pytest.raises(BanelError, match="its digest is"):
        run(TASK, SMALL, out=tmp_path)
        run(TASK, SMALL, out=tmp_path, oracle=f"file:{tmp_path / 'lab'}")


def test_a_kill_between_question_and_answer_costs_nothing(tmp_path: Path) -> None:
    out, lab = tmp_path / "out", tmp_path / "lab"
    order = [
        sys.executable,
        "-c",
        COMMAND,
        "--set",
        "batch=30",
        "--out",
        str(out),
        "--oracle",
        f"file:{lab}",
        "--wait",
        "inf",
    ]
    for number in (1, 2):  # killed while it waits for the first answer, then for the second
        process = subprocess.Popen(order, cwd=Path(__file__).parents[2], start_new_session=True, stderr=subprocess.PIPE)
        while len(questions(lab)) < number:
            assert process.poll() is None
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.communicate()
        answer_all(lab)
    assert len(questions(lab)) == 2
    record = run(TASK, SMALL, out=out, settings={"batch": 30}, oracle=f"file:{lab}")
    assert len(questions(lab)) == 2 and record.ledger.count == 60 and record.execution.resumed == 2
