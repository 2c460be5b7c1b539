"""`banel hard-questions`: what it counts, the order of its table, and that it goes on where it was stopped."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest

pytest.importorskip("peft")
pytest.importorskip("tqdm")

from banel_envs.binomial import clopper_pearson
from banel_envs.data import WordProblem
from banel_envs.errors import BadValue
from banel_leaderboard.command import hard_questions as command
from banel_leaderboard.command.cli import main
from banel_leaderboard.command.hard_questions import Answering, Counts, count, table
from tests.shared.language import CHAT, saved, talking, tokenizer

QUESTIONS = [WordProblem(f"What is {k} + 1?", f"{k} + 1 = {k + 1}\n#### {k + 1}") for k in range(6)]
RIGHT = (4, 0, 1, 3, 2, 0)  # answers to each that are right
SAMPLES = 4


class Scripted:
    """Answers as RIGHT says, and notes what it was asked."""

    def __init__(self, stop_at=None):
        self.asked, self.stop_at = [], stop_at

    def answers(self, question, n, rng):
        number = next(k for k, problem in enumerate(QUESTIONS) if problem.question == question)
        if number == self.stop_at:
            raise KeyboardInterrupt
        self.asked.append((number, rng.random()))
        wrong = "#### 18.0" if number == 1 else "no idea"
        return [QUESTIONS[number].answer] * RIGHT[number] + [wrong] * (n - RIGHT[number])


def test_the_hardest_that_was_ever_solved_comes_first():
    counts = [Counts(k, SAMPLES, {"reference": right, "lenient": 4}) for k, right in enumerate(RIGHT)]
    lines = table(counts, "test", "reference")
    assert [line.split()[0] for line in lines[1:-1]] == [f"test:{k}" for k in (2, 4, 3, 0, 1, 5)]
    low, high = clopper_pearson(1, SAMPLES)
    assert re.search(rf"test:2 +1/4 +0\.2500 +\[{low:.4f}, {high:.4f}\]", lines[1])
    assert lines[-1] == f"6 questions, 2 of them never solved; {sum(RIGHT) / 24:.4f} of all answers are right"
    assert [line.split()[0] for line in table(counts, "train", "lenient")[1:-1]] == [f"train:{k}" for k in range(6)]


def test_a_killed_count_goes_on_and_ends_the_same(tmp_path):
    whole, first, second = Scripted(), Scripted(stop_at=3), Scripted()
    how = {"format": command.FORMAT, "model": "m", "samples": SAMPLES}
    expected = count(whole, QUESTIONS, SAMPLES, 7)
    out = tmp_path / "new" / "counts.json"
    with pytest.raises(KeyboardInterrupt):
        count(first, QUESTIONS, SAMPLES, 7, (), out, how)
    kept = command.read(out, how)
    assert [one.question for one in kept] == [0, 1, 2]
    assert count(second, QUESTIONS, SAMPLES, 7, kept, out, how) == expected == command.read(out, how)
    assert first.asked + second.asked == whole.asked  # with the same random numbers
    assert [path.name for path in out.parent.iterdir()] == ["counts.json"]
    third = Scripted()
    assert count(third, QUESTIONS[:2], SAMPLES, 7, command.read(out, how), out, how) == expected[:2]
    assert third.asked == [] and len(command.read(out, how)) == 6


def test_a_file_of_other_work_is_left_alone(tmp_path):
    out, how = tmp_path / "counts.json", {"format": command.FORMAT, "samples": 4}
    command.write(out, how, [Counts(0, 4, {"reference": 1, "lenient": 1})])
    with pytest.raises(BadValue, match=r"its samples is 4, and here it is 8"):
        command.read(out, how | {"samples": 8})
    for content in (
        "no JSON",
        "[]",
        "{}",
        '{"how": {}, "questions": [{"question": 1}]}',
        '{"how": 1, "questions": []}',
    ):
        out.write_text(content)
        with pytest.raises(BadValue, match="holds no counts"):
            command.read(out, how)
        assert out.read_text() == content
    with pytest.raises(BadValue, match="cannot be written"):
        command.write(tmp_path, how, [])


def test_a_model_answers_each_question_after_its_own_prompt():
    made = talking(context=400)
    model = Answering(made, 5, True)
    rows = [model.answers(problem.question, 3, np.random.default_rng(1)) for problem in QUESTIONS[:2]]
    again = Answering(made, 5, True)
    assert again.answers(QUESTIONS[1].question, 3, np.random.default_rng(1)) == rows[1]  # whatever was asked before
    assert rows[0] != rows[1] and all(len(texts) == 3 for texts in rows)


@pytest.fixture
def brought(tmp_path, monkeypatch):
    """A model in a folder, and questions that stand for GSM8K."""
    words = tokenizer()
    words.chat_template = CHAT
    monkeypatch.setattr(command, "gsm8k", lambda part: QUESTIONS)
    monkeypatch.chdir(tmp_path)
    return str(saved(tmp_path / "m", ends=(1,), words=words, context=400))


def test_the_command(brought, tmp_path, capsys):
    words = ("hard-questions", "--model", brought, "--n", "2", "--samples", "3", "--horizon", "5")
    assert main(words) == 0
    first = capsys.readouterr().out
    assert "test:0" in first and "test:1" in first and "2 questions, " in first
    content = json.loads((tmp_path / "hard-questions.json").read_text())
    assert [row["samples"] for row in content["questions"]] == [3, 3]
    assert content["how"]["horizon"] == 5 and len(content["how"]["model"]) == 64
    stamp = (tmp_path / "hard-questions.json").stat().st_mtime_ns
    assert main(words) == 0 and capsys.readouterr().out == first
    assert (tmp_path / "hard-questions.json").stat().st_mtime_ns == stamp  # nothing was asked again
    assert main((*words, "--samples", "4")) == 2
    assert "its samples is 3" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (("--n", "0"), r"--n is 0; it is at least 1"),
        (("--n", "7"), r"--n is 7; the part test of GSM8K has 6 questions"),
        (("--n", "1", "--samples", "0"), "--samples is 0"),
        (("--n", "1", "--horizon", "0"), "--horizon is 0"),
        (("--n", "1", "--horizon", "999"), "longer than the 400"),
        (("--n", "1", "--model", "nowhere.gguf"), r"nowhere\.gguf is no folder and no file"),
        (("--n", "1", "--part", "dev"), "invalid choice"),
    ],
)
def test_bad_input_is_one_line(brought, tmp_path, capsys, arguments, says):
    try:
        code = main(("hard-questions", "--model", brought, *arguments))
    except SystemExit as end:
        code = end.code
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert code == 2 and re.search(says, said)
    assert not (tmp_path / "hard-questions.json").exists()


def test_rows_that_are_no_counts_are_refused(tmp_path):
    out, how = tmp_path / "counts.json", {"format": command.FORMAT, "samples": 4}
    for bad in (
        Counts(0, 64, {"reference": 9, "lenient": 9}),
        Counts(0, 4, {"reference": 5, "lenient": 5}),
        Counts(0, 4, {"lenient": 1}),
    ):
        command.write(out, how, [bad])
        with pytest.raises(BadValue, match="is not 4 answers by both rules"):
            command.read(out, how)
