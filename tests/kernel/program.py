"""A small fixed program that samples, scores, trains and measures: `python -m tests.kernel.program [library]`.

It prints digests, and success rates as they are, as JSON; test_portability.py runs it in every way that could change a bit.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path

import numpy as np

from banel_envs import Problem, Task, kernel, success_rate
from banel_envs.kernel import portable
from banel_envs.policies import Excluding, Mixture, Tempered, Uniform
from banel_envs.policies.training import Trainer
from tests.kernel.nets import KINDS, policy

V, T, END = 9, 7, 8


def digest(*arrays):
    return hashlib.sha256(b"".join(np.ascontiguousarray(array).tobytes() for array in arrays)).hexdigest()


def measured(p):
    """The exact success rate of a policy on a task with a few hundred successes."""
    successes = np.unique(Uniform(V, T, END).sample(300, np.random.default_rng(5)), axis=0)
    problem = Problem("test/Portable-v0", tuple("abcdefgh$"), T, 100, lambda: Uniform(V, T, END), end=END)
    keys = {row.tobytes() for row in successes}
    task = Task(
        problem,
        reward=lambda tokens: np.array([row.tobytes() in keys for row in tokens], np.int8),
        successes=lambda: successes,
        witness=lambda: successes[0],
    )
    rate = success_rate(task, p)
    return rate.log10, rate.effective


def main():
    """Print the digests; the library, if one is named, is loaded in place of the installed one."""
    if len(sys.argv) > 1:
        kernel.LIBRARY = Path(sys.argv[1])
        assert kernel.kind() == kernel.COMPILED
    found = {"functions": digest(*(f(np.random.default_rng(1).random(999)) for f in (portable.exp, portable.log)))}
    for kind in KINDS:
        for width in (16, 32):
            p = policy(width, 2, V=V, T=T, end=END, kind=kind, temperature=0.9)
            drawn = p.sample(400, np.random.default_rng(2))
            p.next_log_probs(drawn[:, :3])
            name = f"{kind.__name__} {width}"
            found[f"{name}: samples"] = digest(drawn)
            found[f"{name}: scores"] = digest(p.log_prob(drawn), p.next_log_probs(drawn[:, :3]))
            trainer, rng = Trainer(p, 3e-3), np.random.default_rng(3)
            losses = [trainer.step(drawn[rng.permutation(400)[:150]], rng.normal(size=150)) for _ in range(8)]
            found[f"{name}: losses"] = digest(np.array(losses))
            found[f"{name}: weights"] = digest(*p.arrays().values())
            composed = Mixture([Tempered(p, 1.5), Excluding(p, np.unique(drawn, axis=0)[:50]), Uniform(V, T, END)])
            found[f"{name}: rates"] = [*measured(p), *measured(composed)]
            found[f"{name}: composed"] = digest(composed.sample(100, np.random.default_rng(4)))
    print(json.dumps(found))


if __name__ == "__main__":
    main()
