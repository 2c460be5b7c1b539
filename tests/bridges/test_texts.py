"""Texts and ids to sequences: what decodes to the text, and None where nothing does."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from banel_envs import BROUGHT, SHIPPED, TASKS, Problem
from banel_envs.bridges.texts import question_of, row_of, row_of_ids
from banel_envs.errors import BadValue
from banel_envs.policies import Uniform


def problem_of(words, horizon, end=None):
    return Problem("me/Words-v0", words, horizon, 10, lambda: Uniform(len(words), horizon, end), end=end)


WORDS = problem_of(("a", "ab", "b", "bc", "c", "$"), 3, end=5)
FIXED = problem_of(("a", "ab", "b"), 3)


@pytest.mark.parametrize(
    ("text", "row"),
    [
        ("", [5, 5, 5]),
        ("a", [0, 5, 5]),
        ("ab", [1, 5, 5]),  # one word rather than two
        ("abc", [1, 4, 5]),  # of two ways with two words, the one with the longer first word
        ("abcab", [1, 4, 1]),
        ("aaaa", None),  # four words
        ("ax", None),
        ("ab$", [1, 5, 5]),  # the end token may be written out, once and at the end
        ("$", [5, 5, 5]),
        ("a$$", None),
        ("$a", None),
        ("a ", None),
    ],
)
def test_rows_of_texts(text, row):
    found = row_of(WORDS, text)
    assert (None if found is None else found.tolist()) == row


def test_without_an_end_token_the_text_has_exactly_so_many_words():
    assert row_of(FIXED, "aab") is None  # two words at the fewest
    assert row_of(FIXED, "aaa").tolist() == [0, 0, 0]
    assert row_of(FIXED, "abab") is None


@settings(deadline=None, max_examples=60)
@given(st.text("abcx$", max_size=6))
def test_a_text_has_a_row_exactly_if_some_sequence_decodes_to_it(text):
    every = [list(words) + [5] * (3 - n) for n in range(4) for words in product(range(5), repeat=n)]
    texts = WORDS.decode(np.array(every))
    row = row_of(WORDS, text)
    said = text.removesuffix("$")
    assert (row is not None) == (said in texts)
    if row is not None:
        assert WORDS.decode(row[None]) == [said]


@pytest.mark.parametrize("task", ["banel/AdditionAttack-v0", "banel/Gaussian1D-v0"])
def test_what_a_policy_writes_is_read_back(task):
    problem = TASKS[task].problem
    tokens = problem.base_policy().sample(20, np.random.default_rng(0))
    for row, text in zip(tokens, problem.decode(tokens), strict=True):
        assert row_of(problem, text).tolist() == row.tolist()


@pytest.mark.parametrize(
    ("ids", "row"),
    [
        ([0, 1], [0, 1, 5]),
        ([0, 5], [0, 5, 5]),
        ([], [5, 5, 5]),
        ([0, 5, 1], None),
        ([9], None),
        ([-1], None),
        ([0] * 4, None),
    ],
)
def test_rows_of_ids(ids, row):
    found = row_of_ids(WORDS, ids)
    assert (None if found is None else found.tolist()) == row
    assert row_of_ids(FIXED, [0, 1]) is None and row_of_ids(FIXED, [0, 1, 2]).tolist() == [0, 1, 2]


SPACED = problem_of(("3 ", "25 ", "+ ", "="), 4, end=3)
MIXED = problem_of(("3", " has ", "; ", "end"), 4, end=3)


@pytest.mark.parametrize("text", ["3 25 +", "3 25 + ", "3 25 +=", "3 25 + ="])
def test_the_space_behind_the_last_word_may_be_missing(text):
    """Answers come without the white space around them, and every word of Countdown has a space behind it."""
    assert row_of(SPACED, text).tolist() == [0, 1, 2, 3]


def test_no_other_space_is_added():
    assert row_of(SPACED, "325 +") is None and row_of(SPACED, "3 25 +  ") is None
    assert row_of(MIXED, "3;") is None and row_of(MIXED, "3; ").tolist() == [0, 2, 3, 3]
    assert row_of(problem_of(("a", " "), 2), "a") is None  # a space may be a word


@pytest.mark.parametrize(
    ("problem", "says"),
    [
        (SPACED, "Write at most 4 of these words, separated by one space: 3 25 +\nAn answer may end in =, which"),
        (MIXED, "spaces that stand within the quotes and no others: '3' ' has ' '; '\nAn answer may end in end, which"),
        (FIXED, "Write 3 of these words, one after another, without anything between them: a ab b\nAn answer of"),
    ],
)
def test_a_question_says_how_words_are_put_together(problem, says):
    assert says in question_of(problem)


@pytest.mark.parametrize("task", [id for id in SHIPPED if id not in BROUGHT])
def test_the_example_in_a_question_can_be_written(task):
    """A program that writes text cannot guess a form: each question shows one, whose text is read back."""
    problem = TASKS[task].problem
    question = question_of(problem)
    assert question.startswith(problem.prompt or "Write ") and question == question_of(problem)
    row = row_of(problem, question.rpartition("which need not be right: ")[2])
    assert row is not None and problem.well_formed(row[None])[0]
    if "Reasoning" in task:
        assert "#### " in question.splitlines()[-1]


def test_texts_of_a_language_model_are_read_by_its_tokenizer():
    pytest.importorskip("transformers")
    from tests.shared.language import talking

    model = talking()
    ids = model.plain_ids("The answer is 7.")

    def encoder(text):
        if text == "unknown":
            raise BadValue("no token")
        return model.plain_ids(text)

    problem = Problem(
        "me/Text-v0",
        model.vocabulary,
        len(ids) + 2,
        10,
        lambda: Uniform(310, len(ids) + 2, 1),
        end=1,
        decoder=model.text,
        encoder=encoder,
    )
    row = row_of(problem, "The answer is 7.")
    assert row.tolist() == [*ids, 1, 1] and problem.decode(row[None]) == ["The answer is 7."]
    assert row_of(problem, "The answer is 7.</s>").tolist() == row.tolist()
    assert row_of(problem, "The answer is 7. The answer is 7.") is None  # too long
    assert row_of(problem, "unknown") is None and row_of(problem, "a</s>b") is None
    assert question_of(problem) == f"Write a text of at most {len(ids) + 2} tokens."


def test_a_vocabulary_that_is_a_number_has_no_words() -> None:
    problem = Problem("me/Ids-v0", 50_000, 4, 10, base=lambda: Uniform(50_000, 4, None))
    for ask in (lambda: row_of(problem, "a"), lambda: question_of(problem)):
        with pytest.raises(
            BadValue, match=r"its 50,000 tokens have no printed forms; hand in ids, not text, or give.*encoder"
        ):
            ask()
    assert row_of_ids(problem, [1, 2, 3, 49_999]) is not None and row_of_ids(problem, [1, 2, 3, 50_000]) is None
