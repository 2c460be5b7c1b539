"""`banel hard-questions`: how often a language model solves each of the first questions of GSM8K, to find those it hardly solves.

Every question is answered S times, each answer drawn from the model itself, and scored by both rules. The answers of a question
come from a random stream of its own, so they are the same whenever and in whatever part of the work they are drawn. After each
question the counts are written to a file, from which the same command goes on.
"""

from __future__ import annotations

import argparse
import contextlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from banel_envs.binomial import clopper_pearson
from banel_envs.data import WordProblem, gsm8k
from banel_envs.errors import BadValue, FileRefused
from banel_envs.files import safe_files, strict_json

if TYPE_CHECKING:
    from banel_envs.policies.language.hf_policy import HFPolicy

FORMAT = "banel hard-questions 1"
MOST_SAMPLES = 100_000  # of one question
FILE = 2**24  # bytes of a file of counts; the whole of GSM8K has some 500,000
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Counts:
    """How many of the answers to one question were right."""

    question: int  # its number in the part, from 0
    samples: int
    correct: dict[str, int]  # by rule

    def interval(self, rule: str) -> tuple[float, float]:
        """The 95% interval of the success rate (Clopper and Pearson 1934)."""
        return clopper_pearson(self.correct[rule], self.samples, CONFIDENCE)


def hard_questions(options: argparse.Namespace) -> int:
    """Count, keep and print."""
    for name, most in (("n", None), ("samples", MOST_SAMPLES), ("horizon", None)):
        value = getattr(options, name)
        if value < 1 or (most is not None and value > most):
            raise BadValue(f"--{name} is {value}; it is at least 1{f' and at most {most:,}' if most else ''}")
    if options.seed < 0:
        raise BadValue(f"--seed is {options.seed}; it is at least 0")
    questions = gsm8k(options.part)
    if options.n > len(questions):
        raise BadValue(f"--n is {options.n}; the part {options.part} of GSM8K has {len(questions):,} questions")
    from banel_envs.tasks.language.gsm8k_hard import the_model

    model = the_model(options.model)
    how = {
        "format": FORMAT,
        "model": model.digest,
        "part": options.part,
        "samples": options.samples,
        "horizon": options.horizon,
        "chat": not options.plain,
        "seed": options.seed,
        "words": model.words_digest,
        "ends": list(model.ends),
    }
    known = read(options.out, how)
    policy = Answering(model, options.horizon, not options.plain)
    counted = count(policy, questions[: options.n], options.samples, options.seed, known, options.out, how)
    print("\n".join(table(counted, options.part, options.rule)))
    return 0


class Answering:
    """A model that is asked one question after another."""

    def __init__(self, model: Any, horizon: int, chat: bool) -> None:
        self.model, self.horizon, self.chat = model, horizon, chat
        self._policy: HFPolicy | None = None

    def answers(self, question: str, n: int, rng: np.random.Generator) -> list[str]:
        """Answers to a question [n], drawn from the model."""
        from banel_envs.policies.language.hf_policy import HFPolicy
        from banel_envs.tasks.language.gsm8k_hard import prompt_of

        prompt = prompt_of(self.model, question, self.chat)
        if self._policy is None:
            self._policy = HFPolicy(self.model, prompt, self.horizon, rank=1)
        policy = self._policy.after(prompt)
        return [self.model.text(row[row != policy.end]) for row in policy.sample(n, rng)]


def count(
    model: Answering,
    questions: list[WordProblem],
    samples: int,
    seed: int,
    known: Iterable[Counts] = (),
    out: Path | None = None,
    how: dict[str, Any] | None = None,
) -> list[Counts]:
    """The counts of these questions, in their order; those that are known are not asked again.

    Args:
        model: what answers.
        questions: the first ones of a part.
        samples: answers to each.
        seed: of the random streams.
        known: counts of earlier work.
        out: the file that is written after each question; None for none.
        how: what the file says of the work.
    """
    from tqdm import tqdm

    from banel_envs.tasks.shared.gsm8k_answer import RULES, correct

    found = {one.question: one for one in known}
    bar = tqdm(questions, desc="questions", unit="question")
    for number, problem in enumerate(bar):
        if number in found:
            continue
        texts = model.answers(problem.question, samples, np.random.default_rng([seed, number]))
        right = {rule: int(correct(texts, problem.answer, rule).sum()) for rule in RULES}
        found[number] = Counts(number, samples, right)
        if out is not None:
            write(out, how or {}, found.values())
    return [found[number] for number in range(len(questions))]


def read(path: Path, how: dict[str, Any]) -> list[Counts]:
    """The counts that a file holds; none if there is no file.

    Raises:
        BadValue: it is no such file, or one of other work.
    """
    if not path.exists():
        return []
    other = f"name another file with --out, or remove {path}"
    try:
        held = strict_json.loads(safe_files.read_named(path, FILE))
        said, rows = dict(held["how"]), held["questions"]
        counts = [
            Counts(int(r["question"]), int(r["samples"]), {k: int(v) for k, v in r["correct"].items()}) for r in rows
        ]
    except (FileRefused, ValueError, LookupError, TypeError, AttributeError) as error:
        raise BadValue(f"{path} holds no counts of this command: {error}; {other}") from error
    if different := [name for name in how if said.get(name) != how[name]]:
        name = different[0]
        raise BadValue(
            f"{path} is of other work: its {name} is {said.get(name)!r}, and here it is {how[name]!r}; {other}"
        )
    if wrong := [one for one in counts if not _sound(one, how["samples"])]:
        raise BadValue(
            f"{path}: what it counts of question {wrong[0].question} is not {how['samples']} answers by both rules; {other}"
        )
    return counts


def _sound(one: Counts, samples: int) -> bool:
    """Whether these are counts of so many answers by every rule."""
    from banel_envs.tasks.shared.gsm8k_answer import RULES

    right = set(one.correct) == set(RULES) and all(0 <= k <= samples for k in one.correct.values())
    return right and one.samples == samples and one.question >= 0


def write(path: Path, how: dict[str, Any], counts: Iterable[Counts]) -> None:
    """Write the counts, whole or not at all; BadValue where it cannot be written."""
    rows = [
        {"question": one.question, "samples": one.samples, "correct": one.correct}
        for one in sorted(counts, key=lambda one: one.question)
    ]
    draft = path.with_name(f".{path.name}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        safe_files.write(path, (json.dumps({"how": how, "questions": rows}, indent=1) + "\n").encode(), draft)
    except OSError as error:
        with contextlib.suppress(OSError):
            draft.unlink(missing_ok=True)
        raise BadValue(f"{path} cannot be written: {error}; name another file with --out") from error


def table(counts: Iterable[Counts], part: str, rule: str) -> list[str]:
    """A line a question: those that were solved, the hardest first, then those that were not."""
    counts = list(counts)
    order = sorted(counts, key=lambda one: (one.correct[rule] == 0, one.correct[rule] / one.samples, one.question))
    lines = [f"{'question':<12}{'solved':>10}{'rate':>9}   95% interval (rule: {rule})"]
    for one in order:
        low, high = one.interval(rule)
        solved = one.correct[rule]
        lines.append(
            f"{f'{part}:{one.question}':<12}{f'{solved}/{one.samples}':>10}{solved / one.samples:>9.4f}   [{low:.4f}, {high:.4f}]"
        )
    never = sum(one.correct[rule] == 0 for one in counts)
    whole = sum(one.correct[rule] for one in counts) / sum(one.samples for one in counts)
    lines.append(f"{len(counts)} questions, {never} of them never solved; {whole:.4f} of all answers are right")
    return lines
