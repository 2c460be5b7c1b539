"""Compute again the shares on a run's curve that its ledger decides: malformed questions, and questions asked before."""

from __future__ import annotations

from banel_envs import Ledger, Task
from banel_envs.errors import BadTokens
from banel_envs.tasks import SHIPPED
from banel_leaderboard.proving import cache
from banel_leaderboard.proving.rates import Disproved
from banel_leaderboard.records.record import RunRecord
from banel_leaderboard.running.evaluator import Questions


def check_shares(record: RunRecord, ledger: Ledger, task: Task) -> None:
    """Compare `invalid` and `repeated` of every point with the questions between it and the point before.

    Raises:
        Disproved: names the first share that differs.
    """
    stated = [[point.nre, point.invalid, point.repeated] for point in record.points]
    entry = cache.key("shares", ledger.sha256, record.task, task.digest, stated)
    shipped = record.task in SHIPPED  # the cache's key covers the grammar of shipped tasks only
    if shipped and cache.passed(entry):
        return
    try:
        questions = Questions.of(task.problem, ledger)
        task.problem.check_tokens(questions.tokens)
    except BadTokens as error:  # where answers were judged, that is known already
        raise Disproved(f"what its ledger asks are no sequences of {record.task}: {error}") from error
    before = 0
    for number, point in enumerate(record.points):
        wanted = {
            "invalid": questions.invalid(before, point.nre),
            "repeated": questions.repeated(before, point.nre),
        }
        for name, share in wanted.items():
            if getattr(point, name) != share:  # from two whole numbers: the same to the bit everywhere
                raise Disproved(
                    f"points.{number}.{name} is {getattr(point, name)} in the record; the ledger's questions make it {share}"
                )
        before = point.nre
    if shipped:
        cache.note(entry)
