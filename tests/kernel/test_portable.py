"""exp, log and sums with the same bits everywhere: against exact arithmetic, and the kernel against NumPy to the bit."""

from __future__ import annotations

from decimal import Decimal, getcontext

import numpy as np
import pytest

from banel_envs import kernel
from banel_envs.kernel import portable

SPECIAL = [
    0.0,
    -0.0,
    np.inf,
    -np.inf,
    np.nan,
    5e-324,
    2.2250738585072014e-308,
    2.225073858507201e-308,
    1.7976931348623157e308,
    1.0,
]
EDGES = [-1e300, -746.0, -745.2, -745.13321910194122, -708.4, -708.3, 709.782712893384, 709.79, 710.0, 711.0, 1e300]


def sweep():
    """Numbers of every size and sign, a few around every edge of exp and log, and some that no test thought of."""
    rng = np.random.default_rng(0)
    any_bits = rng.integers(-(2**63), 2**63 - 1, 20_000).view(np.float64)
    subnormal = rng.integers(1, 2**52, 2_000).view(np.float64)
    near_one = 1 + np.concatenate((rng.normal(size=2_000) * 1e-3, rng.normal(size=2_000) * 1e-12))
    near_root = np.sqrt([0.5, 2.0])[:, None] * (1 + np.arange(-50, 51) * 2.0**-52)
    edges = np.array([*EDGES, *SPECIAL])
    with np.errstate(over="ignore"):
        around = [edges, np.nextafter(edges, np.inf), np.nextafter(edges, -np.inf)]
    wide = [rng.uniform(-750, 720, 20_000), -rng.exponential(1, 5_000), 10.0 ** rng.uniform(-320, 300, 5_000)]
    return np.concatenate((any_bits, subnormal, near_one, near_root.ravel(), *around, *wide))


def bits(x):
    """The bits of numbers; all that are no number are one, because their payload is no result."""
    return np.where(np.isnan(x), np.nan, x).view(np.int64)


@pytest.mark.skipif(kernel.library() is None, reason="no C compiler built the kernel")
def test_the_kernel_and_numpy_give_the_same_bits():
    x = sweep()
    for n in (len(x), 1, 2, 3, 5, 7):  # the kernel takes four at once, and the rest one by one
        assert np.array_equal(bits(portable.exp(x[:n])), bits(portable.exp_in_numpy(x[:n])))
        assert np.array_equal(bits(portable.log(x[:n])), bits(portable.log_in_numpy(x[:n])))
    assert np.array_equal(bits(portable.exp(x[1:])), bits(portable.exp(x)[1:]))  # whatever stands beside a number


@pytest.mark.parametrize("exp", [portable.exp, portable.exp_in_numpy])
def test_exp_is_within_one_unit_in_the_last_place(exp):
    getcontext().prec = 40
    x = np.concatenate(
        (np.random.default_rng(1).uniform(-745, 709.7, 3_000), -np.random.default_rng(2).exponential(1, 2_000))
    )
    errors = [
        abs(Decimal(found) - Decimal(at).exp()) / Decimal(np.spacing(found))
        for at, found in zip(x.tolist(), exp(x).tolist(), strict=True)
    ]
    assert max(errors) < 1
    np.testing.assert_array_max_ulp(exp(x), np.exp(x), maxulp=2)


@pytest.mark.parametrize("log", [portable.log, portable.log_in_numpy])
def test_log_is_within_one_unit_in_the_last_place(log):
    getcontext().prec = 40
    rng = np.random.default_rng(3)
    x = np.concatenate((10.0 ** rng.uniform(-320, 300, 3_000), 1 + rng.normal(size=2_000) * 1e-2))
    errors = [
        abs(Decimal(found) - Decimal(at).ln()) / Decimal(np.spacing(abs(found)))
        for at, found in zip(x.tolist(), log(x).tolist(), strict=True)
    ]
    assert max(errors) < 1


@pytest.mark.parametrize("exp", [portable.exp, portable.exp_in_numpy])
@pytest.mark.filterwarnings("error")
def test_exp_of_what_has_no_ordinary_result(exp):
    found = exp(np.array([-np.inf, np.inf, np.nan, 0.0, -0.0, -746.0, 711.0, 709.79, -745.0]))
    assert np.array_equal(found, [0, np.inf, np.nan, 1, 1, 0, np.inf, np.inf, 5e-324], equal_nan=True)


@pytest.mark.parametrize("log", [portable.log, portable.log_in_numpy])
@pytest.mark.filterwarnings("error")
def test_log_of_what_has_no_ordinary_result(log):
    found = log(np.array([0.0, -0.0, -1.0, -np.inf, np.inf, np.nan, 1.0, -5e-324]))
    assert np.array_equal(found, [-np.inf, -np.inf, np.nan, np.nan, np.inf, np.nan, 0, np.nan], equal_nan=True)
    np.testing.assert_allclose(log(np.array([5e-324])), -744.4400719213812, rtol=1e-15)


def test_shapes_and_kinds_of_input():
    square = np.arange(12.0).reshape(3, 4)
    assert portable.exp(square).shape == (3, 4) and portable.log(2.0).shape == ()
    assert np.array_equal(portable.exp(square.T), portable.exp(square).T)  # not contiguous
    assert np.array_equal(portable.log(square[:, ::2] + 1), portable.log(square + 1)[:, ::2])
    assert np.array_equal(portable.log([1, 2]), portable.log(np.array([1.0, 2.0])))
    assert portable.exp(np.empty((0, 3))).shape == (0, 3)


def test_a_sum_is_added_one_number_after_the_other():
    values = np.random.default_rng(0).normal(size=(3, 1_000)) * 10.0 ** np.random.default_rng(1).integers(
        -9, 9, (3, 1_000)
    )
    expected = []
    for row in values.tolist():
        added = row[0]
        for value in row[1:]:
            added += value
        expected.append(added)
    assert portable.total(values).tolist() == expected
    assert not np.array_equal(values.sum(-1), expected)  # NumPy adds in another order, so this test can fail
    assert portable.total(np.empty((2, 0))).tolist() == [0, 0]
    assert portable.total(np.asfortranarray(values)).tolist() == expected
