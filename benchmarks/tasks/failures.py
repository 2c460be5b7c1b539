"""What the failures of a base policy look like, on the tasks that tell types: `python -m benchmarks.tasks.failures`.

For each task the share of the base policy's samples by type of failure, and then the classes that the task's docstring speaks
of: the share of the samples and the share of the base policy's success that a class holds. The first is counted in samples of a
stated seed, the second is exact, because the success sets are enumerated. A class that holds a greater share of the success than
of the samples succeeds more often than the base policy.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray

from banel_envs import TASKS, Task
from banel_envs.build import list_program as build
from banel_envs.problem import Tokens
from banel_envs.tasks import countdown, list_program, proof

SAMPLES = 200_000
SEED = 20261201
BETTER = 10.0  # times the base policy's success: from here on a class of Countdown counts as one of the best
Classes = Iterator[tuple[str, NDArray[np.bool_]]]


def main() -> None:
    """Draw, count, print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.tasks.failures", description=__doc__)
    parser.add_argument("--task", nargs="+", choices=ABOUT, default=list(ABOUT), metavar="ID", help="default: all")
    parser.add_argument("--samples", type=int, default=SAMPLES, help=f"of the base policy (default {SAMPLES:,})")
    options = parser.parse_args()
    torch.set_num_threads(1)
    for id in options.task:
        print("\n".join(lines(TASKS[id], options.samples)), flush=True)


def lines(task: Task, samples: int) -> list[str]:
    """What is printed of one task."""
    problem, base = task.problem, task.problem.base_policy()
    successes = task.successes()
    assert successes is not None and task.failure_type is not None, "a task with types and an enumerated success set"
    drawn = base.sample(samples, np.random.default_rng(SEED))
    mass = np.exp(base.log_prob(successes))
    said = [f"{problem.id}: {len(successes):,} successes, the shortest of {shortest(problem.end, successes)} tokens"]
    codes = task.failure_type(drawn)
    for code, kind in enumerate(problem.failure_types, start=1):
        if (codes == code).any():
            said.append(f"  {np.mean(codes == code):6.1%} of the samples are of the type: {kind.name}")
    if problem.id in COUNTED:
        what, count = COUNTED[problem.id]
        said.append(f"  {count():,} {what}")
    both = np.concatenate((drawn, successes))
    for name, inside in ABOUT[problem.id](both):
        share, held = inside[:samples].mean(), mass[inside[samples:]].sum() / mass.sum()
        said.append(f"  {share:6.1%} of the samples and {held:6.1%} of the success: {name}")
    return said


def shortest(end: int | None, rows: Tokens) -> int:
    """The fewest tokens before the end in rows [n, T]."""
    return int((rows != end).sum(axis=1).min())


def of_countdown(rows: Tokens) -> Classes:
    """By the number and the place of multiplications, and the best of the classes by operators and length."""
    times = countdown.K + countdown.OPERATORS.index("*")
    multiplications = (rows == times).sum(axis=1)
    length = (rows != countdown.END).sum(axis=1)
    last = rows[np.arange(len(rows)), (length - 1).clip(0)]
    yield "two or more multiplications", multiplications >= 2
    yield "exactly one multiplication", multiplications == 1
    yield "the last operator is a multiplication", last == times
    yield f"the classes by operators and length that succeed {BETTER:g} times as often", _best(rows, length)


def _best(rows: Tokens, length: NDArray[np.int64]) -> NDArray[np.bool_]:
    """Whether rows [n] are of a class, by its operators in any order and its length, that succeeds BETTER times as often.

    How often is exact: the base policy's success within the class, over the share of the class in the samples before the
    success set. A class of fewer than 20 samples is none of them, since its share is not known well.
    """
    base = TASKS["banel/Countdown-v0"].problem.base_policy()
    counts = np.stack([(rows == countdown.K + k).sum(axis=1) for k in range(len(countdown.OPERATORS))], axis=1)
    _, of = np.unique(np.column_stack((counts, length)), axis=0, return_inverse=True)
    of = of.reshape(-1)
    drawn = len(rows) - len(countdown.successes())
    mass = np.exp(base.log_prob(rows[drawn:]))
    held = np.bincount(of[drawn:], mass, of.max() + 1)
    seen = np.bincount(of[:drawn], minlength=of.max() + 1)
    best: NDArray[np.bool_] = (seen >= 20) & (held * drawn >= BETTER * mass.sum() * seen)
    return best[of]


def of_list_program(rows: Tokens) -> Classes:
    """By what the outputs ask for, and by the words that the successes share."""
    inputs, outputs = list_program.puzzle()
    states, ran = list_program.run(rows, inputs)
    number = (states[:, :, 1] == list_program.NUMBER).any(axis=1)
    lengths, wanted = ((x != list_program.BLANK).sum(axis=-1) for x in (states, outputs))
    yield "the program returns lists as long as the outputs", ran & ~number & (lengths == wanted).all(axis=1)
    for word in ("sort", ">0", "*2"):
        yield f"the program has {word}", (rows == list_program.WORDS.index(word)).any(axis=1)


def of_proof(name: str) -> Callable[[Tokens], Classes]:
    """By what goes wrong after the first right rules."""

    def classes(rows: Tokens) -> Classes:
        problem = TASKS[name].problem
        checker = proof.Checker(problem.prompt or "")
        _, right = checker.check(rows)
        _, applied = checker.check(rows, sound=False)
        yield "the first rule is right", right >= 1
        yield "the first two rules are right", right >= 2
        unsound = problem.well_formed(rows) & (right < applied)
        yield "a logical rule or an axiom applies, but what it or a rule before it leaves does not hold", unsound

    return classes


def programs_that_run() -> int:
    """How many programs of ListProgram are well-formed and run on every example."""
    levels = build.run_all(list_program.puzzle()[0])
    return round(sum(float(level.programs.sum()) for level in levels))


COUNTED: Mapping[str, tuple[str, Callable[[], int]]] = {
    "banel/Countdown-v0": ("legal expressions", lambda: sum(len(found.values) for found in countdown.expressions())),
    "banel/ListProgram-v0": ("programs run on every example", programs_that_run),
}
ABOUT: Mapping[str, Callable[[Tokens], Classes]] = {
    "banel/Countdown-v0": of_countdown,
    "banel/ListProgram-v0": of_list_program,
    "banel/Proof-v0": of_proof("banel/Proof-v0"),
    "banel/ProofHard-v0": of_proof("banel/ProofHard-v0"),
}

if __name__ == "__main__":
    main()
