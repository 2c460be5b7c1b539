"""Task: a Problem together with its hidden reward. Here is also the registry of tasks."""

from __future__ import annotations

import importlib
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from banel_envs.errors import BadValue, BanelError, MissingExtra
from banel_envs.names import unknown
from banel_envs.own_digest import digest_of, sources
from banel_envs.pool import Pool
from banel_envs.problem import Problem, Tokens

JUDGE_EXTRAS = {  # what to install for a judge
    "rdkit": "'banel-envs[chem]'",
    "scikit-learn": "'banel-envs[digits]'",
    "reasoning-gym": "'banel-envs[reasoning]'",
}

Part: TypeAlias = tuple[int, int, Any]
"""(first row, row after the last, their rewards): one part of an answer that becomes known in parts."""

Reward: TypeAlias = Callable[[Tokens], "NDArray[Any] | list[float] | Iterable[Part]"]
"""A function from sequences [n, T] to rewards [n], or to an iterator that gives the Parts as they become known."""


FailureTypes: TypeAlias = Callable[[Tokens], "NDArray[Any]"]
"""A function from sequences [n, T] to what is wrong with each [n]: k for `Problem.failure_types[k - 1]`, 0 for a success."""

OnError = Literal["fail", "failure"]


@dataclass(frozen=True, eq=False)
class Task:
    """A Problem together with what decides success. An agent is given `task.problem` and never the task.

    This is a task of your own. The reward may be any callable; it may be slow, and it may raise errors:

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
    """The whole success set [N, T]; None if it cannot be enumerated."""
    witness: Callable[[], Tokens | None] = field(default=lambda: None, repr=False)
    """One known success [T], which proves that the task can be solved. Every shipped task has one."""
    pool: Callable[[], Pool | None] = field(default=lambda: None, repr=False)
    """Known successes with their proposals, from which rare rates are estimated if the successes cannot be enumerated."""
    threshold: float | None = None
    """A real-valued reward is a success from this number on; None for rewards that are 0 or 1."""
    free_evaluation: bool = True
    """Whether the harness may evaluate the reward off the meter to measure success rates; False for paid oracles."""
    seeded: Callable[[int], Task] | None = field(default=None, repr=False)
    """The task of a run's seed, if the success set is drawn anew for each seed. The task itself is that of seed 0."""
    negative_control: str | None = None
    """What a negative control controls for. In the mean, no method can beat `without_replacement` on such a task."""
    digest: str = ""
    """SHA-256 over what decides the reward and the base policy. It is written into every ledger. A task that is run or registered
    without one gets one of its source file, its problem and its base policy (`banel_envs.own_digest`)."""
    family: str = ""
    """The family, in one word, for lists. Tasks of one family share a structure."""
    judges: tuple[str, ...] = ()
    """Installed libraries whose version decides rewards, such as ("rdkit",). Their versions are written into every ledger,
    and a run is not resumed with other versions."""
    rows_at_once: int | None = None
    """The largest number of sequences on which the reward is called at once. Their answers are in the ledger before the next
    call, so a kill loses at most so many. None calls the reward once for a whole question. A reward that answers in Parts
    is called on as many sequences, and each Part is written as it comes."""
    on_error: OnError = "fail"
    """What happens if the reward raises an error. "fail" stops the run, and its question stays open. "failure" asks the
    sequences of that call one by one; those that raise again count as failures, are marked in the ledger and are counted
    (`Oracle.errors`). Errors of this package, MemoryError and what is no Exception (KeyboardInterrupt) always stop the run."""

    failure_type: FailureTypes | None = field(default=None, repr=False)
    """Says why each sequence fails, and 0 of a success. It is called only under the feedback `typed`; None where it cannot be
    told. Like the reward, it is a function of each sequence alone."""

    def __post_init__(self) -> None:
        # These are checked when the task is made. Otherwise a mistake would show in the middle of a run that costs something.
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

        if not isinstance(self.digest, str):
            raise BadValue(f"{self.problem.id}: digest is {self.digest!r}; it is a text, or '' for one that is made")
        limit = self.threshold
        number = isinstance(limit, int | float | np.integer | np.floating) and not isinstance(limit, bool)
        if limit is not None and not (number and math.isfinite(limit)):
            raise BadValue(f"{self.problem.id}: threshold is {limit!r}; it is a finite number, or None")
        if self.failure_type is not None and not self.problem.failure_types:
            raise BadValue(
                f"{self.problem.id}: it has a failure_type, and its problem does not say what the codes mean; give the Problem "
                f"failure_types"
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
        """The task of a run with this seed. It is the task itself, unless the task is seeded.

        Raises:
            BadValue: what the task is seeded by raised an error, or returned something else.
        """
        if self.seeded is None:
            return self
        try:
            task = self.seeded(seed)
        except BanelError:
            raise
        except Exception as error:  # a person's own function may raise anything
            raise BadValue(f"{self.problem.id}: seeded({seed}) raised {type(error).__name__}: {error}") from error
        if not isinstance(task, Task):
            raise BadValue(f"{self.problem.id}: seeded({seed}) returned a {type(task).__name__}; it must return a Task")
        return task

    def blind(self) -> Task:
        """The same problem with the answer "failure" to everything, for the oracle-free twin of an agent. It tells no types.

        The judges stay, because the rates of a twin's policies are measured by them.
        """
        return Task(
            self.problem,
            lambda tokens: np.zeros(len(tokens), np.int8),
            digest=self.digest,
            judges=self.judges,
        )


def with_digest(task: Task, function: Callable[[], Any], module: str | None = None) -> Task:
    """The task with a digest: its own, or one of what can be known of it. A seeded task has the same one for every seed.

    Args:
        task: what the function returned.
        function: the task's function.
        module: the name of the module that the function was found in, where another one may define it.

    Raises:
        BadValue, BanelError: as in `own_digest.digest_of`.
    """
    if task.digest and task.seeded is None:
        return task
    plain = {name: getattr(task, name) for name in ("threshold", "on_error", "free_evaluation", "judges")}
    files = sources(function, task.reward, module)
    digest = task.digest or digest_of(task.problem, function, task.reward, files, plain)
    seeded = None if task.seeded is None else partial(_of_seed, task.seeded, digest)
    return replace(task, digest=digest, seeded=seeded)


def _of_seed(seeded: Callable[[int], Task], digest: str, seed: int) -> Task:
    task = seeded(seed)
    return task if not isinstance(task, Task) or task.digest else replace(task, digest=digest)


class Registry(Mapping[str, Task]):
    """Task ids to tasks. To register a task loads nothing; the task is built when it is first asked for."""

    def __init__(self) -> None:
        self._builders: dict[str, str | Callable[[], Task]] = {}
        self._built: dict[str, Task] = {}
        self._brought: set[str] = set()

    def register(self, id: str, builder: str | Callable[[], Task], *, brought: bool = False) -> None:
        """Add a task. The builder is a function without arguments that returns it, or "module:function".

        A task is *brought* if its model or its data are not shipped: to build it takes long, and fails where they are missing.
        """
        if id in self._builders:
            raise BadValue(f"the task {id!r} is registered already; choose another id")
        self._builders[id] = builder
        if brought:
            self._brought.add(id)

    def at_hand(self, id: str) -> Task | None:
        """The task; None if it is not registered, or is brought. Whoever only shows runs does not load a model for them."""
        return None if id not in self._builders or id in self._brought else self[id]

    def __getitem__(self, id: str) -> Task:
        if id not in self._builders:
            raise unknown("task", id, self._builders)
        # A task is built once: weights and tables are loaded with it, and some tasks keep what they have computed.
        if id not in self._built:
            builder = self._builders[id]
            if isinstance(builder, str):
                module, name = builder.split(":")
                builder = getattr(importlib.import_module(module), name)
            self._built[id] = with_digest(builder(), builder)
        return self._built[id]

    def builds(self, id: str, function: object) -> bool:
        """Whether a function is the one that builds the task of this id, which is not built for that."""
        builder = self._builders.get(id)
        named = f"{getattr(function, '__module__', '')}:{getattr(function, '__qualname__', '')}"
        return builder is function or builder == named

    def __contains__(self, id: object) -> bool:
        return id in self._builders

    def __iter__(self) -> Iterator[str]:
        return iter(self._builders)

    def __len__(self) -> int:
        return len(self._builders)


TASKS = Registry()


def register_task(id: str, builder: str | Callable[[], Task], *, brought: bool = False) -> None:
    """Make a task known by its id to `TASKS`, to `gym.make` and `gym.make_vec`, and to the `banel` command.

    Args:
        id: `namespace/Name-v<k>`.
        builder: a function without arguments that returns a Task, or "module:function".
        brought: whether its model or its data have to be brought, so that it is built only by who runs or checks it.
    """
    from gymnasium.envs.registration import register

    TASKS.register(id, builder, brought=brought)
    register(
        id,
        entry_point="banel_envs.environments.env:make_env",
        vector_entry_point="banel_envs.environments.vector:make_vector_env",
        kwargs={"task": id},
    )
