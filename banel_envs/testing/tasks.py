"""The contract of a task. Call `banel_envs.testing.check_task`."""

from __future__ import annotations

import re
import warnings

import numpy as np

from banel_envs.errors import BanelError, ContractBroken, RewardNotAsked
from banel_envs.problem import Problem, Tokens
from banel_envs.task import Task
from banel_envs.testing.hidden import check_hidden
from banel_envs.testing.policies import check_policy
from banel_envs.testing.rewards import check_rewards, check_spend, check_witness, judged, unasked


def check_task(
    task: Task,
    samples: int = 5_000,
    rng: np.random.Generator | None = None,
    needs_witness: bool | None = None,
    *,
    spend: int = 0,
) -> None:
    """Check a task, its problem and its base policy.

    Of the reward it is checked that it decides every sequence, the same way whenever and beside whatever it is asked;
    that the known successes succeed; that it is not the same for everything tried; and that the base policy does not
    always succeed. Of a paid reward (`task.free_evaluation` is False) none of this is checked, which a warning says, unless
    `spend` says how often it may be asked: then less is tried, and no known success but the witness.

    Args:
        task: what is checked.
        samples: sequences drawn from the base policy, fewer where V x T is large.
        rng: draws them; a fixed stream by default.
        needs_witness: whether a task without a known success is broken; by default where evaluation is free. It is the last
            thing that is checked, so all else that is wrong is named first.
        spend: evaluations that may be asked of a paid reward, each of them off the meter: three a sequence, the
            witness's first.

    Warns:
        RewardNotAsked: the reward is paid, and spend is 0.

    Raises:
        ContractBroken: names what broke.
        BadValue: spend is too little, or is given for a reward whose evaluation is free.
        MissingExtra: a library that judges (`task.judges`) is not installed.
    """
    rng = rng or np.random.default_rng(0)
    check_spend(task, spend)
    task.judge_versions()
    problem = task.problem
    _check_names(problem)
    check_hidden(task)
    _check_copies(problem)
    check_policy(problem.base_policy(), problem, samples, rng)
    known = _check_successes(task)
    _check_mask(problem, known)
    if task.free_evaluation or spend:
        check_rewards(task, known, samples, rng, spend)
    else:
        warnings.warn(unasked(task), RewardNotAsked, stacklevel=2)
    check_witness(task, task.free_evaluation if needs_witness is None else needs_witness)


def _check_names(problem: Problem) -> None:
    if not re.fullmatch(r"[\w.-]+/[\w.]+-v\d+", problem.id):
        raise ContractBroken(f"the id {problem.id!r} is not namespace/Name-v<k>")


def _check_copies(problem: Problem) -> None:
    """Changing one base policy changes no other."""
    first, second = problem.base_policy(), problem.base_policy()
    if first is second:
        raise ContractBroken(f"{problem.id}: base_policy() gives one object twice; give a new copy")
    network = getattr(first, "network", None)
    if network is None:
        return
    tokens = second.sample(10, np.random.default_rng(0))
    before = second.log_prob(tokens)
    # The first copy is destroyed. If the second one changes with it, the two share their weights.
    for weight in network.parameters():
        weight.data.zero_()
    if not np.array_equal(before, second.log_prob(tokens)):
        raise ContractBroken(f"{problem.id}: two base policies share their weights; give a new copy")


def _check_successes(task: Task) -> Tokens:
    """The known successes [k, T]: legal, distinct, the witness first and among them."""
    problem, witness, successes = task.problem, task.witness(), task.successes()
    known = np.empty((0, problem.T), np.int64) if witness is None else np.asarray(witness)[None]
    if successes is not None:
        if len(np.unique(successes, axis=0)) != len(successes):
            raise ContractBroken(f"{problem.id}: its success set holds a sequence twice")
        if len(known) and not (successes == known).all(axis=1).any():
            raise ContractBroken(f"{problem.id}: its witness is not in its success set")
        known = np.concatenate((known, successes))
    try:
        known = problem.check_tokens(known)
    except BanelError as error:
        raise ContractBroken(f"{problem.id}: a success is no sequence of the problem: {error}") from error
    for start in range(0, len(known) if task.free_evaluation else 0, 100_000):
        failed = np.flatnonzero(~judged(task, known[start : start + 100_000]))
        if len(failed):
            text = problem.decode(known[start + failed[:1]])[0]
            raise ContractBroken(f"{problem.id}: {text!r} is in the success set or its witness, and fails")
    return known


def _check_mask(problem: Problem, known: Tokens) -> None:
    """The mask is int8 [n, V] in {0, 1} and leaves every known success writable."""
    known = known[:0] if problem.allowed is None else known[:1_000]
    for position in range(problem.T if len(known) else 0):
        mask = problem.action_mask(known[:, :position])
        if mask.dtype != np.int8 or mask.shape != (len(known), problem.V) or not np.isin(mask, (0, 1)).all():
            found = f"{mask.dtype} {list(mask.shape)}"
            raise ContractBroken(f"{problem.id}: its mask is {found}, not int8 [n, V] in {{0, 1}}")
        refused = np.flatnonzero(mask[np.arange(len(known)), known[:, position]] == 0)
        if len(refused):
            text = problem.decode(known[refused[:1]])[0]
            raise ContractBroken(f"{problem.id}: its mask forbids position {position} of the success {text!r}")
