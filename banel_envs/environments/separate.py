"""Warn if a loop makes several environments, each of which has a budget of its own.

`make_vec_env(id, n_envs=4)` of Stable-Baselines3 and `SyncVectorEnv([...] * 4)` call `gym.make` four times, and so they
spend four budgets. This is noticed when the second environment is made: if the same place of the program makes it in a
loop, while the first one is still open, and no environment has taken a step in between. There are three common programs
that get no warning. An environment for training and one for evaluation are made in two places. Experiments one after the
other take steps in between. Experiments side by side have different ledgers.
"""

from __future__ import annotations

import sys
import warnings
import weakref
from types import CodeType, FrameType
from typing import Any, NamedTuple

from banel_envs.errors import SeveralBudgets

NEAR = 8  # the most calls between a loop and the environment that it makes; a vector environment needs 4
LIBRARIES = {"banel_envs", "gymnasium", "stable_baselines3", "sb3_contrib", "torchrl"}


class Call(NamedTuple):
    """One frame of the stack: the frame's identity, its code, and the instruction that it is at."""

    frame: int
    code: CodeType
    at: int


class Made(NamedTuple):
    """An environment that gym.make made, and the calls that led to it."""

    env: weakref.ref[Any]
    purpose: tuple[str, str]  # task and ledger; a loop makes several environments with the same
    calls: list[Call]  # the outermost first


NEW: list[Made] = []
"""The environments that were made since any environment last took a step."""


def note(env: object, task: str, budget: int, ledger: object) -> None:
    """Remember an environment that has a budget of its own, and warn (SeveralBudgets) if it is the second of a loop."""
    caller = sys._getframe(2)  # the caller of make_env
    made = Made(weakref.ref(env), (task, str(ledger)), stack(caller))
    beside = [
        old for old in NEW if old.env() is not None and old.purpose == made.purpose and in_a_loop(old.calls, made.calls)
    ]
    NEW.append(made)
    if len(beside) == 1:  # only the second of several environments warns, for all of them
        warnings.warn(text(task, budget), SeveralBudgets, stacklevel=level(caller) + 2)


def forget(env: object) -> None:
    """Forget an environment, because it was closed."""
    NEW[:] = [made for made in NEW if made.env() is not env]


def stack(frame: FrameType | None) -> list[Call]:
    """The calls that lead to this frame, the outermost first."""
    calls = []
    while frame is not None:
        calls.append(Call(id(frame), frame.f_code, frame.f_lasti))
        frame = frame.f_back
    return calls[::-1]


def in_a_loop(old: list[Call], new: list[Call]) -> bool:
    """Whether one loop made both environments.

    It did if the innermost frame that both stacks share is at the same instruction in both, and is at most NEAR calls from
    the end. An interactive prompt is a loop too, which runs what is typed. Each line that is typed is a module of its own,
    so no module may be among the calls inside the loop.
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
    """How many calls lie between this frame and the first one outside the libraries, which the warning is meant for."""
    calls = 1
    while frame is not None and frame.f_globals.get("__name__", "").partition(".")[0] in LIBRARIES:
        calls, frame = calls + 1, frame.f_back
    return calls


def text(task: str, budget: int) -> str:
    """The text of the warning."""
    return (
        f"a second environment of {task} was made before the first took a step, and each has a budget of its own: "
        f"n of them may spend n x {budget} evaluations. Copies that learn together share one budget with "
        f"gym.make_vec({task!r}, num_envs=n, budget={budget}); for Stable-Baselines3, "
        f"as_sb3_vec_env(gym.make_vec(...)); one by one, GenerationEnv(problem, oracle) on one Oracle. If they are "
        f"experiments of their own, or if one learns and the other evaluates, this is as it should be: "
        f"warnings.simplefilter('ignore', banel_envs.SeveralBudgets)"
    )
