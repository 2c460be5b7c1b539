"""Task: a Problem with its hidden reward, and the registry of shipped tasks."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from banel_envs.errors import BadValue, MissingExtra
from banel_envs.names import unknown
from banel_envs.pool import Pool
from banel_envs.problem import Problem, Tokens

JUDGE_EXTRAS = {"rdkit": "'banel-envs[chem]'", "scikit-learn": "'banel-envs[digits]'"}  # what brings a judge

Part: TypeAlias = tuple[int, int, Any]
"""(first row, row after the last, their rewards): one piece of an answer that arrives in pieces."""

Reward: TypeAlias = Callable[[Tokens], "NDArray[Any] | list[float] | Iterable[Part]"]
"""Sequences [n, T] to rewards [n], or to an iterator of Parts as they become known."""


OnError = Literal["fail", "failure"]


@dataclass(frozen=True, eq=False)
class Task:
    """A Problem plus what decides success. Agents get `task.problem`, never the task.

    Example, a task of your own (the reward may be slow, may raise, may be any callable):

        >>> import numpy as np
        >>> from banel_envs import Oracle, Problem, Task
        >>> from banel_envs.policies import Uniform
        >>> problem = Problem("me/Sum-v0", tuple("0123"), horizon=5, budget=100, base=lambda: Uniform(4, 5, None))
        >>> task = Task(problem, reward=lambda tokens: tokens.sum(axis=1) / 15, threshold=0.9)
        >>> oracle = Oracle(task)
        >>> oracle(np.array([[3, 3, 3, 3, 3], [0, 1, 2, 3, 3]]))
        array([1., 0.], dtype=float32)
    """

    problem: Problem
    reward: Reward = field(repr=False)
    successes: Callable[[], Tokens | None] = field(default=lambda: None, repr=False)
    """The whole success set [N, T], or None where it cannot be enumerated."""
    witness: Callable[[], Tokens | None] = field(default=lambda: None, repr=False)
    """One known success [T]: every shipped task proves that it can be solved."""
    pool: Callable[[], Pool | None] = field(default=lambda: None, repr=False)
    """Where the successes cannot be enumerated: known ones with their proposals, to estimate rare rates by."""
    threshold: float | None = None
    """Rewards of real value are successes from here on up; None for rewards in {0, 1}."""
    free_evaluation: bool = True
    """Whether the harness may evaluate the reward off the meter to measure success rates; False for paid oracles."""
    seeded: Callable[[int], Task] | None = field(default=None, repr=False)
    """Where the success set is drawn anew for each run: the task of a run's seed. The task itself is seed 0's."""
    control: str | None = None
    """Of a negative control: what it controls for. No method can beat `without_replacement` on it in the mean."""
    digest: str = ""
    """SHA-256 over what decides the reward and the base policy: bound into every ledger."""
    family: str = ""
    """What kind of task it is, in one word, for lists: tasks of one family share a structure."""
    judges: tuple[str, ...] = ()
    """Installed distributions whose version decides rewards, such as ("rdkit",): their versions are bound into every
    ledger, and a ledger judged by other versions is not continued."""
    rows_at_once: int | None = None
    """The reward is called on at most so many rows, and their answers are in the ledger before it is called again: what
    a kill can lose. None calls it once for a whole question. A reward that answers in Parts is called on as many rows,
    and each Part is written as it comes."""
    on_error: OnError = "fail"
    """What it means that the reward raises: "fail" stops the run, its question open; "failure" asks the rows of that
    call one by one and takes those that raise again for failures, marked in the ledger and counted (`Oracle.errors`).
    Errors of this package, MemoryError and what is no Exception (KeyboardInterrupt) always stop the run."""

    def __post_init__(self) -> None:
        rows = self.rows_at_once
        if rows is not None and (isinstance(rows, bool) or not isinstance(rows, int) or rows < 1):
            raise BadValue(
                f"{self.problem.id}: rows_at_once is {rows!r}; it must be a whole number, at least 1, or None for all"
            )
        if self.on_error not in get_args(OnError):
            raise BadValue(f"{self.problem.id}: on_error is {self.on_error!r}; it is {' or '.join(get_args(OnError))}")
        if not isinstance(self.judges, tuple) or not all(isinstance(name, str) and name for name in self.judges):
            raise BadValue(
                f"{self.problem.id}: judges is {self.judges!r}; it is a tuple of names of installed distributions, "
                f"such as ('rdkit',)"
            )

    def judge_versions(self) -> dict[str, str]:
        """The installed version of each judge.

        Raises:
            MissingExtra: one of them is not installed.
        """
        found = {}
        for name in self.judges:
            try:
                found[name] = version(name)
            except PackageNotFoundError as error:
                raise MissingExtra(
                    f"{self.problem.id} is judged by {name}, which is not installed; nothing was asked: "
                    f"pip install {JUDGE_EXTRAS.get(name, name)}"
                ) from error
        return found

    def of_seed(self, seed: int) -> Task:
        """The task that a run with this seed is on: itself, but where `seeded` says otherwise."""
        return self if self.seeded is None else self.seeded(seed)

    def blind(self) -> Task:
        """The same problem with every answer 'failure': what an agent's oracle-free twin is run on.

        The judges stay: the rates of a twin's policies are measured by them.
        """
        return Task(
            self.problem,
            lambda tokens: np.zeros(len(tokens), np.int8),
            digest=self.digest,
            judges=self.judges,
        )


class Registry(Mapping[str, Task]):
    """Task ids to tasks, each built when first asked for; registering stores a string and loads nothing."""

    def __init__(self) -> None:
        self._builders: dict[str, str | Callable[[], Task]] = {}
        self._built: dict[str, Task] = {}

    def register(self, id: str, builder: str | Callable[[], Task]) -> None:
        """Add a task: `builder` is a function without arguments, or where to find it, "module:function"."""
        if id in self._builders:
            raise BadValue(f"the task {id!r} is registered already; choose another id")
        self._builders[id] = builder

    def __getitem__(self, id: str) -> Task:
        if id not in self._builders:
            raise unknown("task", id, self._builders)
        if id not in self._built:
            builder = self._builders[id]
            if isinstance(builder, str):
                module, name = builder.split(":")
                builder = getattr(importlib.import_module(module), name)
            self._built[id] = builder()
        return self._built[id]

    def __contains__(self, id: object) -> bool:
        return id in self._builders

    def __iter__(self) -> Iterator[str]:
        return iter(self._builders)

    def __len__(self) -> int:
        return len(self._builders)


TASKS = Registry()


def register_task(id: str, builder: str | Callable[[], Task]) -> None:
    """Make a task known by id: to `TASKS`, to `gym.make` and `gym.make_vec`, and to the `banel` command.

    Args:
        id: `namespace/Name-v<k>`.
        builder: a function without arguments that returns a Task, or "module:function".
    """
    from gymnasium.envs.registration import register

    TASKS.register(id, builder)
    register(
        id,
        entry_point="banel_envs.environments.env:make_env",
        vector_entry_point="banel_envs.environments.vector:make_vector_env",
        kwargs={"task": id},
    )
