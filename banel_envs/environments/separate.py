"""A warning where a loop makes several environments that have a budget each.

`make_vec_env(id, n_envs=4)` of Stable-Baselines3 and `SyncVectorEnv([...] * 4)` call `gym.make` four times, and so
spend four budgets. That is seen when the environments are made: the same place of the program, in one loop, makes a
second one while the first has not taken a step, is not closed, and nothing else has taken a step in between. An
environment for training and another for evaluation are made in two places, experiments one after the other have
steps in between, and experiments side by side have ledgers of their own: none of these is warned of.
"""

from __future__ import annotations

import sys
import warnings
import weakref
from types import CodeType, FrameType
from typing import TYPE_CHECKING, NamedTuple

from banel_envs.errors import SeveralBudgets

if TYPE_CHECKING:
    from banel_envs.environments.env import GenerationEnv

NEAR = 8  # calls between a loop and the environment that it makes: a vector environment needs 4
LIBRARIES = {"banel_envs", "gymnasium", "stable_baselines3", "sb3_contrib", "torchrl"}


class Call(NamedTuple):
    """One frame of the stack: which one, of what code, at which instruction."""

    frame: int
    code: CodeType
    at: int


class Made(NamedTuple):
    """An environment that gym.make made, and from where."""

    env: weakref.ref[GenerationEnv]
    kind: tuple[str, str]  # task and ledger
    calls: list[Call]  # the outermost first


NEW: list[Made] = []
"""What was made since an environment last took a step."""


def note(env: GenerationEnv, ledger: object) -> None:
    """Remember an environment with a budget of its own; SeveralBudgets is warned of if it is the second of a loop."""
    caller = sys._getframe(2)  # of make_env
    made = Made(weakref.ref(env), (env.problem.id, str(ledger)), stack(caller))
    beside = [
        old for old in NEW if old.env() is not None and old.kind == made.kind and in_a_loop(old.calls, made.calls)
    ]
    NEW.append(made)
    if len(beside) == 1:  # of four copies the second warns, for all of them
        warnings.warn(text(env.problem.id, env.oracle.budget), SeveralBudgets, stacklevel=level(caller) + 2)


def forget(env: GenerationEnv) -> None:
    """Of a closed environment."""
    NEW[:] = [made for made in NEW if made.env() is not env]


def stack(frame: FrameType | None) -> list[Call]:
    """The calls that lead to this frame, the outermost first."""
    calls = []
    while frame is not None:
        calls.append(Call(id(frame), frame.f_code, frame.f_lasti))
        frame = frame.f_back
    return calls[::-1]


def in_a_loop(old: list[Call], new: list[Call]) -> bool:
    """Whether the innermost call that both stacks share stands at the same instruction in both, close to their ends.

    A prompt is a loop too, which runs what is typed: so what it calls must not be a module of its own.
    """
    shared = 0
    for a, b in zip(old, new, strict=False):
        if a.frame != b.frame or a.code is not b.code:
            break
        if a.at != b.at:
            return False
        shared += 1
    return shared > 0 and len(new) - shared <= NEAR and all(c.code.co_name != "<module>" for c in new[shared:])


def level(frame: FrameType | None) -> int:
    """Calls from this frame out to the first that is in none of the libraries: whom the warning is for."""
    calls = 1
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in LIBRARIES:
        calls, frame = calls + 1, frame.f_back
    return calls


def text(task: str, budget: int) -> str:
    """What the warning says."""
    return (
        f"a second environment of {task} was made before the first took a step, and each has a budget of its own: "
        f"n of them may spend n x {budget} evaluations. Copies that learn together share one budget with "
        f"gym.make_vec({task!r}, num_envs=n, budget={budget}); for Stable-Baselines3, "
        f"as_sb3_vec_env(gym.make_vec(...)); one by one, GenerationEnv(problem, oracle) on one Oracle. If they are "
        f"experiments of their own, or if one learns and the other evaluates, this is as it should be: "
        f"warnings.simplefilter('ignore', banel_envs.SeveralBudgets)"
    )
