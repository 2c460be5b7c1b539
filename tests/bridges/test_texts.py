"""Texts and ids to sequences: what decodes to the text, and None where nothing does."""

from __future__ import annotations

from itertools import product

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from banel_envs import TASKS, Problem
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


def test_a_vocabulary_that_is_a_number_has_no_words() -> None:
    problem = Problem("me/Ids-v0", 50_000, 4, 10, base=lambda: Uniform(50_000, 4, None))
    for ask in (lambda: row_of(problem, "a"), lambda: question_of(problem)):
        with pytest.raises(BadValue, match=r"its 50,000 tokens have no printed forms; hand in ids, not text"):
            ask()
    assert row_of_ids(problem, [1, 2, 3, 49_999]) is not None and row_of_ids(problem, [1, 2, 3, 50_000]) is None
