"""The checks of a reward that `banel_envs.testing.check_task` makes; call that function instead of these."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banel_envs.errors import BadReward, BadValue, BanelError, ContractBroken
from banel_envs.meter.answers import answers, succeeded
from banel_envs.problem import Problem, Tokens
from banel_envs.task import Part, Task

ASKED = 3  # how often check_reward asks for each sequence
FEWEST = 100  # with fewer sequences, that all of them succeed can be chance
NEIGHBOURS = 200  # the most sequences next to the witness that are tried
MOST_NEIGHBOURS = 2**20  # up to so many are listed before some of them are drawn


def check_spend(task: Task, spend: int) -> None:
    """BadValue unless so many evaluations can be spent on checks of this task's reward."""
    if not spend:
        return
    if task.free_evaluation:
        raise BadValue(f"{task.problem.id}: spend is {spend}; its evaluation is free, leave spend out")
    if isinstance(spend, bool) or not isinstance(spend, int) or spend < 2 * ASKED:
        raise BadValue(
            f"{task.problem.id}: spend is {spend!r}; it must be 0, or a whole number of at least {2 * ASKED}: "
            f"{ASKED} evaluations a sequence"
        )


def check_rewards(task: Task, known: Tokens, samples: int, rng: np.random.Generator, spend: int) -> None:
    """Check what the reward answers to known successes [k, T], to what is beside them and to samples of the base policy."""
    problem = task.problem
    known = known[:1_000] if task.free_evaluation else known[:1]
    tried = (known, neighbours(problem, known[:1], rng), problem.base_policy().sample(min(samples, 1_000), rng))
    # What may be spent goes to the witness and to samples. Neighbours of a success tell less for the price.
    if spend:
        tried = (known, known[:0], tried[2][: spend // ASKED - len(known)])
    tokens = np.concatenate(tried)
    successful = check_reward(task, tokens, rng)
    check_types(task, tokens, successful, rng)
    check_telling(task, successful, *map(len, tried))
    check_complete(task, tokens[successful])


def unasked(task: Task) -> str:
    """What check_task says where nothing of a reward was checked."""
    return (
        f"{task.problem.id}: its reward is paid (free_evaluation=False) and was not asked, so nothing of it was checked; "
        f"check_task(task, spend=300) asks it at most 300 times, off the meter"
    )


def check_witness(task: Task, needed: bool) -> None:
    """ContractBroken where a success is needed and none is known."""
    if needed and task.witness() is None:
        raise ContractBroken(
            f"{task.problem.id}: it has no witness, and all else is sound; give the Task a witness, one success that proves that "
            f"it can be solved, or leave this out by check_task(task, needs_witness=False)"
        )


def judged(task: Task, tokens: Tokens) -> NDArray[np.bool_]:
    """Which rows succeed [n], once the reward has been found to be one number a row that decides it."""
    id = task.problem.id
    try:
        return succeeded(dataclasses.replace(task, reward=lambda rows: _strict(task, rows)), tokens)
    except BadReward as error:
        raise ContractBroken(f"{id}: {error}") from error
    except BanelError:
        raise
    except Exception as error:
        raise ContractBroken(
            f"{id}: its reward raises {type(error).__name__}: {error}; a run would stop there. Where that is what some "
            f'sequences deserve, give the Task on_error="failure"'
        ) from error


def check_reward(task: Task, tokens: Tokens, rng: np.random.Generator) -> NDArray[np.bool_]:
    """Which rows succeed [n], the reward being a function of each row alone; asks for every row three times."""
    id, order = task.problem.id, rng.permutation(len(tokens))
    first = judged(task, tokens)
    if not np.array_equal(judged(task, tokens), first):
        raise ContractBroken(f"{id}: its reward answers the same sequences differently the second time")
    # In another order each sequence has other neighbours, and is at another place of the batch.
    if not np.array_equal(judged(task, tokens[order]), first[order]):
        raise ContractBroken(f"{id}: its reward of a sequence depends on the sequences beside it")
    return first


def check_types(task: Task, tokens: Tokens, successful: NDArray[np.bool_], rng: np.random.Generator) -> None:
    """Every failure has a type of the table and every success has none, and the type is a function of the row alone."""
    if task.failure_type is None:
        return
    id, order = task.problem.id, rng.permutation(len(tokens))
    silent = dataclasses.replace(task, reward=lambda rows: successful_of(rows))
    answered = {row.tobytes(): ok for row, ok in zip(tokens, successful, strict=True)}

    def successful_of(rows: Tokens) -> NDArray[np.int8]:
        return np.array([answered[row.tobytes()] for row in rows], np.int8)

    try:
        first, second = (_told_types(silent, asked) for asked in (tokens, tokens[order]))
    except BadReward as error:
        raise ContractBroken(f"{id}: {error}") from error
    if not np.array_equal(first[order], second):
        raise ContractBroken(f"{id}: the type of a failure depends on the sequences beside it, or on the time")


def _told_types(task: Task, tokens: Tokens) -> NDArray[np.int8]:
    (answer,) = answers(dataclasses.replace(task, threshold=None, rows_at_once=None), tokens, typed=True)
    return np.zeros(0, np.int8) if answer.types is None else answer.types


def check_telling(task: Task, successful: NDArray[np.bool_], known: int, beside: int, drawn: int) -> None:
    """The reward tells sequences apart, and leaves something to learn.

    Args:
        task: whose reward it is.
        successful: [n]: which sequences succeeded: first those known to, then those beside one, then samples.
        known: how many of the first kind there are.
        beside: how many of the second.
        drawn: how many of the last, drawn from the base policy.
    """
    id = task.problem.id
    if not successful[:known].all():
        raise ContractBroken(f"{id}: its witness fails")
    if successful.all() and (task.free_evaluation or drawn >= FEWEST):
        raise ContractBroken(
            f"{id}: its reward is the same for everything tried: {known} known successes, {beside} sequences that "
            f"differ from one in a token, and {drawn} samples of the base policy all succeed"
        )
    if drawn >= FEWEST and successful[known + beside :].all():
        raise ContractBroken(
            f"{id}: its base policy always succeeds, in {drawn} of {drawn} samples: nothing is to learn"
        )


def check_complete(task: Task, successful: Tokens) -> None:
    """Every sequence here, which all succeed, is in the success set, where there is one."""
    successes = task.successes()
    if successes is None:
        return
    known = {row.tobytes() for row in np.ascontiguousarray(successes, np.int64)}
    for row in np.ascontiguousarray(successful, np.int64):
        if row.tobytes() not in known:
            text = task.problem.decode(row[None])[0]
            raise ContractBroken(f"{task.problem.id}: {text!r} succeeds and is not in its success set")


def neighbours(problem: Problem, known: Tokens, rng: np.random.Generator) -> Tokens:
    """Sequences [m, T] that differ from known ones [k, T] in one token, and in what follows an end token put there."""
    if len(known) * problem.T * problem.V > MOST_NEIGHBOURS:
        return _some_neighbours(problem, known, rng)
    rows = [
        _changed(row, position, token, problem.end)
        for row in known
        for position in range(int(problem.lengths(row[None])[0]))
        for token in range(problem.V)
        if token != row[position]
    ]
    if not rows:
        return known[:0]
    return np.stack([rows[k] for k in rng.permutation(len(rows))[:NEIGHBOURS]])


def _some_neighbours(problem: Problem, known: Tokens, rng: np.random.Generator) -> Tokens:
    """The same drawn at random, where all of them would be too many to list."""
    row = rng.integers(len(known), size=NEIGHBOURS)
    position = rng.integers(problem.lengths(known)[row])
    old = known[row, position]
    token = (old + rng.integers(1, problem.V, size=NEIGHBOURS)) % problem.V
    changed = [_changed(known[r], p, t, problem.end) for r, p, t in zip(row, position, token, strict=True)]
    return np.unique(np.stack(changed), axis=0)


def _changed(row: NDArray[np.int64], position: int, token: int, end: int | None) -> NDArray[np.int64]:
    changed = row.copy()
    changed[position] = token
    if token == end:
        changed[position:] = token
    return changed


def _strict(task: Task, tokens: Tokens) -> Any:
    """The reward's answer, where it keeps what the contract asks of it beyond what an Oracle takes."""
    kept = tokens.copy()  # a reward that writes into its input would change what is asked after it
    answer: Any = task.reward(tokens)
    if hasattr(answer, "__next__"):
        return _in_parts(task, answer, tokens, kept)
    _check_kept(task, tokens, kept)
    rewards = np.asarray(answer)
    where = f"{task.problem.id}: its reward answers {rewards.dtype} {list(rewards.shape)} to {len(tokens)} sequences"
    if rewards.shape != (len(tokens),):
        raise ContractBroken(f"{where}; give one a sequence")
    if task.threshold is not None:
        if np.isnan(rewards.astype(np.float64)).any():
            raise ContractBroken(f"{where}, with NaN among them")
    elif rewards.dtype != np.int8 or not np.isin(rewards, (0, 1)).all():
        raise ContractBroken(f"{where}; give int8 in {{0, 1}}, or give the Task a threshold")
    return answer


def _in_parts(task: Task, parts: Iterator[Part], tokens: Tokens, kept: Tokens) -> Iterator[Part]:
    yield from parts
    _check_kept(task, tokens, kept)


def _check_kept(task: Task, tokens: Tokens, kept: Tokens) -> None:
    if not np.array_equal(tokens, kept):
        raise ContractBroken(f"{task.problem.id}: its reward changes the sequences it is given")
