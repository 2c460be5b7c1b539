"""Compute again what can be computed from the task and the files of a run, without running its agent.

Answers: every answer of the ledger is compared with the task's own reward. Rates: the final success rate and fresh success
rate are computed again from the stored final policy. A difference disproves the run. If the task, its assets, the right
version of a judge or the policy is missing, the run can be neither proved nor disproved here: that is `CannotTell`.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from banel_agents.base import asks_from
from banel_envs import Ledger, Task
from banel_envs.errors import AssetError, BadPolicy, BadTokens, MissingExtra, ModelMissing
from banel_envs.measure.draws import check_draws
from banel_envs.measure.probability import FALSE_ALARM
from banel_envs.measure.success import Scored, SuccessRate, score
from banel_envs.meter.answers import answers
from banel_envs.meter.file_reward import digest_by_files
from banel_envs.meter.ledger_format import TYPED, Ask
from banel_envs.policies import Policy, load_policy_file
from banel_envs.policies.composed.filtered import Filtered
from banel_envs.problem import Problem, Tokens
from banel_envs.tasks import SHIPPED
from banel_leaderboard.proving import cache
from banel_leaderboard.proving.rates import Disproved, compare_rates, compare_unasked
from banel_leaderboard.records.record import RunRecord
from banel_leaderboard.records.run_folder import FINAL, file_sha256
from banel_leaderboard.records.verify import RunRefused, check_policy
from banel_leaderboard.running.evaluator import Questions, as_json, grid
from banel_leaderboard.running.lookup import CannotTell, Known

CHUNK = 50_000  # sequences whose rewards are computed at once
# The seed of the samples where a rate is not exact. No run's harness measures with this stream, so the samples are new.
EVALUATION_SEED = 2**31 - 1


def recorded_task(record: RunRecord, ledger: Ledger, known: Known) -> Task:
    """The task of a record, after it was compared with what the ledger says about it.

    Raises:
        CannotTell: the task is not known here, or only with other assets, or its answers came by files.
        Disproved: the ledger gives another vocabulary or horizon than the task has.
    """
    task = known.task(record.task).of_seed(record.seed)
    if record.digest == digest_by_files(task):
        raise CannotTell("its answers came by files: the package has nothing to compare them with")
    if record.digest != task.digest:
        raise CannotTell(
            f"it was run on another version of {record.task} ({record.digest[:8]}) than is here ({task.digest[:8]}); "
            f"BANEL_ASSETS names a folder with other assets, and of a task of your own, restore the files"
        )
    sizes = {"vocabulary": task.problem.V, "horizon": task.problem.T}
    for name, size in sizes.items():
        if ledger.header.get(name) != size:
            raise Disproved(f"{name} is {ledger.header.get(name)!r} in the ledger; {record.task} has {size}")
    return task


def check_package_facts(record: RunRecord, known: Known) -> None:
    """Check what the package decides, and not the record: the grid, whether the run is off the board or tuned, its settings.

    Raises:
        CannotTell: the task or the agent is not known here.
        Disproved: names the field, what the record says and what the package says.
    """
    places = [point.nre for point in record.points]
    if places != grid(record.budget):
        raise Disproved(
            f"the curve's NREs are {places}; a budget of {record.budget} is measured at {grid(record.budget)}"
        )
    task = known.task(record.task)
    off = record.budget != task.problem.budget or record.inherits is not None
    if record.off_board != off:
        raise Disproved(f"off_board is {record.off_board} in the record; the budget and the ledger make it {off}")
    try:
        default = as_json(known.agent(record.agent).config)
        tuned = record.config != default
        agent = known.agent(record.agent, record.config)  # BadValue if the agent has no such settings
    except MissingExtra as error:
        raise CannotTell(f"the settings of {record.agent!r} cannot be checked here: {error}") from error
    config, says = as_json(agent.config), asks_from(agent)
    if record.asks_from not in (says, None):  # old records do not hold it
        raise Disproved(f"asks_from is {record.asks_from!r} in the record; the agent says {says!r}")
    # Compared as text: 500 and 500.0 are equal settings, but as text they would make two rows of one agent.
    if json.dumps(record.config, sort_keys=True) != json.dumps(config, sort_keys=True):
        raise Disproved(f"config is {record.config} in the record; the agent writes these settings as {config}")
    if record.tuned != tuned:
        raise Disproved(f"tuned is {record.tuned} in the record; beside the agent's default settings it is {tuned}")


def check_methods(record: RunRecord, task: Task) -> None:
    """Check that every rate of the curve is by a method that measures this task's, whether or not it can be measured again.

    Raises:
        CannotTell: what the task needs is not here.
        Disproved: names the first method that it is not.
    """
    if not task.free_evaluation:
        fitting, why = {"asked"}, "the reward is paid for"
    else:
        try:
            exact = task.successes() is not None
        except (AssetError, MissingExtra) as error:
            raise CannotTell(f"how its rates are measured cannot be told here: {error}") from error
        fitting = {"exact", "filtered"} if exact else {"monte_carlo", "importance", "certified", "upper_limit"}
        why = f"the successes of {record.task} can{'' if exact else 'not'} all be listed"
    for number, point in enumerate(record.points):
        for name, rate in (("success", point.success), ("fresh", point.fresh)):
            if rate.method not in fitting:
                raise Disproved(
                    f"points.{number}.{name} is by {rate.method} in the record; {why}, so it is by {' or '.join(sorted(fitting))}"
                )


def check_answers(record: RunRecord, ledger: Ledger, task: Task) -> None:
    """Compare every answer of the ledger with the task's reward. Every answer of a twin must be "failure".

    Raises:
        CannotTell: the reward is paid for, or other versions of the judges are installed here.
        Disproved: names the first answer that differs.
    """
    if not task.free_evaluation:
        raise CannotTell(f"the reward of {record.task} is paid for and is never evaluated off the meter")
    _check_judges(ledger, task)
    entry = cache.key("answers", ledger.sha256, record.task, task.digest, record.seed, record.twin, judges_here(task))
    shipped = record.task in SHIPPED  # the cache's key covers the code of shipped tasks only
    if shipped and cache.passed(entry):
        return
    typed = ledger.header.get("feedback") == TYPED  # as in the record, see verify.py
    if typed and task.failure_type is None:
        raise Disproved(f"feedback is typed in the ledger; {record.task} tells no types")
    # A twin is told "failure" to everything, so that is what its ledger must hold, whatever the reward says.
    meter = task.blind() if record.twin else task
    start = 0
    for number, asks in _chunks(ledger.asks):
        tokens = _sequences(task, ledger, asks, start)
        start = _compare(meter, tokens, asks, number, start, typed)
    if shipped:
        cache.note(entry)


def _sequences(task: Task, ledger: Ledger, asks: list[Ask], start: int) -> Tokens:
    """The sequences of some questions. A forged ledger may hold tokens that no oracle would accept."""
    try:
        return task.problem.check_tokens(np.concatenate([ledger.tokens(ask) for ask in asks]))
    except BadTokens as error:
        raise Disproved(
            f"what is asked from NRE {start + 1} on are no sequences of {task.problem.id}: {error}"
        ) from error


def check_policy_file(record: RunRecord, folder: Path) -> str | None:
    """SHA-256 of the stored final policy; None if it is not in the folder; Disproved if the record has another one."""
    found = file_sha256(folder / FINAL)
    try:
        check_policy(record, found)
    except RunRefused as error:
        raise Disproved(str(error)) from error
    return found


def check_rates(record: RunRecord, ledger: Ledger, task: Task, folder: Path) -> None:
    """Compute the final success rate and fresh success rate again from the stored policy.

    Raises:
        CannotTell: there is no stored policy, a library that measures it is missing, or both rates are estimates that are
            too far apart.
        Disproved: the stored policy or its rate is another than the record says.
    """
    path = folder / FINAL
    found = check_policy_file(record, folder)
    if record.policy_sha256 is None:
        raise CannotTell("its final policy has no stored form")
    if found is None:
        raise CannotTell(f"its final policy is not in the folder ({FINAL})")
    # What the record says is part of the cache's key: a check of other numbers on the same policy is another check.
    last = record.points[-1]
    said = [last.success.model_dump(), last.fresh.model_dump(), record.unasked]
    entry = cache.key("rates", found, ledger.sha256, record.task, task.digest, record.seed, said, judges_here(task))
    shipped = record.task in SHIPPED
    if shipped and cache.passed(entry):
        return
    questions = Questions.of(task.problem, ledger)
    for name, (rate, weighed) in _measure(task, path, found, questions.successes(ledger.count)).items():
        compare_rates(name, getattr(last, name), rate, weighed)
    if record.unasked is not None:
        compare_unasked(record.unasked, _stored(path, task.problem), questions)
    if shipped:
        cache.note(entry)


Measured: TypeAlias = tuple[SuccessRate, float | None]
"""A rate, and log10 of its importance-sampled estimate, see compare_rates."""
_LAST: tuple[Task, str, Scored, Measured] | None = None
"""The last policy with exact rates that was measured: its task, its file's SHA-256."""


def _measure(task: Task, path: Path, sha256: str, asked: Tokens) -> dict[str, Measured]:
    """Success and fresh success of the stored policy, after a check that it is a probability.

    The runs of an agent that learns nothing all end with the same policy, which is measured once for all of them if its rate is
    exact. An estimated one also depends on the successes that the run asked, as in the run itself.
    """
    global _LAST
    if task.successes() is None:
        measured = _scored(task, path, asked)
        success = _rates(measured)
    else:
        if _LAST is None or _LAST[0] is not task or _LAST[1] != sha256:
            scored = _scored(task, path, asked)
            _LAST = (task, sha256, scored, _rates(scored))
        _, _, measured, success = _LAST
    return {"success": success, "fresh": _rates(measured, asked) if len(asked) else success}


def _rates(measured: Scored, exclude: Tokens | None = None) -> Measured:
    return measured.rate(exclude), measured.weighed_log10(exclude)


def _scored(task: Task, path: Path, asked: Tokens) -> Scored:
    """The stored policy measured as a run measures its last one; CannotTell or Disproved as for check_rates."""
    try:
        policy, rng = _stored(path, task.problem), np.random.default_rng(EVALUATION_SEED)
        if isinstance(policy, Filtered) and task.successes() is None:
            raise CannotTell(
                "a filtered policy is sampled by rejection, and this task's rate is estimated from samples"
            )
        pool = task.pool()
        measured = score(task, policy, rng, None if pool is None else pool.final, asked)
        exact = measured.log_probs is not None
        check_draws(policy, task.problem, rng, FALSE_ALARM, normalisers_only=exact, most=measured.samples or None)
        return measured
    except (AssetError, MissingExtra, ModelMissing) as error:
        raise CannotTell(f"its rates cannot be measured here: {error}") from error
    except (BadPolicy, BadTokens) as error:
        raise Disproved(f"its final policy is no probability over the task's sequences: {error}") from error


def _stored(path: Path, problem: Problem) -> Policy:
    """The stored policy. Disproved if it cannot be read, because the harness writes no such file."""
    try:
        return load_policy_file(path, problem=problem)
    except AssetError as error:
        raise Disproved(str(error)) from error


def judges_here(task: Task) -> dict[str, str]:
    """The installed versions of a task's judges; CannotTell if one of them is not installed."""
    try:
        return task.judge_versions()
    except MissingExtra as error:
        raise CannotTell(str(error)) from error


def _check_judges(ledger: Ledger, task: Task) -> None:
    said, here = ledger.header.get("judges", {}), judges_here(task)
    if said != here:
        raise CannotTell(f"its answers were judged with {_versions(said)}; here is {_versions(here)} installed")


def _versions(found: Any) -> str:
    if not isinstance(found, dict) or not found:
        return "libraries of unknown versions"
    return ", ".join(f"{name} {number}" for name, number in found.items())


def _chunks(asks: list[Ask]) -> list[tuple[int, list[Ask]]]:
    """The questions in groups of at most about CHUNK sequences; each group with the number of its first question."""
    groups: list[tuple[int, list[Ask]]] = []
    rows = CHUNK  # as if a group were full, so that the first question starts one
    for number, ask in enumerate(asks):
        if rows + ask.n > CHUNK:
            groups.append((number, []))
            rows = 0
        groups[-1][1].append(ask)
        rows += ask.n
    return groups


def _compare(task: Task, tokens: NDArray[np.int64], asks: list[Ask], number: int, start: int, typed: bool) -> int:
    """Compare the answers of one group of questions, and give the NRE after it."""
    try:
        values, rewards, errors, types = _judge(task, tokens, typed)
    except (AssetError, MissingExtra) as error:
        raise CannotTell(f"its answers cannot be judged here: {error}") from error
    said = np.concatenate([ask.rewards for ask in asks])
    wrong = said != rewards
    if task.threshold is not None:
        real = np.concatenate([np.full(ask.n, np.nan) if ask.values is None else ask.values for ask in asks])
        # NaN stands on both sides where the reward raised an error. NaN is not equal to itself.
        wrong |= ~((real == values) | (np.isnan(real) & np.isnan(values)))
    # Errors are named by their row in the question, and here all questions of the group lie one behind the other.
    offsets = np.cumsum([0, *(ask.n for ask in asks)])
    named = {int(k) + row: name for k, ask in zip(offsets, asks, strict=False) for row, name in ask.errors.items()}
    wrong[[row for row in {*named, *errors} if named.get(row) != errors.get(row)]] = True
    if wrong.any():
        row = int(np.flatnonzero(wrong)[0])
        which = number + int(np.searchsorted(offsets[1:], row, side="right"))
        raise Disproved(
            f"the answer at NRE {start + row + 1} (question {which}) is {said[row]} in the ledger; the reward of "
            f"{task.problem.decode(tokens[row : row + 1])[0]!r} is {rewards[row]}; {int(wrong.sum())} answers are wrong"
        )
    told = np.concatenate([np.zeros(ask.n, np.int8) if ask.types is None else ask.types for ask in asks])
    if (forged := np.flatnonzero(told != types)).size:
        row = int(forged[0])
        raise Disproved(
            f"the type at NRE {start + row + 1} is {told[row]} in the ledger; that of "
            f"{task.problem.decode(tokens[row : row + 1])[0]!r} is {types[row]}; {len(forged)} types are wrong"
        )
    return start + len(tokens)


def _judge(
    task: Task, tokens: Tokens, typed: bool
) -> tuple[NDArray[np.float64], NDArray[np.int8], dict[int, str], NDArray[np.int8]]:
    """The value [n] of each sequence, whether it is a success [n], the errors that the reward raised, by row, and the types [n].

    Where the reward raised an error that counts as a failure, the value is NaN. Where no types are told, they are 0.
    """
    values, rewards, types = (
        np.full(len(tokens), np.nan),
        np.zeros(len(tokens), np.int8),
        np.zeros(len(tokens), np.int8),
    )
    errors: dict[int, str] = {}
    for answer in answers(task, tokens, typed=typed):
        rewards[answer.rows] = answer.success
        if answer.types is not None:
            types[answer.rows] = answer.types
        values[answer.rows] = np.nan if answer.error else answer.values
        if answer.error:
            errors[int(answer.rows[0])] = answer.error
    return values, rewards, errors, types
