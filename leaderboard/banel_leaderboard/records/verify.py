"""Compare a record with its ledger and its policy's file. This needs no task.

Four things are checked of the ledger. The record's head, number of lines and NRE are those of the ledger. The ledger's header
describes the same run as the record. The number of successes asked, and the NRE of the first one, follow from the answers.
The curve is one that a run can have. recompute.py finds out whether the answers are the task's own and the rates those of
the policy.
"""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from banel_envs.errors import BanelError
from banel_envs.meter.ledger import Ledger
from banel_leaderboard.records.record import LEAST_UNASKED, Rate, RunRecord
from banel_leaderboard.records.run_folder import FINAL

SLACK_UNASKED = 0.05  # decades between fresh success and an unasked mass of about 1e-3, of which 1e-5 is rounding
SLACK = 1e-6  # probabilities that are computed in float32 sum to 1 within about this
BOUND = ("task", "digest", "budget", "feedback", "agent", "config", "seed", "twin")
"""The fields that a record and the header of its ledger both hold, with the same values."""


class RunRefused(BanelError):
    """A record and its ledger contradict each other."""


def rewards_of(ledger: Ledger) -> NDArray[np.int8]:
    """Every answer of a ledger, in order: [count]."""
    return np.concatenate([np.empty(0, np.int8), *(ask.rewards for ask in ledger.asks)])


def answers(rewards: NDArray[np.int8]) -> tuple[int, int | None]:
    """The number of successes asked, repeats included, and the NRE at which the first was asked (None if none was)."""
    hits = np.flatnonzero(rewards == 1)
    return len(hits), int(hits[0]) + 1 if len(hits) else None


def verify(record: RunRecord, ledger: Ledger) -> None:
    """Compare a record with its ledger.

    Raises:
        RunRefused: names the first field that differs, with its value in the record and its value in the ledger.
    """
    header = ledger.header
    for name in BOUND:
        if name not in header:
            raise RunRefused(
                f"the ledger's header does not give {name}; a record needs a ledger that the harness wrote"
            )
        _same(name, getattr(record, name), header[name])
    _same("inherits", record.inherits, header.get("inherits"))
    _same("ledger.lines", record.ledger.lines, ledger.lines)
    _same("ledger.count", record.ledger.count, ledger.count)
    _same("ledger.head", record.ledger.head, ledger.head)
    if any(ask.open for ask in ledger.asks):
        raise RunRefused("the ledger's last question is unanswered: run the same command again to finish the run")
    if ledger.count > record.budget:
        raise RunRefused(f"{ledger.count} sequences were asked on a budget of {record.budget}")
    rewards = rewards_of(ledger)
    successes, first = answers(rewards)
    _same("successes_asked", record.successes_asked, successes)
    _same("first_success", record.first_success, first)
    _same("errors", record.errors, sum(len(ask.errors) for ask in ledger.asks))
    # A twin's ledger holds what it was told. One success in it would mean that it was told something true.
    if record.twin and successes:
        raise RunRefused(f"an oracle-free twin was told {successes} successes; it must be told none")
    if record.twin and record.feedback == "typed":
        raise RunRefused("an oracle-free twin was told types of failure; it must be told nothing")
    _check_curve(record)
    _check_asked(record, rewards)


def check_policy(record: RunRecord, found: str | None) -> None:
    """Compare a record with the SHA-256 of the stored final policy; RunRefused if they differ. None fits: it may be left out."""
    if found is not None and record.policy_sha256 is not None and found != record.policy_sha256:
        raise RunRefused(f"policy_sha256 is {record.policy_sha256[:12]} in the record; {FINAL} has {found[:12]}")


def _same(name: str, recorded: Any, bound: Any) -> None:
    if type(recorded) is type(bound) in (str, int, bool) and recorded == bound:
        return
    # Compared as JSON text. In Python 1 == 1.0 == True, and a record could say one of them and its ledger another.
    if json.dumps(recorded, sort_keys=True) != json.dumps(bound, sort_keys=True):
        raise RunRefused(f"{name} is {recorded!r} in the record and {bound!r} in its ledger")


def _check_curve(record: RunRecord) -> None:
    """Refuse a curve that no run can have, whatever its policies were."""
    grid = [p.nre for p in record.points]
    if not grid or grid[0] != 0 or grid[-1] > record.budget or any(a > b for a, b in itertools.pairwise(grid)):
        raise RunRefused(f"the curve's NREs are {grid}; they must rise from 0 and stay within {record.budget}")
    _check_rates(rate for p in record.points for rate in (p.success, p.fresh))
    # Close to zero both are one minus a sum, and only their rounding is left. A twin's ledger has no successes, so its fresh
    # success is its success, that of what it asked included.
    least = -np.inf if record.twin else record.final("fresh") - SLACK_UNASKED
    if record.unasked is not None and not least <= max(record.unasked, LEAST_UNASKED) <= SLACK:
        raise RunRefused(
            f"10^{record.unasked} of the final policy's probability is said to be unasked; it is at least fresh success, "
            f"10^{record.final('fresh')}, and at most 1"
        )


def _check_asked(record: RunRecord, answers: NDArray[np.int8]) -> None:
    """Of a paid oracle every rate of the curve is a share of the ledger's answers, which are all that is known."""
    by = {rate.method for point in record.points for rate in (point.success, point.fresh)}
    if "asked" not in by:
        return
    if len(by) > 1:
        raise RunRefused(f"its rates are by {', '.join(sorted(by))}; where one is of the answers alone, all are")
    for before, point in zip([0, *(p.nre for p in record.points)], record.points, strict=False):
        here = Rate.asked(answers[before : point.nre])
        for name, said in (("success", point.success), ("fresh", point.fresh)):
            if not _alike(said, here):
                raise RunRefused(
                    f"at NRE {point.nre} {name} is {said.log10} [{said.low}, {said.high}] of {said.samples} answers in the "
                    f"record; by its ledger it is {here.log10} [{here.low}, {here.high}] of {here.samples}"
                )


def _alike(said: Rate, here: Rate) -> bool:
    ends = [(getattr(said, end), getattr(here, end)) for end in ("log10", "low", "high")]
    near = all(a == b if a is None or b is None else abs(a - b) <= SLACK for a, b in ends)
    return near and (said.samples, said.zero, said.effective) == (here.samples, here.zero, here.effective)


def _check_rates(rates: Iterable[Rate]) -> None:
    """Refuse a rate that contradicts itself: its number, its interval and its mark for zero must fit together."""
    for rate in rates:
        if rate.zero != (rate.log10 is None and rate.low is None):
            raise RunRefused(
                f"a rate says zero={rate.zero}, log10={rate.log10} and low={rate.low}; it is zero where both are null"
            )
        known = [value for value in (rate.low, rate.log10, rate.high) if value is not None]
        if known and max(known) > SLACK:
            raise RunRefused(f"a success rate or an end of its interval is 10^{max(known)}; a probability is at most 1")
        if known and rate.high is None:
            raise RunRefused(f"a success rate has no upper end, but it has log10={rate.log10} and low={rate.low}")
        if any(a > b + SLACK for a, b in itertools.pairwise(known)):
            raise RunRefused(f"a success rate is 10^{rate.log10}, outside its interval {rate.low} to {rate.high}")
        if rate.method == "exact" and (not rate.low == rate.log10 == rate.high or rate.samples):
            raise RunRefused(
                f"an exact rate says log10={rate.log10}, low={rate.low}, high={rate.high} and samples={rate.samples}; it has "
                f"no interval and no samples"
            )
