"""The task of the guide “Language models”: a model is asked for 3 + 4, and its whole answer must be 7.

BANEL_MODEL=path/to/a/folder banel run --task my_language_task:build --agent base --set batch=50 --out out
"""

from __future__ import annotations

import functools
import hashlib
import os

import numpy as np
from numpy.typing import NDArray

from banel_envs import Problem, Task
from banel_envs.policies.language.base_model import LanguageModel
from banel_envs.policies.language.hf_policy import HFPolicy
from banel_envs.pool import Pool

PROMPT, ANSWER, HORIZON = "Q: What is 3 + 4?\nA:", "7", 16


@functools.cache
def model() -> LanguageModel:
    """The frozen model, loaded once however often the task is built."""
    # A folder, a hub id or a .gguf file. Of a folder only safetensors are read, and no code.
    return LanguageModel.load(os.environ.get("BANEL_MODEL", "Qwen/Qwen2.5-0.5B-Instruct"))


def build() -> Task:
    """The task; `banel run --task my_language_task:build` calls this function."""
    base = model()
    policy = HFPolicy(base, PROMPT, HORIZON)
    problem = Problem(
        "me/Seven-v0",
        base.vocabulary,
        HORIZON,
        budget=500,
        base=policy.clone,
        end=policy.end,
        prompt=PROMPT,
        decoder=base.text,
        encoder=base.plain_ids,
    )

    def reward(tokens: NDArray[np.int64]) -> NDArray[np.int8]:
        return np.array([text.strip() == ANSWER for text in problem.decode(tokens)], np.int8)

    def witness() -> NDArray[np.int64]:
        ids = base.plain_ids(ANSWER)
        return np.array([*ids, *[base.ends[0]] * (HORIZON - len(ids))], np.int64)

    return Task(
        problem,
        reward,
        witness=witness,
        # To score an answer is free, to sample one is not: rates are estimated from 256 samples, the last one from 1,024.
        pool=lambda: Pool((), 256, 1_024),
        digest=hashlib.sha256(repr((policy.spec(), base.words_digest, ANSWER)).encode()).hexdigest(),
    )
