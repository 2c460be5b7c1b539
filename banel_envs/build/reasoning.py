"""Rebuild Reasoning's assets from nothing: a small transformer that solves word problems, and six that it seldom solves.

The transformer (d96, 3 layers) is trained on problems with one to five operations and at most two distractors (solver.py).
The questions have five operations, in which one person is named, and four distractors. The base policy has
not learnt to tell apart who gets or loses something, so it is misled by sentences about other people. Of candidates that are
drawn one after the other, a question is kept if

- its base success, by COUNTED samples, lies in SUCCESS;
- the base policy's samples of it are LEAST_DISTINCT or more among SEEN. Otherwise an agent would be finished once it asks
  nothing twice;
- at the proposal's temperature the rate is at most a decade above that of the base policy.

The probability of the worked solution plays no part: errors cancel, and many other texts have the right answer.
The instance number seeds the draw of the questions alone.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from banel_envs import kernel
from banel_envs.build.shared import solver
from banel_envs.build.shared.word_problems import ALONE, WordProblem, write
from banel_envs.measure.importance import weigh
from banel_envs.policies.language.prompted_policy import PromptedPolicy
from banel_envs.policies.networks.transformer import Transformer
from banel_envs.policies.storage.store import save_policy
from banel_envs.policies.torch_policy import TorchPolicy
from banel_envs.pool import Pool, Proposal
from banel_envs.problem import Tokens
from banel_envs.tasks.language.reasoning import BASE, QUESTIONS, WRITTEN, right, text_of
from banel_envs.tasks.language.word_tokens import END_TOKEN

TAKES = "about 45 minutes on one core, 2 GB of memory, no raw data, the compiled kernel"

SEED = 20261130
ASKED = 6  # questions
PROMPT = solver.CONFIG.horizon - WRITTEN  # tokens of every question, so that one policy can answer all of them
LEAST_ANSWER = 100  # three digits, so that a guess is seldom right
SUCCESS = (1e-5, 1e-3)
OPERATIONS, DISTRACTORS = 5, 4  # of a question
SCREENED = ((300, 1), (1_200, 1), (8_000, 10))  # samples of a candidate in three parts, and the most successes in each
SEEN, LEAST_DISTINCT = 5_000, 300
TEMPERATURE, DRAWN = 1.5, 30_000  # of the proposal, and its draws a question
COUNTED = 60_000  # samples of the base policy that bound its success from above
MOST_GAIN = 10.0


def build(out: Path, data: Path | None = None, instance: int = 0) -> None:
    """Write every asset of this family into `out`."""
    network = solver.train(SEED)
    save_policy(out / BASE, TorchPolicy(network, END_TOKEN))
    write_questions(out, network, np.random.default_rng([SEED, instance]))


def write_questions(out: Path, network: Transformer, rng: np.random.Generator) -> None:
    """Choose the questions that the network seldom solves, and write them."""
    with kernel.using(kernel.COMPILED):  # millions of samples; its bits are the same on every processor
        report_easy(network, rng)
        kept = choose(network, rng)
    table: dict[str, Any] = {
        "prompts": np.array([one.problem.question for one in kept], np.uint8),
        "answers": np.array([one.problem.answer for one in kept]),
        "worked": np.concatenate([padded(one.problem) for one in kept]).astype(np.uint8),
        "temperature": np.array(TEMPERATURE),
        "drawn": np.array(DRAWN),
        **{f"known_{k}": one.known.astype(np.uint8) for k, one in enumerate(kept)},
    }
    np.savez_compressed(out / QUESTIONS, **table)


def padded(problem: WordProblem) -> Tokens:
    """The worked solution of a problem: [1, WRITTEN]."""
    return np.array([[*problem.solution, *[END_TOKEN] * (WRITTEN - len(problem.solution))]], np.int64)


def after(network: Transformer, problem: WordProblem) -> PromptedPolicy:
    """The network after a problem's question."""
    return PromptedPolicy(network, END_TOKEN, [problem.question], WRITTEN)


def successes(policy: PromptedPolicy, problem: WordProblem, n: int, rng: np.random.Generator) -> Tokens:
    """The successes among n samples [k, WRITTEN], repeats kept."""
    tokens = policy.sample(n, rng)
    met: Tokens = tokens[right(tokens, np.full(n, problem.answer)) == 1]
    return met


def report_easy(network: Transformer, rng: np.random.Generator) -> None:
    """Print the base policy's success on problems with few operations and distractors."""
    for operations, distractors in ((1, 0), (1, 1), (2, 0), (3, 0), (3, 1), (5, 0), (5, 2)):
        rates: list[float] = []
        while len(rates) < 100:
            one = write(operations, distractors, rng, ALONE)
            if len(one.question) <= PROMPT and len(one.solution) <= WRITTEN:
                rates.append(len(successes(after(network, one), one, 20, rng)) / 20)
        mean, error = np.mean(rates), 1.96 * np.std(rates) / len(rates) ** 0.5
        print(f"operations {operations}, distractors {distractors}: success {mean:.3f} +- {error:.3f}", flush=True)


@dataclass(frozen=True)
class Kept:
    """A question that was chosen, and the successes that the proposal drew."""

    problem: WordProblem
    known: Tokens


def candidate(rng: np.random.Generator) -> WordProblem:
    """A problem of the right length with a large answer."""
    while True:
        one = write(OPERATIONS, DISTRACTORS, rng, ALONE)
        fits = len(one.question) == PROMPT and len(one.solution) <= WRITTEN - 4
        if fits and one.answer >= LEAST_ANSWER:
            return one


def choose(network: Transformer, rng: np.random.Generator) -> list[Kept]:
    """The first candidates that meet the conditions above."""
    kept: list[Kept] = []
    tried = 0
    while len(kept) < ASKED:
        tried += 1
        one = candidate(rng)
        policy = after(network, one)
        if any(len(successes(policy, one, n, rng)) > most for n, most in SCREENED):
            continue
        distinct = len(np.unique(policy.sample(SEEN, rng), axis=0))
        known = successes(policy.tempered(TEMPERATURE), one, DRAWN, rng)
        hits = successes(policy, one, COUNTED, rng)
        pool = Pool((Proposal(policy.tempered(TEMPERATURE), DRAWN, known),))
        tokens, weighed = weigh(policy, hits, COUNTED, pool)
        low, high = np.exp(weighed.counting.log_interval(np.ones(len(tokens), bool)))
        rate = max(1, len(hits)) / COUNTED
        gain = len(known) / DRAWN / rate
        found = f"{len(hits)} of {COUNTED:,}, certified {np.log10(low):.3f} to {np.log10(high):.3f}, {len(known)} known"
        print(f"{tried}: {found}, {distinct:,} distinct, at T = {TEMPERATURE} {gain:.2f} times", flush=True)
        if SUCCESS[0] <= rate <= SUCCESS[1] and gain <= MOST_GAIN and distinct >= LEAST_DISTINCT:
            print(f"  kept: {text_of(np.array(one.question))}= {one.answer}", flush=True)
            kept.append(Kept(one, known))
    return kept
