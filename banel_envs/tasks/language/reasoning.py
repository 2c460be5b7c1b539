"""Reasoning: solve one word problem that a small language model, trained on some hundred thousand easier ones, seldom solves.

    Ann has 12 eggs. Ann buys 3 bags of 4 eggs. Ben buys 5 eggs. How many eggs does Ann have?
    3*4=12; 12+12=24; #### 24

The policy writes the second line after the first. Success: the final answer is right by the reference rule of GSM8K, which
reads what stands after the first "#### " that has a number behind it (tasks/shared/gsm8k_answer.py). The steps are not judged.
It is the shape of GSM8KHard, BaNEL's third task (arXiv 2510.09596), with nothing to download. Vocabulary 51 (words, digits,
signs, the end token), horizon 64, budget 2,500. The question is the problem's `prompt`, of 64 tokens; six were chosen for v0 to
v5. In ReasoningMean the first token of a sequence is the number of a question, 0 to 5, which the base policy draws evenly; the
rest answers it. One policy answers all six, so failures on one question may teach another, and its success rate is the mean.

The base policy is a transformer (width 96, 3 layers, 358 thousand weights). It solves 99.7% of problems with one operation that
name one person and no other, 31% of those with five operations, and 9% if two sentences distract from them: it is misled by
what other people and other things are said to do. The questions have five operations and four distractors. Training had
sentences in which one person gives something to another, too; which of the two has more then it did not learn, so no question
has them.

Base success, certified from 60,000 samples, in log10 (`python -m benchmarks.tasks --base-only`):

    v0    -3.79 to -3.39    v3    -3.34 to -3.06
    v1    -4.34 to -3.67    v4    -3.46 to -3.23
    v2    -3.48 to -3.19    v5    -3.34 to -3.06    the mean of all    -3.48 to -3.17

Of 5,000 samples of a question 1,844 (v0) to 4,421 (v5) are distinct. A temperature of 1.5 gains up to three quarters of a
decade; `python -m benchmarks.language.reasoning` prints what others gain.

Successes cannot be enumerated. A rate is certified from the successes that a tempered base policy drew, which ship, and from the
policy's own samples, 1,000 at each place of a curve and 10,000 at its end (banel_envs/measure/certified.py).

What needs no oracle: an answer is a number from 1 to 299, so whoever writes nothing but "#### n" for all n solves any question
in 299 evaluations. That is so for every task that judges short final answers, GSM8K among them; the base policy gives such
texts a probability of 10^-8.96 to 10^-6.68, and no agent here is told of them. Compare methods by what they make of the policy.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING, cast

import numpy as np
from numpy.typing import NDArray

from banel_envs.assets import asset, combined_digest
from banel_envs.automaton import Automaton
from banel_envs.policies.storage.store import shipped_policy
from banel_envs.pool import Pool, Proposal
from banel_envs.problem import Problem, Tokens
from banel_envs.task import Task
from banel_envs.tasks.language.word_tokens import END_TOKEN, VOCABULARY
from banel_envs.tasks.shared.gsm8k_answer import reference

if TYPE_CHECKING:
    from banel_envs.policies.language.prompted_policy import PromptedPolicy
    from banel_envs.policies.torch_policy import TorchPolicy

WRITTEN = 64  # tokens of the longest solution
BUDGET = 2_500
BASE = "reasoning_base.safetensors"
QUESTIONS = "reasoning_questions.npz"
MEAN = "banel/ReasoningMean-v0"
SAMPLES, FINAL = 1_000, 10_000  # the counting sample of a policy on the way, and of the last


@dataclass(frozen=True)
class Question:
    """One question, and what is known of its solutions."""

    prompt: tuple[int, ...]  # [P]
    answer: int
    worked: Tokens  # [WRITTEN]: the solution that was written with it
    known: Tokens  # [S, WRITTEN]: the successes among the draws of the proposal, repeats kept
    drawn: int  # how many sequences the proposal drew
    temperature: float  # the proposal is the base policy at this temperature

    @property
    def text(self) -> str:
        """The question in English."""
        return text_of(np.array(self.prompt)).strip()


@cache
def questions() -> tuple[Question, ...]:
    """The questions of v0, v1, ..."""
    with np.load(asset(QUESTIONS)) as table:
        return tuple(
            Question(
                tuple(map(int, prompt)),
                int(table["answers"][k]),
                table["worked"][k].astype(np.int64),
                table[f"known_{k}"].astype(np.int64),
                int(table["drawn"]),
                float(table["temperature"]),
            )
            for k, prompt in enumerate(table["prompts"])
        )


def text_of(tokens: Tokens) -> str:
    """Tokens [t] as text; the end token prints nothing."""
    return "".join(VOCABULARY[t] for t in tokens)


def right(tokens: Tokens, answers: NDArray[np.int64]) -> NDArray[np.int8]:
    """1 for each solution [n, t] whose final answer is the right one [n] by the reference rule of GSM8K, else 0: [n]."""
    rows, place = np.unique(np.column_stack((answers, tokens)), axis=0, return_inverse=True)
    found = np.array([reference(text_of(row[1:])) == str(row[0]) for row in rows], np.int8)
    judged: NDArray[np.int8] = found[place.reshape(-1)]
    return judged


def prompted(numbers: tuple[int, ...]) -> PromptedPolicy:
    """A new copy of the base policy after these questions."""
    from banel_envs.policies.language.prompted_policy import PromptedPolicy  # here, because it loads PyTorch

    network = cast("TorchPolicy", shipped_policy(BASE)).network
    prompts = [questions()[k].prompt for k in numbers]
    return PromptedPolicy(network, END_TOKEN, prompts, WRITTEN + (len(prompts) > 1))


def _reward(numbers: tuple[int, ...], tokens: Tokens) -> NDArray[np.int8]:
    answers = np.array([questions()[k].answer for k in numbers])
    if len(numbers) == 1:
        return right(tokens, np.repeat(answers, len(tokens)))
    numbered = tokens[:, 0] < len(numbers)  # any other first token names no question
    asked = np.where(numbered, tokens[:, 0], 0)
    return right(tokens[:, 1:], answers[asked]) * numbered.astype(np.int8)


def _known(numbers: tuple[int, ...]) -> Tokens:
    """The known successes [S, T] of these questions."""
    if len(numbers) == 1:
        return questions()[numbers[0]].known
    return np.concatenate([np.insert(questions()[k].known, 0, place, axis=1) for place, k in enumerate(numbers)])


@cache
def _pool(numbers: tuple[int, ...]) -> Pool:
    """Each question's successes were drawn from the base policy at a temperature, as many draws a question."""
    first = questions()[numbers[0]]
    proposal = Proposal(prompted(numbers).tempered(first.temperature), len(numbers) * first.drawn, _known(numbers))
    return Pool((proposal,), SAMPLES, FINAL)


def _witness(numbers: tuple[int, ...]) -> Tokens:
    worked = questions()[numbers[0]].worked
    return worked if len(numbers) == 1 else np.insert(worked, 0, 0)


def numbered_first(count: int) -> Automaton:
    """The grammar of several questions: the first token is one of `count` numbers, and anything follows."""
    V = len(VOCABULARY)
    mask = np.ones((3, V), np.int8)  # the states: nothing is written; written; ended
    mask[0] = np.arange(V) < count
    mask[2] = np.arange(V) == END_TOKEN
    following = np.full((3, V), 1)
    following[:, END_TOKEN] = following[2] = 2
    return Automaton(mask, following)


def _build(id: str, numbers: tuple[int, ...]) -> Task:
    several = len(numbers) > 1
    asked = [questions()[k].text for k in numbers]
    problem = Problem(
        id=id,
        vocabulary=VOCABULARY,
        horizon=WRITTEN + several,
        budget=BUDGET,
        base=partial(prompted, numbers),
        end=END_TOKEN,
        prompt="\n".join(f"{k}: {text}" for k, text in enumerate(asked)) if several else asked[0],
        allowed=numbered_first(len(numbers)) if several else None,
    )
    return Task(
        problem,
        partial(_reward, numbers),
        witness=partial(_witness, numbers),
        pool=partial(_pool, numbers),
        digest=combined_digest(BASE, QUESTIONS),
        family="language",
    )


def build_v0() -> Task:
    """Reasoning-v0."""
    return _build("banel/Reasoning-v0", (0,))


def build_v1() -> Task:
    """Reasoning-v1."""
    return _build("banel/Reasoning-v1", (1,))


def build_v2() -> Task:
    """Reasoning-v2."""
    return _build("banel/Reasoning-v2", (2,))


def build_v3() -> Task:
    """Reasoning-v3."""
    return _build("banel/Reasoning-v3", (3,))


def build_v4() -> Task:
    """Reasoning-v4."""
    return _build("banel/Reasoning-v4", (4,))


def build_v5() -> Task:
    """Reasoning-v5."""
    return _build("banel/Reasoning-v5", (5,))


def build_mean() -> Task:
    """ReasoningMean-v0: all of the questions, each asked as often as another."""
    return _build(MEAN, tuple(range(len(questions()))))
