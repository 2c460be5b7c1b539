"""Word problems about who has how many of what, with worked-out solutions: what Reasoning's base policy is trained on.

A problem follows one quantity, such as the eggs of Ann, through a number of *operations*, each a sentence that changes it.
Between them stand *distractors*: sentences about other people, other things or money, which change nothing. Every number
is at least 1 and below 300.

The solution has one equation for each step of arithmetic, and two for an operation such as "buys 3 bags of 12 eggs". The
two operands of a sum or a product stand in either order, by chance, so a model of such solutions is spread over several
texts even where it is sure of the answer.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from banel_envs.tasks.language.word_tokens import END, MARK, NAMES, OBJECTS, STEP_END, TOKEN

MOST = 299  # the largest number
SINGLE = 50  # the largest number in a sentence
PACKED = 6  # the most bags or boxes
GAINS, LOSSES = (" buys ", " finds ", " gets "), (" eats ", " loses ", " sells ")
PACKS = (" bags of ", " boxes of ")
Text = list[str]  # printed tokens


@dataclass(frozen=True)
class WordProblem:
    """One problem with one of its solutions, as tokens."""

    question: tuple[int, ...]
    solution: tuple[int, ...]  # ends in the end token
    answer: int
    steps: int  # equations in the solution


class NotWhole(Exception):
    """A number would be below 1, above MOST or no whole number; draw again."""


class _Writer:
    """Writes the sentences of one problem, and its solution."""

    def __init__(self, rng: np.random.Generator) -> None:
        self.rng = rng
        self.names = [NAMES[k] for k in rng.permutation(len(NAMES))]
        self.objects = [OBJECTS[k] for k in rng.permutation(len(OBJECTS))]
        self.name, self.object = self.names[0], self.objects[0]
        self.question: Text = []
        self.solution: Text = []
        self.value = self.steps = 0

    def pick(self, words: Sequence[str]) -> str:
        return words[int(self.rng.integers(len(words)))]

    def number(self, most: int) -> int:
        """A number from 2 to `most`."""
        return int(self.rng.integers(2, 1 + most))

    def say(self, *words: str | int) -> None:
        for word in words:
            self.question += [word] if isinstance(word, str) else list(str(word))
        self.question.append(". ")

    def compute(self, left: int, operator: str, right: int) -> int:
        """Write one step, and give its result."""
        if operator in "+*" and self.rng.random() < 0.5:
            left, right = right, left
        if operator == "/" and left % right:
            raise NotWhole
        result = {"+": left + right, "-": left - right, "*": left * right, "/": left // right}[operator]
        if not 1 <= result <= MOST:
            raise NotWhole
        self.solution += [*f"{left}{operator}{right}={result}", STEP_END]
        self.steps += 1
        return result


def _gain(w: _Writer) -> None:
    n = w.number(SINGLE)
    w.say(w.name, w.pick(GAINS), n, w.object)
    w.value = w.compute(w.value, "+", n)


def _loss(w: _Writer) -> None:
    n = w.number(SINGLE)
    w.say(w.name, w.pick(LOSSES), n, w.object)
    w.value = w.compute(w.value, "-", n)


def _gain_packs(w: _Writer) -> None:
    k, n = w.number(PACKED), w.number(12)
    w.say(w.name, w.pick(GAINS), k, w.pick(PACKS), n, w.object)
    w.value = w.compute(w.value, "+", w.compute(k, "*", n))


def _loss_packs(w: _Writer) -> None:
    k, n = w.number(PACKED), w.number(12)
    w.say(w.name, w.pick(LOSSES), k, w.pick(PACKS), n, w.object)
    w.value = w.compute(w.value, "-", w.compute(k, "*", n))


def _times(w: _Writer) -> None:
    k = int(w.rng.integers(2, 6))
    w.say(w.name, " then has ", k, " times as many", w.object)
    w.value = w.compute(w.value, "*", k)


def _part(w: _Writer) -> None:
    k = int(w.rng.integers(2, 6))
    w.say(w.name, " keeps one of ", k, " equal parts")
    w.value = w.compute(w.value, "/", k)


def _given(w: _Writer) -> None:
    n = w.number(SINGLE)
    w.say(w.names[1], " gives ", n, w.object, " to ", w.name)
    w.value = w.compute(w.value, "+", n)


def _gives(w: _Writer) -> None:
    n = w.number(SINGLE)
    w.say(w.name, " gives ", n, w.object, " to ", w.names[1])
    w.value = w.compute(w.value, "-", n)


Operation: TypeAlias = Callable[[_Writer], None]
ALONE: tuple[Operation, ...] = (_gain, _gain, _loss, _loss, _gain_packs, _loss_packs, _times, _part)
"""Operations that name one person, each drawn as often as it stands here."""
OPERATIONS: tuple[Operation, ...] = (*ALONE, _given, _gives)
"""All of them: in two somebody gives something to somebody else."""


def _distract(w: _Writer) -> None:
    """A sentence that changes nothing: about another person, another thing, or money."""
    kind, n = int(w.rng.integers(4)), w.number(SINGLE)
    other, thing = w.pick(w.names[1:]), w.pick(w.objects[1:])
    if kind == 0:
        w.say(other, w.pick((*GAINS, *LOSSES, " has ")), n, w.object)
    elif kind == 1:
        w.say(w.name, w.pick((*GAINS, *LOSSES, " has ")), n, thing)
    elif kind == 2:
        w.say(w.pick(w.names), " pays ", n, " coins")
    else:
        w.say(other, w.pick((*GAINS, *LOSSES)), w.number(PACKED), w.pick(PACKS), n, w.object)


def write(
    operations: int, distractors: int, rng: np.random.Generator, kinds: Sequence[Operation] = OPERATIONS
) -> WordProblem:
    """One problem with so many operations, of these kinds, and distractors."""
    while True:
        w = _Writer(rng)
        try:
            w.value = w.number(SINGLE)
            w.say(w.name, " has ", w.value, w.object)
            places = rng.permutation(operations + distractors) < distractors
            for distracts in places:
                (_distract if distracts else kinds[int(rng.integers(len(kinds)))])(w)
        except NotWhole:
            continue
        w.question += ["How many", w.object, " does ", w.name, " have? "]
        w.solution += [MARK, *str(w.value), END]
        question, solution = (tuple(TOKEN[t] for t in text) for text in (w.question, w.solution))
        return WordProblem(question, solution, w.value, w.steps)
