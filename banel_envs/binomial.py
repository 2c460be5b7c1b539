"""The exact interval of a binomial proportion, without SciPy."""

from __future__ import annotations

import math

from banel_envs.errors import BadValue


def clopper_pearson(k: int, n: int, confidence: float = 0.95) -> tuple[float, float]:
    """The exact interval of a binomial proportion from k successes in n trials (Clopper and Pearson 1934).

    Its lower end is the proportion at which k or more successes have the probability (1 - confidence) / 2, its upper end
    the one at which k or fewer have. Both are quantiles of a beta distribution.
    """
    if not 0 <= k <= n or n < 1:
        raise BadValue(f"{k} successes of {n} trials; need 0 <= k <= n and n >= 1")
    tail = (1 - confidence) / 2
    low = 0.0 if k == 0 else _beta_quantile(tail, k, n - k + 1)
    high = 1.0 if k == n else _beta_quantile(1 - tail, k + 1, n - k)
    return low, high


def _beta_quantile(q: float, a: float, b: float) -> float:
    """The x with I_x(a, b) = q, where I is the regularised incomplete beta function.

    It is found by bisection on log x, because rates may be tiny. exp(-800) is below the smallest number of float64, and
    200 halvings are more than its precision needs.
    """
    low, high = -800.0, 0.0
    for _ in range(200):
        middle = (low + high) / 2
        if _beta_cdf(math.exp(middle), a, b) < q:
            low = middle
        else:
            high = middle
    return math.exp((low + high) / 2)


def _beta_cdf(x: float, a: float, b: float) -> float:
    """The regularised incomplete beta function by its continued fraction (DLMF 8.17.22, Lentz's method)."""
    if x <= 0 or x >= 1:
        return float(x >= 1)
    if x > (a + 1) / (a + b + 2):  # the fraction converges fast only below this; I_x(a, b) = 1 - I_(1-x)(b, a)
        return 1 - _beta_cdf(1 - x, b, a)
    log_front = math.lgamma(a + b) - math.lgamma(a) - math.lgamma(b) + a * math.log(x) + b * math.log1p(-x)
    front = math.exp(log_front) / a
    tiny = 1e-300  # keeps Lentz's method from dividing by zero
    c, d = 1.0, 1 / max(1 - (a + b) * x / (a + 1), tiny)
    result = d
    for m in range(1, 100_000):
        for term in (
            m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)),
            -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1)),
        ):
            d = 1 / max(1 + term * d, tiny)
            c = max(1 + term / c, tiny)
            result *= c * d
        if abs(c * d - 1) < 1e-15:
            break
    return front * result
