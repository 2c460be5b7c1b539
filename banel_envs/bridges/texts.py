"""Text to the tokens of a problem: what a program that writes text has to do before an oracle can judge it."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from banel_envs.errors import BadValue
from banel_envs.problem import Problem, Tokens

DRAWN = 8  # samples of the base policy, of which one is shown


def row_of(problem: Problem, text: str) -> Tokens | None:
    """The sequence [T] whose text this is; None where no sequence has it.

    Where the problem has an `encoder`, that makes the tokens. Else the text is cut into words of the vocabulary, as few as
    possible; of several ways the one with the longest first words is taken. Behind it stand the end tokens; the text may end in
    one that is written out, such as the `=` of AdditionAttack. Where the problem has no end token, the text must have exactly T
    words. Where words end in a space, as in Countdown, the last one's may be missing.

    Raises:
        BadValue: the vocabulary is a number, and the problem has no encoder.
    """
    if problem.encoder is not None:
        return _encoded(problem, problem.encoder, text)
    if problem.end is not None:
        text = text.removesuffix(problem.words[problem.end])
    row = _cut(problem, text)
    return _cut(problem, f"{text} ") if row is None and _spaced(problem) else row


def _encoded(problem: Problem, encoder: Callable[[str], Sequence[int]], text: str) -> Tokens | None:
    try:
        return row_of_ids(problem, list(encoder(text)))
    except BadValue:  # what the tokenizer cannot write is no sequence
        return None


def _words(problem: Problem) -> list[str]:
    """What an answer is written of, without the end token."""
    return [word for index, word in enumerate(problem.words) if index != problem.end and word]


def _spaced(problem: Problem) -> bool:
    """Whether each word has one space behind it and no other, so that a text is words with spaces between them."""
    return all(len(word) > 1 and word[-1] == " " and " " not in word[:-1] for word in _words(problem))


def _cut(problem: Problem, text: str) -> Tokens | None:
    """The text, without an end token, cut into words of the vocabulary: [T]; None where it cannot be cut."""
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
    """What to ask a program that writes text: the problem's prompt, and what an answer is made of.

    The second part names the vocabulary, and shows one well-formed sequence of the base policy for its form; that need not be a
    success, and no evaluation is spent on it. A problem whose texts an `encoder` reads takes any text.

    Raises:
        BadValue: the vocabulary is a number, and the problem has no encoder.
    """
    if problem.encoder is not None:
        return problem.prompt or f"Write a text of at most {problem.T} tokens."
    return "\n".join(part for part in (problem.prompt, _form(problem), _example(problem)) if part)


def _form(problem: Problem) -> str:
    """A sentence that names the vocabulary and says how words are put together."""
    words = _words(problem)
    many = f"Write {problem.T if problem.end is None else f'at most {problem.T}'} of these words"
    if _spaced(problem):
        said = f"{many}, separated by one space: {''.join(words).rstrip()}"
    elif any(character.isspace() for word in words for character in word):
        shown = " ".join(f"'{word}'" for word in words)
        said = f"{many}, one after another, with the spaces that stand within the quotes and no others: {shown}"
    else:
        said = f"{many}, one after another, without anything between them: {' '.join(words)}"
    end = "" if problem.end is None else problem.words[problem.end].strip()
    return f"{said}\nAn answer may end in {end}, which may be left out." if end else said


def _example(problem: Problem) -> str:
    """One well-formed sequence of the base policy, or nothing where none was drawn; the same each time."""
    tokens = problem.base_policy().sample(DRAWN, np.random.default_rng(0))
    texts = [text for text in problem.decode(tokens[problem.well_formed(tokens)]) if text]
    return f"An answer of the right form, which need not be right: {texts[0].removesuffix(' ')}" if texts else ""
