"""FileReward: questions and answers as files, in parts, across restarts."""

import json
import os
import threading
import time

import numpy as np
import pytest

from banel_envs import FileReward, Oracle, Problem, Task
from banel_envs.errors import AnswersPending, BadReward, BadValue
from banel_envs.policies import Uniform

TOKENS = np.array([[0, 1, 2], [3, 3, 3], [0, 0, 0]])


def lab(folder, **options):
    problem = Problem("test/Lab-v0", tuple("abcd"), 3, 10, base=lambda: Uniform(4, 3, None))
    reward = FileReward(folder / "lab", problem, **{"poll": 0.02, "timeout": 0} | options)
    task = Task(problem, reward, threshold=0.5, free_evaluation=False)
    return Oracle(task, ledger=folder / "ledger.jsonl")


def question(folder):
    (path,) = (folder / "lab").glob("question-*.json")
    return path


def settle(path, text):
    """Write an answer that was there long enough not to be half written."""
    path.write_text(text)
    os.utime(path, (0, 0))


def answer(folder, rewards, suffix=".json"):
    path = question(folder)
    text = (
        json.dumps(rewards) if suffix == ".json" else "row,reward\n" + "".join(f"{k},{v}\n" for k, v in rewards.items())
    )
    settle(path.with_name(path.name.replace("question", "answer")).with_suffix(suffix), text)


def test_a_question_says_what_is_asked_and_waits(tmp_path):
    oracle = lab(tmp_path)
    with pytest.raises(AnswersPending, match=r"3 sequences of .*question-.* run again"):
        oracle(TOKENS)
    asked = json.loads(question(tmp_path).read_text())
    assert asked["task"] == "test/Lab-v0"
    assert [row["text"] for row in asked["rows"]] == ["abc", "ddd", "aaa"]
    assert [row["tokens"] for row in asked["rows"]] == TOKENS.tolist()
    assert oracle.count == 3


@pytest.mark.parametrize("suffix", [".json", ".csv"])
def test_the_run_goes_on_when_the_answers_are_there(tmp_path, suffix):
    oracle = lab(tmp_path)
    with pytest.raises(AnswersPending):
        oracle(TOKENS)
    answer(tmp_path, {"0": 0.25, "1": 0.75, "2": 0.5}, suffix)
    np.testing.assert_array_equal(oracle(TOKENS), [0, 1, 1])
    assert oracle.count == 3
    np.testing.assert_array_equal(oracle.ledger.asks[0].values, [0.25, 0.75, 0.5])


def test_answers_come_in_parts_and_over_restarts_and_are_charged_once(tmp_path):
    oracle = lab(tmp_path)
    with pytest.raises(AnswersPending, match="3 sequences"):
        oracle(TOKENS)
    answer(tmp_path, {"1": 0.75})
    with pytest.raises(AnswersPending, match="2 sequences"):
        oracle(TOKENS)
    oracle.close()
    again = lab(tmp_path)
    # The row that is answered is in the ledger: what is left is a question of its own.
    with pytest.raises(AnswersPending, match="2 sequences"):
        again(TOKENS)
    rest = [p for p in (tmp_path / "lab").glob("question-*.json") if len(json.loads(p.read_text())["rows"]) == 2]
    settle(rest[0].with_name(rest[0].name.replace("question", "answer")), json.dumps({"0": 0, "1": 1}))
    np.testing.assert_array_equal(again(TOKENS), [0, 1, 1])
    assert again.count == 3 and again.left == 7


def test_it_waits_while_answers_arrive(tmp_path):
    oracle = lab(tmp_path, timeout=30)

    def technician():
        while not list((tmp_path / "lab").glob("question-*.json")):
            time.sleep(0.01)
        answer(tmp_path, {"2": 1})
        time.sleep(0.1)
        answer(tmp_path, {"0": 0, "1": 0.9, "2": 1})

    thread = threading.Thread(target=technician)
    thread.start()
    np.testing.assert_array_equal(oracle(TOKENS), [0, 1, 1])
    thread.join()


def test_a_half_written_answer_is_left_alone(tmp_path):
    oracle = lab(tmp_path, poll=5.0)
    with pytest.raises(AnswersPending):
        oracle(TOKENS)
    path = question(tmp_path)
    path.with_name(path.name.replace("question", "answer")).write_text('{"0": 0.')
    with pytest.raises(AnswersPending):
        oracle(TOKENS)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "cannot be read"),
        ("[1, 2]", "holds a list"),
        ('{"3": 1}', "rows are 0..2"),
        ('{"-1": 1}', "rows are 0..2"),
        ('{"0": "good"}', "must be numbers"),
        ('{"0": true}', "must be numbers"),
        ('{"0": NaN}', "rewards are numbers"),
    ],
)
def test_a_bad_answer_is_named_and_nothing_is_lost(tmp_path, text, says):
    oracle = lab(tmp_path)
    with pytest.raises(AnswersPending):
        oracle(TOKENS)
    path = question(tmp_path)
    settle(path.with_name(path.name.replace("question", "answer")), text)
    with pytest.raises(BadReward, match=says):
        oracle(TOKENS)
    answer(tmp_path, {"0": 1, "1": 1, "2": 1})
    np.testing.assert_array_equal(oracle(TOKENS), [1, 1, 1])
    assert oracle.count == 3


@pytest.mark.parametrize("options", [{"poll": 0}, {"poll": -1}, {"timeout": -1}])
def test_bad_options_are_named(tmp_path, options):
    with pytest.raises(BadValue):
        lab(tmp_path, **options)
