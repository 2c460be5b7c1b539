"""GSM8KHard: a language model must solve one question of GSM8K that it hardly ever solves (BaNEL, arXiv 2510.09596).

The model answers in words, and the attempt is a success if its final answer is right. The final answer is what stands after
`####`, by the rule of GSM8K's authors ("reference": equal texts) or by ours ("lenient": equal numbers); both stand in
banel_envs/tasks/shared/gsm8k_answer.py. The prompt is the question with a request for that form, by the model's chat template.

Neither the model nor the questions are shipped. Three environment variables name them:

    BANEL_MODEL      a folder, a .gguf file or a hub id; Qwen/Qwen2.5-0.5B-Instruct if it is not set
    BANEL_DATA       the folder with the questions, which `banel data gsm8k` fetches
    BANEL_QUESTION   such as test:12, the question of that part with that number, from 0; test:0 if it is not set

Which questions are hard depends on the model: `banel hard-questions` finds them. To score is free, to sample is not, and the
successes cannot be enumerated. So a rate is estimated from few samples, 256 at each place of a run's curve and 1,024 of the
final policy, and its certified interval is given (banel_envs/measure/certified.py), whose lower end is the mass of the
successes that the run asked. The budget is 1,000 and the horizon 256 tokens.

The digest covers the model's weights, the prompt, the question, its answer, the rule and the horizon. So runs with other
models or questions are other tasks of the same name, and no board compares them.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from banel_envs.data import GSM8K_SIZES, WordProblem, gsm8k
from banel_envs.errors import BadValue, ModelMissing
from banel_envs.files.visible import shown
from banel_envs.names import unknown
from banel_envs.pool import Pool
from banel_envs.problem import Problem, Tokens
from banel_envs.task import Task
from banel_envs.tasks.shared.gsm8k_answer import MARK, RULES, correct

if TYPE_CHECKING:
    from banel_envs.policies.language.base_model import LanguageModel

ID, LENIENT = "banel/GSM8KHard-v0", "banel/GSM8KHardLenient-v0"
QUESTION, DEFAULT_QUESTION = "BANEL_QUESTION", "test:0"
MODEL, DEFAULT_MODEL = "BANEL_MODEL", "Qwen/Qwen2.5-0.5B-Instruct"
HORIZON = 256  # tokens: of GSM8K's 8,792 own solutions 97% are no longer in SmolLM2's tokens; the longest has 454
REQUEST = (
    "{question}\n\nSolve it step by step. End with a line that holds nothing but "
    + MARK
    + " and the final answer as a number."
)
PLAIN = "Question: " + REQUEST + "\nAnswer:"


@dataclass(frozen=True)
class Scorer:
    """Scores answers to one question: 1 where the final answer is right."""

    problem: Problem
    gold: str = field(repr=False)
    rule: str

    def __call__(self, tokens: Tokens) -> NDArray[np.int8]:
        """The rewards [n] of sequences [n, T]."""
        return correct(self.problem.decode(tokens), self.gold, self.rule)


def gsm8k_hard(
    question: str | WordProblem | None = None,
    model: str | Path | LanguageModel | None = None,
    rule: str = "reference",
    *,
    horizon: int = HORIZON,
    budget: int = 1_000,
    samples: int = 256,
    final: int = 1_024,
    chat: bool = True,
    rank: int = 8,
    rows: int = 8,
    id: str = ID,
) -> Task:
    """The task of one question.

    Args:
        question: such as "test:12", or a question of your own whose answer ends in `#### number`; None for BANEL_QUESTION.
        model: a folder, a .gguf file, a hub id, or a model that is loaded; None for BANEL_MODEL.
        rule: "reference" or "lenient".
        horizon: the most tokens of an answer.
        budget: evaluations.
        samples: drawn from a policy to estimate its rate.
        final: the same for the last policy of a run.
        chat: whether the prompt goes through the chat template; else it is plain text.
        rank: of the adapter that agents train.
        rows: sequences in one pass with gradients.
        id: of the task.

    Raises:
        BadValue: there is no such question, or its answer has no number; the model has no chat template, no tokenizer or no id
            that ends a text, or reads fewer tokens than prompt and answer have.
        UnknownName: there is no such rule.
        DataMissing, DataAltered: the questions are missing or are not the original ones.
        MissingExtra, ModelMissing: the model is missing.
    """
    if rule not in RULES:
        raise unknown("rule", rule, RULES)
    asked = question if isinstance(question, WordProblem) else the_question(question)
    correct([], asked.answer, rule)  # BadValue where the question's own answer has no number
    from banel_envs.policies.language.hf_policy import HFPolicy

    base = the_model(model)
    prompt = prompt_of(base, asked.question, chat)
    policy = HFPolicy(base, prompt, horizon, rank=rank, rows=rows)
    problem = Problem(
        id,
        base.vocabulary,
        horizon,
        budget,
        policy.clone,
        end=policy.end,
        prompt=asked.question,
        decoder=base.text,
        encoder=base.plain_ids,
    )
    return Task(
        problem,
        Scorer(problem, asked.answer, rule),
        witness=lambda: _answer(base, asked.answer, horizon, base.ends[0]),
        pool=lambda: Pool((), samples, final),
        digest=_digest([policy.spec(), base.words_digest], asked, rule),
        family="language",
    )


def the_question(named: str | None = None) -> WordProblem:
    """The question that is named, such as test:12; None for the one that BANEL_QUESTION names, test:0 by default.

    Raises:
        BadValue: there is no such question.
        DataMissing, DataAltered: as for `gsm8k`.
    """
    source = "the question" if named is not None else QUESTION
    named = os.environ.get(QUESTION) or DEFAULT_QUESTION if named is None else str(named)
    found = re.fullmatch(r"(train|test):(\d{1,5})", named, re.ASCII)
    if found is None or int(found[2]) >= GSM8K_SIZES[found[1]]:
        sizes = " or ".join(f"{part}:0 to {part}:{size - 1}" for part, size in GSM8K_SIZES.items())
        raise BadValue(f"{source} is {named!r}; name one of GSM8K, {sizes}")
    return gsm8k(found[1])[int(found[2])]


def the_model(model: str | Path | LanguageModel | None = None) -> LanguageModel:
    """The model that is named, or the one that BANEL_MODEL names.

    Raises:
        MissingExtra, ModelMissing, BadValue: as for `LanguageModel.load`.
    """
    from banel_envs.policies.language.base_model import LanguageModel

    if isinstance(model, LanguageModel):
        return model
    if model is not None and not isinstance(model, str | Path):
        raise BadValue(f"the model is {shown(model)}; name a folder, a .gguf file or a hub id, or give a LanguageModel")
    source = model or os.environ.get(MODEL) or DEFAULT_MODEL
    try:
        return LanguageModel.load(source)
    except ModelMissing as error:
        raise ModelMissing(f"{error}; {MODEL} names the model of {ID} (default {DEFAULT_MODEL})") from error


def prompt_of(model: LanguageModel, question: str, chat: bool = True) -> list[int]:
    """The ids that ask a model for a worked-out solution that ends in `#### number`.

    Raises:
        BadValue: the model has no tokenizer, or no chat template where one is asked for.
    """
    if not chat:
        return model.ids(PLAIN.format(question=question))
    try:
        return model.chat(REQUEST.format(question=question))
    except BadValue as error:
        raise BadValue(f"{error} (in GSM8KHard: gsm8k_hard(chat=False))") from error


def _answer(model: LanguageModel, gold: str, horizon: int, end: int) -> Tokens | None:
    """The gold solution as a sequence [T], or its last line alone where it is too long; None where that is too long, too."""
    for text in (gold, gold[gold.index(MARK) :]):
        ids = model.plain_ids(text)
        if len(ids) <= horizon:
            return np.array([*ids, *[end] * (horizon - len(ids))], np.int64)
    return None


def _digest(policy: object, asked: WordProblem, rule: str) -> str:
    """SHA-256 over what decides the reward and the base policy."""
    return hashlib.sha256(json.dumps([policy, asked.question, asked.answer, rule], sort_keys=True).encode()).hexdigest()


def build_v0() -> Task:
    """GSM8KHard-v0: equal texts."""
    return gsm8k_hard()


def build_lenient() -> Task:
    """GSM8KHardLenient-v0: equal numbers."""
    return gsm8k_hard(rule="lenient", id=LENIENT)
