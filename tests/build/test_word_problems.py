"""Word problems: an independent reader of the question gets the same answer, and every equation of the solution is true."""

from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from banel_envs.build.shared.word_problems import MOST, write
from banel_envs.tasks.language.word_tokens import END_TOKEN, VOCABULARY
from banel_envs.tasks.shared.gsm8k_answer import reference

NUMBER = r"(\d+)"
UP, DOWN = "buys|finds|gets", "eats|loses|sells"


def printed(tokens):
    return "".join(VOCABULARY[t] for t in tokens)


def understood(question):
    """The answer to a question, by reading its sentences one after the other."""
    *sentences, asked = question.strip().split(". ")
    thing, person = re.fullmatch(r"How many (\w+) does (\w+) have\?", asked).groups()
    value = 0
    for sentence in sentences:
        who = sentence.split()[0]
        plain = re.fullmatch(rf"{person} (has|{UP}|{DOWN}) {NUMBER} {thing}", sentence)
        packs = re.fullmatch(rf"{person} ({UP}|{DOWN}) {NUMBER} (?:bags|boxes) of {NUMBER} {thing}", sentence)
        handed = re.fullmatch(rf"(\w+) gives {NUMBER} {thing} to (\w+)", sentence)
        times = re.fullmatch(rf"{person} then has {NUMBER} times as many {thing}", sentence)
        part = re.fullmatch(rf"{person} keeps one of {NUMBER} equal parts", sentence)
        if plain:
            value += (-1 if plain[1] in DOWN else 1) * int(plain[2])
        elif packs:
            value += (-1 if packs[1] in DOWN else 1) * int(packs[2]) * int(packs[3])
        elif handed:
            value += int(handed[2]) * ((handed[3] == person) - (handed[1] == person))
        elif times:
            value *= int(times[1])
        elif part:
            assert value % int(part[1]) == 0
            value //= int(part[1])
        else:
            assert who != person or thing not in sentence, sentence  # a distractor
    return value


@settings(max_examples=300)
@given(st.integers(1, 6), st.integers(0, 3), st.integers(0, 2**32))
def test_an_independent_reader_gets_the_answer(operations, distractors, seed):
    one = write(operations, distractors, np.random.default_rng(seed))
    question, solution = printed(one.question), printed(one.solution)
    assert understood(question) == one.answer
    assert reference(solution) == str(one.answer)
    assert question.count(". ") == 1 + operations + distractors


@given(st.integers(1, 6), st.integers(0, 2**32))
def test_every_equation_is_true(operations, seed):
    one = write(operations, 1, np.random.default_rng(seed))
    *steps, final = printed(one.solution).split("; ")
    assert len(steps) == one.steps >= operations
    for step in steps:
        left, operator, right, result = re.fullmatch(r"(\d+)([-+*/])(\d+)=(\d+)", step).groups()
        a, b = int(left), int(right)
        assert {"+": a + b, "-": a - b, "*": a * b, "/": a / b}[operator] == int(result)
        assert 1 <= int(result) <= MOST
    assert final == f"#### {one.answer}"


def test_solutions_end_and_questions_do_not():
    one = write(3, 2, np.random.default_rng(0))
    assert one.solution[-1] == END_TOKEN
    assert END_TOKEN not in (*one.question, *one.solution[:-1])
    assert len(set(VOCABULARY)) == len(VOCABULARY)


def test_the_order_of_operands_varies():
    written = {printed(write(1, 0, np.random.default_rng([0, seed])).solution) for seed in range(200)}
    orders = [re.match(r"(\d+)[+*](\d+)=", text).groups() for text in written if re.match(r"\d+[+*]", text)]
    first = np.mean([int(a) < int(b) for a, b in orders])
    assert 0.3 < first < 0.7


@pytest.mark.parametrize("seed", range(3))
def test_the_same_seed_writes_the_same_problem(seed):
    assert write(4, 2, np.random.default_rng(seed)) == write(4, 2, np.random.default_rng(seed))
