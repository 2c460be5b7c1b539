"""What the Reasoning tasks are made of: `python -m benchmarks.language.reasoning`, some 4 minutes on one core.

For each question: the certified success of the base policy, its success at other temperatures and where every sequence is
equally likely (Monte Carlo, with the 95% interval), the rate at which one guess of a number is right, the probability that the
base policy guesses so, and how many of 5,000 samples are distinct. Then how often the base policy solves easy problems, and how
many sequences it draws a CPU second.
"""

from __future__ import annotations

import math
import time

import numpy as np
import torch

from banel_envs import TASKS, success_rate
from banel_envs.binomial import clopper_pearson
from banel_envs.build.reasoning import report_easy
from banel_envs.build.shared.word_problems import MOST
from banel_envs.policies import Policy, Uniform
from banel_envs.policies.language.prompted_policy import PromptedPolicy
from banel_envs.problem import Tokens
from banel_envs.tasks.language.reasoning import MEAN, WRITTEN, prompted, questions
from banel_envs.tasks.language.word_tokens import END_TOKEN, MARK, TOKEN, VOCABULARY
from benchmarks.tasks.table import written

TEMPERATURES = (1.5, 2.0, 3.0)
COUNTED, DRAWN, SEEN = 60_000, 20_000, 5_000  # samples of the base policy, of another one, and to count distinct ones


def main() -> None:
    """Measure and print."""
    torch.set_num_threads(1)
    rng = np.random.default_rng(20261201)
    print(f"log10; one guess of a number from 1 to {MOST} is right at {-math.log10(MOST):.2f}")
    for k in range(len(questions())):
        id, base = f"banel/Reasoning-v{k}", prompted((k,))
        rate = success_rate(TASKS[id], base, rng, samples=COUNTED)
        distinct = len(np.unique(base.sample(SEEN, rng), axis=0))
        guess = base.log_prob(guesses())
        print(
            f"{id.rpartition('/')[2]}: base {written(rate)} ({rate.method}), {others(id, base, rng)}; {distinct:,} of {SEEN:,} "
            f"distinct; guesses {np.log10(np.exp(guess).sum()):.1f}",
            flush=True,
        )
    mean = TASKS[MEAN]
    rate = success_rate(mean, mean.problem.base_policy(), rng, samples=COUNTED)
    print(f"{MEAN.rpartition('/')[2]}: base {written(rate)} ({rate.method})")
    report_easy(base.network, rng)
    start = time.process_time()
    base.sample(COUNTED, rng)
    print(f"{COUNTED / (time.process_time() - start):,.0f} sequences of v{len(questions()) - 1} a CPU second")


def others(id: str, base: PromptedPolicy, rng: np.random.Generator) -> str:
    """The rates of policies that read no answer."""
    uniform: Policy = Uniform(len(VOCABULARY), WRITTEN, END_TOKEN)
    named = [(f"T = {t:g}", base.tempered(t)) for t in TEMPERATURES] + [("uniform", uniform)]
    parts = []
    for name, policy in named:
        hits = int(np.asarray(TASKS[id].reward(policy.sample(DRAWN, rng))).sum())
        low, high = clopper_pearson(hits, DRAWN)
        parts.append(
            f"{name}: {math.log10(hits / DRAWN):.2f} up to {math.log10(high):.2f}"
            if low
            else f"{name}: below {math.log10(high):.2f}"
        )
    return ", ".join(parts)


def guesses() -> Tokens:
    """Every text that is nothing but a final answer: [MOST, WRITTEN]."""
    rows = np.full((MOST, WRITTEN), END_TOKEN, np.int64)
    for n in range(1, MOST + 1):
        text = [TOKEN[MARK], *(TOKEN[c] for c in str(n))]
        rows[n - 1, : len(text)] = text
    return rows


if __name__ == "__main__":
    main()
