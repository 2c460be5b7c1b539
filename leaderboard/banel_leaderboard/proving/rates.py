"""Compare the rates of a record with those that were computed again."""

from __future__ import annotations

import math

from banel_envs.errors import BanelError
from banel_envs.measure.success import SuccessRate
from banel_envs.measure.unasked import log10_unasked
from banel_envs.policies import Policy
from banel_leaderboard.records.record import Rate
from banel_leaderboard.running.evaluator import Questions
from banel_leaderboard.running.lookup import CannotTell

TOLERANCE = 1e-5
"""Decades by which a rate may differ that was computed on another processor: float32 sums differ in their last bits there."""
TOLERANCE_MASS = 1e-4  # the difference that is allowed between two sums of up to a budget of float32 probabilities
ROOM = math.log10(2)
"""Decades from the upper end of a certified interval (one-sided 97.5%) to where it would hold in 99.9% of cases, at most; and the
most from one importance-sampled number to another of the same policy and pool."""
TOLERANCE_EFFECTIVE = 1e-3  # the relative difference that is allowed between two numbers of effective successes


class Disproved(BanelError):
    """Something that a run says is wrong: an answer, a hash, a rule of the package or a rate is another when recomputed."""


def compare_rates(name: str, recorded: Rate, again: SuccessRate, weighed: float | None = None) -> None:
    """Compare the final rate of this name with the one that was computed again.

    Args:
        name: of the rate, for errors.
        recorded: what the record says.
        again: the rate, computed again.
        weighed: log10 of its importance-sampled estimate, whether or not that may be given as a number; None without a pool.

    Raises:
        Disproved: an exact rate differs, or the record says of an estimate what only an exact rate has.
        CannotTell: two estimates are too far apart.
    """
    here = Rate.of(again)
    exact = {"exact", "filtered"}
    if recorded.method in exact and here.method in exact:
        if _far(recorded.log10, here.log10, TOLERANCE) or _far_effective(recorded.effective, here.effective):
            raise Disproved(f"final {name} is {_said(recorded)} in the record, recomputed {_said(here)}")
        return
    if recorded.method in exact or here.method in exact:
        raise Disproved(f"final {name} is by {recorded.method} in the record, recomputed by {here.method}")
    if recorded.effective is not None:
        raise Disproved(
            f"final {name} is estimated, and the record gives {recorded.effective} effective successes; "
            f"only an exact rate has them"
        )
    low, high = _widened(here)
    known = [value for value in (recorded.low, recorded.log10) if value is not None]
    far = any(value > high for value in known) or any(v < low for v in (recorded.log10, recorded.high) if v is not None)
    # A number that the policy's own samples leave open is held against the pool's.
    if recorded.method == "importance" and recorded.log10 is not None:
        far |= weighed is None or abs(recorded.log10 - weighed) > ROOM
    if far:
        raise CannotTell(
            f"final {name} is estimated as {_said(recorded)} in the record and as {_said(here)} here: "
            f"the two are too far apart to be estimates of one rate; by chance this happens in fewer than 1 of 100 honest runs"
        )


def compare_unasked(recorded: float, policy: Policy, questions: Questions) -> None:
    """Compare the log10 mass that a final policy leaves unasked with the one that was computed again; Disproved if it differs."""
    here = log10_unasked(policy, questions.tokens, questions.problem)
    if here is None:
        raise Disproved("it says how much of a filtered policy is unasked, which is no exact number")
    if abs(10**recorded - 10**here) > TOLERANCE_MASS:
        raise Disproved(f"10^{recorded:.6f} of the final policy is unasked in the record, recomputed 10^{here:.6f}")


def _widened(rate: Rate) -> tuple[float, float]:
    """The interval that holds another estimate of the same rate in all but 1 of 100 cases.

    The difference of two independent estimates has sqrt(2), about 1.4, times the standard error of one. The 95% interval
    reaches 1.96 standard errors to each side. Twice as far, 3.92, is 2.77 standard errors of the difference, and a normal
    variable is beyond that in fewer than 1 of 100 cases. A certified interval without a number has no standard error: its
    lower end is nearly all an exact mass, and its upper end is a limit, so only that is moved, by ROOM.
    """
    low, high = -math.inf if rate.low is None else rate.low, math.inf if rate.high is None else rate.high
    if rate.log10 is None:
        return low - TOLERANCE, high + ROOM
    # The number may be the lower end itself, where what was met is all that it says.
    below = max(rate.log10 - low, high - rate.log10)
    return rate.log10 - 2 * below, rate.log10 + 2 * (high - rate.log10)


def _far(a: float | None, b: float | None, tolerance: float) -> bool:
    return (a is None) != (b is None) or (a is not None and b is not None and abs(a - b) > tolerance)


def _far_effective(a: float | None, b: float | None) -> bool:
    return (a is None) != (b is None) or (a is not None and b is not None and abs(a / b - 1) > TOLERANCE_EFFECTIVE)


def _said(rate: Rate) -> str:
    value = "zero" if rate.log10 is None else f"10^{rate.log10:.6f}"
    interval = "" if rate.method == "exact" else f" [{rate.low}, {rate.high}]"
    effective = "" if rate.effective is None else f" on {rate.effective:.3g} successes"
    return value + interval + effective
