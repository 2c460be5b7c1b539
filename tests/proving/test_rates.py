"""Rates that are estimated are compared by what two honest estimates of one policy can differ by."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from banel_envs.binomial import clopper_pearson
from banel_envs.measure.certified import Counted
from banel_envs.measure.success import SuccessRate
from banel_leaderboard import run
from banel_leaderboard.proving.load import load_runs
from banel_leaderboard.proving.rates import Disproved, compare_rates
from banel_leaderboard.records.record import Rate
from banel_leaderboard.records.verify import RunRefused, verify
from banel_leaderboard.running.lookup import CannotTell, own_code
from benchmarks.forgeries.forging import Forged
from tests.proving.forged import SMALL, forged, parts
from tests.shared.small import only_run

COLLAPSED = SuccessRate(None, -174.6, -3.43, "certified", 10_000, None)  # a policy that writes hardly any success


def said(method: str, log10: float | None, low: float | None, high: float) -> Rate:
    zero = log10 is None and low is None
    return Rate(log10=log10, low=low, high=high, method=method, samples=10_000, effective=None, zero=zero)


@pytest.mark.parametrize(
    "claim",
    [
        said("monte_carlo", -0.001, -0.001, -0.001),
        said("monte_carlo", -2.0, -2.1, -1.9),
        said("certified", None, -2.0, -1.9),
        said("importance", -3.2, -3.5, -3.1),  # within what the samples leave open, but not what the pool says
    ],
    ids=lambda rate: f"{rate.method} {rate.log10}",
)
def test_no_better_rate_can_be_claimed_than_the_policy_has(claim: Rate) -> None:
    with pytest.raises(CannotTell, match="too far apart"):
        compare_rates("success", claim, COLLAPSED, -174.2)


def test_what_an_honest_run_says_is_not_too_far() -> None:
    compare_rates("success", Rate.of(COLLAPSED), COLLAPSED, -174.2)
    compare_rates("success", said("certified", None, -170.1, -3.2), COLLAPSED, -174.2)
    # A number may be given in one place and not in the other, where what carries it is near the limit.
    open_here = SuccessRate(None, -3.6, -3.0, "certified", 10_000, None)
    compare_rates("success", said("importance", -3.3, -3.6, -3.05), open_here, -3.25)
    given = SuccessRate(-3.3, -3.6, -3.05, "importance", 10_000, None)
    compare_rates("success", said("certified", None, -3.5, -2.99), given, -3.3)
    compare_rates("success", said("importance", -3.2, -3.5, -3.0), given, -3.3)


def test_an_exact_rate_is_no_estimate() -> None:
    exact = SuccessRate(-3.0, -3.0, -3.0, "exact", 0, 10.0)
    with pytest.raises(Disproved, match="by certified in the record"):
        compare_rates("success", said("certified", None, -3.1, -2.9), exact)


@pytest.mark.parametrize("plain", [False, True], ids=["certified", "monte carlo"])
def test_honest_runs_are_seldom_too_far(plain: bool) -> None:
    """Two samples of one policy, whose successes are many or few: fewer than 1 of 100 pairs are said to be too far apart."""
    rng, far, pairs = np.random.default_rng(1), 0, 2_000
    for _ in range(pairs):
        masses = rng.dirichlet(np.full(20, 0.2)) * 10 ** rng.uniform(-5, -2.5)
        known = rng.random(20) < 0.3
        one, other = (estimate(masses, known, rng, plain) for _ in range(2))
        try:
            compare_rates("success", Rate.of(one), other)
        except CannotTell:
            far += 1
    assert far < pairs / 100


def estimate(masses: np.ndarray, known: np.ndarray, rng: np.random.Generator, plain: bool) -> SuccessRate:
    """What 10,000 samples say of a policy that has these masses on its successes."""
    met = rng.multinomial(10_000, [*masses, 1 - masses.sum()])[:-1]
    if plain:
        k = int(met.sum())
        low, high = clopper_pearson(k, 10_000)
        return SuccessRate(
            *((math.log10(k / 1e4), math.log10(low)) if k else (None, None)),
            math.log10(high),
            "monte_carlo",
            10_000,
            None,
        )
    low, high = (
        end / math.log(10) for end in Counted(np.log(masses), known, met, 10_000).log_interval(np.ones(20, bool))
    )
    return SuccessRate(None, low if math.isfinite(low) else None, high, "certified", 10_000, None)


def test_a_curve_of_a_paid_run_is_its_ledgers(tmp_path: Path) -> None:
    run("tests.shared.harness_tasks:paid", SMALL, 0, out=tmp_path / "out")
    honest = only_run(tmp_path / "out")
    verify(*parts(honest))

    def better(f: Forged) -> None:
        for rate in ("success", "fresh"):
            f.record["points"][-1][rate].update(log10=0.0, high=0.0, low=-0.1, zero=False)

    with pytest.raises(RunRefused, match="by its ledger it is"):
        verify(*parts(forged(honest, tmp_path / "better", better)))

    def other(f: Forged) -> None:
        f.record["points"][-1]["success"].update(method="monte_carlo")

    with pytest.raises(RunRefused, match="where one is of the answers alone, all are"):
        verify(*parts(forged(honest, tmp_path / "other", other)))


def test_shares_of_a_paid_run_are_checked_where_its_task_is_known(tmp_path: Path) -> None:
    run("tests.shared.harness_tasks:paid", SMALL, 0, out=tmp_path / "out")

    def repeated(f: Forged) -> None:
        f.record["points"][-1]["repeated"] = 0.25

    forged(only_run(tmp_path / "out"), tmp_path / "forged", repeated)
    known = own_code(["tests.shared.harness_tasks:paid"], [SMALL])
    assert "repeated is 0.25" in load_runs(tmp_path / "forged", known).refused[0].reason


def test_a_method_that_cannot_be_the_tasks_is_refused_without_a_policy(tmp_path: Path) -> None:
    run("tests.shared.harness_tasks:build", SMALL, 0, out=tmp_path / "out")

    def interval(f: Forged) -> None:
        f.policy, f.record["policy_sha256"], f.record["unasked"] = None, None, None
        for rate in ("success", "fresh"):
            f.record["points"][-1][rate].update(
                log10=None, low=-5.2, high=-5.1, method="certified", effective=None, samples=9
            )

    forged(only_run(tmp_path / "out"), tmp_path / "forged", interval)
    known = own_code(["tests.shared.harness_tasks:build"], [SMALL])
    assert "can all be listed" in load_runs(tmp_path / "forged", known).refused[0].reason
