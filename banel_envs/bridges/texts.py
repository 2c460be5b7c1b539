"""Text to the tokens of a problem: what a program that writes text has to do before an oracle can judge it."""

from __future__ import annotations

import numpy as np

from banel_envs.problem import Problem, Tokens


def row_of(problem: Problem, text: str) -> Tokens | None:
    """The sequence [T] whose text this is; None where no sequence has it.

    The text is cut into words of the vocabulary, as few as possible; of several ways the one with the longest first words is
    taken. Behind it stand the end tokens; the text may end in one that is written out, such as the `=` of AdditionAttack. Where
    the problem has no end token, the text must have exactly T words.
    """
    if problem.end is not None:
        text = text.removesuffix(problem.words[problem.end])
    words = {word: index for index, word in enumerate(problem.words) if word and index != problem.end}
    sizes = sorted({len(word) for word in words}, reverse=True)
    # fewest[i]: how many words the text from i on needs at least, and the first of them; None where it cannot be cut.
    fewest: list[tuple[int, str] | None] = [None] * len(text) + [(0, "")]
    for start in range(len(text) - 1, -1, -1):
        for size in sizes:
            word, rest = text[start : start + size], None
            if word in words and start + len(word) <= len(text):
                rest = fewest[start + len(word)]
            here = fewest[start]
            if rest is not None and (here is None or rest[0] + 1 < here[0]):
                fewest[start] = (rest[0] + 1, word)
    whole = fewest[0]
    if whole is None or whole[0] > problem.T or (problem.end is None and whole[0] < problem.T):
        return None
    row, start = np.full(problem.T, 0 if problem.end is None else problem.end, np.int64), 0
    for position in range(whole[0]):
        _, word = fewest[start] or whole
        row[position], start = words[word], start + len(word)
    return row


def row_of_ids(problem: Problem, ids: list[int]) -> Tokens | None:
    """The sequence [T] that a language model wrote, where its ids are the problem's tokens; None where it is none.

    A list that is shorter than T is filled with the end token.
    """
    if len(ids) > problem.T or (problem.end is None and len(ids) < problem.T):
        return None
    row = np.full(problem.T, 0 if problem.end is None else problem.end, np.int64)
    row[: len(ids)] = ids
    inside = bool(((row >= 0) & (row < problem.V)).all())
    late = problem.end is not None and bool(((row[:-1] == problem.end) & (row[1:] != problem.end)).any())
    return row if inside and not late else None


def question_of(problem: Problem) -> str:
    """What to ask a program that writes text: the problem's prompt, or a sentence that names its vocabulary."""
    if problem.prompt is not None:
        return problem.prompt
    words = [word for index, word in enumerate(problem.words) if index != problem.end]
    length = f"{problem.T}" if problem.end is None else f"at most {problem.T}"
    return f"Write {length} of these words, one after another, without anything between them: {' '.join(words)}"
