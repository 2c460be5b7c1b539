"""reasoning-gym both ways: an entry of any of its datasets as a Task, and any task of ours as a dataset of it.

reasoning-gym (Stojanovski et al. 2025, arXiv:2505.24760) makes questions by a seed and scores answers between 0 and 1. As a
Task, a success is a score of 1.0; partial credit below it is a failure, though the ledger keeps it. As a dataset, a task of
ours has one question, and each answer that is scored is asked at a desk and charged.

Some of its scorers hand the answer's text to sympy's parser, which evaluates it as Python. A small vocabulary without letters
keeps that harmless. With letters, score the texts of models that you trust, or in a process that may do nothing.
"""

from __future__ import annotations

import hashlib
import json
import string
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banel_envs.bridges.desk.asker import Asker, OneByOne
from banel_envs.bridges.texts import question_of, row_of
from banel_envs.errors import BadValue, MissingExtra
from banel_envs.names import shown
from banel_envs.policies import Policy, Uniform
from banel_envs.problem import Problem, Tokens
from banel_envs.task import Task

CHARACTERS = string.printable[:95] + "\n"  # what an answer may be written in by default, with those of the question
END = "<end>"
_EXTRA = "reasoning-gym is not installed: pip install 'banel-envs[reasoning]'"


def reasoning_task(
    dataset: str,
    index: int = 0,
    *,
    seed: int = 0,
    config: Mapping[str, Any] | None = None,
    vocabulary: Sequence[str] | None = None,
    horizon: int = 32,
    budget: int = 1_000,
    base: Callable[[], Policy] | None = None,
) -> Task:
    """One entry of a dataset of reasoning-gym as a task: the question is the prompt, a score of 1.0 the success.

    Args:
        dataset: its name, such as "chain_sum".
        index: which entry.
        seed: of the dataset; the same seed and index give the same entry.
        config: further settings of the dataset.
        vocabulary: the words that answers are written in, where a text has a word for each character. By default printable
            characters and those of the question. An end token is added.
        horizon: words in the longest answer.
        budget: NRE.
        base: makes the base policy; uniform over the vocabulary by default. The task's digest says nothing of it.

    Raises:
        MissingExtra: reasoning-gym is not installed.
        BadValue: there is no such dataset or entry, or its own answer cannot be written or does not score 1.0.
    """
    data, entry = _entry(dataset, index, seed, dict(config or {}))
    words = (*(dict.fromkeys(CHARACTERS + entry["question"]) if vocabulary is None else vocabulary), END)
    name = "".join(part.title() for part in dataset.split("_"))
    problem = Problem(
        f"reasoning_gym/{name}Seed{seed}Entry{index}-v0",
        words,
        horizon,
        budget,
        base=base or partial(Uniform, len(words), horizon, len(words) - 1),
        end=len(words) - 1,
        prompt=entry["question"],
    )

    def reward(tokens: Tokens) -> NDArray[np.float64]:
        scores = [data.score_answer(text, entry) for text in problem.decode(tokens)]
        return np.array(scores, np.float64)

    witness = _witness(problem, entry["answer"], reward)
    told = [dataset, seed, index, words, horizon, entry["question"], entry["answer"], dict(config or {})]
    return Task(
        problem,
        reward,
        witness=lambda: witness.copy(),
        threshold=1.0,
        digest=hashlib.sha256(json.dumps(told, sort_keys=True, default=str).encode()).hexdigest(),
        family="reasoning",
        judges=("reasoning-gym",),
        on_error="failure",  # a scorer that raises on an odd text has refused it
    )


def _entry(dataset: str, index: int, seed: int, config: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    """The dataset and its entry."""
    try:
        from reasoning_gym import create_dataset
    except ImportError as error:
        raise MissingExtra(_EXTRA) from error
    if isinstance(index, bool) or not isinstance(index, int) or index < 0:
        raise BadValue(f"the entry is {shown(index)}; entries are counted from 0")
    try:
        data = create_dataset(dataset, **{"seed": seed, "size": index + 1, **config})
        return data, data[index]
    except (ValueError, TypeError, AssertionError, LookupError) as error:
        raise BadValue(
            f"reasoning-gym makes no entry {index} of {shown(dataset)} with {shown(config)}: {error}"
        ) from error


def _witness(problem: Problem, answer: object, reward: Callable[[Tokens], NDArray[np.float64]]) -> Tokens:
    """The entry's own answer as a sequence [T]; BadValue unless it can be written and is a success."""
    row = row_of(problem, answer) if isinstance(answer, str) else None
    if row is None:
        missing = sorted(set(str(answer)) - set("".join(problem.words[:-1])))
        raise BadValue(
            f"{problem.id}: its answer has {len(str(answer))} characters and cannot be written in {problem.T} words of the "
            f"vocabulary ({f'{shown(missing)} are missing' if missing else 'it is too long'}); give another vocabulary or horizon"
        )
    score = reward(row[None])[0]
    if score < 1:
        raise BadValue(f"{problem.id}: its own answer scores {score}, so no success is known; take another entry")
    return row


def reasoning_dataset(
    problem: Problem, desk: Asker, *, size: int = 500, question: str | None = None, name: str | None = None
) -> Any:
    """A task of ours as a dataset of reasoning-gym (a ProceduralDataset), scored at a desk.

    Every entry is the same question, and none has an answer, since what succeeds is hidden. `score_answer` asks one evaluation
    for each text and gives 1.0, 0.0, or NaN for a success that is withheld. A text that no sequence of the problem has scores
    0.0 for nothing. Past the budget it raises BudgetExhausted.

    Args:
        problem: the public half of the task that the desk's oracle judges.
        desk: a Desk, or a DeskClient.
        size: how many entries it says it has.
        question: what is asked; by default the problem's prompt, its words and an example of the form.
        name: begins the keys; see `OneByOne`.

    Raises:
        MissingExtra: reasoning-gym is not installed.
    """
    try:
        from reasoning_gym.factory import ProceduralDataset
    except ImportError as error:
        raise MissingExtra(_EXTRA) from error
    asked = question_of(problem) if question is None else question
    ask = OneByOne(desk, name)

    def item(self: Any, index: int) -> dict[str, Any]:
        if not -size <= index < size:
            raise IndexError(f"entry {index} of {size}")
        about = {"source_dataset": problem.id, "source_index": index % size}
        return {"question": asked, "answer": None, "metadata": about}

    def score(self: Any, answer: str | None, entry: Mapping[str, Any]) -> float:
        row = row_of(problem, answer) if isinstance(answer, str) else None
        return 0.0 if row is None else ask(row)

    methods = {"__getitem__": item, "score_answer": score, "__doc__": f"{problem.id}, scored at a desk."}
    return type("MeteredDataset", (ProceduralDataset,), methods)(config=None, seed=0, size=size)
