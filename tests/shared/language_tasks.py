"""Tasks over tiny language models of three families, found by "tests.shared.language_tasks:NAME"."""

from __future__ import annotations

import itertools
from functools import cache

import numpy as np

from banel_envs import Problem, Task
from banel_envs.policies.language.base_model import LanguageModel
from banel_envs.policies.language.hf_policy import HFPolicy
from tests.shared.language import base

V, T, END, BUDGET = 8, 6, 6, 40  # of the ids, 6 and 7 end a text, and 6 is written for both
PROMPT = (1, 4, 2)


@cache
def model(family: str) -> LanguageModel:
    """The frozen model; kept, since policies that are read from files look for it in this process."""
    return base(family, V, (END, 7), scale=0.25)


def short(tokens: np.ndarray) -> np.ndarray:
    """Success: the text has two ids, the first of them 1 or 2."""
    ended = (tokens[:, 2] == END) & (tokens[:, 1] != END)
    return (ended & np.isin(tokens[:, 0], (1, 2))).astype(np.int8)


def task(family: str) -> Task:
    """The task; its 14 successes are listed."""
    words = itertools.product((1, 2), sorted({*range(V)} - {END}))  # 7 is a word, which the model never writes
    hits = np.array([(*pair, *[END] * (T - 2)) for pair in words])
    policy = HFPolicy(model(family), PROMPT, T, rank=1)
    problem = Problem(f"test/Tiny{family.title()}-v0", V, T, BUDGET, policy.clone, end=END, decoder=model(family).text)
    digest = model(family).digest
    return Task(problem, short, successes=lambda: hits, witness=lambda: hits[0], digest=digest)


def qwen2() -> Task:
    """The task over a Qwen2."""
    return task("qwen2")


def llama() -> Task:
    """The task over a Llama."""
    return task("llama")


def gpt2() -> Task:
    """The task over a GPT-2."""
    return task("gpt2")
